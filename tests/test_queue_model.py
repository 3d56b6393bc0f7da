"""The real queue against a small model of it, step by step, on a clock that stands still between them.

The host undoes a tenth of all mutations and runs them again, and is killed now and then. After each step
the model says whether what the queue shows may be, and at the end the audit of the chaos runs looks at what
it has kept. Which worker gets a task is the queue's choice, so a
story cannot be shrunk: it is told as it was.
`SIGNALBOX_MODEL_STEPS=5000 SIGNALBOX_MODEL_SEED=3` makes a longer run of it.
"""

from __future__ import annotations

import copy
import json
import math
import os
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

import anyio.from_thread
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr

from tests.chaos import history
from tests.deployment import deployed
from tests.queue_model import ImpossibleError, NotYetError, QueueModel, Seen, Task
from tests.simulated_worker import SimulatedWorker
from tests.stage import Stage
from worker.backend import Backend
from worker.client import RetryPolicy, TaskSpec
from worker.models import Failed, Outcome, Released, RunError, Succeeded

pytestmark = pytest.mark.timeout(3600)
STEPS = int(os.environ.get("SIGNALBOX_MODEL_STEPS", "300"))
SEED = int(os.environ.get("SIGNALBOX_MODEL_SEED", "1"))
STEPS_OF_A_STORY = 50
KILLS_OF_A_STORY = 2
HOP_MS = 200
LATE_MS = 5_000  # how late a loop may come: the sweep of the invariants
FOUND: list[str] = []  # stories that went wrong

NAMES = st.sampled_from(["a", "b", "c"])
ENDINGS: dict[str, Outcome] = {
    "succeeded": Succeeded(output='"done"'),
    "failed": Failed(error=RunError(code="x", message="x"), retryable=True),
    "fatal": Failed(error=RunError(code="x", message="x"), retryable=False),
    "released": Released(),
}


class Story(RuleBasedStateMachine):
    """One queue from its first task to its last."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.name = f"story-{uuid.uuid4().hex[:12]}"
        self.model = QueueModel()
        self.workers: dict[str, SimulatedWorker] = {}
        self.ghosts: list[SimulatedWorker] = []
        self.steps: list[str] = []
        self.given: dict[str, float] = {}  # runs, and when they were given out
        self.kills = 0
        self.now = self.stage.clock()

    # What happens.

    @initialize(capacity=st.integers(1, 3))
    def first_worker(self, capacity: int) -> None:
        self.register("a", capacity)

    @rule(
        count=st.integers(1, 4),
        priority=st.sampled_from([0, 0, 1, 10]),
        delay_ms=st.sampled_from([0, 0, 0, 500, 20_000]),
        max_attempts=st.integers(1, 3),
    )
    def submit(self, count: int, priority: int, delay_ms: int, max_attempts: int) -> None:
        self.steps.append(
            f"{self.now:.3f} submit {count} priority {priority} delay {delay_ms} attempts {max_attempts}"
        )
        specs = [
            TaskSpec(
                agent="noop",
                input=json.dumps(i),
                queue=self.name,
                tenant=self.name,
                priority=priority,
                delay_ms=delay_ms,
                dedup_key=uuid.uuid4().hex,
                retry=RetryPolicy(max_attempts=max_attempts, initial_ms=0),
            )
            for i in range(count)
        ]
        answers = self.stage.call(self.stage.at.client.submit_many, specs)
        again = self.stage.call(self.stage.at.client.submit_many, specs[:1])
        for answer in answers:
            assert not isinstance(answer, Exception) and not answer.duplicate
            due_at = self.now + delay_ms
            self.model.submitted(Task(answer.task, priority, max_attempts, due_at, later=delay_ms > 0))
        assert not isinstance(again[0], Exception) and not isinstance(answers[0], Exception)
        assert (again[0].task, again[0].duplicate) == (answers[0].task, True)

    def register(self, name: str, capacity: int) -> None:
        self.steps.append(f"{self.now:.3f} register {name} with room for {capacity}")
        replaces = name in self.workers and self.model.workers[name].live
        if name in self.workers:
            self.ghosts.append(self.workers[name])
        self.workers[name] = self.stage.call(
            SimulatedWorker.register,
            self.stage.backend,
            self.stage.at.keys["worker"],
            f"{self.name}-{name}",
            capacity=capacity,
            queues=[self.name],
            replaces=replaces,
        )
        self.model.registered(name, capacity, self.now)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), endings=st.lists(st.sampled_from(list(ENDINGS)), max_size=3))
    def work(self, data: st.DataObject, endings: list[str]) -> None:
        """A worker takes what is there, and ends some of what it has."""
        worker = data.draw(st.sampled_from(self.live()))
        for _ in range(2):
            self.beat(worker)
            self.look()
        for how in endings:
            if worker.held and self.model.workers[self.key(worker)].live:
                self.finish(worker, data.draw(st.sampled_from(sorted(worker.held))), how)
                self.look()

    def finish(self, worker: SimulatedWorker, run: str, how: str) -> None:
        task = self.model.tasks[worker.held[run].task]
        self.steps.append(f"{self.now:.3f} {worker.name} reports {how} for {run} of {task}")
        accepted = list(worker.waiting)
        reply = self.stage.call(worker.sync, [(run, ENDINGS[how])])
        ours = task.run == run and self.model.workers[self.key(worker)].live
        assert reply.live == self.model.workers[self.key(worker)].live
        assert [result.accepted for result in reply.results] == [ours], (reply, task)
        if ours:
            self.model.finished(task, how, self.now)  # type: ignore[arg-type]
        if reply.live:
            self.model.synced(self.key(worker), accepted, self.now)

    @rule(data=st.data(), what=st.sampled_from(["register", "crash", "ghost", "kill"]))
    def trouble(self, data: st.DataObject, what: str) -> None:
        """Something happens to a worker, or to the host."""
        if what == "register":
            self.register(data.draw(NAMES), data.draw(st.integers(1, 4)))
        elif what == "crash" and self.live():
            self.crash(data.draw(st.sampled_from(self.live())), data.draw(st.booleans()))
        elif what == "ghost" and self.ghosts:
            self.ghost_reports(data.draw(st.sampled_from(self.ghosts)))
        elif what == "kill" and self.kills < KILLS_OF_A_STORY:
            self.kill_host()

    def ghost_reports(self, ghost: SimulatedWorker) -> None:
        """A process that was replaced finishes what it held: nothing of it is taken."""
        reply = self.stage.call(ghost.finish_all)
        assert not reply.live and not any(result.accepted for result in reply.results)

    @precondition(lambda self: any(w.seq for w in self.workers.values()))
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from([w for w in self.workers.values() if w.seq]))
        self.steps.append(f"{self.now:.3f} {worker.name} sends its last request again")
        reply = self.stage.call(worker.repeat)
        if reply.live:  # a repeat renews the lease and does nothing else
            self.model.synced(self.key(worker), [], self.now)

    @precondition(lambda self: self.model.tasks)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        task = self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]
        self.stage.call(self.stage.at.client.cancel, task.id)
        self.steps.append(f"{self.now:.3f} cancel {task}")
        self.model.cancelled(task, self.now)

    def crash(self, worker: SimulatedWorker, blame: bool) -> None:
        held = sorted(worker.held)
        blamed = self.model.tasks[worker.held[held[0]].task] if blame and held else None
        run = None if blamed is None else blamed.run
        self.steps.append(f"{self.now:.3f} {worker.name} crashes, blaming {run}")
        self.stage.call(worker.api.crashed, worker.session, run, timeout=30)
        if blamed is not None and run is not None:
            self.model.lost(blamed, blamed_at=self.now)
        self.model.gone(self.key(worker))

    @rule(ms=st.sampled_from([1, 100, 100, 1_000, 1_000, 5_000, 16_000, 40_000, 3_600_000]))
    def pass_time(self, ms: int) -> None:
        """Let time go on, from one thing that the model knows of to the next."""
        self.steps.append(f"{self.now:.3f} let {ms} ms pass")
        until = self.now + ms
        while self.now < until:
            self.go_on(until - self.now)
            self.look()

    @rule(what=st.sampled_from(["pause", "resume", "resume", 1, 2, 3, None, None]))
    def steer(self, what: str | int | None) -> None:
        """The operator pauses the queue, lets it go on, or sets how many run at once."""
        self.steps.append(f"{self.now:.3f} queue: {what}")
        limits = self.stage.at.client.limits
        if what == "pause":
            self.stage.call(limits.pause, "queue", self.name)
            self.model.paused = True
        elif what == "resume":
            self.stage.call(limits.resume, "queue", self.name)
            self.model.paused = False
        else:
            assert not isinstance(what, str)
            self.stage.call(limits.set, "queue", self.name, {"limit": what})
            self.model.limit = what

    def kill_host(self) -> None:
        self.kills += 1
        self.steps.append(f"{self.now:.3f} kill the host")
        self.stage.at.host.kill()
        self.stage.at.host.start()
        self.now = self.stage.clock()

    # What must hold after each step.

    @invariant()
    def look(self) -> None:
        self.now = self.stage.clock(0)
        late = self.now + LATE_MS
        while True:
            try:
                self.compare()
                return
            except NotYetError as error:  # a loop met a conflict, and comes again
                if self.now >= late:
                    self.tell(error)
                # No hop crosses an event: what a loop did just before it must be seen.
                self.go_on(min(HOP_MS, self.model.next_event(self.now) - self.now - 1))
            except ImpossibleError as error:
                self.tell(error)

    def tell(self, error: ImpossibleError) -> NoReturn:
        FOUND.append("\n".join([*self.steps, str(error)]))
        raise error

    def go_on(self, ms: float) -> None:
        """Let time go on for so long, or a millisecond, to the next thing that the model knows of at most."""
        until = min(self.now + max(1, ms), self.model.next_event(self.now))
        self.now = self.stage.clock(math.ceil(until - self.now))
        self.model.passed(self.now)

    def compare(self) -> None:
        model = copy.deepcopy(self.model)
        holders: dict[str, str] = {}
        for name, worker in self.workers.items():
            if model.workers[name].live:
                inbox = self.stage.call(worker.api.inbox, worker.session, timeout=30)
                if not inbox.live and not model.may_be_over(name, self.now):
                    raise ImpossibleError(f"the session of {name} is over: {inbox.ended}")
                if not inbox.live:
                    model.gone(name)
                holders |= dict.fromkeys([*worker.held, *(a.run for a in inbox.assigned)], name)
        model.observe(self.tasks() if model.tasks else {}, holders, self.now)
        self.model = model

    def teardown(self) -> None:
        tables = self.stage.call(history.read, self.stage.audit)
        tenant = {**tables, "tasks": [t for t in tables["tasks"] if t["tenant"] == self.name]}
        ours = {task["_id"] for task in tenant["tasks"]}
        tenant["runs"] = [run for run in tables["runs"] if run["task"] in ours]
        for table in ("events", "ready", "delayed"):
            tenant[table] = [row for row in tables[table] if row["task"] in ours]
        sessions = {worker.session for worker in [*self.workers.values(), *self.ghosts]}
        tenant["sessions"] = [session for session in tables["sessions"] if session["_id"] in sessions]
        problems = history.check(tenant, list(self.model.tasks), settled=False).problems()
        assert problems == []
        # The next story begins on an empty stage.
        for task in self.model.tasks.values():
            if task.ended is None:
                self.stage.call(self.stage.at.client.cancel, task.id)
        self.stage.call(self.stage.at.client.limits.remove, "queue", self.name)
        for worker in self.workers.values():
            self.stage.call(worker.api.drain, worker.session, final=True, timeout=30)

    def beat(self, worker: SimulatedWorker) -> None:
        accepted = list(worker.waiting)
        self.steps.append(f"{self.now:.3f} {worker.name} syncs, accepting {accepted}")
        reply = self.stage.call(worker.sync)
        assert reply.live
        self.model.synced(self.key(worker), accepted, self.now)

    def live(self) -> list[SimulatedWorker]:
        return [worker for name, worker in self.workers.items() if self.model.workers[name].live]

    def key(self, worker: SimulatedWorker) -> str:
        return next(name for name, other in self.workers.items() if other is worker)

    def tasks(self) -> dict[str, Seen]:
        found: dict[str, Seen] = {}
        cursor: str | None = None
        while True:
            page = self.stage.call(self.stage.at.client.tasks, tenant=self.name, limit=100, cursor=cursor)
            for t in page.tasks:
                given_at = self.given_at(t.task, t.run) if t.status == "running" and t.run else None
                found[t.task] = Seen(t.status, t.attempt, t.run, t.due_at, given_at)
            cursor = page.cursor
            if cursor is None:
                return found

    def given_at(self, task: str, run: str) -> float:
        """Return when a run was given to its worker, which may have been between two looks."""
        if run not in self.given:
            arguments = {"key": self.stage.at.keys["operator"], "task": task}
            found = self.stage.call(self.stage.backend.query, "dashboard:attempts", arguments, timeout=30)
            self.given |= {attempt["run"]: attempt["assignedAt"] for attempt in found["attempts"]}
        return self.given[run]


def test_the_queue_does_only_what_its_model_allows(tmp_path: Path) -> None:
    flags = ["--clock", "virtual", "--conflicts", f"0.1:{SEED}"]
    with ExitStack() as stack:
        portal = stack.enter_context(anyio.from_thread.start_blocking_portal())
        at = stack.enter_context(
            portal.wrap_async_context_manager(deployed(tmp_path, synchronous="normal", flags=flags))
        )
        backend = stack.enter_context(portal.wrap_async_context_manager(Backend(at.host.url)))
        admin = SecretStr(at.host.admin_key)
        audit = stack.enter_context(portal.wrap_async_context_manager(Backend(at.host.url, admin_key=admin)))
        Story.stage = Stage(at, backend, audit, portal)
        story = seed(SEED)(Story)
        stack.callback(lambda: print("\n\n".join(FOUND[:1])))
        run_state_machine_as_test(
            story,
            settings=settings(
                max_examples=max(1, STEPS // STEPS_OF_A_STORY),
                stateful_step_count=STEPS_OF_A_STORY,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )
