"""Durable steps, waits and signals: an agent's context against a control plane in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.whole_worker import working
from worker.client import TaskSpec
from worker.errors import RetryLater
from worker.models import RunError, Succeeded, Upstream
from worker.runtime import Agent, Context, Result, durable
from worker.testing import FakeControlPlane, FakeTask


@asynccontextmanager
async def playing(play: Any, **options: Any) -> AsyncIterator[FakeControlPlane]:
    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(control, Agent("a", "", play), **options):
        yield control


def output(task: FakeTask) -> Any:
    assert isinstance(task.outcome, Succeeded), task.outcome
    return json.loads(task.outcome.output or "null")


def failure(task: FakeTask) -> tuple[str, str]:
    assert task.outcome is not None and task.outcome.kind == "failed", task.outcome
    return task.outcome.error.code, task.outcome.error.message


async def waiting(task: FakeTask) -> None:
    while task.status != "waiting":
        await anyio.sleep(0.01)


@pytest.fixture(autouse=True)
def short_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "SHORT_SLEEP_S", 0.05)


async def test_a_step_is_called_once_for_the_task_whatever_fails_behind_it() -> None:
    calls: list[str] = []

    def step(name: str, *, twice: bool = False) -> tuple[str, bool]:
        calls.append(name)
        return name, twice

    async def slow(name: str) -> None:
        await anyio.lowlevel.checkpoint()
        calls.append(name)

    async def play(ctx: Context, value: Any) -> Any:
        results = [await ctx.step("s", step, "a"), await ctx.step("s", step, "b", twice=True)]
        await ctx.step("t", slow, "c")
        if ctx.attempt < 3:
            raise RetryLater("again", 0)
        return results

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert output(task) == [["a", False], ["b", True]]
    assert calls == ["a", "b", "c"]
    assert list(task.steps) == ["s", "s#2", "t"]


async def test_a_step_returns_in_the_first_run_what_it_returns_in_a_later_one() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        assert await ctx.step("s", lambda: (1, {"x": None})) == [1, {"x": None}]

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert task.status == "succeeded"


async def test_a_step_is_acknowledged_before_it_returns() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        await ctx.step("s", str)
        return sum(len(sync.steps or ()) for sync in control.syncs)

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert output(task) == 1


async def test_a_failed_step_is_called_again() -> None:
    calls: list[int] = []

    async def play(ctx: Context, value: Any) -> Any:
        def once() -> int:
            calls.append(1)
            if len(calls) == 1:
                raise RetryLater("not yet", 0)
            return len(calls)

        return await ctx.step("s", once)

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert output(task) == 2


async def test_the_step_of_a_worker_that_lost_its_lease_is_refused_and_its_run_ends() -> None:
    behind: list[str] = []
    entered = anyio.Event()

    async def play(ctx: Context, value: Any) -> Any:
        async def wait() -> None:
            if ctx.attempt == 1:
                entered.set()
                await anyio.sleep(0.3)

        await ctx.step("s", wait)
        behind.append(ctx.run)

    async with playing(play) as control:
        task = control.submit("a")
        await entered.wait()
        first = task.run
        control.expire(control.session_of("w"))
        await control.finished()
    assert task.status == "succeeded"
    assert behind == [task.run] and behind != [first]


@pytest.mark.parametrize(
    ("name", "result", "code", "says"),
    [
        ("x" * 180, 1, None, ""),
        ("x" * 181, 1, "invalid_step", "1 to 180 characters"),
        ("", 1, "invalid_step", "1 to 180 characters"),
        ("s", {1, 2}, "invalid_step", "'s' is not JSON"),
        ("s", float("nan"), "invalid_step", "'s' is not JSON"),
        ("s", "x" * 999_998, None, ""),
        ("s", "x" * 999_999, "invalid_step", "has 1000001 bytes, at most 1000000"),
    ],
)
async def test_what_a_step_may_be_called_and_return(
    name: str, result: Any, code: str | None, says: str
) -> None:
    async def play(ctx: Context, value: Any) -> Any:
        await ctx.step(name, lambda: result)

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    if code is None:
        assert task.status == "succeeded"
    else:
        found, message = failure(task)
        assert (found, task.attempt) == (code, 1)
        assert says in message


async def test_an_agent_that_changes_its_steps_fails_with_the_name_of_the_step() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        if ctx.attempt == 1:
            await ctx.step("go", str)
            raise RetryLater("again", 0)
        await ctx.wait_for("go")

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    code, message = failure(task)
    assert code == "step_mismatch"
    assert "'go' was a step in an earlier run and is a event in this one" in message


async def test_a_long_sleep_ends_the_run_and_a_short_one_does_not() -> None:
    runs: list[str] = []
    ended: list[str] = []

    async def play(ctx: Context, value: float) -> Any:
        runs.append(ctx.run)
        try:
            await ctx.sleep(value)
        finally:
            ended.append(ctx.run)
        return len(runs)

    async with playing(play) as control:
        short = control.submit("a", 0.05)
        await control.finished()
        long = control.submit("a", 0.3)
        await waiting(long)
        began = anyio.current_time()
        await control.finished()
        assert anyio.current_time() - began > 0.15
    assert output(short) == 1
    assert output(long) == 3
    assert ended == runs, "what is inside `finally` runs"


async def test_an_agent_that_swallows_its_suspension_is_suspended_all_the_same() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        try:
            await ctx.sleep(0.2)
        except BaseException:
            return "swallowed"
        return "slept"

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert output(task) == "slept"


async def test_a_step_under_way_is_kept_before_its_run_goes_to_sleep() -> None:
    calls: list[int] = []

    async def slow() -> None:
        await anyio.sleep(0.1)
        calls.append(1)

    async def play(ctx: Context, value: Any) -> Any:
        async with anyio.create_task_group() as both:
            both.start_soon(ctx.step, "slow", slow)
            both.start_soon(ctx.sleep, 0.2)

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert (task.status, calls) == ("succeeded", [1])


async def test_two_waits_at_once_are_refused() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        async with anyio.create_task_group() as both:
            both.start_soon(ctx.step, "slow", anyio.sleep, 0.1)
            both.start_soon(ctx.sleep, 60)
            both.start_soon(ctx.wait_for, "go")

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert failure(task)[0] == "concurrent_wait"


async def wait_for_go(ctx: Context, value: float | None) -> Any:
    await ctx.step("s", str)
    try:
        return [await ctx.wait_for("go", timeout=value), await ctx.wait_for("go", timeout=value)]
    except TimeoutError as error:
        return str(error)


async def test_signals_end_waits_whether_they_come_before_or_after() -> None:
    async with playing(wait_for_go) as control:
        task = control.submit("a")
        control.signal(task, "other", 0)
        control.signal(task, "go", {"x": 1})
        await waiting(task)
        control.signal(task, "go", None)
        await control.finished()
    assert output(task) == [{"x": 1}, None]
    assert [signal.name for signal in task.signals] == ["other"]


async def test_an_event_counts_only_while_a_task_waits_for_it() -> None:
    async with playing(wait_for_go) as control:
        task = control.submit("a")
        control.tell_event("go", "too early")
        await waiting(task)
        control.tell_event("go", 1)
        while "go" not in task.steps or task.status != "waiting":
            await anyio.sleep(0.01)
        control.tell_event("go", 2)
        await control.finished()
    assert output(task) == [1, 2]


async def test_a_wait_that_is_too_long_raises() -> None:
    async with playing(wait_for_go) as control:
        task = control.submit("a", 0.1)
        await control.finished()
    assert output(task) == "'go' did not come in time"


async def test_a_live_run_hears_its_signals_and_a_later_run_hears_them_again_first() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        heard: list[Any] = []
        async for signal in ctx.signals():
            heard.append((signal.name, signal.data))
            if len(heard) == 2 and ctx.attempt == 1:
                raise RetryLater("again", 0)
            if len(heard) == 3:
                break
        return heard

    async with playing(play) as control:
        task = control.submit("a")
        control.signal(task, "one", 1)
        await anyio.sleep(0.1)
        control.signal(task, "two", 2)
        while task.attempt < 2:
            await anyio.sleep(0.01)
        control.signal(task, "three", 3)
        await control.finished()
    assert output(task) == [["one", 1], ["two", 2], ["three", 3]]
    assert task.signals == []


async def test_signals_are_heard_in_their_order_however_many_lie_before_the_run() -> None:
    lying, later = durable.SIGNAL_PAGE + 3, 2

    async def play(ctx: Context, value: Any) -> Any:
        heard: list[Any] = []
        async for signal in ctx.signals():
            heard.append(signal.data)
            if len(heard) == 1:
                for n in range(later):
                    control.signal(task, "n", lying + n)
                while control._controls:
                    await anyio.sleep(0.01)  # until the worker was told of them
            if len(heard) == lying + later:
                break
        return heard

    async with playing(play) as control:
        task = control.submit("a")
        for n in range(lying):
            control.signal(task, "n", n)
        await control.finished()
    assert output(task) == list(range(lying + later))


async def test_state_and_progress_go_out_the_newest_alone() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        for n in range(1000):
            ctx.progress(n, 1000, f"item {n}")
        ctx.set_state({"phase": 1})
        ctx.set_state({"phase": 2})

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert task.progress is not None and task.progress.progress is not None
    assert (task.progress.progress.done, task.progress.progress.message) == (999, "item 999")
    assert task.progress.state == '{"phase":2}'
    assert sum(len(sync.progress or ()) for sync in control.syncs) <= 2


@pytest.mark.parametrize(("chars", "fits"), [(8190, True), (8191, False)])
async def test_a_state_has_at_most_8_kib(chars: int, fits: bool) -> None:
    async def play(ctx: Context, value: Any) -> Any:
        ctx.set_state("x" * chars)

    async with playing(play) as control:
        task = control.submit("a", max_attempts=1)
        await control.finished()
    assert (task.status == "succeeded") is fits


async def test_a_paused_run_is_handed_back_and_goes_on_behind_its_steps() -> None:
    calls: list[int] = []
    entered = anyio.Event()

    async def play(ctx: Context, value: Any) -> Any:
        await ctx.step("s", lambda: calls.append(1))
        if not entered.is_set():
            entered.set()
            await anyio.sleep_forever()

    async with playing(play) as control:
        task = control.submit("a", max_attempts=1)
        await entered.wait()
        control.pause(task)
        await control.finished()
    assert (task.status, task.attempt, calls) == ("succeeded", 1, [1])


async def test_children_are_submitted_once_and_gathered_without_a_worker() -> None:
    runs: list[str] = []

    async def play(ctx: Context, value: Any) -> Any:
        runs.append(ctx.run)
        alone = await ctx.spawn([TaskSpec(agent="echo", input="0")])
        ended = await ctx.gather([TaskSpec(agent="echo", input=str(n)) for n in (1, 2)])
        assert await ctx.gather([]) == []
        return [len(alone), [(child.status, child.output) for child in ended]]

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert output(task) == [1, [["succeeded", 1], ["succeeded", 2]]]
    assert len(runs) == 2
    assert len(control.tasks) == 4


async def test_an_event_is_told_once_and_what_came_before_is_known() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        woken = await ctx.emit("built", {"n": 1})
        if ctx.attempt < 2:
            raise RetryLater("again", 0)
        return [woken, [(each.ref, each.status, each.output, each.error) for each in await ctx.upstream()]]

    async def wait(ctx: Context, value: Any) -> Any:
        return await ctx.wait_for("built")

    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(control, Agent("a", "", play), Agent("b", "", wait)):
        waiter = control.submit("b")
        await waiting(waiter)
        task = control.submit("a")
        error = RunError(code="x", message="broken")
        task.upstream = [
            Upstream(task="t", ref="first", status="succeeded", output="[1]", error=None),
            Upstream(task="u", ref=None, status="failed", output=None, error=error),
        ]
        await control.finished()
    assert output(task) == [1, [["first", "succeeded", [1], None], [None, "failed", None, "broken"]]]
    assert output(waiter) == {"n": 1}
    assert control.events == [("built", {"n": 1})]


async def test_next_tasks_come_with_the_result() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        return Result("done", next=[TaskSpec(agent="echo", input="7")])

    async with playing(play) as control:
        task = control.submit("a")
        await control.finished()
    assert output(task) == "done"
    assert [output(each) for each in control.tasks.values()] == ["done", 7]
