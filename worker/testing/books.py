"""The state of a control plane in memory and the rules by which it changes."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from collections.abc import Callable
from typing import Any, Literal

import anyio

from worker.backend import Json
from worker.errors import BackendTimeout, NotFound
from worker.models import (
    Control,
    Finished,
    Inbox,
    LlmSpec,
    RunResult,
    Signal,
    Step,
    StepReport,
    Succeeded,
    Suspended,
    SyncRequest,
    UntilApprovals,
    UntilEvent,
    UntilTime,
)
from worker.testing.rows import (
    ENDED,
    FakeRun,
    FakeTask,
    Session,
    TaskStatus,
    assignment_of,
    fits,
    version_of,
)


class Books:
    """Keeps tasks, runs and sessions, and gives tasks to workers."""

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
        self._sessions: dict[str, Session] = {}
        self._controls: dict[str, tuple[str, Control]] = {}
        self._pending: list[FakeTask] = []
        self._timed: dict[str, FakeTask] = {}  # that wait, or have waited, for some time
        self._groups: dict[str, tuple[FakeTask, list[str]]] = {}  # who waits for whom
        self._ids = itertools.count(1)
        self._ended = anyio.Event()

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

    def _session(self, session: str) -> Session:
        if session not in self._sessions:
            raise NotFound(f"No session {session}.")
        found = self._sessions[session]
        if found.live and self._clock() >= found.expires_at:
            self._end_session(found, "heartbeat_timeout")
        return found

    def _owned(self, session: Session, run: str) -> FakeRun | None:
        found = self.runs.get(run)
        if found is None or found.session != session.id or found.state not in {"assigned", "running"}:
            return None
        return found

    def _held(self, session: Session) -> list[FakeRun]:
        session.given = [run for run in session.given if self._owned(session, run.id) is not None]
        return session.given

    def _done_by(self, session: Session, run: str) -> bool:
        found = self.runs.get(run)
        return found is not None and found.session == session.id and found.state != "lost"

    def _apply(self, session: Session, request: SyncRequest) -> None:
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
            if report.recorded is not None:  # it is used up
                task.steps[report.recorded] = task.steps[report.recorded].model_copy(
                    update={"args_hash": None}
                )
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
            self._timed[task.id] = task
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
            if waits and all(self.tasks[child].status in ENDED for child in children):
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
        for task in list(self._timed.values()):
            if task.waits is None:
                del self._timed[task.id]
            elif self._clock() >= task.over_at.get(task.waits[0], math.inf):
                self._end_wait(task, None if task.waits[1] is None else '{"timeout":true}')

    def _result(self, session: Session, finished: Finished) -> RunResult:
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

    def _end_session(self, session: Session, why: str) -> None:
        session.ended = why
        for run in self._held(session):
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
            room = session.capacity - len(self._held(session))
            offers = {agent.name: agent for agent in session.agents}
            for task in [t for t in self._pending if fits(t, offers, session.llm)][:room]:
                self._pending.remove(task)
                task.attempt += 1
                offered = version_of(offers.get(task.agent))
                run = FakeRun(self._id("run"), task, session.id, task.attempt, version=offered)
                self.runs[run.id] = run
                task.runs.append(run)
                session.given.append(run)
                task.status, task.run = "running", run.id
                self._notify(session)

    def _notify(self, session: Session) -> None:
        changed, session.changed = session.changed, anyio.Event()
        changed.set()

    def _peek(self, session: str) -> Inbox:
        found = self._session(session)
        if not found.live:
            return Inbox(live=False, ended=found.ended, assigned=[], controls=[], watched=[])
        return self._inbox(found)

    def _inbox(self, session: Session) -> Inbox:
        return Inbox(
            live=True,
            ended=None,
            assigned=[assignment_of(run) for run in self._held(session) if run.state == "assigned"],
            controls=[control for owner, control in self._controls.values() if owner == session.id],
            watched=sorted(run for run in self.watched if self._owned(session, run)),
        )
