"""`signalbox serve`: an endpoint that is given runs over HTTP, or is woken to work as a worker for a while.

`app` is an ASGI application: any server or serverless platform that runs one can run it, and so can the small
server of the command, and a test without a socket.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from worker.coordinator.session import MAX_SILENT
from worker.errors import ConnectionLost, SettingsError, SignalboxError
from worker.given import GivenResults
from worker.http.server import Message, Receive, Send
from worker.logs import LogFormat, Redactor
from worker.models import Allotment, Signal
from worker.pushed import Callbacks, Envelope, PushedRun, played_by
from worker.pushed_models import PushedModels
from worker.routing import caller
from worker.runtime import Environment, load
from worker.runtime.executors import Container, sweep_on
from worker.runtime.tools import toolbox
from worker.service import SPARE_CONNECTIONS, run_worker
from worker.settings import Settings, environment
from worker.signing import TOLERANCE_S, flaw, secrets_of

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 2 * 1024 * 1024  # a letter holds at most 256 KB of input
ANSWER_MARGIN_S = 2.0  # for an answer to travel, of the time in which it must come
RETRY_AFTER_S = 1  # said to the control plane when there is no room
_REMEMBERED = 20_000  # message ids: more than can come within the tolerance of their signatures


def _secret(value: SecretStr) -> SecretStr:
    secrets_of(value.get_secret_value())
    return value


class ServeSettings(BaseModel):
    """The settings of an endpoint; in the environment under the names in `VARIABLES`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    secret: Annotated[SecretStr, AfterValidator(_secret)]
    agents: tuple[str, ...] = ()
    concurrency: int = Field(default=50, ge=1, le=1000)
    hold_s: float = Field(default=10.0, ge=0, le=540, allow_inf_nan=False)
    idle_s: float = Field(default=2.0, ge=0, le=600, allow_inf_nan=False)
    grace_s: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    model_base_url: str | None = None
    model_key: SecretStr | None = None
    model: str | None = None
    models: Path | None = None
    log_level: str = "INFO"
    log_format: LogFormat = "human"

    @classmethod
    def from_env(cls, **given: object) -> ServeSettings:
        """Return the settings of this process; what is `given` and not None wins over the environment.

        Raises:
            SettingsError: With one line that names the variable and says what to do.
        """
        known = environment()
        values: dict[str, Any] = {f: known[name] for f, name in VARIABLES.items() if name in known}
        if isinstance(agents := values.get("agents"), str):
            values["agents"] = tuple(part.strip() for part in agents.split(",") if part.strip())
        values.update({name: value for name, value in given.items() if value is not None})
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[
                0
            ]  # never the input: it may be a secret
            name = VARIABLES.get(str(first["loc"][0]), str(first["loc"][0]))
            if first["type"] == "missing":
                raise SettingsError(
                    f"{name} is not set: set it to the secret of this endpoint, whsec_ and base64"
                ) from None
            raise SettingsError(f"{name}: {str(first['msg']).removeprefix('Value error, ')}") from None

    def redactor(self) -> Redactor:
        """Return a redactor that knows this process's secrets."""
        texts = [s.get_secret_value() for s in (self.secret, self.model_key) if s is not None]
        return Redactor([word for text in texts for word in text.split()])


VARIABLES = {
    "secret": "SIGNALBOX_PUSH_SECRET",
    "agents": "SIGNALBOX_AGENTS",
    "concurrency": "SIGNALBOX_CONCURRENCY",
    "hold_s": "SIGNALBOX_SERVE_HOLD_S",
    "idle_s": "SIGNALBOX_SERVE_IDLE_S",
    "grace_s": "SIGNALBOX_GRACE_S",
    "model_base_url": "SIGNALBOX_MODEL_BASE_URL",
    "model_key": "SIGNALBOX_MODEL_KEY",
    "model": "SIGNALBOX_MODEL",
    "models": "SIGNALBOX_MODELS",
    "log_level": "SIGNALBOX_LOG_LEVEL",
    "log_format": "SIGNALBOX_LOG_FORMAT",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered: a value, or its JSON text."""

    status: int
    value: dict[str, Any] | bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        """Return the JSON text."""
        if isinstance(self.value, bytes):
            return self.value
        return json.dumps(self.value, ensure_ascii=False, separators=(",", ":")).encode()


def refusal(status: int, code: str, message: str) -> Answer:
    """Return an answer that says what is wrong."""
    return Answer(status, {"error": {"code": code, "message": message}})


class Endpoint:
    """An ASGI application that plays the runs it is given.

    Args:
        settings: Of this process; by default those of the environment, read at the first request.
        transport: Replaces the network to the control plane in tests.
        wake: Works as a worker until for so many seconds nothing is left to do, and calls what it is given
            once it takes no more; by default with the settings of the environment.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        settings: ServeSettings | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        wake: Callable[[float, Callable[[], None]], Awaitable[int]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._wake = wake or _as_worker
        self._clock = clock
        self._stack = AsyncExitStack()
        self._environment: Environment | None = None
        self._callbacks: Callbacks | None = None
        self._models: PushedModels | None = None
        self._starting = asyncio.Lock()
        self._runs: dict[str, PushedRun] = {}
        self._given = GivenResults()
        self._twice: set[str] = set()  # runs that came again: nobody may hear the answer to the first
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._turned: dict[str, Answer] = {}  # of these, the runs that were not taken, and what was said
        self._working: asyncio.Task[int] | None = None
        self._takes_no_more = anyio.Event()  # the worker that works
        self._leaving = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection's request, or the server's beginning and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            answer = await self._answer(scope, receive)
            body = answer.body()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send(
                {
                    "type": "http.response.start",
                    "status": answer.status,
                    "headers": [*headers, *answer.headers],
                }
            )
            await send({"type": "http.response.body", "body": body})

    async def start(self) -> None:
        """Load the agents, once; a request does that too.

        Raises:
            SignalboxError: One line that says why nothing can be played.
        """
        async with self._starting:
            if self._environment is not None:
                return
            settings = self._settings = self._settings or ServeSettings.from_env()
            redact = settings.redactor()
            model = await self._stack.enter_async_context(
                caller(
                    base_url=settings.model_base_url,
                    key=settings.model_key,
                    default=settings.model,
                    table=settings.models,
                    max_connections=settings.concurrency + SPARE_CONNECTIONS,
                    redact=redact,
                )
            )
            http = await self._stack.enter_async_context(
                httpx.AsyncClient(transport=self._transport, follow_redirects=False)
            )
            secret = secrets_of(settings.secret.get_secret_value())
            self._callbacks = Callbacks(http, secret, clock=self._clock)
            agents = load(settings.agents)
            self._stack.push_async_callback(toolbox.aclose)
            if containers := [each.executor for each in agents if isinstance(each.executor, Container)]:
                self._spawn(sweep_on(containers, ""))
            self._models = PushedModels(model, redact, self._hurry)
            self._environment = Environment(agents, settings.agents, model, redact)

    async def stop(self) -> None:
        """Take no more runs, let those under way end within the grace period, and hand back the others."""
        self._leaving = True
        grace_s = self._settings.grace_s if self._settings else 0
        with anyio.move_on_after(grace_s):
            await self._settled()
        for run in list(self._runs.values()):
            run.release()
        with anyio.move_on_after(5):
            await self._settled()
        for task in [*self._tasks, *([self._working] if self._working else [])]:
            task.cancel()
        await self._stack.aclose()

    async def _settled(self) -> None:
        while self._runs:
            await next(iter(self._runs.values())).settled.wait()
            await anyio.lowlevel.checkpoint()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except SignalboxError as error:
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _answer(self, scope: Message, receive: Receive) -> Answer:  # noqa: PLR0911, PLR0912 - gates
        try:
            await self.start()
        except SignalboxError as error:
            logger.error("%s", error, extra={"action": "endpoint_unusable"})  # noqa: TRY400 - one line says it
            return refusal(503, "not_configured", "This endpoint is not set up; its log says why.")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["method"] == "GET":
            return self._health(headers)
        if scope["method"] != "POST":
            return refusal(405, "method", "POST a message, or GET how this endpoint does.")
        body = await _body(receive)
        if body is None:
            return refusal(413, "payload_too_large", f"At most {MAX_BODY_BYTES} bytes are taken.")
        if (wrong := self._flaw(headers, body)) is not None:
            logger.warning("a message is refused", extra={"action": "message_refused", "reason": wrong})
            return refusal(401, "unauthorized", "The signature does not hold.")
        if not self._is_new(headers["webhook-id"]):
            return self._again(headers["webhook-id"])
        try:
            message = json.loads(body)
            kind = message["type"]
        except (ValueError, KeyError, TypeError):
            return refusal(400, "invalid_argument", "The body is no JSON object with a type.")
        match kind:
            case "run":
                answer = await self._play(message)
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    self._turned[headers["webhook-id"]] = answer
                return answer
            case "cancel" | "pause" | "signal" | "allotment":
                answer = self._steer(message)
                if answer.status == HTTPStatus.NOT_FOUND:
                    del self._seen[headers["webhook-id"]]  # told again, it is the same message
                return answer
            case "wake":
                return await self._work()
            case _:
                return refusal(
                    400, "invalid_argument", "type: expected run, cancel, pause, signal, allotment or wake."
                )

    def _again(self, message: str) -> Answer:
        """Answer a message that has come before; a run's has the run's id.

        Something between has sent it twice, and may listen to the answer to this one alone.
        """
        if message in self._runs:
            self._twice.add(message)
            return Answer(202, {"run": message})
        if (result := self._given.result(message, anyio.current_time())) is not None:
            return Answer(200, result)
        return self._turned.get(message) or refusal(409, "replayed", "This webhook-id was used before.")

    def _flaw(self, headers: dict[str, str], body: bytes) -> str | None:
        assert self._settings is not None
        return flaw(secrets_of(self._settings.secret.get_secret_value()), headers, body, self._clock())

    def _is_new(self, message: str) -> bool:
        now = self._clock()
        while self._seen and (
            len(self._seen) > _REMEMBERED or next(iter(self._seen.values())) < now - 2 * TOLERANCE_S
        ):
            self._turned.pop(self._seen.popitem(last=False)[0], None)
        if message in self._seen:
            return False
        self._seen[message] = now
        return True

    def _health(self, headers: dict[str, str]) -> Answer:
        """Say that this process lives; to the control plane, also at which runs it works."""
        if "webhook-id" not in headers:
            return Answer(200, {"status": "ok"})
        if self._flaw(headers, b"") is not None:
            return refusal(401, "unauthorized", "The signature does not hold.")
        now = anyio.current_time()
        silent = [told for run in self._runs.values() if (told := run.silence()) is not None]
        silent.sort(key=lambda told: -told.ms)
        return Answer(
            200,
            {
                "status": "ok",
                "runs": [*self._runs, *self._given.names(now)],
                "silent": [told.model_dump(by_alias=True) for told in silent[:MAX_SILENT]],
                "agents": self._versions(),
                "forks": True,
            },
        )

    def _versions(self) -> list[dict[str, str]]:
        """Return the code of each agent, as a worker tells it when it registers."""
        assert self._environment is not None
        return [
            {"name": agent.name, "version": agent.version or agent.code, "code": agent.code}
            for agent in self._environment.agents
            if agent.code is not None
        ]

    # Runs.

    async def _play(self, message: dict[str, Any]) -> Answer:
        """Play a run: answer with its result if it comes soon, else that it will follow."""
        assert self._environment is not None
        assert self._settings is not None
        assert self._callbacks is not None
        assert self._models is not None
        try:
            envelope = Envelope.model_validate(message)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            return refusal(400, "invalid_argument", f"{where}: {first['msg']}")
        if (refused := self._turned_away(envelope)) is not None:
            return refused
        run = self._runs[envelope.run] = PushedRun(envelope, self._environment, self._callbacks, self._models)
        self._spawn(run.play())
        hold_s = min(self._settings.hold_s, envelope.answer_within_ms / 1000 - ANSWER_MARGIN_S)
        with anyio.move_on_after(max(0.0, hold_s)):
            await run.ended.wait()
        if run.ended.is_set() and run.id not in self._twice:
            try:
                result = await run.answer()
            except ConnectionLost:
                self._spawn(self._finish(run))
                return Answer(202, {"run": run.id})
            if result is None:
                self._forget(run)
                return refusal(409, "run_ended", "The control plane has ended the run.")
            if run.id not in self._twice:
                run.given()
                self._forget(run)
                self._given.add(run.id, result, anyio.current_time())
                return Answer(200, result)
        self._spawn(self._finish(run))
        return Answer(202, {"run": run.id})

    def _hurry(self) -> None:
        """Have one of the runs tell soon what happened with models."""
        for run in self._runs.values():
            if not run.ended.is_set():
                run.hurry()
                return

    def _turned_away(self, envelope: Envelope) -> Answer | None:
        """Return why a run is not for this process, now or at all."""
        assert self._environment is not None
        assert self._settings is not None
        if self._leaving or len(self._runs) >= self._settings.concurrency:
            no_room = refusal(429, "no_room", "This endpoint has no room for another run.")
            return Answer(429, no_room.value, ((b"retry-after", str(RETRY_AFTER_S).encode()),))
        wanted, here = envelope.version, played_by(envelope, self._environment)
        if wanted is None or here is None or here.version == wanted:
            return None
        began = f"The task began with the version {wanted} of {envelope.agent}"
        return refusal(409, "other_version", f"{began}; this is {here.version}.")

    async def _finish(self, run: PushedRun) -> None:
        try:
            await run.ended.wait()
            await run.call_back()
        finally:
            self._forget(run)  # until here it is named as held: its result may be on its way

    def _forget(self, run: PushedRun) -> None:
        self._runs.pop(run.id, None)
        self._twice.discard(run.id)

    def _steer(self, message: dict[str, Any]) -> Answer:
        """Tell a run something; the control plane tells one that is not here yet again."""
        held = self._runs.get(str(message.get("run")))
        if held is None:
            return refusal(404, "not_held", "This endpoint does not hold the run.")
        try:
            match message["type"]:
                case "cancel":
                    held.stop()
                case "pause":
                    held.release()
                case "signal":
                    if message.get("signal") is not None:  # else it was taken meanwhile
                        held.signal(Signal.model_validate(message["signal"]))
                case _:
                    held.allotted(Allotment.model_validate(message.get("allotment")))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            return refusal(
                400, "invalid_argument", f"{message['type']}: {where or 'it'} is not as it should be."
            )
        return Answer(200, {"held": True})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # A run outlives its request, and the frameworks that run this application give it no group of tasks.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Wake-up calls.

    async def _work(self) -> Answer:
        """Work as a worker until nothing is left; a call that comes meanwhile waits for the same end.

        One that comes while the worker leaves is of work that it does not take: another begins once it has
        gone.
        """
        assert self._settings is not None
        if self._working is not None and self._takes_no_more.is_set():
            await asyncio.wait([self._working])
        if self._leaving:
            return refusal(503, "leaving", "This endpoint is about to end.")
        if self._working is None or self._working.done():
            self._takes_no_more = anyio.Event()
            work = self._wake(self._settings.idle_s, self._takes_no_more.set)
            self._working = asyncio.get_running_loop().create_task(_plainly(work))
        try:
            code = await asyncio.shield(self._working)
        except SignalboxError as error:
            logger.error("%s", error, extra={"action": "wake_failed"})  # noqa: TRY400 - one line says it
            return refusal(503, "wake_failed", "This endpoint cannot work; its log says why.")
        return Answer(200, {"done": code == 0})


async def _plainly(work: Awaitable[int]) -> int:
    return await work


async def _as_worker(idle_s: float, on_leave: Callable[[], None]) -> int:
    return await run_worker(Settings.from_env(), idle_s=idle_s, on_leave=on_leave)


async def _body(receive: Receive) -> bytes | None:
    """Return the body, or None if it is too large."""
    parts = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""  # the sender went away; the signature of nothing does not hold
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


app = Endpoint()
