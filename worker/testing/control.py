"""A control plane in memory, for tests of workers and agents without Convex.

It keeps the rules of docs/architecture.md that a worker can observe: leases, fences, idempotent syncs,
attempts, cancellation, isolation after a crash, steps, waits, signals. It decides nothing by priority, limits
or time zones.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import anyio

from worker.backend import Json
from worker.errors import BackendTimeout, NotFound, SessionEnded
from worker.models import (
    AgentOffer,
    AgentVersion,
    Ask,
    Assignment,
    Chunk,
    Control,
    DrainReply,
    Emitted,
    Failed,
    Finished,
    Fork,
    ForkChanges,
    GatheredPage,
    Inbox,
    LlmSpec,
    Outcome,
    ProgressReport,
    Registered,
    RegisterRequest,
    RunResult,
    Signal,
    Spawned,
    Step,
    StepReport,
    StepsPage,
    Succeeded,
    Suspended,
    SyncReply,
    SyncRequest,
    UntilApprovals,
    UntilEvent,
    UntilTime,
    Upstream,
    UpstreamPage,
    Usage,
)

INLINE_BYTES = 8 * 1024
TaskStatus = Literal["pending", "waiting", "running", "succeeded", "failed", "cancelled"]
_ENDED = frozenset({"succeeded", "failed", "cancelled"})
RunState = Literal["assigned", "running", "succeeded", "failed", "cancelled", "released", "suspended", "lost"]


@dataclass(slots=True)
class FakeTask:
    """A task and all that became of it."""

    id: str
    agent: str
    input: str
    llm: LlmSpec | None = None
    timeout_ms: float | None = None
    max_attempts: int = 3
    status: TaskStatus = "pending"
    attempt: int = 0
    isolate: bool = False
    run: str | None = None
    outcome: Outcome | None = None
    usage: Usage | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    over_at: dict[str, float] = field(default_factory=dict)  # of its waits, by the step's key
    pinned: AgentVersion | None = None  # what took its first steps
    fork: Fork | None = None
    signals: list[Signal] = field(default_factory=list)  # that nobody has taken
    asked: dict[str, Ask] = field(default_factory=dict)  # open questions, by step
    waits: tuple[str, str | None] | None = None  # step and event; no event: it sleeps
    progress: ProgressReport | None = None
    upstream: list[Upstream] = field(default_factory=list)


@dataclass(slots=True)
class FakeRun:
    """One attempt at a task."""

    id: str
    task: FakeTask
    session: str
    attempt: int
    state: RunState = "assigned"
    chunks: list[Chunk] = field(default_factory=list)
    uploaded: str | None = None
    version: AgentVersion | None = None

    def text(self) -> str:
        """Return the run's text as a reader sees it: of each call, the latest attempt."""
        latest: dict[int, int] = {}
        for chunk in self.chunks:
            latest[chunk.call] = max(latest.get(chunk.call, 0), chunk.attempt)
        return "".join(c.text for c in self.chunks if c.kind == "text" and c.attempt == latest[c.call])


@dataclass(slots=True)
class _Session:
    """One incarnation of a worker."""

    id: str
    worker: str
    incarnation: str
    capacity: int
    agents: list[AgentOffer]
    llm: bool
    expires_at: float
    seq: int = 0
    ended: str | None = None
    draining: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def live(self) -> bool:
        """Return whether it has not ended."""
        return self.ended is None


class FakeControlPlane:
    """Serves workers from memory.

    Attributes:
        tasks: Every task by id.
        runs: Every run by id.
        syncs: The bodies of every sync that arrived, in order, repeats included.
        outages: Errors to raise before the next calls are looked at: the calls never arrive.
        lost_answers: Errors to raise after the next syncs took effect: their answers are lost.
        silent: While true, calls are accepted and never answered.
        blamed: What each crash report said.
        events: Name and data of what runs told the tenant.
        watched: Runs that somebody looks at.

    Args:
        lease_s: Lease of a session that has runs; an idle one has ten times as much.
        clock: Monotonic seconds.
        max_output_bytes: Largest output.
    """

    def __init__(
        self,
        *,
        lease_s: float = 15.0,
        next_sync_ms: float = 100.0,
        clock: Callable[[], float] = time.monotonic,
        max_sync_items: int = 256,
        max_sync_bytes: int = 4 * 1024 * 1024,
        max_output_bytes: int = 8 * 1024 * 1024,
    ) -> None:
        self.tasks: dict[str, FakeTask] = {}
        self.runs: dict[str, FakeRun] = {}
        self.syncs: list[SyncRequest] = []
        self.outages: list[Exception] = []
        self.lost_answers: list[Exception] = []
        self.silent = False
        self.blamed: list[str | None] = []
        self.events: list[tuple[str, Any]] = []
        self.watched: set[str] = set()
        self._lease_s = lease_s
        self._next_sync_ms = next_sync_ms
        self._clock = clock
        self._limits = (max_sync_items, max_sync_bytes, max_output_bytes)
        self._sessions: dict[str, _Session] = {}
        self._controls: dict[str, tuple[str, Control]] = {}
        self._pending: list[FakeTask] = []
        self._groups: dict[str, tuple[FakeTask, list[str]]] = {}  # who waits for whom
        self._ids = itertools.count(1)
        self._ended = anyio.Event()

    # For tests: what people and programs do.

    def submit(
        self,
        agent: str,
        value: Json = None,
        *,
        llm: LlmSpec | None = None,
        timeout_ms: float | None = None,
        max_attempts: int = 3,
    ) -> FakeTask:
        """Submit a task and give it to a worker that has room."""
        task = FakeTask(self._id("task"), agent, json.dumps(value), llm, timeout_ms, max_attempts)
        self.tasks[task.id] = task
        self._pending.append(task)
        self._dispatch()
        return task

    def cancel(self, task: FakeTask) -> None:
        """Ask for a task's cancellation."""
        if task.status == "pending":
            self._pending.remove(task)
            self._end_task(task, "cancelled")
        elif task.status == "waiting":
            task.waits = None
            task.asked.clear()
            self._end_task(task, "cancelled")
        elif task.status == "running" and task.run is not None:
            self._control(self.runs[task.run].session, "cancel", task.run)

    def pause(self, task: FakeTask) -> None:
        """Ask for a live run to be handed back; this double dispatches its task again at once."""
        if task.run is not None:
            self._control(self.runs[task.run].session, "pause", task.run)

    def signal(self, task: FakeTask, name: str, value: Json = None) -> None:
        """Tell a task something."""
        signal = Signal(signal=self._id("signal"), name=name, data=json.dumps(value))
        if task.waits is not None and task.waits[1] == name:
            self._wake(task, name, signal.data)
            return
        task.signals.append(signal)
        if task.status == "running" and task.run is not None:
            self._control(self.runs[task.run].session, "signal", task.run, signal)

    def decide(
        self,
        task: FakeTask,
        state: Literal["approved", "refused", "expired"] = "approved",
        *,
        step: str | None = None,
        note: str | None = None,
        **result: Json,
    ) -> None:
        """Answer an open question of a task, the first unless a step is named; it goes on after the last.

        Args:
            task: Who asks.
            state: What becomes of the question.
            step: Which one.
            note: What the person says to it.
            result: `result=...`: what is in doubt happened, and this came of it.
        """
        ask = task.asked.pop(step or next(iter(task.asked)))
        told = {"state": state, "by": "key1", "label": "somebody", "note": note, **result}
        told["argsHash"] = hashlib.sha256(ask.args.encode()).hexdigest()
        task.steps[ask.step] = task.steps[ask.step].model_copy(update={"result": json.dumps(told)})
        if not task.asked:
            self._again(task)
            self._dispatch()

    def tell_event(self, name: str, value: Json = None) -> None:
        """Wake every task that waits for an event."""
        for task in self.tasks.values():
            if task.waits is not None and task.waits[1] == name:
                self._wake(task, name, json.dumps(value))

    def skip_sleep(self, task: FakeTask) -> None:
        """Let a task that sleeps go on, as if its time had passed."""
        if task.waits is not None and task.waits[1] is None:
            task.over_at[task.waits[0]] = self._clock()
            self._end_wait(task, None)
            self._dispatch()

    def restart(self, task: FakeTask) -> None:
        """Begin a task that does not run from scratch, on any version of its agent."""
        task.steps.clear()
        task.over_at.clear()
        task.pinned = task.waits = task.outcome = None
        task.attempt = 0
        if task not in self._pending:
            self._again(task)
        self._dispatch()

    def fork(
        self,
        task: FakeTask,
        *,
        at: str | None = None,
        change: ForkChanges | None = None,
        effects: Literal["forbid", "allow"] = "forbid",
    ) -> FakeTask:
        """Make a task that goes on from a step of this one, and give it to a worker that has room."""
        new = replace(
            FakeTask(self._id("task"), task.agent, task.input, task.llm, task.timeout_ms, task.max_attempts),
            fork=Fork(task=task.id, effects=effects, change=change),
        )
        before = at is not None
        for number, (key, step) in enumerate(task.steps.items()):
            before = before and key != at
            if step.result is None:
                continue
            if before or step.kind == "recorded":
                new.steps[key] = step
            elif step.kind == "tool" and step.args_hash is not None:
                kept = f"%recorded/{number:06}/{step.tool}"
                new.steps[kept] = step.model_copy(update={"key": kept, "kind": "recorded"})
            elif step.kind == "event":
                kept = f"%recorded/event/{key}"
                new.steps[kept] = step.model_copy(update={"key": kept, "kind": "recorded"})
        if any(step.kind != "recorded" for step in new.steps.values()):
            new.pinned = task.pinned
        self.tasks[new.id] = new
        self._pending.append(new)
        self._dispatch()
        return new

    def ask_to_drain(self, session: str) -> None:
        """Ask a worker to leave."""
        self._control(session, "drain", None)

    def expire(self, session: str) -> None:
        """Let a session's lease run out."""
        self._end_session(self._sessions[session], "heartbeat_timeout")

    def session_of(self, worker: str) -> str:
        """Return the id of a worker's newest session."""
        return [session.id for session in self._sessions.values() if session.worker == worker][-1]

    def is_live(self, session: str) -> bool:
        """Return whether a session's lease holds and it has not been ended."""
        return self._sessions[session].live

    def has_signed_off(self, session: str) -> bool:
        """Return whether the worker left on its own accord."""
        return self._sessions[session].ended == "signed_off"

    async def changed(self) -> None:
        """Wait until a task has ended, or begun to wait."""
        await self._ended.wait()

    async def finished(self, tasks: Iterable[FakeTask] | None = None) -> None:
        """Wait until these tasks (by default all) have ended."""
        while True:
            if all(t.status not in {"pending", "waiting", "running"} for t in tasks or self.tasks.values()):
                return
            await self._ended.wait()

    # For workers: the wire.

    async def register(self, request: RegisterRequest, *, timeout: float) -> Registered:
        """Begin a session; the worker's older one ends."""
        await self._arrive(timeout)
        session = next(
            (
                s
                for s in self._sessions.values()
                if (s.worker, s.incarnation) == (request.worker, request.incarnation)
            ),
            None,
        )
        if session is None:
            for older in self._sessions.values():
                if older.worker == request.worker and older.live:
                    self._end_session(older, "replaced")
            session = _Session(
                self._id("session"),
                request.worker,
                request.incarnation,
                request.capacity,
                request.agents,
                request.llm,
                self._clock() + self._lease_s * 10,
            )
            self._sessions[session.id] = session
            self._dispatch()
        items, size, output = self._limits
        return Registered(
            session=session.id,
            lease_ms=self._lease_s * 1000,
            heartbeat_ms=self._lease_s * 1000 / 3,
            idle_lease_ms=self._lease_s * 10_000,
            idle_heartbeat_ms=self._lease_s * 4000,
            max_sync_items=items,
            max_sync_bytes=size,
            max_output_bytes=output,
        )

    async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
        """Apply a body once, and answer from state."""
        await self._arrive(timeout)
        self.syncs.append(request)
        session = self._session(request.session)
        if not session.live:
            return SyncReply(
                live=False,
                ended=session.ended,
                assigned=[],
                lost=[],
                controls=[],
                watched=[],
                results=[],
                lease_ms=0,
                next_sync_ms=0,
            )
        mentioned = [*request.accepted, *(c.run for c in request.chunks)]
        lost = {
            run for run in mentioned if self._owned(session, run) is None and not self._done_by(session, run)
        }
        if request.seq > session.seq:
            session.seq = request.seq
            self._apply(session, request)
        results = [self._result(session, finished) for finished in request.finished]
        busy = any(self._owned(session, run) for run in self.runs)
        lease_s = self._lease_s if busy else self._lease_s * 10
        session.expires_at = self._clock() + lease_s
        self._dispatch()
        inbox = self._inbox(session)
        if self.lost_answers:
            raise self.lost_answers.pop(0)
        return SyncReply(
            live=True,
            ended=None,
            assigned=inbox.assigned,
            lost=sorted(lost),
            controls=inbox.controls,
            watched=inbox.watched,
            results=results,
            lease_ms=lease_s * 1000,
            next_sync_ms=self._next_sync_ms,
        )

    async def inbox(self, session: str, *, timeout: float) -> Inbox:
        """Return what waits for a session."""
        await self._arrive(timeout)
        return self._peek(session)

    async def input(self, session: str, run: str, *, timeout: float) -> str:
        """Return a run's input."""
        await self._arrive(timeout)
        return self._run_of(session, run).task.input

    async def output(self, session: str, run: str, text: str, *, timeout: float) -> None:
        """Keep a run's output ahead of its result."""
        await self._arrive(timeout)
        self._run_of(session, run).uploaded = text

    async def spawn(
        self, session: str, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool, timeout: float
    ) -> Spawned:
        """Submit the children of a run, once for the step."""
        await self._arrive(timeout)
        parent = self._run_of(session, run).task
        known = parent.steps.get(step)
        if known is not None and known.result is not None:
            return Spawned.model_validate_json(known.result)
        children = [self.submit(spec["agent"], json.loads(spec["input"])) for spec in tasks]
        group = self._id("group") if gather else None
        if group is not None:
            self._groups[group] = (parent, [child.id for child in children])
        spawned = Spawned(tasks=[child.id for child in children], group=group)
        parent.steps[step] = Step(
            key=step, kind="spawn", result=spawned.model_dump_json(by_alias=True), remaining_ms=None
        )
        return spawned

    async def emit(
        self, session: str, run: str, step: str, name: str, data: str, *, timeout: float
    ) -> Emitted:
        """Wake the tasks that wait for an event, once for the step."""
        await self._arrive(timeout)
        task = self._run_of(session, run).task
        known = task.steps.get(step)
        if known is not None and known.result is not None:
            return Emitted.model_validate_json(known.result)
        waited = [each for each in self.tasks.values() if each.waits is not None and each.waits[1] == name]
        for each in waited:
            self._wake(each, name, data)
        self.events.append((name, json.loads(data)))
        emitted = Emitted(tasks=[], woken=len(waited))
        task.steps[step] = Step(key=step, kind="step", result=emitted.model_dump_json(), remaining_ms=None)
        return emitted

    async def upstream(self, session: str, run: str, after: int, *, timeout: float) -> UpstreamPage:
        """Return how the tasks have ended that a run's task comes after: what `FakeTask.upstream` says."""
        await self._arrive(timeout)
        return UpstreamPage(items=self._run_of(session, run).task.upstream[after:], next=None)

    def _run_of(self, session: str, run: str) -> FakeRun:
        owned = self._owned(self._session(session), run)
        if owned is None:
            raise SessionEnded(f"Run {run} is not this session's any more.")
        return owned

    async def gathered(self, session: str, run: str, tasks: list[str], *, timeout: float) -> GatheredPage:
        """Return how tasks have ended, one at a time."""
        await self._arrive(timeout)
        self._run_of(session, run)
        task = self.tasks[tasks[0]]
        output = task.outcome.output if isinstance(task.outcome, Succeeded) else None
        error = task.outcome.error if isinstance(task.outcome, Failed) else None
        ended = "pending" if task.status == "waiting" else task.status
        return GatheredPage(
            items=[Upstream(task=task.id, ref=None, status=ended, output=output, error=error)]
        )

    async def steps(self, session: str, run: str, cursor: str | None, *, timeout: float) -> StepsPage:
        """Return what earlier runs of a run's task have done, all in the first page."""
        if cursor is not None:
            raise NotFound("There is one page.")
        await self._arrive(timeout)
        task = self._run_of(session, run).task
        steps = [
            step
            if step.key not in task.over_at
            else step.model_copy(
                update={"remaining_ms": max(0.0, task.over_at[step.key] - self._clock()) * 1000}
            )
            for step in task.steps.values()
        ]
        return StepsPage(steps=steps, cursor=None, signals=list(task.signals))

    async def drain(self, session: str, *, final: bool, timeout: float) -> DrainReply:
        """Give a session no more runs, or end it."""
        await self._arrive(timeout)
        found = self._session(session)
        if not found.live:
            return DrainReply(live=False)
        found.draining = True
        if final:
            self._end_session(found, "signed_off")
        return DrainReply(live=not final)

    async def crashed(self, session: str, blamed: str | None, *, timeout: float) -> None:
        """End the session of a process that is gone; the blamed run's task is isolated from now on."""
        await self._arrive(timeout)
        self.blamed.append(blamed)
        if blamed is not None and blamed in self.runs:
            self.runs[blamed].task.isolate = True
        found = self._session(session)
        if found.live:
            self._end_session(found, "worker_died")

    async def pushed(self, session: str) -> Inbox:
        """Wait until a session's inbox has changed, then return it: the subscription of this double."""
        await self._sessions[session].changed.wait()
        return self._peek(session)

    # The rules.

    def _id(self, kind: str) -> str:
        return f"{kind}{next(self._ids)}"

    async def _arrive(self, timeout: float) -> None:
        await anyio.lowlevel.checkpoint()
        if self.silent:
            await anyio.sleep(timeout)
            raise BackendTimeout(f"No answer within {timeout:.3g} s")
        if self.outages:
            raise self.outages.pop(0)

    def _session(self, session: str) -> _Session:
        if session not in self._sessions:
            raise NotFound(f"No session {session}.")
        found = self._sessions[session]
        if found.live and self._clock() >= found.expires_at:
            self._end_session(found, "heartbeat_timeout")
        return found

    def _owned(self, session: _Session, run: str) -> FakeRun | None:
        found = self.runs.get(run)
        if found is None or found.session != session.id or found.state not in {"assigned", "running"}:
            return None
        return found

    def _done_by(self, session: _Session, run: str) -> bool:
        found = self.runs.get(run)
        return found is not None and found.session == session.id and found.state != "lost"

    def _apply(self, session: _Session, request: SyncRequest) -> None:
        for run in request.accepted:
            if (owned := self._owned(session, run)) is not None:
                owned.state = "running"
        for chunk in request.chunks:
            owned = self._owned(session, chunk.run)
            if owned is not None and all(chunk.seq != known.seq for known in owned.chunks):
                owned.chunks.append(chunk)
        for report in request.steps or ():
            if (owned := self._owned(session, report.run)) is not None:
                self._keep(owned.task, report)
        for told in request.progress or ():
            if (owned := self._owned(session, told.run)) is not None:
                owned.task.progress = told
        for finished in request.finished:
            if (owned := self._owned(session, finished.run)) is not None:
                self._finish(owned, finished)
        for control in request.acknowledged:
            self._controls.pop(control, None)

    def _finish(self, run: FakeRun, finished: Finished) -> None:
        outcome, task = finished.outcome, run.task
        if task.steps or outcome.kind == "suspended":
            task.pinned = task.pinned or run.version
        if outcome.kind == "succeeded" and outcome.output is None:
            outcome = outcome.model_copy(update={"output": run.uploaded})
        task.usage, run.state = finished.usage, outcome.kind
        if outcome.kind == "released":
            task.attempt -= 1
            self._again(task)
        elif outcome.kind == "suspended":
            task.attempt -= 1  # not burnt; this double numbers runs by it
            task.status, task.run = "waiting", None
            self._suspend(task, outcome)
        elif outcome.kind == "failed" and outcome.retryable and task.attempt < task.max_attempts:
            self._again(task)
        else:
            task.outcome = outcome
            if isinstance(outcome, Succeeded) and outcome.next is not None:
                for spec in json.loads(outcome.next):
                    self.submit(spec["agent"], json.loads(spec["input"]))
            self._end_task(task, outcome.kind)

    def _keep(self, task: FakeTask, report: StepReport) -> None:
        known = task.steps.get(report.key)
        if known is None or known.result is None:
            said = {name: value for name, value in report if value is not None and name in Step.model_fields}
            if known is not None and known.state is not None:
                said = {"state": "done", **said}
            step = Step(key=report.key, kind=report.kind, result=None, remaining_ms=None)
            task.steps[report.key] = (known or step).model_copy(update=said)
        task.signals = [signal for signal in task.signals if signal.signal != report.signal]

    def _suspend(self, task: FakeTask, asked: Suspended) -> None:
        key, until = asked.step, asked.until
        if isinstance(until, UntilApprovals):
            for ask in until.approvals:
                step = Step(key=ask.step, kind="approval", result=None, remaining_ms=None)
                if task.steps.setdefault(ask.step, step).result is None:
                    task.asked[ask.step] = ask
            if not task.asked:
                self._again(task)
            return
        event: str | None = None
        ms: float | None = None
        if isinstance(until, UntilTime):
            ms = until.ms
        elif isinstance(until, UntilEvent):
            event, ms = until.event, until.timeout_ms
        else:
            event = until.group
        kind: Literal["sleep", "event"] = "sleep" if event is None else "event"
        task.steps.setdefault(key, Step(key=key, kind=kind, result=None, remaining_ms=None))
        if ms is not None:
            over_at = task.over_at.setdefault(key, self._clock() + ms / 1000)
            left_s = max(0.0, over_at - self._clock())
            asyncio.get_running_loop().call_later(left_s + 0.001, self._dispatch)
        task.waits = (key, event)
        self._wake_parents()
        self._stir()
        for signal in task.signals:
            if signal.name == event:
                task.signals.remove(signal)
                self._wake(task, signal.name, signal.data)
                return

    def _wake_parents(self) -> None:
        for group, (parent, children) in self._groups.items():
            waits = parent.waits is not None and parent.waits[1] == group
            if waits and all(self.tasks[child].status in _ENDED for child in children):
                self._wake(parent, group, '"success"')

    def _wake(self, task: FakeTask, name: str, data: str) -> None:
        self._end_wait(task, f'{{"name":{json.dumps(name)},"data":{data}}}')
        self._dispatch()

    def _end_wait(self, task: FakeTask, result: str | None) -> None:
        if task.waits is not None:
            key, _ = task.waits
            task.steps[key] = task.steps[key].model_copy(update={"result": result})
            task.waits = None
            self._again(task)

    def _end_overdue_waits(self) -> None:
        for task in self.tasks.values():
            if task.waits is not None and self._clock() >= task.over_at.get(task.waits[0], math.inf):
                self._end_wait(task, None if task.waits[1] is None else '{"timeout":true}')

    def _result(self, session: _Session, finished: Finished) -> RunResult:
        run = self.runs.get(finished.run)
        taken = run is not None and run.session == session.id and run.state == finished.outcome.kind
        return RunResult(run=finished.run, accepted=taken, reason=None if taken else "not this session's run")

    def _again(self, task: FakeTask) -> None:
        task.status, task.run = "pending", None
        self._pending.append(task)

    def _end_task(self, task: FakeTask, status: TaskStatus) -> None:
        task.status = status
        self._wake_parents()
        self._stir()

    def _stir(self) -> None:
        stirred, self._ended = self._ended, anyio.Event()
        stirred.set()

    def _end_session(self, session: _Session, why: str) -> None:
        session.ended = why
        for run in self.runs.values():
            if run.session == session.id and run.state in {"assigned", "running"}:
                never_begun = run.task.max_attempts == 1 and run.state == "assigned"
                run.state = "released" if why == "signed_off" else "lost"
                run.task.attempt -= never_begun or why == "signed_off"
                if run.task.attempt < run.task.max_attempts:
                    self._again(run.task)
                else:
                    self._end_task(run.task, "failed")
        self._notify(session)
        self._dispatch()

    def _control(
        self,
        session: str,
        kind: Literal["cancel", "drain", "pause", "signal"],
        run: str | None,
        signal: Signal | None = None,
    ) -> None:
        control = Control(control=self._id("control"), kind=kind, run=run, reason="asked for", signal=signal)
        self._controls[control.control] = (session, control)
        self._notify(self._sessions[session])

    def _dispatch(self) -> None:
        self._end_overdue_waits()
        for session in self._sessions.values():
            if not session.live or session.draining:
                continue
            room = session.capacity - sum(1 for run in self.runs if self._owned(session, run))
            offers = {agent.name: agent for agent in session.agents}
            for task in [t for t in self._pending if _fits(t, offers, session.llm)][:room]:
                self._pending.remove(task)
                task.attempt += 1
                offered = _version(offers.get(task.agent))
                run = FakeRun(self._id("run"), task, session.id, task.attempt, version=offered)
                self.runs[run.id] = run
                task.status, task.run = "running", run.id
                self._notify(session)

    def _notify(self, session: _Session) -> None:
        changed, session.changed = session.changed, anyio.Event()
        changed.set()

    def _peek(self, session: str) -> Inbox:
        found = self._session(session)
        if not found.live:
            return Inbox(live=False, ended=found.ended, assigned=[], controls=[], watched=[])
        return self._inbox(found)

    def _inbox(self, session: _Session) -> Inbox:
        return Inbox(
            live=True,
            ended=None,
            assigned=[
                _assignment(run)
                for run in self.runs.values()
                if run.session == session.id and run.state == "assigned"
            ],
            controls=[control for owner, control in self._controls.values() if owner == session.id],
            watched=sorted(run for run in self.watched if self._owned(session, run)),
        )


def _fits(task: FakeTask, offers: dict[str, AgentOffer], llm: bool) -> bool:
    """Return whether a worker may play a task: pinned ones in their version alone."""
    if task.llm is not None:
        return llm
    offer = offers.get(task.agent)
    version = _version(offer)
    return offer is not None and (
        task.pinned is None or (version is not None and version.version == task.pinned.version)
    )


def _version(offer: AgentOffer | None) -> AgentVersion | None:
    """Return what an offer says of its code; None when it says nothing."""
    if offer is None or offer.code is None:
        return None
    return AgentVersion(version=offer.version or offer.code, code=offer.code)


def _assignment(run: FakeRun) -> Assignment:
    """Return what a worker is told of a run."""
    task = run.task
    return Assignment(
        run=run.id,
        task=task.id,
        attempt=run.attempt,
        agent=task.agent,
        kind="llm" if task.llm else "python",
        input=task.input if len(task.input.encode()) <= INLINE_BYTES else None,
        llm=task.llm,
        timeout_ms=task.timeout_ms,
        isolate=task.isolate,
        once=task.max_attempts == 1,
        steps=len(task.steps),
        signals=len(task.signals),
        pinned=task.pinned,
        fork=task.fork,
    )
