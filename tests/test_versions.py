"""Code changes in flight: what counts as another version, and what becomes of steps that no longer fit."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.whole_worker import working
from worker.errors import RetryLater, SignalboxError
from worker.models import Succeeded
from worker.runtime import Agent, Context, Registry, agent
from worker.runtime import agents as registered
from worker.runtime.source import code_of
from worker.testing import FakeControlPlane, FakeTask

MODULE = '''
import json
from pathlib import Path as Where

LIMIT = 3
OTHER = 4

def helper(x):
    """Helps."""
    return deeper(x) + LIMIT

def deeper(x):
    return x

def stranger():
    return OTHER

async def play(ctx, value):
    """Plays."""
    return helper(value)  # at once
'''


@pytest.fixture
def code(tmp_path: Path) -> Iterator[Callable[[str], str | None]]:
    names: list[str] = []

    def hashed(source: str) -> str | None:
        name = f"agents_in_flight_{len(names)}"
        names.append(name)
        path = tmp_path / f"{name}.py"
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return code_of(module.play)

    yield hashed
    for name in names:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("", "", True),
        ("# at once", "# later", True),
        ('"""Plays."""', '"""Plays\n\n    twice."""', True),
        ("LIMIT = 3", "\n\nLIMIT = 3  # of them", True),
        ("return OTHER", "return OTHER + 1", True),
        ("OTHER = 4", "OTHER = 5", True),
        ("import json\n", "import json\nimport sys\n", True),
        ("helper(value)", "helper(value) + 1", False),
        ("LIMIT = 3", "LIMIT = 4", False),
        ("    return x\n", "    return x + 1\n", False),
        ("def play(ctx, value)", "def play(ctx, value, more=1)", False),
        ("    return helper(value)", "    # '''\n    return helper('#', value)", False),
    ],
)
def test_what_an_agent_is_made_of_counts_and_nothing_else(
    code: Callable[[str], str | None], before: str, after: str, *, same: bool
) -> None:
    first, second = code(MODULE), code(MODULE.replace(before, after, 1))
    assert first is not None and len(first) == 16
    assert (first == second) is same


def test_code_without_source_counts_by_its_bytecode() -> None:
    def compiled(source: str) -> Any:
        scope: dict[str, Any] = {}
        exec(compile(source, "<nowhere>", "exec"), scope)
        return scope["play"]

    one, same, other = (compiled(f"async def play(ctx, v):\n    return {n}") for n in (1, 1, 2))
    assert code_of(one) == code_of(same) != code_of(other)
    assert code_of(len) is None


def test_a_decorated_agent_has_the_version_that_it_is_given_or_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registered, "registry", Registry())

    @agent("named", version="2026-11")
    async def named(ctx: Context, value: Any) -> Any:
        return value

    @agent("plain")
    async def plain(ctx: Context, value: Any) -> Any:
        return value

    first, second = registered.registry
    assert (first.version, first.code) == ("2026-11", code_of(named))
    assert (second.version, second.code) == (None, code_of(plain))
    with pytest.raises(SignalboxError, match="no version of the agent 'x'"):
        agent("x", version="a b")


def output(task: FakeTask) -> Any:
    assert isinstance(task.outcome, Succeeded), task.outcome
    return json.loads(task.outcome.output or "null")


async def first_part(ctx: Context, value: Any) -> Any:
    await ctx.step("a", str)
    await ctx.step("b", str)
    await ctx.wait_for("go")


async def played(old: Any, new: Any, *, same_code: bool = False) -> FakeTask:
    """Begin a task on `old` until it waits, let `new` of the same version go on with it, and return it."""
    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(control, Agent("a", "", old, version="v", code="1")) as at:
        task = control.submit("a")
        while task.status != "waiting":
            await anyio.sleep(0.01)
        at.worker.leave("an upgrade")
        await at.ended.wait()
    code = "1" if same_code else "2"
    async with working(control, Agent("a", "", new, version="v", code=code)):
        control.signal(task, "go", 1)
        await control.finished([task])
    return task


async def test_a_change_that_takes_the_same_steps_goes_on_with_them() -> None:
    async def new(ctx: Context, value: Any) -> Any:
        await ctx.step("a", lambda: "never called")
        await ctx.step("b", lambda: "never called")
        return [await ctx.wait_for("go"), await ctx.step("c", lambda: "new")]

    assert output(await played(first_part, new)) == [1, "new"]


async def renamed(ctx: Context, value: Any) -> Any:
    await ctx.step("a", str)
    await ctx.step("b2", str)
    return await ctx.wait_for("go")


async def left_out(ctx: Context, value: Any) -> Any:
    await ctx.step("a", str)
    return await ctx.wait_for("go")


async def no_steps(ctx: Context, value: Any) -> Any:
    return value


async def another_kind(ctx: Context, value: Any) -> Any:
    await ctx.wait_for("a")


@pytest.mark.parametrize(
    ("new", "says"),
    [
        (renamed, "'b2' is new, and 'b' of an earlier run has not come yet"),
        (left_out, "'b' of an earlier run has not come in this one"),
        (no_steps, "'a' of an earlier run has not come in this one"),
        (another_kind, "'a' was a step in an earlier run and is a event in this one"),
    ],
)
async def test_a_change_that_no_longer_fits_fails_with_what_clears_it(new: Any, says: str) -> None:
    task = await played(first_part, new)
    assert task.outcome is not None and task.outcome.kind == "failed"
    code, message = task.outcome.error.code, task.outcome.error.message
    assert (code, task.status) == ("step_mismatch", "failed")
    assert says in message
    for offer in ("start a worker with that", "tasks retry", "tasks restart", "tasks fork"):
        assert offer in message


async def test_steps_at_the_same_time_may_come_in_another_order() -> None:
    async def both(ctx: Context, value: Any, *, slow: str) -> Any:
        async def branch(name: str) -> None:
            if name == slow:
                await anyio.sleep(0.1)
            await ctx.step(f"{name}1", str)
            await ctx.step(f"{name}2", str)

        async with anyio.create_task_group() as branches:
            branches.start_soon(branch, "x")
            branches.start_soon(branch, "y")
        await ctx.wait_for("go")
        return await ctx.step("end", lambda: "ended")

    async def old(ctx: Context, value: Any) -> Any:
        return await both(ctx, value, slow="x")

    async def new(ctx: Context, value: Any) -> Any:
        return await both(ctx, value, slow="y")

    assert output(await played(old, new)) == "ended"


async def test_of_the_same_code_what_does_not_come_again_is_left_alone() -> None:
    async def new(ctx: Context, value: Any) -> Any:
        await ctx.step("a", str)
        return await ctx.wait_for("go")

    assert output(await played(first_part, new, same_code=True)) == 1


async def test_a_task_with_steps_goes_to_its_own_version_alone() -> None:
    async def failing(ctx: Context, value: Any) -> Any:
        await ctx.step("a", str)
        raise RetryLater("again", 0)

    async def fine(ctx: Context, value: Any) -> Any:
        return await ctx.step("a", lambda: "not called")

    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(control, Agent("a", "", failing, code="1")) as at:
        task = control.submit("a", max_attempts=100)
        while not task.steps:
            await anyio.sleep(0.01)
        at.worker.leave("an upgrade")
        await at.ended.wait()
    async with working(control, Agent("a", "", fine, code="2")) as at:
        fresh = control.submit("a")
        await control.finished([fresh])
        assert (fresh.status, task.status) == ("succeeded", "pending")
        at.worker.leave("a downgrade")
        await at.ended.wait()
    async with working(control, Agent("a", "", fine, code="1")):
        await control.finished([task])
    assert output(task) == ""
