"""A tree of budgets on the real host, and runs that reserve, settle, ask for more, end and die at random.

The model knows what the runs have truly spent and reserved. Whatever happens, the books of the control
plane hold at least that, and no more than the budget and one call.
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio.from_thread
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.deployment import deployed
from tests.simulated_worker import SimulatedWorker
from tests.stage import Stage
from worker.backend import Backend
from worker.budgets import BudgetKind, BudgetSpec, TaskBudget
from worker.client import TaskSpec
from worker.models import Amounts, Control, Released, Spending, Succeeded, Want

pytestmark = pytest.mark.timeout(1800 if "SIGNALBOX_LONG_MODELS" in os.environ else 300)
LONG = os.environ.get("SIGNALBOX_LONG_MODELS") is not None
TENANT_CAP, STACK_CAP, TASK_CAP = 3_000, 2_000, 1_500
LARGEST = 400  # micro-dollars of one call


@dataclass
class Play:
    """A run as its worker sees it. Amounts in micro-dollars."""

    task: str
    granted: int
    spent: int = 0
    reserved: list[int] = field(default_factory=list)
    number: int = 0
    need: int | None = None  # a wish that is open
    over: bool = False  # a budget has told it to stop

    @property
    def free(self) -> int:
        return 0 if self.need is not None else self.granted - self.spent - sum(self.reserved)


class Story(RuleBasedStateMachine):
    """One tenant with its budgets, from its first task to its last."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.name = f"spend-{uuid.uuid4().hex[:12]}"
        self.plays: dict[str, Play] = {}
        self.gone = 0  # spent by runs that have ended, and what may have been by those that died
        self.tasks: list[str] = []
        caps: list[tuple[BudgetKind, int]] = [("tenant", TENANT_CAP), ("stack", STACK_CAP)]
        for kind, cap in caps:
            spec = BudgetSpec(kind=kind, name=self.name, caps={"micros": cap})
            self.stage.call(self.stage.at.client.budgets.set, spec)
        self.worker = self.register()

    def register(self, *, replaces: bool = False) -> SimulatedWorker:
        key, queues = self.stage.at.keys["worker"], [self.name]
        register = SimulatedWorker.register
        return self.stage.call(register, self.stage.backend, key, self.name, queues=queues, replaces=replaces)

    @rule(own=st.booleans())
    def submit(self, own: bool) -> None:
        budget = TaskBudget(micros=TASK_CAP) if own else None
        names = {"queue": self.name, "tenant": self.name, "stack": self.name}
        spec = TaskSpec(agent="noop", input="null", budget=budget, **names)
        self.tasks.append(self.stage.call(self.stage.at.client.submit, spec).task)

    @precondition(lambda self: self.able())
    @rule(data=st.data(), need=st.integers(1, LARGEST))
    def reserve(self, data: st.DataObject, need: int) -> None:
        play = self.plays[data.draw(st.sampled_from(self.able()))]
        if need <= play.free:
            play.reserved.append(need)
        else:
            play.number += 1
            play.need = need

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        play = self.plays[data.draw(st.sampled_from(self.busy()))]
        play.spent += math.floor(play.reserved.pop() * share)
        if play.need is not None:
            play.number += 1  # the same wish, with what is free by now

    @precondition(lambda self: self.plays)
    @rule(data=st.data(), back=st.booleans())
    def end(self, data: st.DataObject, back: bool) -> None:
        run = data.draw(st.sampled_from(sorted(self.plays)))
        play = self.plays.pop(run)
        self.gone += play.spent  # its calls under way were cancelled, and cost nothing
        last = {run: self.told(run, Play(play.task, play.granted, play.spent))}
        outcome = Released() if back and not play.over else Succeeded(output=None)
        self.take(self.stage.call(self.worker.sync, [(run, outcome)], last=last).controls)

    @rule()
    def die(self) -> None:
        self.gone += sum(play.spent + sum(play.reserved) for play in self.plays.values())
        self.plays = {}
        self.worker = self.register(replaces=True)

    def able(self) -> list[str]:
        return sorted(run for run, play in self.plays.items() if play.need is None and not play.over)

    def busy(self) -> list[str]:
        return sorted(run for run, play in self.plays.items() if play.reserved)

    def told(self, run: str, play: Play) -> Spending:
        want = None if play.need is None else Want(number=play.number, need=Amounts(micros=play.need))
        reserved = Amounts(micros=sum(play.reserved))
        return Spending(run=run, spent=Amounts(micros=play.spent), reserved=reserved, want=want)

    def take(self, controls: list[Control]) -> None:
        for control in controls:
            allotment, play = control.allotment, self.plays.get(control.run or "")
            if allotment is None or play is None or play.need is None or allotment.want != play.number:
                continue
            play.granted = allotment.granted.micros or 0
            if allotment.verdict == "granted":
                play.reserved.append(play.need)
                assert play.granted >= play.spent + sum(play.reserved)
            else:
                play.over = True
            play.need = None

    def sync(self) -> None:
        spending = [self.told(run, play) for run, play in self.plays.items()]
        reply = self.stage.call(self.worker.sync, spending=spending)
        assert reply.live
        for run, assignment in self.worker.held.items():
            if run not in self.plays and assignment.allotment is not None:
                granted = assignment.allotment.granted.micros
                assert granted is not None
                self.plays[run] = Play(assignment.task, granted)
        self.take(reply.controls)
        self.stage.clock(0)

    @invariant()
    def the_books_hold_what_is_spent_and_no_more_than_there_is(self) -> None:
        self.stage.clock(0)
        for _ in range(3):  # tell; accept; hear the answers
            self.sync()
        truth = self.gone + sum(play.spent + sum(play.reserved) for play in self.plays.values())
        kinds: list[tuple[BudgetKind, int]] = [("tenant", TENANT_CAP), ("stack", STACK_CAP)]
        for kind, cap in kinds:
            budget = self.stage.call(self.stage.at.client.budgets.get, kind, self.name)
            balance = budget.balances[0]
            assert balance.held.micros >= 0
            booked = balance.spent.micros + balance.held.micros
            assert truth <= booked <= cap + LARGEST, f"{kind}: {truth=} {booked=}"

    def teardown(self) -> None:
        for run, play in list(self.plays.items()):
            self.gone += play.spent
            last = {run: self.told(run, Play(play.task, play.granted, play.spent))}
            self.stage.call(self.worker.sync, [(run, Succeeded(output=None))], last=last)
            del self.plays[run]
        for task in self.tasks:
            self.stage.call(self.stage.at.client.cancel, task)
        self.stage.clock(0)
        self.stage.call(self.worker.api.drain, self.worker.session, final=True, timeout=30)
        self.stage.clock(0)
        balance = self.stage.call(self.stage.at.client.budgets.get, "tenant", self.name).balances[0]
        assert balance.spent.micros == self.gone, "each micro-dollar is counted once"
        assert balance.held.micros == 0, "all that was held is given back"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with anyio.from_thread.start_blocking_portal() as portal:
        host = deployed(tmp_path, synchronous="normal", flags=["--clock", "virtual"])
        with portal.wrap_async_context_manager(host) as at:
            backend = Backend(at.host.url)
            with portal.wrap_async_context_manager(backend):
                yield Stage(at, backend, backend, portal)


def test_the_books_hold_whatever_runs_do(stage: Stage) -> None:
    story = type("Story", (Story,), {"stage": stage})
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=60 if LONG else 5,
            stateful_step_count=40 if LONG else 12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
