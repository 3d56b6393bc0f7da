"""What becomes of a tool call when the run dies at any point of it: as often as its class allows, no more."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest

from worker.models import Ask, Effect, Entry, Step
from worker.runtime import ledger
from worker.runtime.approval import (
    ApprovalExpiredError,
    ApprovalRefusedError,
    ArgumentsChangedError,
    InvalidApprovalError,
    decided,
    granted,
    question,
)
from worker.runtime.canonical import args_hash, canonical
from worker.runtime.ledger import CallChangedError, InDoubtError, ReconcileError, decide
from worker.runtime.tools import Found, NotFound, Tool, ToolContext, ToolResult

EFFECTS: tuple[Effect, ...] = get_args(Effect)
KEY = "turn#1/0:pay"


def kept(effect: Effect | None = None, **more: Any) -> Step:
    return Step(key=KEY, kind="tool", result=None, remaining_ms=None, effect=effect, **more)


@pytest.mark.parametrize(
    ("effect", "new", "intended"),
    [
        ("pure", "call", "call"),
        ("idempotent", "intend", "call"),
        ("keyed", "intend", "call"),
        ("reconcilable", "intend", "read_back"),
        ("unsafe", "intend", "ask"),
    ],
)
def test_each_class_has_its_way_on(effect: Effect, new: str, intended: str) -> None:
    assert decide(effect, None) == new
    assert decide(effect, kept(effect, state="intended")) == intended
    assert decide(effect, kept(effect, state="in_doubt")) == "ask"
    for state in ("intended", "in_doubt", "done", None):
        done = kept(effect, state=state).model_copy(update={"result": "{}"})
        assert decide(effect, done) == "replay"


@pytest.mark.parametrize(
    ("began", "now"), [pair for pair in itertools.product((None, *EFFECTS), EFFECTS) if pair[0] != pair[1]]
)
def test_a_class_that_has_changed_since_the_call_began_vouches_for_nothing(
    began: Effect | None, now: Effect
) -> None:
    assert decide(now, kept(began, state="intended")) == "ask"


class Crash(BaseException):
    """The process is gone."""


class Suspended(BaseException):
    """The run has ended to wait."""


class Task:
    """The steps of a task over its runs, and the world outside; it dies at its nth boundary."""

    def __init__(self, tool_effect: Effect, *, dies_at: frozenset[int] = frozenset(), approval: bool = False):
        self.known: dict[str, Step] = {}
        self.asked: dict[str, Ask] = {}
        self.effects: list[str] = []  # the keys with which something happened outside
        self.boundary = 0
        self.dies_at = dies_at
        self.runs = 0
        reconcile = self.read_back if tool_effect == "reconcilable" else None
        self.tool = Tool(
            name="pay",
            description="",
            parameters={"type": "object"},
            call=self.nothing,
            effect=tool_effect,
            reconcile=reconcile,
            needs_approval=approval,
        )

    async def nothing(self, arguments: dict[str, Any], context: ToolContext) -> None:
        raise AssertionError("the ledger calls what it is given")

    def point(self) -> None:
        self.boundary += 1
        if self.boundary in self.dies_at:
            raise Crash

    async def read_back(self, key: str, arguments: dict[str, Any]) -> Found | NotFound:
        return Found("paid") if key in self.effects else NotFound()

    # The steps of a run.

    async def find(self, key: str, kind: str) -> Step | None:
        step = self.seen.get(key)
        assert step is None or step.kind == kind
        return step

    async def beside(self, key: str, kind: str) -> Step | None:
        return await self.find(key, kind)

    async def keep(self, entry: Entry) -> None:
        self.point()
        old = self.known.get(entry.key)
        assert old is None or old.result is None, "a step is done once"
        self.known[entry.key] = Step(remaining_ms=None, **entry.model_dump(exclude={"signal"}))
        self.point()

    async def ask(self, ask: Ask) -> str:
        step = self.seen.get(ask.step)
        if step is not None and step.result is not None:
            return step.result
        self.point()
        self.asked[ask.step] = ask
        raise Suspended

    @contextmanager
    def busy(self, name: str) -> Iterator[None]:
        yield

    def answer(self, state: str = "approved", **result: Any) -> Ask:
        """Decide as a person does."""
        _, ask = self.asked.popitem()
        told = {"state": state, "by": "k", "label": "Ada", "note": "so be it", **result}
        told["argsHash"] = hashlib.sha256(ask.args.encode()).hexdigest()
        self.known[ask.step] = Step(key=ask.step, kind="approval", result=json.dumps(told), remaining_ms=None)
        return ask

    # Its runs.

    async def run(self, arguments: dict[str, Any] | None = None) -> ToolResult:
        self.runs += 1
        self.seen = dict(self.known)  # a run knows what stood when it began
        context = ToolContext(f"task:{KEY}", "task", f"run{self.runs}", None)  # type: ignore[arg-type]

        async def call() -> ToolResult:
            self.point()
            self.effects.append(context.key)
            self.point()
            return ToolResult("paid")

        return await ledger.perform(self, self.tool, KEY, arguments or {"to": "Ada"}, context, call)

    async def played(self) -> ToolResult | None:
        """Play runs until one is not killed; None when it waits for a person."""
        while True:
            try:
                return await self.run()
            except Crash:
                continue
            except Suspended:
                return None


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_crash_at_each_boundary_and_at_each_two(effect: Effect) -> None:
    for dies_at in [(n,) for n in range(7)] + list(itertools.combinations(range(1, 11), 2)):
        task = Task(effect, dies_at=frozenset(dies_at))
        result = await task.played()
        while result is None:  # a person looks outside, and says what is there
            assert effect == "unsafe"
            ask = task.answer(**({"result": "paid"} if task.effects else {}))
            assert (ask.why, ask.about, ask.args) == ("in_doubt", KEY, canonical({"to": "Ada"}))
            result = await task.played()
        assert result.content == "paid"
        times = len(task.effects)
        assert set(task.effects) == {f"task:{KEY}"}, "the key is the same each time"
        assert times <= (1 if effect in {"reconcilable", "unsafe"} else 1 + len(dies_at))
        assert (await task.played()) == result
        assert len(task.effects) == times, "what is done is not done again"


async def test_an_unsafe_call_is_never_made_again_without_a_person() -> None:
    for boundary in range(1, 7):
        task = Task("unsafe", dies_at=frozenset({boundary}))
        result = await task.played()
        for _ in range(3):
            assert (await task.played()) == result
        assert len(task.effects) <= 1


async def test_a_call_that_a_person_let_run_and_that_crashes_again_is_in_doubt_again() -> None:
    task = Task("unsafe", dies_at=frozenset({3}))  # the intent stands, the call has not begun
    assert await task.played() is None
    task.answer()
    task.dies_at = frozenset({task.boundary + 3})  # behind the mark, before the call
    assert await task.played() is None
    assert task.answer("approved").step == f"{KEY}.doubt#2"
    assert (await task.played()) == ToolResult("paid")
    assert len(task.effects) == 1


@pytest.mark.parametrize("state", ["refused", "expired"])
async def test_what_is_in_doubt_and_not_let_run_fails_the_task(state: str) -> None:
    task = Task("unsafe", dies_at=frozenset({4}))
    assert await task.played() is None
    task.answer(state)
    with pytest.raises(InDoubtError, match="in doubt"):
        await task.run()
    assert len(task.effects) == 1


async def test_a_result_that_a_person_tells_may_be_any_json() -> None:
    task = Task("unsafe", dies_at=frozenset({4}))
    assert await task.played() is None
    task.answer(result=None)
    assert (await task.played()) == ToolResult("null")


async def test_what_cannot_be_read_back_is_tried_again_later() -> None:
    task = Task("reconcilable", dies_at=frozenset({4}))

    async def broken(key: str, arguments: dict[str, Any]) -> Found | NotFound:
        raise ConnectionError("no route")

    with pytest.raises(Crash):
        await task.run()
    working = task.tool
    task.tool = Tool(
        name="pay",
        description="",
        parameters={"type": "object"},
        call=task.nothing,
        effect="reconcilable",
        reconcile=broken,
    )
    with pytest.raises(ReconcileError, match="no route") as caught:
        await task.run()
    assert caught.value.retryable
    task.tool = working
    assert (await task.run()).content == "paid"
    assert len(task.effects) == 1


async def test_another_call_under_the_same_key_is_refused() -> None:
    task = Task("keyed", dies_at=frozenset({4}))
    with pytest.raises(Crash):
        await task.run()
    with pytest.raises(CallChangedError, match="other arguments"):
        await task.run({"to": "Eve"})
    assert len(task.effects) == 1


class TestApproval:
    async def test_comes_before_the_intent(self) -> None:
        task = Task("unsafe", approval=True)
        assert await task.played() is None
        assert (task.known, task.effects) == ({}, [])
        ask = task.answer()
        assert (ask.step, ask.tool, ask.why, ask.args) == (f"{KEY}.approval", "pay", "tool", '{"to":"Ada"}')
        assert (await task.played()) == ToolResult("paid")

    @pytest.mark.parametrize(
        ("state", "code", "told"),
        [("refused", "refused", "so be it"), ("expired", "approval_expired", "in time")],
    )
    async def test_that_is_not_given_is_told_to_the_model(self, state: str, code: str, told: str) -> None:
        task = Task("unsafe", approval=True)
        assert await task.played() is None
        task.answer(state)
        result = await task.played()
        assert result is not None and (result.ok, result.code) == (False, code) and told in result.content
        assert task.effects == [] and (await task.played()) == result

    async def test_holds_for_no_other_arguments(self) -> None:
        task = Task("idempotent", approval=True)
        assert await task.played() is None
        task.answer()
        with pytest.raises(ArgumentsChangedError):
            await task.run({"to": "Eve"})
        assert task.effects == []

    async def test_is_not_asked_for_again_after_a_crash(self) -> None:
        for boundary in range(2, 9):
            task = Task("keyed", approval=True, dies_at=frozenset({boundary}))
            assert await task.played() is None
            task.answer()
            assert (await task.played()) == ToolResult("paid")
            assert not task.asked

    @pytest.mark.parametrize(
        ("rule", "asks"),
        [(lambda a: a["to"] == "Ada", True), (lambda a: a["to"] == "Eve", False), (lambda a: a["no"], True)],
    )
    async def test_may_depend_on_the_arguments_and_a_rule_that_fails_asks(
        self, rule: Any, asks: bool
    ) -> None:
        task = Task("idempotent", approval=rule)
        result = await task.played()
        assert (result is None) == asks


def told(state: str = "approved", arguments: Any = None, **more: Any) -> str:
    hashed = args_hash(arguments)
    return json.dumps({"state": state, "by": "k", "label": "Ada", "note": None, "argsHash": hashed, **more})


def test_a_decision_lets_the_run_go_on_or_says_why_not() -> None:
    assert granted("pay", decided("pay", None, told())).label == "Ada"
    with pytest.raises(ApprovalRefusedError, match="'Ada' refused it"):
        granted("pay", decided("pay", None, told("refused")))
    with pytest.raises(TimeoutError) as caught:
        granted("pay", decided("pay", None, told("expired", by=None, label=None)))
    assert isinstance(caught.value, ApprovalExpiredError)
    with pytest.raises(ArgumentsChangedError):
        decided("pay", {"n": 1.0}, told(arguments={"n": 1}))


def test_a_question_is_json_of_bounded_size() -> None:
    assert question("s", "pay", {"b": 1, "a": "ü"}, why="tool").args == '{"a":"ü","b":1}'
    assert len(question("s", "pay", "x" * (64 * 1024 - 2), why="tool").args) == 64 * 1024
    for wrong in ("x" * (64 * 1024 - 1), {1, 2}, float("nan")):
        with pytest.raises(InvalidApprovalError):
            question("s", "pay", wrong, why="tool")


def test_there_is_one_text_for_each_value_and_utf_8_can_hold_it() -> None:
    assert canonical({"b": [1, 2.5], "a": "\u202e😀"}) == '{"a":"\u202e😀","b":[1,2.5]}'
    lone = canonical({"a": "\ud800 ü"})
    assert lone.encode() and json.loads(lone) == {"a": "\ud800 ü"}
    assert Counter(map(args_hash, ({"a": 1, "b": 2}, {"b": 2, "a": 1}))).most_common(1)[0][1] == 2
