"""One incarnation of this worker: keeps the lease, tells what runs report, steers them as it is told."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec

import anyio

from worker.backend import Backoff, retry
from worker.coordinator.heard import Heard
from worker.coordinator.lease import Lease
from worker.coordinator.outbox import Accepted, Outbox, Stepped
from worker.coordinator.pace import WATCHED_S, Pace
from worker.coordinator.ports import ControlPlane, Runs
from worker.errors import (
    BackendError,
    Forbidden,
    FunctionFailed,
    InvalidArgument,
    NotFound,
    ProtocolError,
    RequestRefused,
    RequestUnencodable,
    TransportError,
    Unauthorized,
)
from worker.models import (
    Assignment,
    CallReport,
    ChunkKind,
    Clocks,
    Control,
    Emitted,
    Failed,
    GatheredPage,
    Inbox,
    ModelState,
    Outcome,
    Progress,
    Registered,
    RegisterRequest,
    RunError,
    Spawned,
    Spending,
    StepReport,
    StepsPage,
    SyncReply,
    SyncRequest,
    Upstream,
    UpstreamPage,
    Usage,
)

logger = logging.getLogger(__name__)
P = ParamSpec("P")

REGISTER_S = 2.5  # for the first attempt; each further one has twice as long: it may only be slow
LONGEST_REGISTER_S = 20.0
DRAIN_S = 3.0  # for one attempt
UPLOAD_S = 30.0  # for one attempt to send a large output: 8 MiB at 2 Mbit/s
MAX_SILENT = 32  # runs in a report; the longest silent come first
MAX_GATHERED_BYTES = 8 * 1024 * 1024  # agents wait beyond this, so a dead backend cannot fill the memory


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session is over.

    Attributes:
        code: As the control plane names it (`replaced`, `heartbeat_timeout`, ...); `expired` by this worker's
            own clock; `signed_off` by its own will; or what a sync was refused with: `unauthorized`,
            `forbidden`, `not_found`.
        why: One line for people.
    """

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that has just begun, and when its request was sent (monotonic seconds)."""

    registered: Registered
    sent_at: float


async def register(
    control: ControlPlane,
    request: RegisterRequest,
    *,
    deadline_s: float | None,
    clock: Callable[[], float] = time.monotonic,
    draw: Callable[[], float] = random.random,
) -> Opened:
    """Begin a session, trying until it works, is refused for good, or `deadline_s` has passed.

    Raises:
        BackendError: The refusal, or the last failure at the deadline.
    """
    started, failures, backoff = clock(), 0, Backoff(initial_s=0.2, max_s=5.0)
    while True:
        sent_at = clock()
        try:
            timeout = min(LONGEST_REGISTER_S, REGISTER_S * 2.0 ** min(failures, 10))
            if deadline_s is not None:
                timeout = max(0.1, min(timeout, started + deadline_s - sent_at))
            return Opened(await control.register(request, timeout=timeout), sent_at)
        except (Unauthorized, Forbidden, InvalidArgument, RequestUnencodable):
            raise
        except BackendError as error:
            failures += 1
            wait = backoff.delay_s(failures, draw())
            if deadline_s is not None and clock() + wait - started >= deadline_s:
                raise
            if isinstance(error, ProtocolError) and deadline_s is not None:
                raise  # most often a wrong address, and waiting does not mend it
            if failures == 1 or failures % 20 == 0:
                logger.warning(
                    "cannot register yet, trying again",
                    extra={"action": "register_failed", "failures": failures, "reason": str(error)},
                )
        await anyio.sleep(wait)


class Session:
    """One session with the control plane, from registration until it is over.

    One sync is under way at a time; what gathers meanwhile goes with the next. Once the session is over
    nothing more is sent in its name, and every run it had is told that it is lost.

    Args:
        control: The control plane.
        opened: What `register` returned.
        runs: The runs to steer.
        polling: Whether assignments must be fetched because no subscription brings them.
        overtaken: Called when a sync brings an assignment that the subscription has not brought.
        inbox_age_s: Seconds since whatever brings assignments last turned.
        clock: Monotonic seconds.
        draw: Draws evenly from [0, 1).
    """

    def __init__(
        self,
        control: ControlPlane,
        opened: Opened,
        runs: Runs,
        *,
        polling: Callable[[], bool] = lambda: True,
        overtaken: Callable[[], None] = lambda: None,
        inbox_age_s: Callable[[], float] = lambda: 0.0,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        registered = opened.registered
        self.id = registered.session
        self.registered = registered
        self._control = control
        self._runs = runs
        self._polling = polling
        self._overtaken = overtaken
        self._inbox_age_s = inbox_age_s
        self._clock = clock
        self._draw = draw
        self._lease_s = registered.lease_ms / 1000
        self._lease = Lease(registered.idle_lease_ms / 1000, opened.sent_at)
        self._pace = Pace(
            heartbeat_s=registered.heartbeat_ms / 1000, idle_heartbeat_s=registered.idle_heartbeat_ms / 1000
        )
        self._outbox = Outbox(
            registered.session, max_items=registered.max_sync_items, max_bytes=registered.max_sync_bytes
        )
        self._active: set[str] = set()
        self._unconfirmed: set[str] = set()
        self._watched: set[str] = set()
        self._heard = Heard()
        self._due = opened.sent_at  # when the next sync goes, as far as the loop knows
        self._nudged = anyio.Event()
        self._exchanged = anyio.Event()
        self._over = anyio.Event()
        self.ending: Ending | None = None

    async def run(self) -> None:
        """Keep the session until it is over; then `ending` says why."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_lease)
            tasks.start_soon(self._keep_syncing)
            await self._over.wait()
            tasks.cancel_scope.cancel()

    # What runs report. None of it has any effect once the session is over, and but calls none for a lost run.

    def accept(self, run: str) -> None:
        """Tell that `run` has been started."""
        if run in self._active:
            first = self._outbox.oldest_accept_at is None
            self._outbox.accept(run, self._clock())
            if first:
                self._nudged.set()

    def text(self, run: str, text: str, *, kind: ChunkKind, call: int, attempt: int) -> None:
        """Add text to a run's stream."""
        if run in self._active:
            now, first = self._clock(), self._outbox.oldest_text_at is None
            self._outbox.text(run, text, now, kind=kind, call=call, attempt=attempt)
            if first or (run in self._watched and self._due > now + WATCHED_S):
                self._nudged.set()

    async def room(self) -> None:
        """Wait while more text has gathered than may lie in memory."""
        while self._outbox.text_bytes > MAX_GATHERED_BYTES and self.ending is None:
            await self._exchanged.wait()

    def finish(
        self, run: str, outcome: Outcome, usage: Usage | None, spending: Spending | None = None
    ) -> None:
        """Report a run's result."""
        if run in self._active:
            self._active.discard(run)
            self._unconfirmed.discard(run)
            self._outbox.finish(run, outcome, usage, spending)
            self._nudged.set()

    def hurry(self) -> None:
        """Send what there is now: a run waits to be confirmed."""
        self._pace.hurry = True
        self._nudged.set()

    keeps_steps = True

    def step(self, report: StepReport) -> None:
        """Report something that a run has done for good; `Runs.stepped` tells when that is acknowledged."""
        if report.run in self._active:
            self._outbox.step(report)
            self._nudged.set()

    def call(self, report: CallReport) -> None:
        """Report an attempt at a model call; it goes with what is sent next, also for a run that was lost."""
        self._outbox.call(report)

    def tell(self, run: str, progress: Progress | None, state: str | None) -> None:
        """Report how a run stands."""
        if run in self._active:
            first = self._outbox.oldest_told_at is None
            self._outbox.tell(run, progress, state, self._clock())
            if first:
                self._nudged.set()

    async def steps(self, run: str) -> StepsPage:
        """Return all that earlier runs of a run's task have done, and the signals that wait for it."""
        found: list[StepsPage] = []

        async def page(timeout: float) -> StepsPage:
            cursor = found[-1].cursor if found else None
            return await self._control.steps(self.id, run, cursor, timeout=timeout)

        while not found or found[-1].cursor is not None:
            found.append(await retry(page, deadline_s=self._lease_s, attempt_s=self._lease_s / 3))
        return StepsPage.model_construct(
            steps=[step for page in found for step in page.steps], cursor=None, signals=found[0].signals
        )

    async def spawn(self, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        """Submit the children of a run, once for the step."""
        return await retry(
            lambda timeout: self._control.spawn(self.id, run, step, tasks, gather=gather, timeout=timeout),
            deadline_s=self._lease_s,
            attempt_s=self._lease_s / 3,
        )

    async def emit(self, run: str, step: str, name: str, data: str) -> Emitted:
        """Tell the tenant of a run's task of an event, once for the step."""
        return await retry(
            lambda timeout: self._control.emit(self.id, run, step, name, data, timeout=timeout),
            deadline_s=self._lease_s,
            attempt_s=self._lease_s / 3,
        )

    async def upstream(self, run: str) -> list[Upstream]:
        """Return how the tasks have ended that a run's task comes after."""
        found: list[UpstreamPage] = []

        async def page(timeout: float) -> UpstreamPage:
            after = (found[-1].next if found else None) or 0
            return await self._control.upstream(self.id, run, after, timeout=timeout)

        while not found or found[-1].next is not None:
            found.append(await retry(page, deadline_s=self._lease_s, attempt_s=self._lease_s / 3))
        return [item for each in found for item in each.items]

    async def gathered(self, run: str, tasks: list[str]) -> list[Upstream]:
        """Return how children of a run's task have ended, in the order given."""
        found: list[Upstream] = []

        async def page(timeout: float) -> GatheredPage:
            return await self._control.gathered(self.id, run, tasks[len(found) :], timeout=timeout)

        while len(found) < len(tasks):
            items = (await retry(page, deadline_s=self._lease_s, attempt_s=self._lease_s / 3)).items
            found.extend(items)
        return found

    async def input(self, run: str) -> str:
        """Return the JSON text of an input that was too large for its assignment."""
        return await retry(
            lambda timeout: self._control.input(self.id, run, timeout=timeout),
            deadline_s=self._lease_s,
            attempt_s=self._lease_s / 3,
        )

    async def output(self, run: str, text: str) -> None:
        """Send an output too large for a sync; the result that follows then has none of its own."""
        await retry(
            lambda timeout: self._control.output(self.id, run, text, timeout=timeout),
            deadline_s=4 * max(UPLOAD_S, self._lease_s),  # syncs renew the lease meanwhile
            attempt_s=UPLOAD_S,
        )

    # What comes from the subscription.

    def deliver(self, inbox: Inbox) -> None:
        """Take what the subscription pushed; assignments and controls already known are passed over."""
        if self.ending is not None:
            return
        if not inbox.live:
            self._end_as_told(inbox.ended)
            return
        self._learn(inbox.models)  # before the runs that are to keep to it
        self._receive(inbox.assigned, inbox.controls, inbox.watched)

    # How a session is left.

    async def drain(self, *, final: bool, deadline_s: float) -> None:
        """Ask for no more runs, or sign off: then the session is over, whether or not that was heard."""
        try:
            reply = await retry(
                lambda timeout: self._control.drain(self.id, final=final, timeout=timeout),
                deadline_s=deadline_s,
                attempt_s=min(DRAIN_S, self._lease_s / 3),
            )
            if not final and not reply.live:
                self._end_as_told(None)
        except BackendError as error:
            logger.warning(
                "the control plane did not hear that this worker leaves; its lease will run out",
                extra={"action": "drain_failed", "session": self.id, "final": final, "reason": str(error)},
            )
        finally:
            if final:
                self._end("signed_off", "the worker has left")

    async def flush(self) -> None:
        """Wait until everything reported has been acknowledged or the session is over."""
        while self.ending is None and not self._outbox.empty:
            self.hurry()
            await self._exchanged.wait()

    async def tell_calls(self, deadline_s: float) -> None:
        """Once the session is over, tell of its calls that nobody has heard of: their cost still counts."""
        calls = self._outbox.unheard_calls()
        size = self.registered.max_sync_items
        for page in (calls[i : i + size] for i in range(0, len(calls), size)):
            body = self._outbox.calls_alone(page)
            try:
                await retry(
                    lambda timeout, body=body: self._control.sync(body, timeout=timeout),  # type: ignore[misc]
                    deadline_s=deadline_s,
                    attempt_s=self._lease_s,
                )
            except BackendError as error:
                logger.warning(
                    "the last calls of a session could not be told",
                    extra={"action": "calls_untold", "calls": len(calls), "reason": str(error)},
                )
                return

    # The two loops.

    async def _keep_lease(self) -> None:
        while True:
            remaining = self._lease.remaining_s(self._clock())
            if remaining <= 0:
                self._end("expired", "no sync was acknowledged within the lease")
                return
            # Renewals move the end while this sleeps; a shortened lease is seen within a quarter of it.
            await anyio.sleep(min(remaining, self._lease_s / 4))

    async def _keep_syncing(self) -> None:
        while self.ending is None:
            await self._until_due()
            try:
                await self._exchange()
            finally:
                exchanged, self._exchanged = self._exchanged, anyio.Event()
                exchanged.set()

    async def _until_due(self) -> None:
        while True:
            self._nudged = anyio.Event()
            self._due = self._pace.due_at(
                self._outbox, busy=bool(self._active), polling=self._polling(), watched=self._watched
            )
            wait = self._due - self._clock()
            if wait <= 0:
                return
            # Whether to poll is asked again within a second; a nudge asks at once.
            with anyio.move_on_after(min(wait, 1.0)):
                await self._nudged.wait()

    async def _exchange(self) -> None:
        """Send one body and act on what came of it."""
        for report in self._runs.model_reports():
            self._outbox.model(report)
        body = self._outbox.take(self._clocks(), self._runs.spending)
        sent_at = self._clock()
        self._pace.sent(sent_at)
        try:
            reply = await self._control.sync(body, timeout=self._lease_s / 3)
            self._outbox.acknowledged()
            self._pace.succeeded(reply.next_sync_ms / 1000)
            self._read(body, reply, sent_at)
        except (Unauthorized, Forbidden, NotFound) as error:  # not found: the deployment was emptied
            self._end(type(error).default_code, str(error))
        except RequestUnencodable as error:
            self._refused(error, "unencodable", surely=True)
        except RequestRefused as error:
            self._refused(error, "request_refused", surely=False)
        except FunctionFailed as error:
            self._refused(error, error.code or "sync_refused", surely=error.code is not None)
        except Exception as error:  # an outage, or a fault in this worker: neither may silence the heartbeats
            self._outbox.failed()
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Space the next attempt, and tell of the first failure and of those that go on."""
        after = error.retry_after_s if isinstance(error, TransportError) else None
        self._pace.failed(self._clock(), self._draw(), after)
        logger.log(
            logging.WARNING if self._pace.failures in {1, 10} else logging.DEBUG,
            "a sync failed and will be sent again",
            exc_info=None if isinstance(error, BackendError) else error,
            extra={
                "action": "sync_failed",
                "session": self.id,
                "failures": self._pace.failures,
                "reason": str(error) or type(error).__name__,
            },
        )

    def _refused(self, error: BackendError, code: str, *, surely: bool) -> None:
        item = self._outbox.refused(code, str(error), surely=surely)
        self._failed(error)
        if item is None:
            return
        logger.error(
            "an item of a sync is refused",
            extra={"action": "item_refused", "item": type(item).__name__, "reason": str(error)},
        )
        if isinstance(item, Accepted):
            self._lose(item.run)  # it is nobody's that the control plane knows of
        elif isinstance(item, Stepped):
            self._steer(self._runs.stepped, item.run, item.report.key, str(error))

    def _clocks(self) -> Clocks:
        silent = self._runs.silent()[:MAX_SILENT]
        return Clocks.model_construct(inbox_age_ms=self._inbox_age_s() * 1000, silent=silent)

    # What an answer means.

    def _read(self, body: SyncRequest, reply: SyncReply, sent_at: float) -> None:
        if not reply.live:
            self._end_as_told(reply.ended)
            return
        granted_s = reply.lease_ms / 1000
        # An answer computed before a run was assigned may still speak of the idle lease.
        self._lease.renew(min(granted_s, self._lease_s) if self._active else granted_s, sent_at)
        for run in reply.lost:
            self._lose(run)
        if self._unconfirmed:
            for run in {*body.accepted, *(chunk.run for chunk in body.chunks)} & self._unconfirmed:
                self._unconfirmed.discard(run)
                self._steer(self._runs.confirmed, run)
        for step in body.steps or ():
            if step.run in self._active:
                self._steer(self._runs.stepped, step.run, step.key, None)
        for result in reply.results:
            self._steer(self._runs.settled, result)
        self._learn(reply.models)
        if self._receive(reply.assigned, reply.controls, reply.watched):
            self._overtaken()

    def _learn(self, states: Iterable[ModelState] | None) -> None:
        self._steer(self._runs.models, list(states or ()))

    def _receive(
        self, assigned: Iterable[Assignment], controls: Iterable[Control], watched: Iterable[str]
    ) -> bool:
        """Act on what waits, and return whether any assignment was new."""
        now, news = self._clock(), False
        for assignment in assigned:
            if self._lease.expired(now):
                break  # whoever owns the run by now, it may not be us
            if self._heard.is_new(assignment.run):
                news = True
                self._lease.shorten(self._lease_s, now)
                self._active.add(assignment.run)
                self._unconfirmed.add(assignment.run)
                if not self._steer(self._runs.assigned, assignment):
                    error = RunError(code="worker_error", message="The worker could not begin the run")
                    self.finish(assignment.run, Failed(error=error, retryable=True), None)
        for control in controls:
            if self._heard.is_due(control, self._active, now):
                self._obey(control)
        self._watched = set(watched)
        if self._outbox.waits_for_text(self._watched):
            self._nudged.set()
        return news

    def _obey(self, control: Control) -> None:
        if control.kind == "drain":
            self._steer(self._runs.drain, control.reason)
        elif control.run is not None:
            match control.kind:
                case "cancel":
                    self._steer(self._runs.cancel, control.run, control.reason)
                case "pause":
                    self._steer(self._runs.pause, control.run, control.reason)
                case "allotment" if control.allotment is not None:
                    self._steer(self._runs.allotted, control.run, control.allotment)
                case "signal" if control.signal is not None:
                    self._steer(self._runs.signal, control.run, control.signal)
        self._outbox.acknowledge(control.control)
        self._nudged.set()

    def _lose(self, run: str) -> None:
        self._outbox.forget(run)
        self._unconfirmed.discard(run)
        if run in self._active:
            self._active.discard(run)
            self._steer(self._runs.lost, run)

    def _steer(self, tell: Callable[P, None], *args: P.args, **named: P.kwargs) -> bool:
        """Tell the runs something, and return whether they took it: a fault of theirs must not go further."""
        try:
            tell(*args, **named)
        except Exception:
            logger.exception(
                "a run could not be steered", extra={"action": "steering_failed", "session": self.id}
            )
            return False
        return True

    def _end_as_told(self, code: str | None) -> None:
        self._end(code or "ended", "the control plane has ended the session")

    def _end(self, code: str, why: str) -> None:
        if self.ending is not None:
            return
        self.ending = Ending(code, why)
        for run in list(self._active):
            self._lose(run)
        self._exchanged.set()
        self._over.set()
