"""Forks: what the original has done stands in, and nothing outside is touched."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest

from worker.client import TaskSpec
from worker.models import ForkChanges, LlmLimits
from worker.runtime import Context, Limits, LlmAgent, Result, Tool, Toolbox, pure, tool
from worker.testing import Fails, FakeControlPlane, FakeTask, Played, Says, ScriptedModel, call, working

FORKS = int(os.environ.get("SIGNALBOX_TEST_FORKS", "40"))  # 1,000 in the long form


class Outside:
    """The world, and the tools that touch it."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self.looked: list[str] = []
        box = Toolbox()

        @tool(effect="pure", into=box)
        async def look(at: str) -> str:
            """Look at something."""
            self.looked.append(at)
            return f"saw {at}"

        self.tools: list[Tool] = [look]
        for effect in ("idempotent", "keyed", "unsafe"):
            self.tools.append(self._touching(effect, box))

    def _touching(self, effect: Any, box: Toolbox) -> Tool:
        @tool(name=effect, effect=effect, into=box)
        async def touch(what: str) -> str:
            """Touch something."""
            self.touched.append(f"{effect} {what}")
            return f"touched {what} {len(self.touched)}"

        return touch


async def original(outside: Outside, model: ScriptedModel, agent: Any) -> tuple[FakeControlPlane, FakeTask]:
    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(agent, model=model, tools=outside.tools, control=control) as at:
        task = control.submit("llm" if isinstance(agent, LlmAgent) else agent.__name__, "go")
        await at.settled(task)
    return control, task


async def forked(
    control: FakeControlPlane,
    task: FakeTask,
    outside: Outside,
    agent: Any,
    model: ScriptedModel | None = None,
    **how: Any,
) -> Played:
    async with working(agent, model=model, tools=outside.tools, control=control) as at:
        return await at.settled(control.fork(task, **how))


LLM = LlmAgent(prompt="Work.", tools=("look", "idempotent", "keyed", "unsafe"))


def script() -> ScriptedModel:
    both = Says(calls=[("unsafe", {"what": "a"}), ("look", {"at": "x"})])
    return ScriptedModel(both, call("keyed", what="b"), "done")


async def test_a_fork_goes_on_behind_its_point_and_is_given_recorded_results() -> None:
    outside = Outside()
    control, task = await original(outside, script(), LLM)
    assert outside.touched == ["unsafe a", "keyed b"]
    model = ScriptedModel(call("keyed", what="b"), "other")
    change = ForkChanges(prompt="Work better.", models=["x/better"])
    played = await forked(control, task, outside, LLM, model, at="turn#2", change=change)
    assert (played.output, played.error) == ("other", None)
    assert outside.touched == ["unsafe a", "keyed b"], "nothing was touched again"
    # The first turn and its results are the original's; the same call was given what it had brought.
    first = model.asked[0]["messages"]
    assert [message["role"] for message in first] == ["system", "user", "assistant", "tool", "tool"]
    assert (first[0]["content"], first[3]["content"]) == ("Work better.", "touched a 1")
    assert model.asked[1]["messages"][-1]["content"] == "touched b 2"


@pytest.mark.parametrize("effect", ["idempotent", "keyed", "unsafe"])
async def test_what_may_have_an_effect_is_refused_and_the_model_is_told(effect: str) -> None:
    outside = Outside()
    control, task = await original(outside, ScriptedModel("nothing"), LLM)
    model = ScriptedModel(Says(calls=[(effect, {"what": "new"}), ("look", {"at": "y"})]), "so be it")
    played = await forked(control, task, outside, LLM, model)
    assert played.output == "so be it"
    assert outside.touched == []
    assert outside.looked == ["y"], "pure tools are called"
    told = model.asked[1]["messages"][-2]["content"]
    assert f"may have an effect ({effect})" in told and "it was not called" in told


async def test_a_recording_counts_once_for_the_same_arguments_alone() -> None:
    outside = Outside()
    control, task = await original(outside, script(), LLM)
    calls = [("unsafe", {"what": "a"}), ("unsafe", {"what": "a"}), ("unsafe", {"what": "A"})]
    model = ScriptedModel(Says(calls=calls), "ok")
    await forked(control, task, outside, LLM, model)
    told = [message["content"] for message in model.asked[1]["messages"][-3:]]
    assert told[0] == "touched a 1"
    assert all("it was not called" in each for each in told[1:])
    assert outside.touched == ["unsafe a", "keyed b"]


async def test_a_fork_of_a_fork_knows_the_calls_of_both() -> None:
    outside = Outside()
    control, task = await original(outside, script(), LLM)
    model = ScriptedModel(
        call("keyed", what="c"), "first", Says(calls=[("keyed", {"what": w}) for w in "bc"]), "ok"
    )
    async with working(LLM, model=model, tools=outside.tools, control=control) as at:
        first = control.fork(task, effects="allow")
        await at.settled(first)
        await at.settled(control.fork(first))
    assert outside.touched == ["unsafe a", "keyed b", "keyed c"]
    told = [message["content"] for message in model.asked[-1]["messages"][-2:]]
    assert told == ["touched b 2", "touched c 3"]


async def test_a_recording_is_used_up_by_the_call_that_was_given_it(monkeypatch: Any) -> None:
    outside = Outside()
    control, task = await original(outside, script(), LLM)
    twice = call("keyed", what="b"), call("keyed", what="b"), "ok"
    # The first run of the fork breaks off behind the call that was given the recording.
    model = ScriptedModel(twice[0], Fails(500), Fails(500), *twice[1:], *twice[1:])
    async with working(LLM, model=model, tools=outside.tools, control=control) as at:
        first = control.fork(task)
        played = await at.settled(first)
        assert (played.output, played.runs) == ("ok", 2)
        await at.settled(control.fork(first, at="turn#2"))
    assert outside.touched == ["unsafe a", "keyed b"]
    for asked in (model.asked[-3], model.asked[-1]):
        given, refused = [message["content"] for message in asked["messages"] if message["role"] == "tool"]
        assert given == "touched b 2" and "it was not called" in refused


async def test_a_pure_tool_that_asks_people_is_not_called() -> None:
    outside = Outside()

    @tool(effect="pure", needs_approval=True, into=Toolbox())
    async def ask(what: str) -> str:
        """Ask first."""
        outside.touched.append(what)
        return what

    agent = LlmAgent(tools=[ask])
    control, task = await original(outside, ScriptedModel("nothing"), agent)
    model = ScriptedModel(call("ask", what="x"), "ok")
    await forked(control, task, outside, agent, model)
    assert outside.touched == []
    assert "asks people" in model.asked[1]["messages"][-1]["content"]


async def test_a_tool_that_code_calls_is_refused_too() -> None:
    outside = Outside()
    unsafe = outside.tools[-1]

    async def agent(ctx: Context, value: Any) -> Any:
        return (await ctx.call(unsafe, {"what": value})).code

    control, task = await original(outside, ScriptedModel(), agent)
    played = await forked(control, task, outside, agent)
    assert (played.output, outside.touched) == (None, ["unsafe go"]), "the recorded result stands in"
    other = control.submit("agent", "other")
    control.cancel(other)
    played = await forked(control, other, outside, agent)
    assert (played.output, outside.touched) == ("effect_forbidden", ["unsafe go"])


async def test_effects_that_are_allowed_are_had() -> None:
    outside = Outside()
    control, task = await original(outside, ScriptedModel("nothing"), LLM)
    model = ScriptedModel(call("unsafe", what="new"), "ok")
    await forked(control, task, outside, LLM, model, effects="allow")
    assert outside.touched == ["unsafe new"]


async def test_a_fork_changes_the_limits_that_it_names() -> None:
    outside = Outside()
    agent = LlmAgent(tools=("look",), limits=Limits(max_turns=5, max_tool_calls=7))
    control, task = await original(outside, ScriptedModel("nothing"), agent)
    model = ScriptedModel(call("look", at="x"), "never asked for")
    change = ForkChanges(limits=LlmLimits(max_turns=1))
    played = await forked(control, task, outside, agent, model, change=change)
    assert played.error is not None and played.error[0] == "max_turns"


@pure
def shout(text: str) -> str:
    return text.upper()


async def test_what_an_agent_waited_for_stands_in_and_sleep_passes_at_once() -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        await ctx.step("begin", str)
        answer = await ctx.wait_for("approved")
        await ctx.sleep(3_600)
        return await ctx.step("end", shout, answer)

    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(agent, control=control) as at:
        task = control.submit("agent")
        control.signal(task, "approved", "yes")
        assert (await at.settled(task)).output == "YES"
    outside = Outside()
    played = await forked(control, task, outside, agent, at="approved")
    assert (played.status, played.output) == ("succeeded", "YES")


async def sends(ctx: Context, value: Any) -> Any:
    await ctx.step("send", TOUCHED.append, value)


async def spawns(ctx: Context, value: Any) -> Any:
    await ctx.spawn([TaskSpec(agent="child", input="1")])


async def gathers(ctx: Context, value: Any) -> Any:
    await ctx.gather([TaskSpec(agent="child", input="1")])


async def emits(ctx: Context, value: Any) -> Any:
    await ctx.emit("told", value)


async def approves(ctx: Context, value: Any) -> Any:
    await ctx.approve("a payment", {"cents": 1})


async def waits(ctx: Context, value: Any) -> Any:
    await ctx.wait_for("never sent")


async def listens(ctx: Context, value: Any) -> Any:
    async for _ in ctx.signals():
        pass


TOUCHED: list[Any] = []


@pytest.mark.parametrize("agent", [sends, spawns, gathers, emits, approves, waits, listens])
async def test_an_agent_of_a_fork_has_no_other_way_out(agent: Any) -> None:
    control = FakeControlPlane(next_sync_ms=20.0)
    task = control.submit(agent.__name__, "x")  # it has not begun
    control.cancel(task)
    TOUCHED.clear()
    played = await forked(control, task, Outside(), agent)
    assert played.error is not None
    assert (played.status, played.error[0], played.runs) == ("failed", "effect_forbidden", 1)
    assert "without effects" in played.error[1]
    assert TOUCHED == []
    assert len(control.tasks) == 2, "no task was submitted"


async def test_tasks_that_come_with_the_end_are_left_out() -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        return Result("value", next=[TaskSpec(agent="child", input="1")])

    control = FakeControlPlane(next_sync_ms=20.0)
    task = control.submit("agent")
    control.cancel(task)
    played = await forked(control, task, Outside(), agent)
    assert played.output == "value"
    assert len(control.tasks) == 2


async def test_many_forks_of_anything_anywhere_touch_nothing() -> None:
    """The same in long: SIGNALBOX_TEST_FORKS=1000."""
    outside = Outside()
    control, task = await original(outside, script(), LLM)
    before = list(outside.touched)
    draw = random.Random(5)
    points = [None, *task.steps]
    model = ScriptedModel(*[lambda body: anything(draw, body) for _ in range(FORKS * 60)])
    async with working(LLM, model=model, tools=outside.tools, control=control, timeout_s=60 + FORKS) as at:
        origins = [task]
        for _ in range(FORKS):
            origin = draw.choice(origins)
            point = draw.choice([None, *origin.steps] if origin.steps else points)
            if point is not None and point.startswith("%"):
                point = None
            fork = control.fork(origin, at=point)
            played = await at.settled(fork)
            assert played.status in {"succeeded", "failed"}
            origins.append(fork)
    assert outside.touched == before
    assert len(control.tasks) == FORKS + 1


def anything(draw: random.Random, body: dict[str, Any]) -> Says:
    """Return a turn that calls whatever it likes, and mostly ends after a few."""
    if len(body["messages"]) > 8 or draw.random() < 0.3:
        return Says(text="enough")
    names = draw.choices(["look", "idempotent", "keyed", "unsafe", "unknown"], k=draw.randint(1, 4))
    word = draw.choice("abc")
    return Says(calls=[(name, {"at" if name == "look" else "what": word}) for name in names])
