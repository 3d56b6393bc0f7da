"""The decisions of a model's loop, without any I/O."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scripted_turns import asks, says
from worker.llm import Completion
from worker.models import StepUsage
from worker.runtime.loop import Ask, Done, Limits, Loop, Perform, Stop, Turn
from worker.runtime.tools import ToolResult

PAUSE: Any = "pause"
USER = {"role": "user", "content": "go"}


def turn(said: Completion, *, tokens: int = 15, cost: int | None = None, ms: float = 0.0) -> Turn:
    usage = StepUsage(
        model="m", input_tokens=tokens, output_tokens=0, cached_input_tokens=None, cost_micros=cost
    )
    return Turn(said.message(), said.finish, ms=ms, usage=usage)


def answered(loop: Loop, decision: Perform) -> Any:
    return loop.performed([ToolResult(f"result of {call.name}") for call in decision.calls])


def test_a_text_is_the_output() -> None:
    loop = Loop([USER])
    assert loop.begin() == Ask()
    done = loop.turned(turn(says("hello")))
    assert isinstance(done, Done)
    assert (done.output, loop.messages[-1]) == ("hello", {"role": "assistant", "content": "hello"})


def test_every_call_gets_one_result_in_its_order() -> None:
    loop = Loop([USER])
    loop.begin()
    decision = loop.turned(turn(asks(("b", {"x": 1}), ("a", "no json"))))
    assert isinstance(decision, Perform)
    assert [(call.name, call.arguments, call.raw) for call in decision.calls] == [
        ("b", {"x": 1}, '{"x": 1}'),
        ("a", None, "no json"),
    ]
    with pytest.raises(ValueError, match="1 results for 2 calls"):
        loop.performed([ToolResult("1")])
    assert answered(loop, decision) == Ask()
    assert loop.messages[2:] == [
        {"role": "tool", "tool_call_id": "call_0", "content": "result of b"},
        {"role": "tool", "tool_call_id": "call_1", "content": "result of a"},
    ]


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        ("", {}),
        ("{}", {}),
        ('{"a":1}', {"a": 1}),
        ("[]", None),
        ("{", None),
        ('{"a":NaN}', None),
        ("1", None),
    ],
)
def test_arguments_are_an_object_or_raw(raw: str, arguments: Any) -> None:
    message = asks(("t", "x")).message()
    message["tool_calls"][0]["function"]["arguments"] = raw
    (call,) = Turn(message, "tool_calls").calls()
    assert (call.arguments, call.raw) == (arguments, raw)


def looped(limits: Limits, *turns: Turn) -> tuple[Any, Loop]:
    loop = Loop([USER], limits)
    decision = loop.begin()
    for each in turns:
        assert decision == Ask()
        decision = loop.turned(each)
        if isinstance(decision, Perform):
            decision = answered(loop, decision)
    return decision, loop


def call(n: int = 0) -> Completion:
    return asks(("t", {"n": n}))


@pytest.mark.parametrize(
    ("limits", "turns", "code"),
    [
        (Limits(max_turns=2), [turn(call(1)), turn(says("x"))], None),
        (Limits(max_turns=2), [turn(call(1)), turn(call(2))], "max_turns"),
        (Limits(max_tool_calls=2), [turn(asks(("t", {}), ("u", {}))), turn(says("x"))], None),
        (Limits(max_tool_calls=2), [turn(asks(("t", {}), ("u", {}), ("v", {})))], "max_tool_calls"),
        (Limits(max_repeats=2), [turn(call()), turn(call()), turn(says("x"))], None),
        (Limits(max_repeats=2), [turn(call()), turn(call()), turn(call())], "repeated_call"),
        (Limits(max_repeats=2), [turn(call(n)) for n in range(3)] + [turn(says("x"))], None),
        (Limits(max_repeats=1), [turn(asks(("t", "bad"), ("t", "bad")))], "repeated_call"),
        (Limits(max_tokens=31), [turn(call(1)), turn(call(2)), turn(says("x"))], None),
        (Limits(max_tokens=30), [turn(call(1)), turn(call(2))], "max_tokens"),
        (Limits(max_tokens=15), [turn(says("x"))], None),  # what is done is done
        (Limits(max_cost_micros=8), [turn(call(1), cost=7), turn(says("x"), cost=9)], None),
        (Limits(max_cost_micros=7), [turn(call(1), cost=7)], "max_cost"),
        (Limits(max_s=1), [turn(call(1), ms=999), turn(says("x"))], None),
        (Limits(max_s=1), [turn(call(1), ms=1000)], "max_time"),
    ],
)
def test_a_limit_ends_the_loop_with_its_code(limits: Limits, turns: list[Turn], code: str | None) -> None:
    decision, _ = looped(limits, *turns)
    assert isinstance(decision, Stop if code else Done)
    assert getattr(decision, "code", None) == code


def positive(text: str) -> int:
    value = json.loads(text)
    if not value > 0:
        raise ValueError("must be positive")
    return int(value)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([says("5")], 5),
        ([says("-5"), says("5")], 5),
        ([says("no json"), says("5")], 5),
        ([says("-5"), says("-4")], "invalid_output"),
        ([says("5", "length")], "output_length"),
        ([says("5", "refusal")], "refusal"),
        ([says("5", "content_filter")], "content_filter"),
        ([says("-5"), says("5", "length")], "output_length"),
        ([says("5", PAUSE), says("6")], 6),
    ],
)
def test_an_output_is_checked_and_corrected_once(said: list[Completion], expected: Any) -> None:
    loop = Loop([USER], check=positive)
    decision = loop.begin()
    for each in said:
        assert decision == Ask()
        decision = loop.turned(turn(each))
    assert getattr(decision, "output", getattr(decision, "code", None)) == expected


def test_the_correction_says_what_was_wrong_behind_the_answer() -> None:
    loop = Loop([USER], check=positive)
    loop.turned(turn(says("-5")))
    assert loop.messages[1:] == [
        {"role": "assistant", "content": "-5"},
        {
            "role": "user",
            "content": "Your answer does not fit: must be positive. "
            "Answer again with the whole corrected output alone.",
        },
    ]


def test_a_text_that_was_cut_short_is_the_output_when_nothing_is_asked_of_it() -> None:
    done = Loop([USER]).turned(turn(says("half", "length")))
    assert isinstance(done, Done)
    assert (done.output, done.turn.finish) == ("half", "length")


def test_a_turn_is_read_as_it_was_kept() -> None:
    one = turn(asks(("t", {"x": "é\ud800"}), text="é"), cost=3, ms=1.5)
    text = one.dump()
    assert Turn.load(text, one.usage) == one
    assert Turn.load(text[:-1] + ',"later":1}', one.usage) == one, "of a later version"
    text.encode()


words = st.sampled_from(["t", "u"])
CALL = st.tuples(words, st.dictionaries(words, st.integers(0, 2), max_size=1))
CALLS = st.lists(CALL, min_size=1, max_size=4)
said = st.one_of(
    st.builds(says, st.sampled_from(["5", "-5", "x"])),
    st.builds(says, st.just("5"), st.sampled_from(["length", "refusal", PAUSE, "unknown"])),
    st.lists(
        st.tuples(words, st.dictionaries(words, st.integers(0, 2), max_size=1)), min_size=1, max_size=4
    ).map(lambda calls: asks(*calls)),
)


@given(
    st.lists(said, max_size=30),
    st.builds(
        Limits,
        max_turns=st.integers(1, 9),
        max_tool_calls=st.integers(1, 9),
        max_repeats=st.integers(1, 4),
        max_tokens=st.one_of(st.none(), st.integers(1, 200)),
    ),
    st.booleans(),
)
def test_whatever_a_model_says_the_conversation_is_whole_and_every_limit_holds(
    answers: list[Completion], limits: Limits, checked: bool
) -> None:
    loop = Loop([USER], limits, positive if checked else None)
    decision = loop.begin()
    turns = performed = 0
    for each in answers:
        if not isinstance(decision, Ask):
            break
        assert turns < limits.max_turns
        assert limits.max_tokens is None or turns * 15 < limits.max_tokens
        turns += 1
        decision = loop.turned(turn(each))
        if isinstance(decision, Perform):
            performed += len(decision.calls)
            decision = answered(loop, decision)
    assert performed <= limits.max_tool_calls
    assert loop.turns == turns
    open_calls: list[str] = []
    for message in loop.messages:  # each result behind its call, in order, before anything else is said
        if message["role"] == "tool":
            assert message["tool_call_id"] == open_calls.pop(0)
            continue
        assert open_calls == []
        open_calls = [call["id"] for call in message.get("tool_calls", ())]
    assert open_calls == [] or isinstance(decision, Stop)
