"""A control plane in memory, for tests of workers and agents without Convex.

It keeps the rules of docs/architecture.md that a worker can observe: leases, fences, idempotent syncs,
attempts, cancellation, isolation after a crash, steps, waits, signals. It decides nothing by priority, limits
or time zones.
"""

from __future__ import annotations

import json
from typing import Any

from worker.errors import NotFound, SessionEnded
from worker.models import (
    DrainReply,
    Emitted,
    Failed,
    GatheredPage,
    Inbox,
    Registered,
    RegisterRequest,
    Spawned,
    Step,
    StepsPage,
    Succeeded,
    SyncReply,
    SyncRequest,
    Upstream,
    UpstreamPage,
)
from worker.runtime.durable import SIGNAL_PAGE
from worker.testing.people import People
from worker.testing.rows import (
    FakeRun,
    Session,
)


class FakeControlPlane(People):
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

    # For workers: the wire.

    async def register(self, request: RegisterRequest, *, timeout: float) -> Registered:
        """Begin a session; the worker's older one ends at once, and not with the new one's first sync."""
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
            session = Session(
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
        lease_s = self._lease_s if self._held(session) else self._lease_s * 10
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
        return StepsPage(steps=steps, cursor=None, signals=task.signals[:SIGNAL_PAGE])

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
