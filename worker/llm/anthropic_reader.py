"""Reads one message of the dialect `anthropic-messages` from its events. Pure.

The terminal marker is `message_stop`. The counts of `message_delta` replace those of `message_start`. Unknown
events, deltas and blocks are skipped; what the provider ran itself is handed back to it, never to our loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.llm.classify import from_error
from worker.llm.errors import ContextLength, StreamProtocolError, StreamTruncated
from worker.llm.gathered import Gathered
from worker.llm.messages import (
    Completion,
    Delta,
    Finish,
    ReasoningDelta,
    TextDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from worker.llm.tool_calls import whole_call
from worker.llm.wire import count, event_value, field, listed, string

_FINISH: dict[str, Finish] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "pause_turn": "pause",
    "refusal": "refusal",
}
_IMPLIED = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}
_COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class _Block:
    """One block of the message, as it began and with what came since."""

    __slots__ = ("fields", "kind", "pieces", "position", "whole")

    def __init__(self, fields: Mapping[str, Any], position: int) -> None:
        self.fields = dict(fields)
        self.kind = string(fields.get("type"))
        self.pieces = Gathered()
        self.position = position  # among the tool calls
        self.whole = True  # False: it has a delta of a kind that we do not know

    def text(self) -> str:
        return self.pieces.whole()


class AnthropicReader:
    """Reads one message.

    Args:
        origin: Whose the message is, for what must go back to it unchanged.
        answer_tool: The tool whose input is the answer's text.
    """

    def __init__(self, origin: Mapping[str, str] | None = None, answer_tool: str | None = None) -> None:
        self.ended = False
        self._origin = dict(origin or {})
        self._answer_tool = answer_tool
        self._blocks: list[_Block] = []
        self._open: dict[int, _Block] = {}
        self._calls = 0
        self._text = Gathered()
        self._reasoning = Gathered()
        self._model: str | None = None
        self._stop: str | None = None
        self._counts: dict[str, int] = {}
        self._thought_tokens = 0

    @property
    def finished(self) -> bool:
        """Whether `message_stop` came."""
        return self.ended

    @property
    def usage(self) -> TokenUsage | None:
        """What was counted so far; None if nothing was."""
        if not self._counts:
            return None
        prompt, output = self._counts.get("input_tokens"), self._counts.get("output_tokens")
        cached = self._counts.get("cache_read_input_tokens", 0)
        written = self._counts.get("cache_creation_input_tokens", 0)
        return TokenUsage(
            input_tokens=None if prompt is None else prompt + cached + written,
            output_tokens=output,
            cached_input_tokens=cached,
            cache_write_tokens=written,
            reasoning_tokens=self._thought_tokens,
        )

    def read(self, event: str, data: str) -> list[Delta]:
        """Return what an event adds to the message."""
        value = event_value(event, data)
        if value is None:
            return []
        match value.get("type") or event:
            case "content_block_delta":
                return self._delta(value)
            case "content_block_start":
                return self._start(value)
            case "message_start":
                self._begin(value.get("message"))
            case "message_delta":
                stop = field(value.get("delta"), "stop_reason")
                self._stop = stop if isinstance(stop, str) and stop else self._stop
                self._count(value.get("usage"))
            case "message_stop":
                self.ended = True
            case "error":
                raise from_error(value)
            case _:
                if isinstance(value.get("error"), dict | str) and value["error"]:
                    raise from_error(value)  # a gateway's, which names no type
        return []

    def read_whole(self, value: Any) -> list[Delta]:  # noqa: ANN401 - any JSON value
        """Return the content of a message that came in one piece."""
        if field(value, "type") == "error" or field(value, "error"):
            raise from_error(value)
        if not isinstance(field(value, "content"), list) or not isinstance(field(value, "stop_reason"), str):
            raise StreamProtocolError("The answer is JSON, but neither a whole message nor an error")
        self._begin(value)
        self._stop = value["stop_reason"]
        deltas: list[Delta] = []
        for index, block in enumerate(value["content"]):
            deltas += self._start({"index": index, "content_block": block})
        self.ended = True
        return deltas

    def completion(self) -> Completion:
        """Return the whole message."""
        if not self.ended:
            raise StreamTruncated("The stream ended before the answer was complete (no message_stop came)")
        raw = self._stop or ""
        if raw == "model_context_window_exceeded":
            raise ContextLength("The answer filled the model's context window", provider_code=raw)
        calls = self._tool_calls()
        finish = _FINISH.get(raw, "unknown")
        if finish in {"stop", "tool_calls"}:
            finish = "tool_calls" if calls else "stop"
        return Completion(
            text=self._text.whole(),
            reasoning=self._reasoning.whole(),
            refusal=None,
            tool_calls=calls if finish == "tool_calls" else (),
            finish=finish,
            raw_finish=raw,
            model=self._model,
            usage=self.usage,
            replay=self._replay(finish),
        )

    def _begin(self, message: Any) -> None:  # noqa: ANN401 - any JSON value
        self._model = string(field(message, "model")) or self._model
        self._count(field(message, "usage"))

    def _count(self, usage: Any) -> None:  # noqa: ANN401 - any JSON value
        """Take counts in: they are running totals, and what is absent stays as it was."""
        for name in _COUNTS:
            if (tokens := count(field(usage, name))) is not None:
                self._counts[name] = tokens
        thought = count(field(field(usage, "output_tokens_details"), "thinking_tokens"))
        self._thought_tokens = self._thought_tokens if thought is None else thought

    def _start(self, value: dict[str, Any]) -> list[Delta]:
        given = value.get("content_block")
        if not isinstance(given, dict):
            return []
        block = _Block(given, self._calls)
        self._blocks.append(block)
        self._open[_index(value)] = block
        if block.kind == "tool_use" and given.get("name") != self._answer_tool:
            self._calls += 1
            return [ToolCallDelta(block.position, string(given.get("name")), "")]
        if block.kind == "tool_use":
            block.kind = "answer"
            ready = given.get("input")
            return self._add(block, json.dumps(ready, ensure_ascii=False)) if ready else []
        if block.kind in {"text", "thinking"}:
            return self._add(block, string(given.get(block.kind)))
        return []

    def _delta(self, value: dict[str, Any]) -> list[Delta]:
        delta = value.get("delta")
        if not isinstance(delta, dict):
            return []
        kind = string(delta.get("type"))
        block = self._open.get(_index(value))
        if block is None:
            if kind not in _IMPLIED:
                return []
            block = _Block({"type": _IMPLIED[kind]}, self._calls)  # a server that announces no blocks
            self._blocks.append(block)
            self._open[_index(value)] = block
        match kind:
            case "text_delta":
                return self._add(block, string(delta.get("text")))
            case "input_json_delta":
                return self._add(block, string(delta.get("partial_json")))
            case "thinking_delta":
                return self._add(block, string(delta.get("thinking")))
            case "signature_delta":
                signature = string(block.fields.get("signature")) + string(delta.get("signature"))
                block.fields["signature"] = signature
            case "citations_delta":
                block.fields["citations"] = [*listed(block.fields.get("citations")), delta.get("citation")]
            case _:
                block.whole = False
        return []

    def _add(self, block: _Block, piece: str) -> list[Delta]:
        if not piece:
            return []
        block.pieces.add(piece)
        match block.kind:
            case "text" | "answer":
                shown = self._text.add(piece)
                return [TextDelta(shown)] if shown else []
            case "thinking":
                shown = self._reasoning.add(piece)
                return [ReasoningDelta(shown)] if shown else []
            case "tool_use":
                return [ToolCallDelta(block.position, string(block.fields.get("name")), piece)]
        return []

    def _tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(_call(block) for block in self._blocks if block.kind == "tool_use")

    def _replay(self, finish: Finish) -> dict[str, Any] | None:
        """Return the blocks that must go back as they are; None if text and calls say all."""
        special = any(
            block.kind not in {"text", "tool_use", "answer"} or block.fields.get("citations")
            for block in self._blocks
        )
        if finish not in {"stop", "tool_calls", "pause"} or not (special or finish == "pause"):
            return None
        if any(block.kind == "answer" for block in self._blocks):
            return None
        blocks = [sent for block in self._blocks if (sent := _as_sent(block)) is not None]
        return {**self._origin, "blocks": blocks} if blocks else None


def _index(value: dict[str, Any]) -> int:
    index = value.get("index")
    return index if isinstance(index, int) else 0


def _call(block: _Block) -> ToolCall:
    ready = block.fields.get("input")
    raw = block.text() or (json.dumps(ready, ensure_ascii=False) if ready else "")
    return whole_call(string(block.fields.get("id")), string(block.fields.get("name")), raw, block.position)


def _as_sent(block: _Block) -> dict[str, Any] | None:
    """Return a block as it goes back; None if it cannot."""
    if not block.whole:
        return None
    text = block.text()
    match block.kind:
        case "text":
            return {**block.fields, "text": text} if text else None
        case "thinking":
            return {**block.fields, "thinking": text} if block.fields.get("signature") else None
        case "tool_use":
            call = _call(block)
            sent = {"INVALID_JSON": call.arguments_raw} if call.arguments is None else call.arguments
            return {**block.fields, "id": call.id, "input": sent}
        case "server_tool_use" | "mcp_tool_use":
            call = _call(block)
            return None if call.arguments is None else {**block.fields, "input": call.arguments}
    return block.fields
