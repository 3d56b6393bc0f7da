"""Decides how a model's loop goes on: turns and tools, until it has its output or may not go on. Pure.

loop = Loop(messages, limits, check)
decision = loop.begin()
Ask()          ask the model with `loop.messages`, then loop.turned(turn)
Perform(calls) call the tools, then loop.performed(results), a result for each call in the same order
Done(...)      the output
Stop(...)      why it may not go on
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from worker.models import StepUsage
from worker.runtime.canonical import args_hash, dumped
from worker.runtime.tools import ToolResult

MAX_TURNS = 50
MAX_TOOL_CALLS = 100
MAX_REPEATS = 10  # of one call: a model that polls does not need more, one that is stuck never stops
CORRECTIONS = 1  # of an output that does not fit
# Codes of loops that stopped for what their last turn says.
ANSWERS = frozenset({"invalid_output", "output_length", "refusal", "content_filter"})
TOLD_CHARS = 500  # of what a model wrote, when it is told what was wrong with it


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where a loop stops; None: nowhere.

    Attributes:
        max_turns: Answers of a model. Code `max_turns`.
        max_tool_calls: Calls that models ask for, the refused ones too. Code `max_tool_calls`.
        max_repeats: Calls of one tool with the same arguments. Code `repeated_call`.
        max_tokens: Of all turns, in and out, as far as providers told. No further turn begins once it is
            reached. Code `max_tokens`.
        max_cost_micros: Likewise, in micro-dollars. Code `max_cost`. A budget bounds each call beforehand.
        max_s: In turns and tools, of all runs of the task. Code `max_time`.
    """

    max_turns: int = MAX_TURNS
    max_tool_calls: int = MAX_TOOL_CALLS
    max_repeats: int = MAX_REPEATS
    max_tokens: int | None = None
    max_cost_micros: int | None = None
    max_s: float | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call; `arguments` is None when `raw`, what the model wrote, is no JSON object."""

    position: int
    id: str
    name: str
    arguments: dict[str, Any] | None
    raw: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A model's message as its step keeps it.

    Attributes:
        message: The assistant's message, in the common form of worker/llm/messages.py.
        finish: How it ended, as `Completion.finish` has it.
        model: Who answered.
        reasoning: For people; what a model must get back of it is in the message.
        ms: How long it took.
        usage: What it has cost.
    """

    message: dict[str, Any]
    finish: str
    model: str | None = None
    reasoning: str = ""
    ms: float = 0.0
    usage: StepUsage | None = None

    @property
    def text(self) -> str:
        """Return what it says."""
        return self.message.get("content") or ""

    def calls(self) -> tuple[Call, ...]:
        """Return the calls that it asks for."""
        asked = self.message.get("tool_calls") or ()
        return tuple(_call(position, each) for position, each in enumerate(asked))

    def dump(self) -> str:
        """Return the JSON text that the step keeps; the usage has a field of its own there."""
        kept = asdict(self)
        del kept["usage"]
        return dumped(kept)

    def without(self, clean: Callable[[str], str]) -> Turn:
        """Return it with its texts as `clean` leaves them, the arguments of its calls too."""
        text = self.dump()
        cleaned = clean(text)
        return self if cleaned == text else Turn.load(cleaned, self.usage)

    @classmethod
    def load(cls, text: str, usage: StepUsage | None) -> Turn:
        """Return the turn that a step has kept."""
        kept = json.loads(text)  # of another version, perhaps: what is not known here is passed over
        return cls(**{name: kept[name] for name in kept.keys() & cls.__dataclass_fields__}, usage=usage)


def _call(position: int, asked: Mapping[str, Any]) -> Call:
    raw = asked["function"]["arguments"]
    return Call(position, asked["id"], asked["function"]["name"], read_arguments(raw), raw)


def read_arguments(raw: str) -> dict[str, Any] | None:
    """Return the object that a model wrote, None if it is none; what is empty is an empty object."""
    try:
        value = json.loads(raw or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse(constant: str) -> Any:  # noqa: ANN401 - it never returns
    raise ValueError(f"{constant} is not JSON")


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model for the next turn."""


@dataclass(frozen=True, slots=True)
class Perform:
    """Call these tools."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The loop has its output: what `check` made of the text, or the text itself."""

    output: Any
    turn: Turn


@dataclass(frozen=True, slots=True)
class Stop:
    """The loop may not go on."""

    code: str
    message: str


Decision: TypeAlias = Ask | Perform | Done | Stop


@dataclass(slots=True)
class Spent:
    """What the turns have used; None until a provider has told anything."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_micros: int | None = None
    ms: float = 0.0

    def add(self, turn: Turn) -> None:
        """Count a turn."""
        self.ms += turn.ms
        if turn.usage is not None:
            self.input_tokens = _sum(self.input_tokens, turn.usage.input_tokens)
            self.output_tokens = _sum(self.output_tokens, turn.usage.output_tokens)
            self.cost_micros = _sum(self.cost_micros, turn.usage.cost_micros)

    @property
    def tokens(self) -> int:
        """Return all tokens, in and out."""
        return (self.input_tokens or 0) + (self.output_tokens or 0)


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more


@dataclass(slots=True)
class Loop:
    """The state of one loop.

    Attributes:
        messages: The conversation so far, in the common form; it grows with each turn and result.
        limits: Where it stops.
        check: Makes the output of the model's text, or raises ValueError with a line for the model; None:
            the text is the output.
    """

    messages: list[dict[str, Any]]
    limits: Limits = field(default_factory=Limits)
    check: Callable[[str], Any] | None = None
    turns: int = 0
    tool_calls: int = 0
    corrections: int = 0
    spent: Spent = field(default_factory=Spent)
    _repeats: Counter[tuple[str, str]] = field(default_factory=Counter)
    _asked: tuple[Call, ...] = ()

    def begin(self) -> Decision:
        """Return what comes first."""
        return self._next()

    def turned(self, turn: Turn) -> Decision:
        """Take the turn that was asked for."""
        self.turns += 1
        self.spent.add(turn)
        self.messages.append(turn.message)
        if turn.finish == "pause":  # the provider's own tools take long: it goes on where it is
            return self._next()
        calls = turn.calls() if turn.finish == "tool_calls" else ()
        if calls:
            return self._perform(calls)
        if self.check is None:
            return Done(turn.text, turn)
        if turn.finish in {"length", "refusal", "content_filter"}:
            return Stop(*_cut_short(turn))  # what there is of it may be JSON by accident
        try:
            output = self.check(turn.text)
        except ValueError as error:
            return self.corrected(str(error))
        return Done(output, turn)

    def performed(self, results: Sequence[ToolResult]) -> Decision:
        """Take the results of the calls that were asked for, in their order."""
        if len(results) != len(self._asked):
            raise ValueError(f"{len(results)} results for {len(self._asked)} calls")
        for call, result in zip(self._asked, results, strict=True):
            self.messages.append({"role": "tool", "tool_call_id": call.id, "content": result.content})
        self.spent.ms += max((result.ms for result in results), default=0.0)
        self._asked = ()
        return self._next()

    def corrected(self, fault: str) -> Decision:
        """Tell the model, once, what was wrong with its output."""
        if self.corrections >= CORRECTIONS:
            return Stop("invalid_output", f"The output is wrong again after a correction: {fault}"[:1000])
        self.corrections += 1
        told = f"Your answer does not fit: {fault}. Answer again with the whole corrected output alone."
        self.messages.append({"role": "user", "content": told})
        return self._next()

    def _perform(self, calls: tuple[Call, ...]) -> Decision:
        self.tool_calls += len(calls)
        most = self.limits.max_tool_calls
        if self.tool_calls > most:
            return Stop(
                "max_tool_calls", f"The model asks for {self.tool_calls} tool calls, {most} may be made"
            )
        for call in calls:
            same = (call.name, call.raw if call.arguments is None else args_hash(call.arguments))
            self._repeats[same] += 1
            if self._repeats[same] > self.limits.max_repeats:
                message = f"The model asks for {call.name!r} with the same arguments again and again"
                return Stop("repeated_call", f"{message}: {call.raw[:TOLD_CHARS]}")
        self._asked = calls
        return Perform(calls)

    def _next(self) -> Decision:
        """Return the next turn, unless a limit is reached."""
        limits, spent = self.limits, self.spent
        if self.turns >= limits.max_turns:
            return Stop("max_turns", f"The model has taken {self.turns} turns and has no output yet")
        if limits.max_tokens is not None and spent.tokens >= limits.max_tokens:
            return Stop("max_tokens", f"{spent.tokens} tokens are used, {limits.max_tokens} may be")
        cost = spent.cost_micros or 0
        if limits.max_cost_micros is not None and cost >= limits.max_cost_micros:
            return Stop("max_cost", f"{cost} micro-dollars are spent, {limits.max_cost_micros} may be")
        if limits.max_s is not None and spent.ms >= limits.max_s * 1000:
            return Stop(*out_of_time(limits.max_s))
        return Ask()


def out_of_time(max_s: float) -> tuple[str, str]:
    """Return the code and message of a loop whose time is over."""
    return "max_time", f"The turns and tools have taken the {max_s:.6g} s that they may take"


def _cut_short(turn: Turn) -> tuple[str, str]:
    match turn.finish:
        case "length":
            return "output_length", "The answer was cut off at its longest, so that it is no whole output"
        case "refusal":
            said = turn.message.get("refusal") or turn.text
            return "refusal", f"The model refused: {said[:TOLD_CHARS]}"
    return "content_filter", "The provider's filter cut the answer off"
