"""Decodes a stream of server-sent events from bytes, as WHATWG defines them. Pure and incremental.

UTF-8 with one optional byte order mark; a line ends at CR, LF or CRLF and at nothing else; an event is
dispatched at a blank line and only if it has a `data` line; what the end of the body cuts off is no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

MAX_EVENT_BYTES = 8 * 1024 * 1024  # far above a whole answer in one event, far below a worker's memory
_BOM = b"\xef\xbb\xbf"
_LF = 10


class ServerSentEvent(NamedTuple):
    """One event; `event` is empty when the stream names none."""

    event: str
    data: str


class EventTooLarge(ValueError):  # noqa: N818 - says what happened
    """One event, or one line, has more bytes than the decoder holds."""


class EventDecoder:
    """Turns reads of any size into events, in time linear in the bytes.

    Args:
        max_bytes: The most bytes that the lines of one event may have, line ends not counted.
    """

    def __init__(self, max_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_bytes = max_bytes
        self._opening: bytes | None = (
            b""  # what could still become a byte order mark; None once that is settled
        )
        self._after_cr = False
        self._line: list[bytes] = []  # pieces of a line whose end has not come
        self._line_bytes = 0
        self._event = b""
        self._data: list[bytes] = []
        self._held_bytes = 0  # of the lines kept for the event that is being read

    def feed(self, chunk: bytes) -> Iterator[ServerSentEvent]:
        """Yield the events that `chunk` completes; read to the end before feeding more.

        Raises:
            EventTooLarge: after the events before it; the decoder is of no more use then.
        """
        if self._opening is not None:
            chunk = self._after_mark(chunk)
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == _LF:
                chunk = chunk[1:]
        if not chunk:
            return
        self._after_cr = chunk.endswith(b"\r")
        lines = chunk.splitlines()  # for bytes these are CR, LF and CRLF alone
        rest = b"" if chunk[-1:] in {b"\r", b"\n"} else lines.pop()
        for line in lines:
            if event := self._take(self._whole(line)):
                yield event
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)
            self._check(self._line_bytes)

    def _after_mark(self, chunk: bytes) -> bytes:
        opening = (self._opening or b"") + chunk
        if len(opening) < len(_BOM) and _BOM.startswith(opening):
            self._opening = opening
            return b""
        self._opening = None
        return opening.removeprefix(_BOM)

    def _whole(self, end: bytes) -> bytes:
        if not self._line:
            return end
        self._line.append(end)
        line = b"".join(self._line)
        self._line.clear()
        self._line_bytes = 0
        return line

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        self._check(len(line))
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        elif name == b"event":
            self._event = value.removeprefix(b" ")
        else:
            return None  # comments, `id`, `retry` and unknown fields carry no content
        self._held_bytes += len(line)
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        event, data = self._event, self._data
        self._event, self._data, self._held_bytes = b"", [], 0
        if not data:
            return None
        return ServerSentEvent(event.decode(errors="replace"), b"\n".join(data).decode(errors="replace"))

    def _check(self, more_bytes: int) -> None:
        if self._held_bytes + more_bytes > self._max_bytes:
            raise EventTooLarge(f"An event of the stream has more than {self._max_bytes} bytes")
