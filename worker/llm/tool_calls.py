"""Joins the pieces of tool calls that compatible servers send. Pure.

Calls are keyed by `index`, but servers differ: a new id on a used index is a new call (some give every call
the index 0), indexes skip or are missing, names are repeated, ids come empty or late, arguments come as null
or as an object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from worker.llm.messages import ToolCall, ToolCallDelta


class _Call:
    __slots__ = ("arguments", "id", "name", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []  # joined once, when the message is whole


class ToolCalls:
    """The calls of one message, in the order of their first pieces."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._last = 0
        self._open: dict[int | None, _Call] = {}  # by index: the call that a further piece belongs to

    @property
    def last(self) -> int:
        """The position of the call that the last piece belongs to."""
        return self._last

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, piece: dict[str, Any]) -> Iterator[ToolCallDelta]:
        """Take one piece in and yield what it adds, if it adds anything."""
        function = piece.get("function")
        if not isinstance(function, dict):
            function = {}
        call_id, name = _string(piece.get("id")), _string(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        known = len(self._calls)
        index = piece.get("index")
        call = self._call(index if isinstance(index, int) else None, call_id, name)
        self._last = call.position
        call.id = call.id or call_id
        call.name = call.name or name
        if arguments:
            call.arguments.append(arguments)
        if arguments or len(self._calls) > known:
            yield ToolCallDelta(call.position, call.name, arguments)

    def whole(self) -> tuple[ToolCall, ...]:
        """Return the calls; bad arguments are handed on as they came, never repaired."""
        return tuple(_whole(call) for call in self._calls)

    def _call(self, index: int | None, call_id: str, name: str) -> _Call:
        """Return the call of a piece; without an index that is the last one, or a new one if named."""
        call = self._open.get(index)
        begins = (
            call is None
            or (call_id and call.id and call_id != call.id)
            or (not call_id and name and call.name and name != call.name)
            or (not call_id and name and index is None)
        )
        if call is None or begins:
            call = _Call(len(self._calls))
            self._calls.append(call)
            self._open[index] = self._open[None] = call
        return call


def _whole(call: _Call) -> ToolCall:
    return whole_call(call.id, call.name, "".join(call.arguments), call.position)


def whole_call(call_id: str, name: str, raw: str, position: int) -> ToolCall:
    """Return the call whose arguments are the text `raw`; it is never repaired, and no text means none."""
    call_id = call_id or f"call_{position}"  # the tool's result must name one
    try:
        arguments = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        arguments = None
    if isinstance(arguments, dict):
        return ToolCall(call_id, name, arguments, None)
    return ToolCall(call_id, name, None, raw)


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""


def _arguments(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return value if isinstance(value, str) else ""
