"""Plays runs that were pushed to this process: the same runtime as a worker's, another way to report."""

from __future__ import annotations

import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
from pydantic import ValidationError

from worker.backend import Backoff
from worker.coordinator import Outbox
from worker.coordinator.outbox import Stepped
from worker.errors import BackendError, ConnectionLost, FunctionFailed, NonRetryable, function_error
from worker.models import (
    AgentVersion,
    Allotment,
    Assignment,
    CallReport,
    ChunkKind,
    Emitted,
    GatheredPage,
    ModelStanding,
    Progress,
    Signal,
    Silence,
    Spawned,
    Spending,
    StepReport,
    StepsPage,
    SyncRequest,
    Upstream,
    UpstreamPage,
    Wire,
)
from worker.pushed_models import PushedModels
from worker.runtime import Environment, Report, Run
from worker.runtime.outcome import failed
from worker.signing import signed

logger = logging.getLogger(__name__)

CALL_S = 15.0  # for one callback
UPLOAD_S = 30.0  # for one attempt to send a large output: 8 MiB at 2 Mbit/s
FLUSH_S = 1.0  # between two callbacks that nobody waits for
PATIENCE_S = 60.0  # for an answer that the agent waits for
LAST_WORD_S = 3600.0  # a result is offered for so long
MAX_GATHERED_BYTES = 8 * 1024 * 1024  # agents wait beyond this
MAX_SENT_BYTES = 512 * 1024  # of text in one callback; a step or a result that is larger goes alone
MAX_SENT_ITEMS = 200
# Before it asks whether a share has come; a call waits 5 s in all.
SHARE_PAUSES_S = (0.1, 0.3, 1.0)
TOO_OLD = "The control plane is too old to keep steps of pushed runs: update it, or run the agent on a worker"
AGAIN = Backoff(initial_s=0.2, max_s=15.0)


def played_by(envelope: Envelope, environment: Environment) -> AgentVersion | None:
    """Return the code that plays a run here; None: it is the registry's to say, or nobody's."""
    agent = environment.agents.get(envelope.agent)
    if envelope.kind != "python" or agent is None or agent.code is None:
        return None
    return AgentVersion(version=agent.version or agent.code, code=agent.code)


class Envelope(Assignment):
    """A run as the control plane posts it."""

    input_url: str | None
    callback_url: str
    ask_url: str | None = None
    answer_within_ms: float
    version: str | None = None  # of the code that alone may play it
    standing: ModelStanding | None = None


class _Reply(Wire):
    stop: bool
    standing: ModelStanding | None = None


class RunOver(Exception):  # noqa: N818 - not an error of ours: the control plane has ended the run
    """Nothing more of this run is wanted."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message under its id: the same again counts once."""

    id: str
    body: bytes

    @classmethod
    def of(cls, value: dict[str, Any]) -> Message:
        """Return a new message."""
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        return cls(f"msg_{secrets.token_hex(16)}", body)


class Callbacks:
    """Sends signed messages to the control plane.

    Args:
        client: Follows no redirects.
        secret: Signs them.
        clock: Seconds since the epoch.
        draw: Draws evenly from [0, 1).
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        secret: Sequence[bytes],
        *,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._secret = secret
        self._clock = clock
        self._draw = draw

    async def post(
        self,
        url: str,
        message: Message,
        *,
        patience_s: float,
        attempt_s: float = CALL_S,
        again: bool = False,
    ) -> httpx.Response:
        """Post a message until it is taken or refused.

        Args:
            url: Where to.
            message: What.
            patience_s: For all attempts.
            attempt_s: For each of them.
            again: It may have been taken before.

        Raises:
            RunOver: The run has ended for the control plane.
            FunctionFailed: It refuses this message for good.
            ConnectionLost: It could not be reached within `patience_s` seconds.
        """
        ends, failures = anyio.current_time() + patience_s, int(again)
        while True:
            try:
                with anyio.fail_after(attempt_s):
                    headers = {"content-type": "application/json"}
                    headers |= signed(self._secret, message.id, message.body, self._clock())
                    response = await self._client.post(url, content=message.body, headers=headers)
            except (TimeoutError, httpx.HTTPError) as error:
                why = type(error).__name__
            else:
                if response.is_success:
                    return response
                code, status = _code(response), response.status_code
                if status == 409 and failures and code == "replayed":
                    return httpx.Response(200, json={"stop": False})  # taken before, and the answer was lost
                if status in {400, 404, 413} and code:
                    raise function_error(code, str(response.json().get("message", code)))
                if 300 <= status < 500 and status not in {408, 429}:
                    raise RunOver(f"{status} {code}")
                why = f"HTTP {status}"
            failures += 1
            wait = AGAIN.delay_s(failures, self._draw())
            if anyio.current_time() + wait >= ends:
                raise ConnectionLost(f"The control plane did not take a callback: {why}")
            await anyio.sleep(wait)


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):
        return ""


class PushedRun:
    """One run that was pushed here. It is the `Reporter` of its run.

    What the run reports gathers in an outbox, as that of a worker does, and goes by callbacks; what is left
    at its end goes with the answer, if somebody still waits for that.

    Args:
        envelope: What the control plane posted.
        environment: What the runs of this process share.
        callbacks: Reach the control plane.
        models: How models stand, shared by the runs of this process.
    """

    def __init__(
        self, envelope: Envelope, environment: Environment, callbacks: Callbacks, models: PushedModels
    ) -> None:
        self.id = envelope.run
        self.keeps_steps = envelope.ask_url is not None
        self._envelope = envelope
        self._callbacks = callbacks
        self._models = models
        self._outbox = Outbox("", max_items=MAX_SENT_ITEMS, max_bytes=MAX_SENT_BYTES)
        self._run = Run(envelope, environment, self)
        self._played_by = played_by(envelope, environment)
        self._sending = anyio.Lock()  # one message at a time, and the result behind the others
        self._under_way: tuple[SyncRequest, Message] | None = None  # taken, and perhaps not heard
        self._new = True  # it was not sent yet
        self._hurry = False
        self._nudged = anyio.Event()
        self._flushed = anyio.Event()
        self._short = anyio.Event()  # of a share of a model's limit: it was asked for
        self._wanted = True
        self._answered = False
        self.ended = anyio.Event()  # the agent is done
        self.settled = anyio.Event()  # the control plane knows, or will not hear of it

    # Steered from outside.

    def stop(self) -> None:
        """Cancel the run; it reports that it was cancelled."""
        self._run.stop("cancelled")

    def release(self) -> None:
        """Cancel the run and hand it back."""
        self._run.stop("released")

    def signal(self, signal: Signal) -> None:
        """Tell the run something."""
        self._run.signal(signal)

    def allotted(self, allotment: Allotment) -> None:
        """Tell the run what it may spend."""
        self._run.allotted(allotment)

    def silence(self) -> Silence | None:
        """Return for how long nothing came of the run, and what it waits for; None while it moves."""
        return self._run.silence()

    async def play(self) -> None:
        """Play the run; what it says goes by callbacks, and its result too if nobody waits for it."""
        self._run.confirm()  # it was accepted before it was sent
        if "standing" in self._envelope.model_fields_set:
            self._models.learn(self._envelope.standing)
        report: Report | None = None
        try:
            async with anyio.create_task_group() as sides:
                sides.start_soon(self._keep_flushing)
                sides.start_soon(self._keep_asking)
                report = await self._run.play()
                sides.cancel_scope.cancel()
        except Exception as error:
            logger.exception("a run could not be played", extra={"action": "run_crashed", "run": self.id})
            why = f"The endpoint could not play the run: {type(error).__name__}"
            report = Report(failed("worker_error", why, retryable=True), None)
        finally:
            if report is None:
                self._wanted = False
            else:
                self._outbox.finish(self.id, report.outcome, report.usage, report.spending)
            self.ended.set()

    async def answer(self) -> bytes | None:
        """Return the result of a run that has ended, for the request that waits; None if nobody wants it.

        What has no room beside the result goes before it, by callbacks. Unless `given` is called then, the
        result is to be called back.

        Raises:
            ConnectionLost: These could not be brought home in time; the result is to be called back.
        """
        async with self._sending:
            while self._wanted:
                body, message = self._next()
                if body.finished:
                    return message.body
                await self._post(body, message, CALL_S)
        self.settled.set()
        return None

    def given(self) -> None:
        """Take the result for told: the request that waited is answered with it."""
        self._answered = True
        self.settled.set()

    async def call_back(self) -> None:
        """Bring the result of a run that has ended to the control plane."""
        try:
            async with self._sending:
                while self._wanted and not self._answered:
                    body, message = self._next()
                    await self._post(body, message, LAST_WORD_S)
                    self._answered = bool(body.finished) and self._outbox.empty
        except ConnectionLost as error:
            logger.error(  # noqa: TRY400 - one line says it
                "a result could not be brought home",
                extra={"action": "result_lost", "run": self.id, "reason": str(error)},
            )
        finally:
            self.settled.set()

    # What goes out.

    async def _keep_flushing(self) -> None:
        while self._wanted:
            if not (self._outbox.urgent or self._hurry):
                with anyio.move_on_after(FLUSH_S):
                    await self._nudged.wait()
            self._nudged = anyio.Event()
            if self._outbox.empty and not self._hurry and self._under_way is None:
                continue
            self._hurry = False
            try:
                async with self._sending:
                    body, message = self._next()
                    await self._post(body, message, CALL_S)
            except ConnectionLost as error:
                logger.warning(
                    "a callback could not be brought home yet",
                    extra={"action": "callback_failed", "run": self.id, "reason": str(error)},
                )

    async def _keep_asking(self) -> None:
        """Once a larger share of a limit was asked for, see whether it has come: nobody brings it here."""
        while self._wanted:
            await self._short.wait()
            self._short = anyio.Event()
            for pause_s in SHARE_PAUSES_S:
                await anyio.sleep(pause_s)
                try:
                    text = await self._ask("models", patience_s=CALL_S)
                except BackendError as error:
                    logger.debug("a share is not known", extra={"action": "ask_failed", "reason": str(error)})
                    break
                self._models.learn(ModelStanding.model_validate_json(text))

    def _next(self) -> tuple[SyncRequest, Message]:
        """Return the message that may not have been heard, else a new one."""
        if self._under_way is None:
            for report in self._models.reports():
                self._outbox.model(report)
            body = self._outbox.take(spending=self._spent)
            self._under_way = (body, Message.of(self._said(body)))
            self._new = True
        return self._under_way

    def _spent(self) -> list[Spending]:
        news = self._run.spending()
        return [] if news is None else [news]

    async def _post(self, body: SyncRequest, message: Message, patience_s: float) -> None:
        """Send one message; what it holds is forgotten once it is taken."""
        again, self._new = not self._new, False
        # A run that is cancelled in mid-sending must not send this twice under two ids.
        with anyio.CancelScope(shield=True):
            try:
                reply = await self._callbacks.post(
                    self._envelope.callback_url, message, patience_s=patience_s, again=again
                )
            except RunOver as over:
                self._lose(str(over))
                return
            except FunctionFailed as error:
                self._refused(body, error)
                return
        self._under_way = None
        self._outbox.acknowledged()
        for step in body.steps or ():
            self._run.stepped(step.key, None)
        if any(report.share is not None and report.share.waiting for report in body.models or ()):
            self._short.set()
        flushed, self._flushed = self._flushed, anyio.Event()
        flushed.set()
        self._heed(reply)

    def _heed(self, response: httpx.Response) -> None:
        """Act on the answer to a callback; one that cannot be read says nothing."""
        try:
            reply = _Reply.model_validate_json(response.content)
        except ValidationError:
            return
        if "standing" in reply.model_fields_set:  # else nothing is said of models
            self._models.learn(reply.standing)
        if reply.stop:
            self.stop()

    def _refused(self, body: SyncRequest, error: FunctionFailed) -> None:
        self._under_way = None
        said = body.chunks or body.steps or body.calls or body.models or body.progress or body.spending
        if not (said or body.finished):
            self._lose(str(error))  # it said nothing that could be to blame
            return
        item = self._outbox.refused(error.code or "callback_refused", str(error), surely=True)
        if item is None:
            return
        logger.error(
            "an item of a callback is refused",
            extra={"action": "item_refused", "item": type(item).__name__, "reason": str(error)},
        )
        if isinstance(item, Stepped):
            self._run.stepped(item.report.key, str(error))

    def _lose(self, why: str) -> None:
        logger.warning(
            "the run is not wanted any more", extra={"action": "run_lost", "run": self.id, "reason": why}
        )
        self._wanted = False
        self._outbox.forget(self.id)
        self._run.stop("lost")

    def _said(self, body: SyncRequest) -> dict[str, Any]:
        """Return a sync's body as a report of this one run."""
        message: dict[str, Any] = {"run": self.id, "attempt": self._envelope.attempt}
        if self._played_by is not None:
            message["playedBy"] = _dumped(self._played_by)
        for name in ("chunks", "steps", "calls", "models"):
            if items := getattr(body, name):
                message[name] = [_dumped(item) for item in items]
        for told in body.progress or ():
            message |= {name: value for name, value in _dumped(told).items() if value is not None}
        for spending in body.spending or ():
            message["spending"] = _dumped(spending)
        for finished in body.finished:
            message |= _dumped(finished)
            if (following := message["outcome"].pop("next", None)) is not None:
                message["next"] = json.loads(following)
        return message

    # The reporter of the run.

    def text(self, run: str, text: str, *, kind: ChunkKind, call: int, attempt: int) -> None:
        """Add text to the run's stream."""
        self._outbox.text(run, text, anyio.current_time(), kind=kind, call=call, attempt=attempt)

    async def room(self) -> None:
        """Wait while too much text has gathered."""
        while self._outbox.text_bytes > MAX_GATHERED_BYTES and self._wanted:
            await self._flushed.wait()

    def hurry(self) -> None:
        """Report soon what the run spends; it was confirmed before it began."""
        self._hurry = True
        self._nudged.set()

    def step(self, report: StepReport) -> None:
        """Report something that the run has done for good; it is told once that is acknowledged."""
        if not self.keeps_steps:
            raise NonRetryable(TOO_OLD)
        self._outbox.step(report)
        self._nudged.set()

    def call(self, report: CallReport) -> None:
        """Report an attempt at a model call; it goes with what is sent next."""
        self._outbox.call(report)

    def tell(self, run: str, progress: Progress | None, state: str | None) -> None:
        """Report how the run stands, with its next text."""
        self._outbox.tell(run, progress, state, anyio.current_time())

    async def steps(self, run: str) -> StepsPage:  # noqa: ARG002 - one run
        """Return all that earlier runs of the task have done, and the signals that wait for it."""
        found: list[StepsPage] = []
        while not found or found[-1].cursor is not None:
            cursor = found[-1].cursor if found else None
            found.append(StepsPage.model_validate_json(await self._ask("steps", cursor=cursor)))
        steps = [step for page in found for step in page.steps]
        return StepsPage.model_construct(steps=steps, cursor=None, signals=found[0].signals)

    async def spawn(self, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:  # noqa: ARG002
        """Submit the children of the run, once for the step."""
        return Spawned.model_validate_json(await self._ask("spawn", step=step, tasks=tasks, gather=gather))

    async def gathered(self, run: str, tasks: list[str]) -> list[Upstream]:  # noqa: ARG002
        """Return how children of the run's task have ended, in the order given."""
        found: list[Upstream] = []
        while len(found) < len(tasks):
            text = await self._ask("gathered", tasks=tasks[len(found) :])
            found.extend(GatheredPage.model_validate_json(text).items)
        return found

    async def emit(self, run: str, step: str, name: str, data: str) -> Emitted:  # noqa: ARG002
        """Tell the tenant of the run's task of an event, once for the step."""
        return Emitted.model_validate_json(await self._ask("emit", step=step, name=name, data=data))

    async def upstream(self, run: str) -> list[Upstream]:  # noqa: ARG002
        """Return how the tasks have ended that the run's task comes after."""
        found: list[UpstreamPage] = []
        while not found or found[-1].next is not None:
            after = (found[-1].next if found else None) or 0
            found.append(UpstreamPage.model_validate_json(await self._ask("upstream", after=after)))
        return [item for page in found for item in page.items]

    async def output(self, run: str, text: str) -> None:  # noqa: ARG002
        """Send a large output; the result that follows has none of its own."""
        await self._ask("output", patience_s=4 * UPLOAD_S, attempt_s=UPLOAD_S, text=text)

    async def _ask(
        self, what: str, *, patience_s: float = PATIENCE_S, attempt_s: float = CALL_S, **given: object
    ) -> bytes:
        """Ask the control plane something for the run, and return its answer's JSON text.

        Raises:
            FunctionFailed: It is refused.
            ConnectionLost: The control plane cannot be reached, or has ended the run.
        """
        if (url := self._envelope.ask_url) is None:
            raise NonRetryable(TOO_OLD)
        message = Message.of({"run": self.id, "attempt": self._envelope.attempt, "ask": what, **given})
        try:
            response = await self._callbacks.post(url, message, patience_s=patience_s, attempt_s=attempt_s)
        except RunOver as over:
            self._lose(str(over))
            raise ConnectionLost(f"The control plane has ended the run: {over}") from None
        return response.content

    async def input(self, run: str) -> str:
        """Return the JSON text of an input that was too large for its letter."""
        url = self._envelope.input_url
        if url is None:
            raise ConnectionLost("The letter has neither an input nor an address of one")
        try:
            message = Message.of({"run": run, "attempt": self._envelope.attempt})
            response = await self._callbacks.post(url, message, patience_s=4 * CALL_S)
        except RunOver as over:
            raise ConnectionLost(f"The input is not to be had: {over}") from None
        return response.text


def _dumped(item: Wire) -> dict[str, Any]:
    """Return what a report says beside the run that it is of."""
    return item.model_dump(by_alias=True, exclude={"run"})
