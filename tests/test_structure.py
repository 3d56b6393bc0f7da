"""Tasks that hang together, with real workers: graphs, fan-out, groups that call back once, through kills."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.command_line import call
from tests.deployment import Deployment, deployed
from worker.client import TaskSpec
from worker.groups import After, FollowUp, FollowUpTask
from worker.models import TaskStatus

pytestmark = pytest.mark.timeout(90)


def noop(value: Any = None, **more: Any) -> TaskSpec:
    return TaskSpec(agent="noop", input=json.dumps(value), **more)


async def submit(at: Deployment, *specs: TaskSpec) -> list[str]:
    tasks = []
    for answer in await at.client.submit_many(specs):
        if isinstance(answer, Exception):
            raise answer
        tasks.append(answer.task)
    return tasks


async def statuses(at: Deployment, tasks: list[str]) -> list[TaskStatus]:
    return [view.status for view in await at.ended(tasks, within_s=60)]


async def test_a_diamond_and_a_fan_out_of_100_end_to_end(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        at.worker("w", "--concurrency", "20")
        at.worker("v", "--concurrency", "20")
        await at.know("noop", "failing")
        after_a = [After(on="#a")]
        diamond = await submit(
            at,
            noop(ref="a"),
            noop(ref="b", after=after_a),
            noop(ref="c", after=after_a),
            noop("bottom", after=[After(on="#b"), After(on="#c")]),
        )
        (top,) = await submit(at, noop())
        group = await at.client.create_group(
            on_complete=FollowUpTask(task=FollowUp(agent="noop"), context='"mine"')
        )
        wide = await submit(at, *(noop(n, after=[After(on=top)], group=group) for n in range(100)))
        await at.client.seal_group(group)
        assert await statuses(at, [*diamond, top, *wide]) == ["succeeded"] * 105

        async def done() -> bool:
            view = await at.client.group(group)
            return view is not None and view.callback.state == "done"

        with anyio.fail_after(20):
            while not await done():
                await anyio.sleep(0.05)
        view = await at.client.group(group)
        assert view is not None
        assert view.counts.succeeded == view.counts.total == 100
        assert view.callback.task is not None
        (follow_up,) = await at.ended([view.callback.task])
        told = json.loads(follow_up.output or "")
        assert told["group"] == group
        assert told["result"] == "success"
        assert told["context"] == '"mine"'
        started = [view.started_at or 0 for view in await at.ended(diamond)]
        assert started == sorted(started)


async def test_callbacks_come_once_through_conflicts_and_kills_of_the_host(tmp_path: Path) -> None:
    """A third of all mutations run again, and the host is killed while 20 groups become complete."""
    async with deployed(tmp_path, flags=("--conflicts", "0.3:11")) as at:
        at.worker("w", "--concurrency", "20")
        await at.know("noop")
        groups = []
        tasks: list[str] = []
        for n in range(20):
            group = await at.client.create_group(
                name=f"g{n}", on_complete=FollowUpTask(task=FollowUp(agent="noop", labels=["nowhere"]))
            )
            groups.append(group)
            tasks += await submit(at, *(noop(n, group=group, ref=str(i)) for i in range(3)))
            await at.client.seal_group(group)
            if n % 7 == 3:
                await anyio.to_thread.run_sync(at.host.kill)
                await anyio.to_thread.run_sync(at.host.start)
        for _ in range(2):
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(at.host.kill)
            await anyio.to_thread.run_sync(at.host.start)
        assert await statuses(at, tasks) == ["succeeded"] * 60
        with anyio.fail_after(60):
            while True:
                views = (await at.client.groups(limit=100)).groups
                if all(view.callback.state == "done" for view in views):
                    break
                await anyio.sleep(0.1)
        assert sorted(view.group for view in views) == sorted(groups)
        assert all(view.counts.succeeded == 3 for view in views)
        # The follow-ups wait for a label that no worker carries: each group has submitted one.
        follow_ups = (await at.client.tasks(status="pending", limit=100)).tasks
        assert sorted(task.task for task in follow_ups) == sorted(str(view.callback.task) for view in views)


async def test_the_commands_link_show_and_cancel(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at:
        at.worker("w")
        await at.know("noop", "stubborn")
        (slow,) = await submit(at, TaskSpec(agent="stubborn", input="null"))
        group = await at.client.create_group(name="nightly")

        async def submitted(*more: str) -> str:
            done = await call(at, "submit", "noop", *more)
            assert done.code == 0, done.err
            return done.out.strip()

        skipped = await submitted("--after", f"{slow}:skip", "--group", group)
        running = await submitted("--after", f"{slow}:run", "--after", skipped, "--any")
        shown = (await call(at, "tasks", "show", running)).out
        assert f"after         {slow} (running, if it does not succeed: run)" in shown
        assert f"after         {skipped} (waiting, if it does not succeed: fail)" in shown
        assert f"dependent     {running} (waiting)" in (await call(at, "tasks", "show", slow)).out
        await at.begun(slow)
        assert (await call(at, "tasks", "cancel", slow, "--subtree")).code == 0
        assert await statuses(at, [slow, skipped, running]) == ["cancelled", "skipped", "succeeded"]
        assert (await call(at, "tasks", "tree", slow)).out == f"{slow}  stubborn  cancelled\n"
        (row,) = json.loads((await call(at, "groups", "list", "--json")).out)
        assert (row["group"], row["name"], row["sealed"]) == (group, "nightly", False)
        assert (await call(at, "groups", "seal", group)).out == "sealed\n"
        with anyio.fail_after(10):
            while "state         success" not in (await call(at, "groups", "show", group)).out:
                await anyio.sleep(0.1)
        assert "tasks         1 of 1" in (await call(at, "groups", "show", group)).out
        assert (await call(at, "groups", "cancel", group)).code == 0
        nothing = await call(at, "groups", "retry-callback", group)
        assert (nothing.code, nothing.err) == (
            1,
            f"signalbox groups: {group} has no callback, or is not complete: nothing to call\n",
        )
        for arguments, said in (
            (("submit", "noop", "--after", f"{slow}:maybe"), "is not TASK, TASK:skip or TASK:run"),
            (("groups", "show", "nothing"), "No group nothing"),
            (("submit", "noop", "--group", group), "is sealed"),
        ):
            refused = await call(at, *arguments)
            assert refused.code in {1, 2}
            assert said in refused.err
