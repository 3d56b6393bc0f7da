"""Agents that ask people, in memory: what they find, and that nothing is done twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.scripted_turns import Turns, says
from tests.scripted_turns import asks as asks_for
from tests.tools_under_test import POINTS, tool_of
from tests.whole_worker import working
from worker.models import Failed
from worker.runtime import Agent, Context, LlmAgent
from worker.runtime.agents import registry
from worker.testing import FakeControlPlane, FakeTask


def agent(name: str) -> Agent:
    found = registry.get(name)
    assert found is not None
    return found


def output(task: FakeTask) -> Any:
    assert task.outcome is not None and task.outcome.kind == "succeeded", task.outcome
    return task.outcome.output


async def asks(task: FakeTask, count: int = 1) -> None:
    with anyio.fail_after(10):
        while len(task.asked) < count or task.status != "waiting":
            await anyio.sleep(0.01)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("approved", '"paid 5, as somebody says: well"'),
        ("refused", '"refused: well"'),
        ("expired", '"nobody decided"'),
    ],
)
async def test_an_agent_goes_on_with_what_a_person_said(state: Any, told: str) -> None:
    control = FakeControlPlane()
    async with working(control, agent("asker")):
        task = control.submit("asker", {"amount": 5, "timeout": 60})
        await asks(task)
        (ask,) = task.asked.values()
        assert (ask.tool, ask.args, ask.why, ask.timeout_ms) == ("pay", '{"amount":5}', "agent", 60_000)
        control.decide(task, state, note="well")
        await control.finished()
    assert output(task) == told


async def test_arguments_that_changed_after_the_approval_fail_the_task() -> None:
    control = FakeControlPlane()
    async with working(control, agent("asker")):
        task = control.submit("asker", {"amount": 5, "later": 500})
        await asks(task)
        task.attempt += 1  # the next run plays as a later attempt
        control.decide(task)
        await control.finished()
    assert isinstance(task.outcome, Failed)
    assert (task.outcome.error.code, task.outcome.retryable) == ("arguments_changed", False)


async def test_of_three_calls_one_waits_for_a_person_and_the_others_are_not_made_again(
    tmp_path: Path,
) -> None:
    await in_parallel(tmp_path, asking=["b"])


async def test_questions_that_come_together_are_asked_together(tmp_path: Path) -> None:
    await in_parallel(tmp_path, asking=["a", "c"])


async def test_of_three_tools_that_a_model_asks_for_one_waits_and_no_turn_is_asked_for_again(
    tmp_path: Path,
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        for point in POINTS:
            (tmp_path / name / point).touch()
    free, bound = tool_of("unsafe"), tool_of("keyed", needs_approval=True)
    calls = [
        (tool.name, {"folder": str(tmp_path / name)})
        for tool, name in ((free, "a"), (bound, "b"), (free, "c"))
    ]
    model = Turns(asks_for(*calls), asks_for(calls[1]), says("all is done"))

    async def play(ctx: Context, input: str) -> str:
        return (await ctx.play(LlmAgent(models=["m"], tools=[free, bound]), input)).text

    control = FakeControlPlane()
    async with working(control, Agent("a", "", play), model=model.caller()):
        task = control.submit("a", "go")
        await asks(task)
        assert list(task.asked) == ["turn#1/1:keyed.approval"]
        assert {name for name in "abc" if (tmp_path / name / "effects").exists()} == {"a", "c"}
        control.decide(task)
        await asks(task)
        assert list(task.asked) == ["turn#2/0:keyed.approval"]
        control.decide(task, "refused", note="once is enough")
        await control.finished()
    assert output(task) == '"all is done"'
    assert len(model.requests) == 3
    assert model.told(3) == [
        *["done", "done", "done"],
        "This call was not approved: a person refused it: once is enough",
    ]
    for name in "abc":
        assert len((tmp_path / name / "effects").read_text().split()) == 1


async def in_parallel(folder: Path, asking: list[str]) -> None:
    for name in "abc":
        (folder / name).mkdir()
        for point in POINTS:
            (folder / name / point).touch()
    control = FakeControlPlane()
    async with working(control, agent("trio")):
        task = control.submit("trio", {"folder": str(folder), "asks": asking})
        await asks(task, len(asking))
        assert sorted(task.asked) == sorted(
            f"call:unsafe#{'abc'.index(name) + 1}.approval" for name in asking
        )
        done = [name for name in "abc" if (folder / name / "effects").exists()]
        assert done == [name for name in "abc" if name not in asking]
        while task.asked:
            control.decide(task)
        await control.finished()
    assert output(task) == '{"a":"done","b":"done","c":"done"}'
    for name in "abc":
        assert len((folder / name / "effects").read_text().split()) == 1
