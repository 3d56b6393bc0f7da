"""Reads one message of the dialect `openai-responses` from its events. Pure.

The terminal marker is `response.completed` or `response.incomplete`; `response.failed` and `error` are
errors. A `done` event repeats what its deltas brought, so it counts only where none came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.llm.classify import from_error
from worker.llm.errors import ServerError, StreamProtocolError, StreamTruncated
from worker.llm.gathered import Gathered
from worker.llm.messages import (
    Completion,
    Delta,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenUsage,
)
from worker.llm.tool_calls import ToolCalls
from worker.llm.wire import count, event_value, field, listed, string

_INCOMPLETE: dict[str, Finish] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_PIECES = {  # by an event's name without `.delta` or `.done`: what it carries, and the field of all of it
    "response.output_text": ("text", "text"),
    "response.refusal": ("refusal", "refusal"),
    "response.reasoning_summary_text": ("summary", "text"),
    "response.reasoning_text": ("thought", "text"),
}
_PARTS = {  # of a whole item
    "output_text": ("text", "text"),
    "refusal": ("refusal", "refusal"),
    "summary_text": ("summary", "text"),
    "reasoning_text": ("thought", "text"),
}
_PLAIN = frozenset({"message", "function_call"})


class ResponsesReader:
    """Reads one message.

    Args:
        origin: Whose the message is, for what must go back to it unchanged.
    """

    def __init__(self, origin: Mapping[str, str] | None = None) -> None:
        self.ended = False
        self._origin = dict(origin or {})
        self._text = Gathered()
        self._reasoning = Gathered()
        self._refusal = Gathered()
        self._heard: set[tuple[str, Any, Any]] = set()  # pieces that came in deltas
        self._calls = ToolCalls()
        self._call_numbers: dict[Any, int] = {}
        self._items: dict[Any, dict[str, Any]] = {}  # whole ones, by their place
        self._raw_finish: str | None = None
        self._model: str | None = None
        self._usage: TokenUsage | None = None

    @property
    def finished(self) -> bool:
        """Whether the terminal event came."""
        return self._raw_finish is not None

    @property
    def usage(self) -> TokenUsage | None:
        """What was counted so far; None if nothing was."""
        return self._usage

    def read(self, event: str, data: str) -> list[Delta]:
        """Return what an event adds to the message."""
        if data.strip() == "[DONE]":  # some gateways add it
            self.ended = True
            return []
        value = event_value(event, data)
        if value is None:
            return []
        kind = string(value.get("type")) or event
        name, _, end = kind.rpartition(".")
        if name in _PIECES:
            return self._piece(*_PIECES[name], end, value)
        if kind == "error":
            raise from_error(value)
        return self._event(kind, value)

    def _event(self, kind: str, value: dict[str, Any]) -> list[Delta]:
        match kind:
            case "response.function_call_arguments.delta":
                return self._argue(value, string(value.get("delta")))
            case "response.function_call_arguments.done":
                return self._argued(value, value)
            case "response.output_item.added":
                return self._added(value, value.get("item"))
            case "response.output_item.done":
                return self._item(_place(value), value.get("item"))
            case "response.created" | "response.in_progress" | "response.queued":
                self._model = string(field(value.get("response"), "model")) or self._model
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                return self._end(value.get("response"), kind.removeprefix("response."))
            case _:
                if isinstance(value.get("error"), dict | str) and value["error"]:
                    raise from_error(value)  # a gateway's, which names no type
        return []

    def read_whole(self, value: Any) -> list[Delta]:  # noqa: ANN401 - any JSON value
        """Return the content of a response that came in one piece."""
        if not isinstance(field(value, "output"), list) or not isinstance(field(value, "status"), str):
            if field(value, "error") or field(value, "object") == "error":
                raise from_error(value)
            raise StreamProtocolError("The answer is JSON, but neither a whole response nor an error")
        return self._end(value, value["status"])

    def completion(self) -> Completion:
        """Return the whole message."""
        if self._raw_finish is None:
            raise StreamTruncated("The stream ended before the answer was complete (no terminal event came)")
        finish: Finish = "stop"
        if self._raw_finish != "completed":
            finish = _INCOMPLETE.get(self._raw_finish, "unknown")
        elif self._refusal:
            finish = "refusal"
        elif self._calls:
            finish = "tool_calls"
        return Completion(
            text=self._text.whole(),
            reasoning=self._reasoning.whole(),
            refusal=self._refusal.whole() or None,
            tool_calls=self._calls.whole() if finish == "tool_calls" else (),
            finish=finish,
            raw_finish=self._raw_finish,
            model=self._model,
            usage=self._usage,
            replay=self._replay() if finish in {"stop", "tool_calls"} else None,
        )

    def _piece(self, what: str, whole: str, end: str, value: dict[str, Any]) -> list[Delta]:
        part = value.get("summary_index") if what == "summary" else value.get("content_index")
        key = (what, _place(value), part)
        if end == "delta":
            self._heard.add(key)
            return self._say(what, string(value.get("delta")))
        return self._once(key, string(value.get(whole))) if end == "done" else []

    def _once(self, key: tuple[str, Any, Any], text: str) -> list[Delta]:
        if key in self._heard:
            return []
        self._heard.add(key)
        return self._say(key[0], text)

    def _say(self, what: str, text: str) -> list[Delta]:
        if what == "text":
            shown = self._text.add(text)
            return [TextDelta(shown)] if shown else []
        if what == "refusal":
            shown = self._refusal.add(text)
            return [RefusalDelta(shown)] if shown else []
        shown = self._reasoning.add(text)
        return [ReasoningDelta(shown)] if shown else []

    def _number(self, place: Any) -> int:  # noqa: ANN401 - any JSON value
        return self._call_numbers.setdefault(place, len(self._call_numbers))

    def _added(self, value: dict[str, Any], item: Any) -> list[Delta]:  # noqa: ANN401 - any JSON value
        if field(item, "type") != "function_call":
            return []
        place, arguments = _place(value), string(item.get("arguments"))
        if arguments:
            self._heard.add(("arguments", place, None))
        return self._call(place, item, arguments)

    def _argue(self, value: dict[str, Any], arguments: str) -> list[Delta]:
        place = _place(value)
        self._heard.add(("arguments", place, None))
        return list(self._calls.add({"index": self._number(place), "function": {"arguments": arguments}}))

    def _argued(self, value: dict[str, Any], item: dict[str, Any]) -> list[Delta]:
        """Take in a call's whole arguments, unless they came before."""
        place = _place(value)
        if ("arguments", place, None) in self._heard:
            return []
        return self._argue(value, string(item.get("arguments")))

    def _call(self, place: Any, item: dict[str, Any], arguments: str) -> list[Delta]:  # noqa: ANN401 - any JSON value
        call_id = string(item.get("call_id")) or string(item.get("id"))
        function = {"name": item.get("name"), "arguments": arguments}
        piece = {"index": self._number(place), "id": call_id, "function": function}
        return list(self._calls.add(piece))

    def _item(self, place: Any, item: Any) -> list[Delta]:  # noqa: ANN401 - any JSON value
        """Take in a whole item; what its deltas brought is not taken twice."""
        if not isinstance(item, dict) or place in self._items:
            return []
        self._items[place] = item
        deltas: list[Delta] = []
        if item.get("type") == "function_call":
            heard = ("arguments", place, None) in self._heard
            deltas += self._call(place, item, "" if heard else string(item.get("arguments")))
            self._heard.add(("arguments", place, None))
            return deltas
        for number, part in enumerate([*listed(item.get("summary")), *listed(item.get("content"))]):
            what, whole = _PARTS.get(string(field(part, "type")), ("", ""))
            if what:
                at = number - (len(listed(item.get("summary"))) if what != "summary" else 0)
                deltas += self._once((what, place, at), string(part.get(whole)))
        return deltas

    def _end(self, response: Any, status: str) -> list[Delta]:  # noqa: ANN401 - any JSON value
        self._model = string(field(response, "model")) or self._model
        self._usage = _usage(field(response, "usage")) or self._usage
        if status in {"failed", "cancelled"} or field(response, "error"):
            error = field(response, "error")
            raise from_error(error) if error else ServerError(f"The provider ended the response as {status}")
        deltas: list[Delta] = []
        for place, item in enumerate(listed(field(response, "output"))):
            deltas += self._item(place, item)
        reason = string(field(field(response, "incomplete_details"), "reason"))
        self._raw_finish = reason or status if status == "incomplete" else status
        self.ended = True
        return deltas

    def _replay(self) -> dict[str, Any] | None:
        """Return the items that must go back as they are; None if text and calls say all."""
        items = list(self._items.values())
        if all(item.get("type") in _PLAIN and not item.get("phase") for item in items):
            return None
        kept = [
            item
            for item in items
            if item.get("type") != "reasoning"
            or item.get("encrypted_content")  # an id alone is not found again
        ]
        return {**self._origin, "items": kept} if kept else None


def _place(value: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    index = value.get("output_index")
    return index if isinstance(index, int) else string(value.get("item_id"))


def _usage(usage: Any) -> TokenUsage | None:  # noqa: ANN401 - any JSON value
    prompt, output = count(field(usage, "input_tokens")), count(field(usage, "output_tokens"))
    if prompt is None and output is None:
        return None
    parts = field(usage, "input_tokens_details")
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=output,
        cached_input_tokens=count(field(parts, "cached_tokens")) or 0,
        cache_write_tokens=count(field(parts, "cache_write_tokens")) or 0,
        reasoning_tokens=count(field(field(usage, "output_tokens_details"), "reasoning_tokens")) or 0,
    )
