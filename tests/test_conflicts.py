"""Which mutations would make which others run again on Convex, by the recorder: in pairs and under load."""

from __future__ import annotations

import json
import random
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.deployment import Deployment, deployed
from tests.simulated_worker import SimulatedWorker, called
from worker.backend import Backend
from worker.budgets import BudgetSpec
from worker.client import Submitted, TaskSpec
from worker.groups import After
from worker.models import (
    Amounts,
    Ask,
    Failed,
    ModelReport,
    ModelShareReport,
    Outcome,
    Progress,
    ProgressReport,
    Released,
    RunError,
    Spending,
    StepReport,
    Succeeded,
    Suspended,
    UntilApprovals,
    UntilEvent,
    UntilTime,
    Want,
)

pytestmark = pytest.mark.timeout(180)
WORKERS = 100
TASKS_PER_S = 100
SECONDS = 8
WINDOW_MS = 100


async def test_a_hundred_workers_at_a_hundred_tasks_a_second_conflict_only_where_the_loops_wake(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path, synchronous="normal", flags=["--record"]) as at:
        async with Backend(at.host.url) as backend:
            workers = [
                await SimulatedWorker.register(backend, at.keys["worker"], f"w{i}") for i in range(WORKERS)
            ]
            await clear(at)
            async with anyio.create_task_group() as group:
                for number, worker in enumerate(workers):
                    group.start_soon(work, worker, random.Random(number))
                await submit_steadily(at)
                await anyio.sleep(2)
                group.cancel_scope.cancel()
        found = await matrix(at)
    runs = {row["path"]: row["runs"] for row in found["mutations"]}
    assert runs["worker:sync"] > 5 * WORKERS, f"too little went on to say anything: {runs}"
    assert runs["tasks:submit"] >= TASKS_PER_S * SECONDS / 10
    assert ("worker:sync", "worker:sync") not in {(p["mutation"], p["by"]) for p in found["pairs"]}
    check(found["pairs"])


class Stage:
    """A host whose clock stands still, so that all that a scenario does happens at one time."""

    def __init__(self, at: Deployment, first: SimulatedWorker, second: SimulatedWorker) -> None:
        self.at = at
        self.first = first
        self.second = second

    async def submit(self, tasks: int = 1, **more: Any) -> list[str]:
        """Submit from elsewhere."""
        specs = [TaskSpec(agent="noop", input="null", **more) for _ in range(tasks)]
        return [item.task for item in await self.at.client.submit_many(specs) if isinstance(item, Submitted)]

    async def pass_time(self, ms: int = 0) -> None:
        """Let what is due within `ms` run."""
        body = {"advanceMs": ms}
        await anyio.to_thread.run_sync(ask, self.at, "POST", "/api/host/clock", body)

    async def hold(self, tasks: int, **more: Any) -> list[str]:
        """Let each worker hold half of `tasks` running tasks, and dispatch fall asleep."""
        submitted = await self.submit(tasks, **more)
        await self.pass_time()
        for worker in (self.first, self.second):
            await worker.sync()
            await worker.sync()
        assert len(self.first.held) + len(self.second.held) == tasks
        return submitted

    async def end(self, outcome: Outcome) -> None:
        """Let each worker report this of all that it holds."""
        for worker in (self.first, self.second):
            assert worker.held
            await worker.sync([(run, outcome) for run in worker.held])


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Yield a recording host with two workers of fifty slots each."""
    async with (
        deployed(folder, synchronous="normal", flags=["--record", "--clock", "virtual"]) as at,
        Backend(at.host.url) as backend,
    ):
        first, second = [
            await SimulatedWorker.register(backend, at.keys["worker"], name, capacity=50)
            for name in ("first", "second")
        ]
        yield Stage(at, first, second)


async def heartbeats(stage: Stage) -> None:
    await stage.first.sync()
    await stage.second.sync()


async def finishes(stage: Stage) -> None:
    await stage.first.finish_all()
    await stage.second.finish_all()


async def submits(stage: Stage) -> None:
    await stage.submit()
    await stage.submit()


async def submits_and_heartbeats(stage: Stage) -> None:
    await submits(stage)
    await heartbeats(stage)


async def submits_and_finishes(stage: Stage) -> None:
    await submits(stage)
    await finishes(stage)


async def cancels_and_heartbeats(stage: Stage) -> None:
    for run in [*stage.first.held.values(), *stage.second.held.values()]:
        await stage.at.client.cancel(run.task)
    await heartbeats(stage)


async def failures(stage: Stage) -> None:
    error = RunError(code="boom", message="it failed")
    await stage.end(Failed(error=error, retryable=True, not_before_ms=1))


async def releases(stage: Stage) -> None:
    await stage.end(Released())


async def sleeps(stage: Stage) -> None:
    await stage.end(Suspended(step="nap", until=UntilTime(ms=1)))


async def waits_with_time_limits(stage: Stage) -> None:
    await stage.end(Suspended(step="go", until=UntilEvent(event="go", timeout_ms=1)))


async def questions_and_decisions(stage: Stage) -> None:
    ask = Ask(step="pay", tool="pay", args="{}", why="tool", about=None, timeout_ms=1_001)
    await stage.end(Suspended(step="pay", until=UntilApprovals(approvals=[ask])))
    await stage.pass_time(
        1_000
    )  # people are not that quick: what they decide comes after the syncs that asked
    asked = (await stage.at.client.approvals.list(state="asked")).approvals
    for approval in asked[:3]:
        await stage.at.client.approvals.decide(approval.approval, "approve", args_hash=approval.args_hash)
    await stage.pass_time(1)


async def steps_and_progress(stage: Stage) -> None:
    for worker in (stage.first, stage.second):
        said = Progress(done=1, total=2, message="half")
        await worker.sync(
            steps=[
                StepReport(run=run, key="one", kind="step", result="1", signal=None) for run in worker.held
            ],
            progress=[ProgressReport(run=run, progress=said, state=None) for run in worker.held],
        )


async def model_reports(stage: Stage) -> None:
    """Both workers tell of the same limited model and of their calls, with the loop asleep and awake."""
    for number in (1, 2):
        for worker in (stage.first, stage.second):
            busy = RunError(code="rate_limited", message="busy")
            share = ModelShareReport(
                configured=1, rev=0, used_requests=1, used_tokens=9, waiting=1, least_tokens=9
            )
            report = ModelReport(
                model="house/m", requests=2, failures=1, tokens=9, error=busy, cool_ms=5_000, share=share
            )
            calls = [called(run, number) for run in worker.held]
            await worker.sync(calls=calls, models=[report])
        await stage.pass_time(1_000)
    (known,) = await stage.at.client.models.list()
    assert known.total.requests == 8
    assert known.error is not None


async def signals_and_finishes(stage: Stage) -> None:
    for run in [*stage.first.held.values(), *stage.second.held.values()]:
        await stage.at.client.signal(run.task, "go")
    await finishes(stage)


async def next_tasks(stage: Stage) -> None:
    await stage.end(Succeeded(output=None, next='[{"agent":"noop","input":"null"}]'))


async def delayed_task_falls_due(stage: Stage) -> None:
    await stage.at.client.submit(TaskSpec(agent="noop", input="null", delay_ms=1))
    await stage.pass_time(1)
    await heartbeats(stage)


# Who may make whom run again, and over which tables: where a loop falls asleep or wakes, and nothing else.
ALLOWED: dict[tuple[str, str], set[str]] = {
    ("tasks:submit", "tasks:submit"): {"loops"},  # both wake a sleeping dispatch
    ("tasks:submit", "dispatch:pass"): {"loops"},
    ("dispatch:pass", "tasks:submit"): {"loops", "ready"},  # its last look before it sleeps
    ("dispatch:pass", "worker:sync"): {
        "loops",
        "freed",
        "ready",
        "budgetWork",
        "spendings",
        "runs",
    },  # the same, and what was left for it about budgets; a run that is handed back is in line again
    ("dispatch:pass", "settle:pass"): {"loops", "ready"},  # a dependent is released
    ("worker:sync", "dispatch:pass"): {"loops"},  # room is told to a dispatch that sleeps
    ("worker:sync", "tasks:submit"): {"loops"},
    ("timers:tick", "tasks:submit"): {"loops", "delayed"},
    ("tasks:submit", "timers:tick"): {"loops"},
    ("dispatch:pass", "timers:tick"): {"loops", "ready"},  # a delayed task has become due
    ("timers:tick", "dispatch:pass"): {"loops"},
    ("dispatch:pass", "approvals:decide"): {
        "loops",
        "ready",
    },  # a task that waited for people is in line again
    ("approvals:decide", "dispatch:pass"): {"loops"},
    ("timers:tick", "approvals:decide"): {"alarms"},  # the alarm of a question goes with its answer
    ("approvals:decide", "approvals:decide"): {"loops"},  # both wake a sleeping dispatch
    ("tasks:submit", "tasks:cancel"): {"loops"},
    ("tasks:cancel", "tasks:submit"): {"loops"},
    ("worker:sync", "tasks:signal"): {"tasks"},  # of the task that is signalled, and of no other
    ("tasks:signal", "worker:sync"): {"tasks", "runs"},
    ("settle:pass", "worker:sync"): {"settlements"},  # its last look before it sleeps
    ("worker:sync", "settle:pass"): {"loops"},
    ("worker:sync", "timers:tick"): {"loops"},  # the timers move when a run leaves something due behind
    ("timers:tick", "worker:sync"): {"delayed", "alarms"},
    ("modelLoop:pass", "worker:sync"): {"loops", "modelReports"},  # its last look before it sleeps
    ("worker:sync", "modelLoop:pass"): {"loops"},
    ("tasks:cancel", "tasks:cancel"): {"loops"},  # both have the timers look after their grace
}
LOOPS = {
    "dispatch:pass",
    "timers:tick",
    "timers:watchdog",
    "settle:pass",
    "modelLoop:pass",
}  # each one chain: never run beside itself
WAKES = {
    "dispatch:wake",
    "timers:wake",
    "settle:wake",
    "modelLoop:wake",
}  # scheduled by those that leave the rows of the loops alone

Step = Callable[[Stage], Awaitable[None]]
SCENARIOS: dict[str, Step] = {
    "heartbeats": heartbeats,
    "finishes": finishes,
    "submits": submits,
    "submits and heartbeats": submits_and_heartbeats,
    "submits and finishes": submits_and_finishes,
    "cancels and heartbeats": cancels_and_heartbeats,
    "a delayed task and heartbeats": delayed_task_falls_due,
    "failures that are tried again": failures,
    "runs that are handed back": releases,
    "sleeps": sleeps,
    "waits with time limits": waits_with_time_limits,
    "questions for people and decisions": questions_and_decisions,
    "steps and progress": steps_and_progress,
    "model reports and calls": model_reports,
    "signals and finishes": signals_and_finishes,
    "tasks that come with an end": next_tasks,
}


def check(pairs: list[dict[str, Any]], also: Mapping[tuple[str, str], set[str]] | None = None) -> None:
    """Hold what conflicted to the table, and to what this scenario allows besides."""
    for pair in pairs:
        mutation, by = pair["mutation"], pair["by"]
        over = {place["index"].split(".")[0] for place in pair["over"]}
        allowed = {"loops"} if WAKES & {mutation, by} else ALLOWED.get((mutation, by), set())
        allowed = allowed | (also or {}).get((mutation, by), set())
        if mutation in LOOPS and mutation == by:
            continue
        assert over <= allowed, (
            f"{mutation} runs again because of {by}, over {over}; allowed: {allowed or 'never'}"
        )


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
async def test_what_happens_at_one_time_conflicts_only_where_a_loop_wakes(
    tmp_path: Path, scenario: Step
) -> None:
    async with staged(tmp_path) as stage:
        await stage.hold(4)
        await clear(stage.at)
        await scenario(stage)
        found = await matrix(stage.at)
    assert found["runs"] >= 2
    check(found["pairs"])


async def test_ends_that_others_wait_for_write_no_common_row(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        at = stage.at
        group = await at.client.create_group()
        tasks = await stage.hold(4, group=group)
        await at.client.seal_group(group)
        dependent = TaskSpec(agent="noop", input="null", after=[After(on=task) for task in tasks])
        await at.client.submit(dependent)
        await stage.pass_time()
        await clear(at)
        await finishes(stage)
        await stage.pass_time()
        done = await at.client.group(group)
        assert done is not None and done.result == "success"
        found = await matrix(stage.at)
    check(found["pairs"])


async def test_runs_that_spend_and_ask_for_more_write_no_common_row(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        at, first, second = stage.at, stage.first, stage.second
        await at.client.budgets.set(BudgetSpec(kind="all", caps={"micros": 100_000}))
        await stage.hold(4)
        await clear(at)
        want = Want(number=1, need=Amounts(micros=5_000))
        for worker in (first, second):
            await worker.sync(
                spending=[
                    Spending(run=run, spent=Amounts(micros=7), reserved=Amounts(), want=want)
                    for run in worker.held
                ]
            )
        await stage.pass_time(1_000)  # a worker's next sync comes after its last
        await finishes(stage)
        await stage.pass_time()
        (stands,) = (await at.client.budgets.get("all")).balances
        assert (stands.spent.micros, stands.held.micros) == (4 * 7, 0)
        found = await matrix(stage.at)
    check(found["pairs"])


async def test_late_calls_of_a_task_that_another_worker_has_by_now_write_no_common_row(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as stage:
        at, first, second = stage.at, stage.first, stage.second
        await stage.hold(4)
        tasks = [assignment.task for assignment in first.held.values()]
        late = [called(run, 1) for run in first.held]
        await first.api.drain(first.session, final=True, timeout=30)
        await stage.pass_time(1_000)
        for _ in range(2):
            await second.sync()
        assert len(second.held) == 4
        await stage.pass_time(1_000)
        await clear(at)
        await first.sync(calls=late)
        await second.finish_all()
        await stage.pass_time()
        views = [await at.task(task) for task in tasks]
        assert [(view.status, view.usage.calls) for view in views] == [("succeeded", 1)] * len(tasks)
        found = await matrix(stage.at)
    # They meet in the settle loop alone, which adds to the task what was told late.
    check(
        found["pairs"],
        also={("worker:sync", "settle:pass"): {"tasks"}, ("settle:pass", "worker:sync"): {"tasks"}},
    )


def test_the_table_refuses_what_it_does_not_list() -> None:
    over = [{"index": "heartbeats.by_session", "conflicts": 1}]
    with pytest.raises(AssertionError, match="worker:sync runs again because of worker:sync, over"):
        check([{"mutation": "worker:sync", "by": "worker:sync", "over": over}])


async def work(worker: SimulatedWorker, chance: random.Random) -> None:
    while True:
        await worker.finish_all()
        await anyio.sleep(chance.uniform(0.3, 0.8))


async def submit_steadily(at: Deployment) -> None:
    started = anyio.current_time()
    for tenth in range(SECONDS * 10):
        await at.client.submit_many(
            TaskSpec(agent="noop", input="null", tenant=f"t{i % 5}") for i in range(TASKS_PER_S // 10)
        )
        await anyio.sleep(max(0.0, started + (tenth + 1) / 10 - anyio.current_time()))


async def clear(at: Deployment) -> None:
    await anyio.to_thread.run_sync(ask, at, "POST", "/api/host/conflicts/clear", {})


async def matrix(at: Deployment) -> Any:
    return await anyio.to_thread.run_sync(ask, at, "GET", f"/api/host/conflicts?window={WINDOW_MS}")


def ask(at: Deployment, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        at.host.url + path,
        method=method,
        headers={"authorization": f"Convex {at.host.admin_key}", "content-type": "application/json"},
        data=None if body is None else json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())
