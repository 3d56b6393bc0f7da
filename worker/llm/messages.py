"""What goes into a model call and what comes out of it, in a form common to all dialects.

Messages have the form of chat completions, whatever the provider; each dialect writes its own from it:

    {"role": "system" | "developer", "content": TEXT}
    {"role": "user", "content": TEXT | [{"type": "text", "text": TEXT},
                                        {"type": "image_url", "image_url": {"url": URL}}]}
    {"role": "assistant", "content": TEXT | None, "refusal": TEXT,
     "tool_calls": [{"id": ID, "type": "function",
                     "function": {"name": NAME, "arguments": JSON_TEXT}}],
     "replay": {...}}
    {"role": "tool", "tool_call_id": ID, "content": TEXT}

`Completion.message()` makes the assistant's. `replay` is what the same model at the same provider must get
back unchanged, such as signed thoughts; it is JSON, nobody else looks into it, and every other model is sent
the rest of the message without it. Whoever changes a message's content takes its `replay` out. `arguments`
are as the model wrote them; those that are no JSON object are sent back as {"INVALID_JSON": TEXT}. Any
message may have `"cache": True`: the prompt up to its end is worth keeping in the provider's cache.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length", "tool_calls", "content_filter", "refusal", "pause", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One turn asked of a model.

    Args:
        model: The provider's name of the model.
        messages: In the common form, see this module's beginning.
        tools: `{"type": "function", "function": {"name", "description", "parameters"}}`; a tool that the
            provider runs itself stands in its own form.
        tool_choice: `"auto"`, `"none"`, `"required"` or `{"type": "function", "function": {"name": NAME}}`.
        response_format: `{"type": "json_schema", "json_schema": {"name": NAME, "schema": SCHEMA}}`.
        cache_key: Names prompts that begin alike, such as an agent's; providers that keep prompts route by it
            or are told where to cut.
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
    cache_key: str | None = None
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
        refusal: The words of a refusal, None if it has none of its own.
        tool_calls: Empty unless `finish` is `tool_calls`: a message that was cut short hands on no calls.
        raw_finish: The provider's own word.
        model: The model that answered, as the provider names it.
        usage: None when the provider told nothing.
        replay: What the same model must get back unchanged, None if the rest says all.

    A `finish` of `pause` asks for the same messages with this one behind them: the model goes on.
    """

    text: str
    reasoning: str
    refusal: str | None
    tool_calls: tuple[ToolCall, ...]
    finish: Finish
    raw_finish: str
    model: str | None
    usage: TokenUsage | None
    replay: dict[str, Any] | None = None

    def message(self) -> dict[str, Any]:
        """Return the message as it goes into the history, in the common form."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.refusal is not None:
            message["refusal"] = self.refusal
        if self.tool_calls:
            message["tool_calls"] = [_told(call) for call in self.tool_calls]
        if self.replay is not None:
            message["replay"] = self.replay
        return message


def _told(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments_raw
    if call.arguments is not None:
        arguments = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments or ""}}


Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta
Event = Delta | Completion
