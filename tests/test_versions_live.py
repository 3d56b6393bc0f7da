"""Code that is upgraded under tasks in flight, with real workers: what is refused, and the ways out."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable
from pathlib import Path

import anyio
import pytest

from tests.charging_tools import FOLDER, happened
from tests.command_line import call, invoke, refused
from tests.deployment import REPOSITORY, Deployment, WorkerProcess, deployed

pytestmark = pytest.mark.timeout(120)

GUIDE = (REPOSITORY / "docs" / "agents.md").read_text(encoding="utf-8")
MODULE = "letters_in_flight"
# Each step leaves a line outside. `letter` has a version by its code, `named` by its author.
OLD = """
import os
from pathlib import Path

from tests.agents_under_test import appeared
from tests.charging_tools import FOLDER, note
from worker.runtime import Context, agent


async def play(ctx, value):
    def wrote(what):
        note(f"{ctx.task} {what}")
        return what

    parts = [await ctx.step("read", wrote, "old read"), await ctx.step("draft", wrote, "old draft")]
    match value:
        case "sleeps":
            await ctx.sleep(3600)
        case "works":
            await appeared(Path(os.environ[FOLDER]) / "on")
        case _:
            await ctx.wait_for("go")
    return [*parts, await ctx.step("send", wrote, "old send")]


@agent("letter")
async def letter(ctx, value):
    return await play(ctx, value)


@agent("named", version="v1")
async def named(ctx, value):
    return await play(ctx, value)
"""
NEW = OLD.replace("old ", "new ").replace(
    'step("draft", wrote, "new draft")', 'step("outline", wrote, "new outline")'
)
OLD_STEPS = ["old read", "old draft", "old send"]
NEW_STEPS = ["new read", "new outline", "new send"]
FORKED_STEPS = ["old read", "new outline", "new send"]
WAYS = ("tasks retry TASK", "tasks restart TASK", "tasks fork TASK --at STEP --new-version")


class Upgrade:
    """A deployment whose worker is an old release of the agents, or a new one."""

    def __init__(self, at: Deployment, folder: Path) -> None:
        self.at = at
        self._folder = folder
        for release, source in (("old", OLD), ("new", NEW)):
            (folder / release).mkdir()
            (folder / release / f"{MODULE}.py").write_text(source, encoding="utf-8")

    def worker(self, release: str) -> WorkerProcess:
        path = f"{self._folder / release}"
        return self.at.worker(release, "--agents", MODULE, PYTHONPATH=path, **{FOLDER: str(self._folder)})

    def wrote(self, task: str) -> list[str]:
        """Return what the steps of a task have done, in order."""
        return [line.removeprefix(f"{task} ") for line in happened(self._folder) if line.startswith(task)]

    async def typed(self, line: str, task: str, *more: str) -> str:
        """Type one of the guide's ways out for a task, and return what it prints."""
        assert f"`signalbox {line}`" in GUIDE
        words = [{"TASK": task, "STEP": "draft"}.get(word, word) for word in line.split()]
        ran = await call(self.at, *words, *more, role="submit")
        assert ran.code == 0, ran
        return ran.out.strip()

    async def outputs(self, tasks: Iterable[str]) -> list[list[str]]:
        views = await self.at.ended(tasks, within_s=40)  # a worker may only just begin
        assert [view.status for view in views] == ["succeeded"] * len(views), (views, self.at.logs())
        return [json.loads(view.output or "") for view in views]


async def test_code_that_changes_under_tasks_in_flight_is_refused_and_each_way_out_ends_them(
    tmp_path: Path,
) -> None:
    retry, restart, fork = WAYS
    async with deployed(tmp_path, synchronous="normal", flags=["--clock", "virtual"]) as at:
        up = Upgrade(at, tmp_path)
        old = up.worker("old")
        await at.know("letter", "named")
        sleeps, works = await at.submit("letter", "sleeps"), await at.submit("letter", "works")
        waits = [await at.submit(agent) for agent in ("letter", "letter", "named", "named", "named")]
        await at.until(sleeps, lambda view: view.status == "sleeping")
        for task in waits:
            await at.until(task, lambda view: view.status == "waiting_event")
        with anyio.fail_after(15):
            while (await at.client.state(works)).steps < 2:
                await anyio.sleep(0.02)
        await old.killed()
        flight = [sleeps, works, *waits]
        assert all(up.wrote(task) == OLD_STEPS[:2] for task in flight)

        for task in waits:
            await at.client.signal(task, "go")
        advanced = invoke("host", "advance", "1h", "--url", at.host.url, "--admin-key", at.host.admin_key)
        assert advanced.code == 0, advanced
        assert [(await at.task(task)).status for task in flight] == ["pending"] * 7

        new = up.worker("new")
        fresh = [await at.submit("letter"), await at.submit("named")]
        for task in fresh:
            await at.client.signal(task, "go")
        assert await up.outputs(fresh) == [NEW_STEPS] * 2
        # A version by its code: the new one is not given the tasks of the old one, and why says so.
        hashed, (again, anew, beside) = flight[:4], waits[2:]
        for task in hashed:
            why = (await call(at, "tasks", "why", task, role="submit")).out
            assert "none of 1 workers that know it has that" in why
            assert re.search(rf"tasks restart {task}.*tasks fork {task}", why), why
            assert (await at.task(task)).status == "pending"
        # A version by its author: the step that does not fit ends the task, and its message has the ways out.
        for view in await at.ended([again, anew, beside]):
            assert view.error is not None and (view.status, view.error.code) == ("failed", "step_mismatch")
            shown = (await call(at, "tasks", "show", view.task, role="submit")).out
            assert "'outline' is new, and 'draft' of an earlier run has not come yet" in shown
            assert all(re.search(rf"\b{line.split(' TASK')[0]}\b", shown) for line in WAYS)
        assert all(up.wrote(task) == OLD_STEPS[:2] for task in flight), "nothing was replayed or done"

        # From scratch on the new code, and beside it from the step that has changed.
        for origin in (waits[0], anew):
            assert await up.typed(restart, origin) == "pending"
            await at.client.signal(origin, "go")
        forks = [
            await up.typed(fork, origin, *more)
            for origin in (waits[1], beside)
            for more in ((), ("--allow-effects",))
        ]
        assert await up.outputs([waits[0], anew, forks[1], forks[3]]) == [
            *([NEW_STEPS] * 2),
            *([FORKED_STEPS] * 2),
        ]
        for view in await at.ended([forks[0], forks[2]]):  # without effects it may not even write
            assert view.error is not None and view.error.code == "effect_forbidden"
        assert up.wrote(anew) == [*OLD_STEPS[:2], *NEW_STEPS]
        assert [up.wrote(task) for task in forks] == [[], NEW_STEPS[1:], [], NEW_STEPS[1:]]
        refused(await call(at, "tasks", "restart", anew), "succeeded", "fork it")

        # On the old version: what the new one was not given goes on by itself, what has failed is retried.
        new.send(signal.SIGTERM)
        await new.ended(within_s=15)
        (tmp_path / "on").touch()
        up.worker("old")
        assert await up.typed(retry, again) == "pending"
        resumed = [sleeps, works, waits[1], again]
        assert await up.outputs(resumed) == [OLD_STEPS] * 4
        assert all(up.wrote(task) == OLD_STEPS for task in resumed), "each step was taken once"
