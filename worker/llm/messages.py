"""What goes into a model call and what comes out of it, in a form common to all dialects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One turn asked of a model.

    Args:
        model: The provider's name of the model.
        messages: `{"role": ..., "content": ...}` in the form of chat completions.
        tools: Function tools in the form of chat completions.
        tool_choice: `"auto"`, `"none"`, `"required"` or the name of one tool in the provider's form.
        response_format: For structured output, in the provider's form.
        extra: Fields of the provider's own; they are sent as they are and win over all others.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    temperature: float | None = None
    max_output_tokens: int | None = None
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    stop: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long each part of a call may take, in seconds.

    `first_event_s` runs until the first content comes, connecting and headers included; `idle_s` from one
    piece of content to the next. They count content, not bytes: comments, pings and empty chunks do not reset
    them, and `idle_s` does not run while the caller is busy with an event. `total_s` covers everything, also
    the wait for one of the client's `max_connections`.
    """

    connect_s: float = 5.0
    first_event_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the visible answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class RefusalDelta:
    """A piece of a refusal."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call's arguments; `position` counts the calls of the message from 0."""

    position: int
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A whole tool call.

    `arguments` is None when the model's text is no JSON object; `arguments_raw` is then that text, so that
    the model can be told, and None otherwise.
    """

    id: str
    name: str
    arguments: dict[str, Any] | None
    arguments_raw: str | None


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one call; None where the provider did not tell.

    `input_tokens` is the whole prompt: `cached_input_tokens` and `cache_write_tokens` are parts of it, as
    `reasoning_tokens` is a part of `output_tokens`.
    """

    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole message: the last event of a stream that came to its end.

    Args:
        refusal: None when the model did not refuse.
        tool_calls: Empty unless `finish` is `tool_calls`: a message that was cut short hands on no calls.
        raw_finish: The provider's own word.
        model: The model that answered, as the provider names it.
        usage: None when the provider told nothing.
    """

    text: str
    reasoning: str
    refusal: str | None
    tool_calls: tuple[ToolCall, ...]
    finish: Finish
    raw_finish: str
    model: str | None
    usage: TokenUsage | None

    def message(self) -> dict[str, Any]:
        """Return the message as it goes into the history, in the common form."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.refusal is not None:
            message["refusal"] = self.refusal
        if self.tool_calls:
            message["tool_calls"] = [_told(call) for call in self.tool_calls]
        return message


def _told(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments_raw
    if call.arguments is not None:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments or ""}}


Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta
Event = Delta | Completion
