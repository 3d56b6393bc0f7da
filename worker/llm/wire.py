"""Reads fields of JSON that a provider sent, whatever it is. Pure."""

from __future__ import annotations

import json
from typing import Any

from worker.llm.classify import from_error
from worker.llm.errors import StreamProtocolError


def event_value(event: str, data: str) -> dict[str, Any] | None:
    """Return the object that an event carries; None for an empty event.

    Raises:
        ModelError: The event is an error that is no JSON, or cannot be read.
    """
    if not data or data.isspace():
        return None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        if event == "error":
            raise from_error(data) from None
        raise StreamProtocolError("The stream carries an event that is not JSON") from None
    if event == "error":
        raise from_error(value)
    if not isinstance(value, dict):
        raise StreamProtocolError("The stream carries an event that is no object")
    return value


def count(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    """Return a count of tokens, None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def field(value: Any, name: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return a field of an object, None for anything else."""
    return value.get(name) if isinstance(value, dict) else None


def listed(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    """Return a list, empty for anything else."""
    return value if isinstance(value, list) else []


def string(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a string, empty for anything else."""
    return value if isinstance(value, str) else ""


def text_of(part: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the text of a part of a content: the part itself, or its `text`."""
    return string(part if isinstance(part, str) else field(part, "text"))
