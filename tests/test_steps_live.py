"""Durable steps, waits and signals on a real host with real workers, also when these are killed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import anyio
import pytest

from tests.command_line import call
from tests.deployment import Deployment, deployed

pytestmark = pytest.mark.timeout(120)


WITHIN = {2, 5}  # steps in which the worker is killed too


async def test_a_worker_killed_at_every_step_boundary_repeats_only_what_was_under_way(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "steps"
    folder.mkdir()
    async with deployed(tmp_path) as at:
        worker = at.worker("w")
        await at.know("six")
        task = await at.submit("six", {"folder": str(folder)})
        for n in range(6):
            calls_before = n + len([step for step in WITHIN if step < n])
            await called(folder, calls_before + 1)
            if n in WITHIN:
                await worker.killed()
                worker = at.worker("w")
                await called(folder, calls_before + 2)
            (folder / f"in-{n}").touch()
            await kept(at, task, n + 1)
            await worker.killed()  # the step has been acknowledged
            (folder / f"behind-{n}").touch()
            worker = at.worker("w")
        (view,) = await at.ended([task], within_s=30)
        calls = (folder / "calls").read_text().split()
    assert (view.status, view.output) == ("succeeded", "[0,1,4,9,16,25]")
    assert calls == [str(n) for n in range(6) for _ in range(2 if n in WITHIN else 1)]


async def called(folder: Path, times: int) -> None:
    calls = anyio.Path(folder / "calls")
    with anyio.fail_after(20):
        while not await calls.exists() or len((await calls.read_text()).split()) < times:
            await anyio.sleep(0.02)


async def kept(at: Deployment, task: str, steps: int) -> None:
    with anyio.fail_after(20):
        while (await at.client.state(task)).steps < steps:
            await anyio.sleep(0.02)


async def test_a_sleeping_task_leaves_its_worker_to_others(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w", "--concurrency", "1")
        await at.know("sleeper", "noop")
        asleep = await at.submit("sleeper", 5.2)
        await at.until(asleep, lambda view: view.status == "sleeping")
        (other,) = await at.ended([await at.submit("noop", 1)], within_s=3)
        assert (await at.task(asleep)).status == "sleeping"
        (view,) = await at.ended([asleep])
        before, after = json.loads(view.output or "")
        assert (other.status, view.status) == ("succeeded", "succeeded")
        assert before != after, "it slept in one run and woke in another"
        assert view.error is None
        assert (await at.types(asleep)).count("task_suspended") == 1


async def test_a_wait_ends_by_a_signal_before_it_during_it_or_by_its_time_limit(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        first = at.worker("first")
        await at.know("waiter")
        first.send(signal.SIGTERM)
        await first.ended(within_s=10)
        before = await at.submit("waiter")
        assert await at.client.signal(before, "go", {"said": "before"}, id="1")
        assert not await at.client.signal(before, "go", {"said": "again"}, id="1")
        at.worker("w")
        during, late = await at.submit("waiter"), await at.submit("waiter", 0.3)
        await at.until(during, lambda view: view.status == "waiting_event")
        state = await at.client.state(during)
        assert state.waits_for == "go"
        assert state.state == '{"phase":"waiting"}'
        assert state.progress is not None
        assert (state.progress.done, state.progress.total, state.progress.message) == (1, 2, "half-way")
        await at.client.signal(during, "go", "during")
        ended = await at.ended([before, during, late])
        assert [view.output for view in ended] == ['{"said":"before"}', '"during"', '"too late"']


async def test_a_live_run_hears_a_signal_at_once(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("listener")
        task = await at.submit("listener", 2)
        await at.begun(task)
        for n in (1, 2):
            await at.client.signal(task, "say", n)
        with anyio.fail_after(3):  # the heartbeat, which would bring it too, comes every 5 s
            (view,) = await at.ended([task])
        assert view.output == '[["say",1],["say",2]]'


async def test_a_run_is_paused_and_cancelled_at_once(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("stubborn")
        task = await at.submit("stubborn")
        await at.begun(task)
        await at.client.pause(task)
        await at.until(task, lambda view: view.status == "paused", within_s=3)
        await at.client.resume(task)
        await at.begun(task)
        await at.client.cancel(task)
        await at.until(task, lambda view: view.status == "cancelled", within_s=3)


async def test_a_worker_without_a_subscription_hears_of_a_cancel_within_one_heartbeat(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=3000) as at:
        worker = at.worker("w")
        await at.know("stubborn")
        task = await at.submit("stubborn")
        await at.begun(task)
        await worker.freeze_listener()
        await at.client.cancel(task)
        await at.until(task, lambda view: view.status == "cancelled", within_s=2.5)


async def test_the_command_line_tells_a_task_something_and_shows_how_it_stands(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("waiter")
        task = await at.submit("waiter")
        await at.until(task, lambda view: view.status == "waiting_event")

        async def signalbox(*arguments: str) -> tuple[int, str]:
            ran = await call(at, "tasks", *arguments, role="submit")
            return ran.code, ran.out + ran.err

        code, shown = await signalbox("state", task)
        assert code == 0
        assert "waiting_event" in shown and "1 of 2 half-way" in shown and "waits for     go" in shown
        code, shown = await signalbox("show", task)
        assert "1 of 2 half-way" in shown and "task_suspended" in shown
        assert (await signalbox("signal", task, "go", "--data", "{"))[0] == 2
        assert await signalbox("signal", task, "go", "--data", '"x"', "--id", "1") == (0, "told\n")
        assert await signalbox("signal", task, "go", "--id", "1") == (0, "known already\n")
        (view,) = await at.ended([task])
        assert view.output == '"x"'
        code, shown = await signalbox("signal", task, "go")
        assert code == 1
        assert "has ended (succeeded)" in shown and len(shown.splitlines()) == 1


async def test_children_are_gathered_by_a_worker_with_room_for_one_and_the_next_task_comes_with_the_end(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w", "--concurrency", "1")
        await at.know("family", "noop")
        task = await at.submit("family", 3)
        (view,) = await at.ended([task], within_s=30)
        assert (view.status, view.output) == ("succeeded", "[0,1,2]")
        tasks = (await at.client.tasks()).tasks
        assert len(tasks) == 5
        ended = await at.ended([each.task for each in tasks])
        assert sorted(each.output or "" for each in ended) == sorted(["0", "1", "2", '"next"', "[0,1,2]"])
