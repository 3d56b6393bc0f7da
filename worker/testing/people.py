"""What people and programs do to the tasks of a control plane in memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from worker.backend import Json
from worker.models import (
    Fork,
    ForkChanges,
    Signal,
)
from worker.testing.books import Books
from worker.testing.rows import (
    FakeTask,
)


class People(Books):
    """Submits, steers and looks at tasks, without a wire."""

    # For tests: what people and programs do.

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
            recorded=task.recorded,
        )
        before = at is not None
        for key, step in task.steps.items():
            before = before and key != at
            used_up = step.kind == "recorded" and step.tool is not None and step.args_hash is None
            if step.result is None or used_up:
                continue
            if before or step.kind == "recorded":
                new.steps[key] = step
            elif step.kind == "tool" and step.args_hash is not None:
                kept = f"%recorded/{new.recorded:06}/{step.tool}"
                new.recorded += 1
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
