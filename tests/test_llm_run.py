"""Agents that a model plays, against a control plane in memory: tools, limits, outputs, guardrails."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import anyio.to_thread
import pytest
from pydantic import BaseModel

from tests.scripted_turns import Said, Turns, asks, parsed, says
from tests.whole_worker import working
from worker.errors import NonRetryable, RetryLater
from worker.llm.errors import BadRequest, ServerError
from worker.models import Failed, LlmLimits, LlmSpec, Succeeded
from worker.runtime import Agent, Context, GuardrailError, Limits, LlmAgent, Tool, Toolbox, ToolError, tool
from worker.runtime.llm_agent import Messages
from worker.testing import FakeControlPlane, FakeTask

BOX = Toolbox()
made: list[Any] = []


@tool(effect="pure", into=BOX)
async def add(a: int, b: int = 1) -> int:
    """Add two numbers."""
    made.append((a, b))
    return a + b


@tool(effect="idempotent", into=BOX)
async def fail(how: str) -> None:
    match how:
        case "told":
            raise ToolError("no such place")
        case "bug":
            raise KeyError("x")
        case "exit":
            raise SystemExit(3)
        case "never":
            raise NonRetryable("it is over")
        case "later":
            raise RetryLater("busy", 0)


@tool(timeout_s=0.1, into=BOX)
async def hang() -> None:
    await anyio.sleep_forever()


@tool(timeout_s=0.1, into=BOX)
def block() -> None:
    threading.Event().wait(0.5)  # a thread that nobody can stop


@tool(max_result_bytes=1000, into=BOX)
async def huge(size: int, kind: str = "x") -> str:
    return kind * size


@tool(into=BOX)
async def odd() -> object:
    return object()


@pytest.fixture(autouse=True)
def forget() -> None:
    made.clear()


@asynccontextmanager
async def playing(play: Any, *turns: Said) -> AsyncIterator[tuple[FakeControlPlane, Turns]]:
    control, model = FakeControlPlane(next_sync_ms=20.0), Turns(*turns)
    async with working(control, Agent("a", "", play), model=model.caller(), tools=BOX):
        yield control, model


async def played(agent: LlmAgent, *turns: Said, attempts: int = 1) -> tuple[FakeTask, Turns]:
    """Return the task of a Python agent that runs this one, and the model that it asked."""

    async def play(ctx: Context, value: Any) -> Any:
        result = await ctx.play(agent, value)
        return [result.text, result.output if not isinstance(result.output, BaseModel) else "model"]

    async with playing(play, *turns) as (control, model):
        task = control.submit("a", "go", max_attempts=attempts)
        await control.finished()
    return task, model


def output(task: FakeTask) -> Any:
    assert isinstance(task.outcome, Succeeded), task.outcome
    return parsed(task.outcome.output)


def code(task: FakeTask) -> str:
    assert isinstance(task.outcome, Failed), task.outcome
    return task.outcome.error.code


async def test_the_turns_of_a_conversation_with_tools_share_a_cache_key() -> None:
    task, model = await played(ALL, asks(("add", {"a": 1})), says("done"))
    assert [request.cache_key for request in model.requests] == [task.id, task.id]
    _, model = await played(LlmAgent(prompt="Be brief."), says("done"))
    assert [request.cache_key for request in model.requests] == [None]


ALL = LlmAgent(prompt="Be brief.", tools=("add", "fail", "hang", "block", "huge", "odd"))


async def test_turns_and_calls_are_steps_and_the_model_is_told_what_came_of_them() -> None:
    task, model = await played(ALL, asks(("add", {"a": 1}), ("add", {"a": 2, "b": 3})), says("done"))
    assert output(task) == ["done", "done"]
    assert model.told(2) == ["2", "5"]
    assert list(task.steps) == ["turn#1", "turn#1/0:add", "turn#1/1:add", "turn#2"]
    first = task.steps["turn#1"]
    assert first.usage is not None and first.usage.input_tokens == 10
    assert parsed(first.result)["message"]["tool_calls"][1]["function"] == {
        "name": "add",
        "arguments": '{"a": 2, "b": 3}',
    }
    kept = task.steps["turn#1/1:add"]
    assert (kept.tool, kept.effect, parsed(kept.result)["content"]) == ("add", "pure", "5")
    request = model.requests[0]
    assert [each["function"]["name"] for each in request.tools] == list(ALL.tools)
    assert request.messages[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            ("nothing", {}),
            "There is no tool named 'nothing'. The tools are: add, block, fail, hang, huge, odd.",
        ),
        (("add", '{"a": '), 'The arguments must be a JSON object. You wrote: {"a": '),
        (("add", {"a": "x"}), "The arguments do not fit: a: Input should be a valid integer"),
        (("add", {"a": 1, "c": 1}), "The arguments do not fit: c: Extra inputs are not permitted"),
        (("fail", {"how": "told"}), "no such place"),
        (("fail", {"how": "bug"}), "The tool failed: KeyError: 'x'"),
        (("fail", {"how": "exit"}), "The tool failed: SystemExit: 3"),
        (("hang", {}), "The tool did not return within 0.1 s"),
        (("block", {}), "The tool did not return within 0.1 s"),
        (("odd", {}), "The tool returned something that is not JSON"),
    ],
)
async def test_a_call_that_comes_to_nothing_is_answered_and_the_others_are_made(
    call: tuple[str, Any], told: str
) -> None:
    task, model = await played(ALL, asks(("add", {"a": 1}), call, ("add", {"a": 2})), says("done"))
    assert output(task)[0] == "done"
    one, other, three = model.told(2)
    assert (one, three) == ("2", "3")
    assert other.startswith(told)
    kept = next(step for key, step in task.steps.items() if key.startswith("turn#1/1:"))
    assert parsed(kept.result)["ok"] is False


@pytest.mark.parametrize(("how", "attempts"), [("never", 1), ("later", 2)])
async def test_a_tool_can_say_what_becomes_of_its_run(how: str, attempts: int) -> None:
    ask = asks(("fail", {"how": how}), ("add", {"a": 1}))
    task, model = await played(ALL, ask, says("unused"), attempts=attempts)
    assert task.outcome is not None and task.outcome.kind == "failed"
    assert task.attempt == attempts
    assert len(model.requests) == 1, "the turn stands"
    assert made == [(1, 1)], "the other call was made, and once"


@pytest.mark.parametrize(
    ("size", "kind", "cut"),
    [(1000, "x", 0), (1001, "x", 1), (500, "é", 0), (501, "é", 2), (50_000_000, "x", 49_999_000)],
)
async def test_a_result_is_cut_at_its_size_with_a_mark(size: int, kind: str, cut: int) -> None:
    task, model = await played(ALL, asks(("huge", {"size": size, "kind": kind})), says("done"))
    (told,) = model.told(2)
    text, _, mark = told.partition("\n[cut here: ")
    assert len(text.encode()) == size * len(kind.encode()) - cut
    assert bool(mark) == bool(cut)
    assert parsed(task.steps["turn#1/0:huge"].result)["cut"] == cut


async def test_tools_of_a_turn_run_at_once_within_a_bound() -> None:
    running, most = 0, 0

    async def call(arguments: dict[str, Any], context: Any) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await anyio.sleep(0.01 * (5 - arguments["n"]))  # the first is the last to return
        running -= 1
        return int(arguments["n"])

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    slow = Tool(name="slow", description="", parameters=schema, call=call)
    turn = asks(*(("slow", {"n": n}) for n in range(5)), ("slow", {"n": "x"}))
    task, model = await played(LlmAgent(tools=[slow], parallel=3), turn, says("done"))
    assert output(task)[0] == "done"
    assert model.told(2)[:5] == ["0", "1", "2", "3", "4"]
    assert model.told(2)[5].startswith("The arguments do not fit: n: must be integer, not string")
    assert most == 3
    assert task.steps["turn#1/0:slow"].state == "done", "it was intended, being unsafe"


async def test_a_later_run_asks_for_no_turn_again_and_repeats_no_call() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        result = await ctx.play(ALL, value)
        if ctx.attempt < 3:
            raise RetryLater("again", 0)
        again = await ctx.play(LlmAgent(), result.text)  # counts on
        return [result.text, result.turns, result.usage.input_tokens, again.text, len(result.messages)]

    turns = [asks(("add", {"a": 1})), asks(("add", {"a": 2})), says("three"), says("four")]
    async with playing(play, *turns) as (control, model):
        task = control.submit("a", "go")
        await control.finished()
    assert output(task) == ["three", 3, 30, "four", 7]
    assert len(model.requests) == 4
    assert made == [(1, 1), (2, 1)]
    assert [key for key in task.steps if "/" not in key] == ["turn#1", "turn#2", "turn#3", "turn#4"]


async def test_a_failed_turn_is_asked_again_by_the_next_attempt_behind_the_others() -> None:
    down = [ServerError("down"), ServerError("down")]
    task, model = await played(ALL, asks(("add", {"a": 1})), *down, says("done"), attempts=2)
    assert output(task)[0] == "done"
    assert [len(request.messages) for request in model.requests] == [2, 4, 4, 4]


async def test_loops_at_the_same_time_need_names() -> None:
    async def play(ctx: Context, names: list[str | None]) -> Any:
        found: dict[int, str] = {}

        async def one(number: int) -> None:
            found[number] = (await ctx.play(LlmAgent(), str(number), name=names[number])).text

        async with anyio.create_task_group() as group:
            for number in range(len(names)):
                group.start_soon(one, number)
        return [found[number] for number in sorted(found)]

    def echo(request: Any) -> Any:
        return says(request.messages[-1]["content"])

    async with playing(play, echo, echo, echo, echo) as (control, _):
        named = control.submit("a", ["x", "y"])
        unnamed = control.submit("a", [None, None], max_attempts=1)
        await control.finished()
    assert output(named) == ["0", "1"]
    assert set(named.steps) == {"x.turn#1", "y.turn#1"}
    assert code(unnamed) == "concurrent_loop"


class City(BaseModel):
    name: str
    people: int


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}
GOOD = '{"name":"Bonn","people":3}'


@pytest.mark.parametrize("what", [City, SCHEMA])
@pytest.mark.parametrize(
    ("turns", "ends"),
    [
        ([says(GOOD)], None),
        ([says('{"name":"Bonn"}'), says(GOOD)], None),
        ([says("Bonn"), says('{"name":"Bonn","people":"?"}')], "invalid_output"),
        ([says(GOOD, "length")], "output_length"),
        ([says("", "refusal", refusal="I will not")], "refusal"),
    ],
)
async def test_an_output_fits_what_it_must_be(what: Any, turns: list[Said], ends: str | None) -> None:
    task, model = await played(LlmAgent(output=what), *turns)
    assert len(model.requests) == len(turns)
    assert model.requests[0].response_format is not None
    if ends is None:
        assert output(task)[0] == GOOD
    else:
        assert code(task) == ends
        assert len(task.steps) == len(turns), "the history is kept"


def positive(answer: Any) -> None:
    if answer["people"] < 1:
        raise ValueError("nobody lives there")


EMPTY = '{"name":"Bonn","people":0}'


@pytest.mark.parametrize(
    ("agent", "turns", "redo"),
    [
        (LlmAgent(output=SCHEMA), [says("Bonn"), says("again")], ["turn#2"]),
        (LlmAgent(output=SCHEMA), [says(GOOD, "length")], ["turn#1"]),
        (LlmAgent(output=SCHEMA), [says("?"), says("", "refusal", refusal="No")], ["turn#2"]),
        (
            LlmAgent(output=SCHEMA, after_output=positive),
            [says(EMPTY), says(EMPTY)],
            ["turn#2", "after_output#2"],
        ),
        (
            LlmAgent(output=SCHEMA, after_output=positive),
            [says("?"), says(EMPTY)],
            ["turn#2", "after_output"],
        ),
    ],
)
async def test_a_retry_by_hand_asks_anew_for_the_answer_for_which_a_loop_stopped(
    agent: LlmAgent, turns: list[Said], redo: list[str]
) -> None:
    async def play(ctx: Context, value: Any) -> Any:
        return (await ctx.play(agent, value)).output

    async with playing(play, *turns, says(GOOD)) as (control, model):
        task = control.submit("a", "go", max_attempts=1)
        await control.finished()
        assert isinstance(task.outcome, Failed)
        assert task.outcome.redo == redo
        for key in redo:  # as the control plane drops them
            del task.steps[key]
        control._again(task)
        control._dispatch()
        while task.status not in {"succeeded", "failed"}:
            await anyio.sleep(0.01)
    assert output(task) == {"name": "Bonn", "people": 3}
    assert len(model.requests) == len(turns) + 1
    last, again = model.requests[-2:]
    assert last.messages == again.messages, "with the conversation as it was"


async def test_what_a_limit_has_stopped_is_not_made_anew() -> None:
    agent = LlmAgent(tools=["add"], limits=Limits(max_turns=1))
    task, _ = await played(agent, asks(("add", {"a": 1})))
    assert isinstance(task.outcome, Failed)
    assert task.outcome.redo is None


MALFORMED = Tool(
    name="t", description="", parameters={"type": "object", "properties": {"a": {"type": 1}}}, call=add.call
)


@pytest.mark.parametrize(
    ("agent", "ends"),
    [
        (LlmAgent(tools=["nothing"]), "unknown_tool"),
        (LlmAgent(output={"type": "objekt"}), "invalid_schema"),
        (LlmAgent(output={"$ref": "https://elsewhere"}), "invalid_schema"),
        (LlmAgent(tools=[MALFORMED]), "invalid_schema"),
        (LlmAgent(tools=["add"], limits=Limits(max_turns=1)), "max_turns"),
        (LlmAgent(tools=["add"], limits=Limits(max_repeats=1)), "repeated_call"),
        (LlmAgent(tools=["add"], limits=Limits(max_tokens=15)), "max_tokens"),
    ],
)
async def test_what_cannot_go_on_ends_with_a_code_and_for_good(agent: LlmAgent, ends: str) -> None:
    task, _ = await played(agent, asks(("add", {"a": 1})), asks(("add", {"a": 1})), says("x"), attempts=3)
    assert (code(task), task.attempt) == (ends, 1)


async def test_the_time_of_a_loop_ends_a_tool_that_takes_longer() -> None:
    agent = LlmAgent(tools=["hang"], limits=Limits(max_s=0.05))
    task, _ = await played(agent, asks(("hang", {})), says("x"))
    assert code(task) == "max_time"


async def test_guardrails_see_what_comes_in_what_is_asked_for_and_what_comes_out() -> None:
    seen: list[str] = []

    async def before_input(messages: Messages) -> Messages:
        seen.append("input")
        return [*messages, {"role": "user", "content": "politely"}]

    def before_tool(call: Any) -> str | None:
        seen.append(call.name)
        return "not this one" if call.arguments == {"a": 2} else None

    async def after_output(text: str) -> str:
        seen.append(text)
        if text == "rude":
            raise ValueError("be polite")
        return text.upper()

    agent = LlmAgent(
        tools=["add"], before_input=before_input, before_tool=before_tool, after_output=after_output
    )

    async def play(ctx: Context, value: Any) -> Any:
        result = await ctx.play(agent, value)
        if ctx.attempt == 1:
            raise RetryLater("again", 0)
        return result.output

    turns = [asks(("add", {"a": 1}), ("add", {"a": 2})), says("rude"), says("please")]
    async with playing(play, *turns) as (control, model):
        task = control.submit("a", "go")
        await control.finished()
    assert output(task) == "PLEASE"
    assert seen == ["input", "add", "add", "rude", "please"], (
        "each is asked once, however many runs there are"
    )
    assert model.told(2) == ["2", "The call was refused: not this one"]
    assert model.requests[0].messages[-1]["content"] == "politely"
    assert "be polite" in model.requests[2].messages[-1]["content"]


@pytest.mark.parametrize("where", ["before_input", "before_tool", "after_output"])
async def test_a_guardrail_ends_the_run(where: str) -> None:
    def refuse(_: Any) -> None:
        raise GuardrailError("this may not be")

    hook: dict[str, Callable[[Any], None]] = {where: refuse}
    agent = LlmAgent(tools=["add"], **hook)  # type: ignore[arg-type]
    task, _ = await played(agent, asks(("add", {"a": 1})), says("x"), attempts=3)
    assert (code(task), task.attempt) == ("guardrail", 1)
    assert made == ([] if where != "after_output" else [(1, 1)])


async def registered(spec: LlmSpec, *turns: Said) -> tuple[FakeTask, Turns]:
    async with playing(None, *turns) as (control, model):
        task = control.submit("writer", "go", llm=spec, max_attempts=1)
        await control.finished()
    return task, model


PLAIN = LlmSpec(model=None, prompt="Write.", temperature=None, max_output_tokens=None)


async def test_an_agent_of_the_registry_plays_the_same_loop() -> None:
    spec = PLAIN.model_copy(update={"tools": ["add"], "models": ["p/a", "p/b"]})
    task, model = await registered(spec, asks(("add", {"a": 1})), says("done"))
    assert output(task) == {"text": "done", "finish": "stop", "model": "m-1"}
    assert list(task.steps) == ["turn#1", "turn#1/0:add", "turn#2"]
    assert model.requests[0].model == "p/a"


@pytest.mark.parametrize(("chosen", "ends"), [([], "refusal"), (["refusal"], None)])
async def test_the_next_model_is_asked_after_a_refusal_only_if_the_agent_says_so(
    chosen: list[Any], ends: str | None
) -> None:
    refusal = replace(says(""), refusal="I may not", finish="refusal")
    agent = LlmAgent(models=["p/a", "p/b"], fallback_on=chosen, output=SCHEMA)
    task, model = await played(agent, refusal, says(GOOD))
    assert [request.model for request in model.requests] == ["p/a", "p/b"][: 1 if ends else 2]
    if ends is None:
        assert output(task)[1] == {"name": "Bonn", "people": 3}
    else:
        assert code(task) == ends
    named = PLAIN.model_copy(update={"models": ["p/a", "p/b"], "fallback_on": chosen or None})
    _, asked = await registered(named, refusal, says("done"))
    assert len(asked.requests) == (1 if ends else 2)


async def test_the_output_of_an_agent_of_the_registry_is_what_its_schema_says() -> None:
    spec = PLAIN.model_copy(update={"output_schema": json.dumps(SCHEMA), "limits": LlmLimits(max_turns=2)})
    task, _ = await registered(spec, says("?"), says(GOOD))
    assert output(task) == {"name": "Bonn", "people": 3}
    broken, _ = await registered(PLAIN.model_copy(update={"output_schema": "{"}), says(GOOD))
    assert code(broken) == "invalid_schema"


async def test_a_refused_request_keeps_the_history_and_its_class() -> None:
    task, _ = await played(ALL, asks(("add", {"a": 1})), BadRequest("too odd"), attempts=3)
    assert (code(task), task.attempt, len(task.steps)) == ("bad_request", 1, 2)
