"""Plays runs that were pushed to this process: the same runtime as a worker's, another way to report."""

from __future__ import annotations

import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import httpx
from pydantic import ValidationError

from worker.backend import Backoff
from worker.errors import ConnectionLost, NonRetryable
from worker.models import (
    Assignment,
    CallReport,
    ChunkKind,
    Emitted,
    Progress,
    Spawned,
    StepReport,
    StepsPage,
    Upstream,
    Wire,
)
from worker.runtime import Environment, Report, Run
from worker.runtime.outcome import failed
from worker.signing import signed

logger = logging.getLogger(__name__)

CALL_S = 15.0  # for one callback
FLUSH_S = 1.0  # between two callbacks with text
LAST_WORD_S = 3600.0  # a result is offered for so long
MAX_GATHERED_CHARS = 8 * 1024 * 1024  # agents wait beyond this
MAX_SENT_CHARS = 512 * 1024  # of text in one callback
MAX_SENT_CHUNKS = 200
MAX_CHUNK_CHARS = 16_000  # of one piece: at most 64 KB in UTF-8
NEEDS_A_WORKER = "Durable steps, sleeping, events and signals need a worker's session: run it on a worker"
AGAIN = Backoff(initial_s=0.2, max_s=15.0)


class Envelope(Assignment):
    """A run as the control plane posts it."""

    input_url: str | None
    callback_url: str
    answer_within_ms: float


class _Reply(Wire):
    stop: bool


class RunOver(Exception):  # noqa: N818 - not an error of ours: the control plane has ended the run
    """Nothing more of this run is wanted."""


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

    async def post(self, url: str, value: dict[str, Any], *, patience_s: float) -> httpx.Response:
        """Post a message until it is taken or refused; the same message under the same id, so it counts once.

        Raises:
            RunOver: The run has ended for the control plane, or it refuses this message for good.
            ConnectionLost: It could not be reached within `patience_s` seconds.
        """
        body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        message = f"msg_{secrets.token_hex(16)}"
        ends, failures = anyio.current_time() + patience_s, 0
        while True:
            try:
                with anyio.fail_after(CALL_S):
                    headers = {"content-type": "application/json"}
                    headers |= signed(self._secret, message, body, self._clock())
                    response = await self._client.post(url, content=body, headers=headers)
            except (TimeoutError, httpx.HTTPError) as error:
                why = type(error).__name__
            else:
                if response.is_success:
                    return response
                if response.status_code == 409 and failures and _code(response) == "replayed":
                    return httpx.Response(200, json={"stop": False})  # taken before, and the answer was lost
                if 300 <= response.status_code < 500 and response.status_code not in {408, 429}:
                    raise RunOver(f"{response.status_code} {_code(response)}")
                why = f"HTTP {response.status_code}"
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

    Args:
        envelope: What the control plane posted.
        environment: What the runs of this process share.
        callbacks: Reach the control plane.
    """

    def __init__(self, envelope: Envelope, environment: Environment, callbacks: Callbacks) -> None:
        self.id = envelope.run
        self._envelope = envelope
        self._callbacks = callbacks
        self._run = Run(envelope, environment, self)
        self._chunks: list[dict[str, Any]] = []
        self._chars = 0
        self._seq = 0
        self._sending = anyio.Lock()  # text goes in order, and the result behind it
        self._flushed = anyio.Event()
        self._wanted = True
        self._report: Report | None = None
        self._answered = False
        self._output: str | None = None  # a large one
        self._progress: Progress | None = None  # what is to be told
        self._state: str | None = None
        self.ended = anyio.Event()  # the agent is done
        self.settled = anyio.Event()  # the control plane knows, or will not hear of it

    def stop(self) -> None:
        """Cancel the run; it reports that it was cancelled."""
        self._run.stop("cancelled")

    def release(self) -> None:
        """Cancel the run and hand it back."""
        self._run.stop("released")

    async def play(self) -> None:
        """Play the run; its text goes by callbacks, and its result too if nobody waits for it any more."""
        self._run.confirm()  # it was accepted before it was sent
        try:
            async with anyio.create_task_group() as sides:
                sides.start_soon(self._keep_flushing)
                self._report = _without_waits(await self._run.play())
                sides.cancel_scope.cancel()
        except Exception as error:
            logger.exception("a run could not be played", extra={"action": "run_crashed", "run": self.id})
            why = f"The endpoint could not play the run: {type(error).__name__}"
            self._report = Report(failed("worker_error", why, retryable=True), None)
        finally:
            self.ended.set()

    async def answer(self) -> dict[str, Any] | None:
        """Return the result of a run that has ended, for the request that waits; None if nobody wants it."""
        async with self._sending:
            self._answered = True
            self.settled.set()
            return self._message(last=True) if self._wanted and self._report is not None else None

    async def call_back(self) -> None:
        """Bring the result of a run that has ended to the control plane."""
        try:
            async with self._sending:
                while self._wanted and self._report is not None and not self._answered:
                    message = self._message(last=len(self._chunks) <= MAX_SENT_CHUNKS)
                    await self._post(message, LAST_WORD_S)
                    self._answered = "outcome" in message
        except ConnectionLost as error:
            logger.error(  # noqa: TRY400 - one line says it
                "a result could not be brought home",
                extra={"action": "result_lost", "run": self.id, "reason": str(error)},
            )
        finally:
            self.settled.set()

    async def _keep_flushing(self) -> None:
        while True:
            await anyio.sleep(FLUSH_S)
            if not self._wanted or (not self._chunks and self._progress is None and self._state is None):
                continue
            try:
                async with self._sending:
                    await self._post(self._message(last=False), CALL_S)
            except ConnectionLost as error:
                logger.warning(
                    "text could not be brought home yet",
                    extra={"action": "callback_failed", "run": self.id, "reason": str(error)},
                )

    async def _post(self, message: dict[str, Any], patience_s: float) -> None:
        """Send one message; what it holds is forgotten once it is taken."""
        sent = len(message["chunks"])
        # A run that is cancelled in mid-sending must not send this text twice under two ids.
        with anyio.CancelScope(shield=True):
            try:
                reply = await self._callbacks.post(
                    self._envelope.callback_url, message, patience_s=patience_s
                )
            except RunOver as over:
                logger.warning(
                    "the run is not wanted any more",
                    extra={"action": "run_lost", "run": self.id, "reason": str(over)},
                )
                self._wanted = False
                self._run.stop("lost")
                return
            self._chars -= sum(len(chunk["text"]) for chunk in self._chunks[:sent])
            del self._chunks[:sent]
            if message.get("progress") == (self._progress and self._progress.model_dump(by_alias=True)):
                self._progress = None
            if message.get("state") == self._state:
                self._state = None
            flushed, self._flushed = self._flushed, anyio.Event()
            flushed.set()
        if _wants_stop(reply):
            self.stop()

    def _message(self, *, last: bool) -> dict[str, Any]:
        chunks = self._chunks if last else self._first_chunks()
        message: dict[str, Any] = {
            "run": self.id,
            "attempt": self._envelope.attempt,
            "chunks": list(chunks),
        }
        if self._progress is not None:
            message["progress"] = self._progress.model_dump(by_alias=True)
        if self._state is not None:
            message["state"] = self._state
        if last and self._report is not None:
            outcome = message["outcome"] = self._report.outcome.model_dump(by_alias=True)
            if outcome["kind"] == "succeeded" and self._output is not None:
                outcome["output"] = self._output
            usage = self._report.usage
            message["usage"] = None if usage is None else usage.model_dump(by_alias=True)
        return message

    def _first_chunks(self) -> list[dict[str, Any]]:
        chunks: list[dict[str, Any]] = []
        chars = 0
        for chunk in self._chunks[:MAX_SENT_CHUNKS]:
            chars += len(chunk["text"])
            if chunks and chars > MAX_SENT_CHARS:
                break
            chunks.append(chunk)
        return chunks

    # The reporter of the run.

    def text(self, run: str, text: str, *, kind: ChunkKind, call: int, attempt: int) -> None:  # noqa: ARG002 - one run
        """Add text to the run's stream."""
        last = self._chunks[-1] if self._chunks and not self._sending.locked() else None
        self._chars += len(text)
        if (
            last is not None
            and (last["kind"], last["call"], last["attempt"]) == (kind, call, attempt)
            and len(last["text"]) + len(text) <= MAX_CHUNK_CHARS
        ):
            last["text"] += text
            return
        self._chunks.append({"seq": self._seq, "kind": kind, "text": text, "call": call, "attempt": attempt})
        self._seq += 1

    async def room(self) -> None:
        """Wait while too much text has gathered."""
        while self._chars > MAX_GATHERED_CHARS and self._wanted:
            await self._flushed.wait()

    def hurry(self) -> None:
        """Do nothing: a run is confirmed before it begins."""

    async def output(self, run: str, text: str) -> None:  # noqa: ARG002 - one run
        """Keep the JSON text of a large output: an answer carries it as any other."""
        self._output = text

    keeps_steps = False

    async def steps(self, run: str) -> StepsPage:  # noqa: ARG002 - one run
        """Refuse: what earlier runs have done is told to sessions alone."""
        raise NonRetryable(NEEDS_A_WORKER)

    async def spawn(self, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:  # noqa: ARG002
        """Refuse: children are submitted by a durable step."""
        raise NonRetryable(NEEDS_A_WORKER)

    async def gathered(self, run: str, tasks: list[str]) -> list[Upstream]:  # noqa: ARG002
        """Refuse: no run here has children."""
        raise NonRetryable(NEEDS_A_WORKER)

    async def emit(self, run: str, step: str, name: str, data: str) -> Emitted:  # noqa: ARG002
        """Refuse: an event is told by a durable step."""
        raise NonRetryable(NEEDS_A_WORKER)

    async def upstream(self, run: str) -> list[Upstream]:  # noqa: ARG002
        """Refuse: what a task comes after is told to sessions alone."""
        raise NonRetryable(NEEDS_A_WORKER)

    def step(self, report: StepReport) -> None:  # noqa: ARG002 - none is taken
        """Refuse: a step is durable once a session's sync was acknowledged."""
        raise NonRetryable(NEEDS_A_WORKER)

    def call(self, report: CallReport) -> None:
        """Drop it: the answer of an endpoint carries the run's usage alone."""

    def tell(self, run: str, progress: Progress | None, state: str | None) -> None:  # noqa: ARG002 - one run
        """Report how the run stands, with its next text."""
        self._progress = progress or self._progress
        self._state = state if state is not None else self._state

    async def input(self, run: str) -> str:
        """Return the JSON text of an input that was too large for its letter."""
        url = self._envelope.input_url
        if url is None:
            raise ConnectionLost("The letter has neither an input nor an address of one")
        try:
            response = await self._callbacks.post(
                url, {"run": run, "attempt": self._envelope.attempt}, patience_s=4 * CALL_S
            )
        except RunOver as over:
            raise ConnectionLost(f"The input is not to be had: {over}") from None
        return response.text


def _without_waits(report: Report | None) -> Report | None:
    if report is None or report.outcome.kind != "suspended":
        return report
    return Report(failed("needs_a_worker", NEEDS_A_WORKER, retryable=False), report.usage)


def _wants_stop(response: httpx.Response) -> bool:
    try:
        return _Reply.model_validate_json(response.content).stop
    except ValidationError:
        return False
