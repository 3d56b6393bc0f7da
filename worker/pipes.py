"""Lines over a pipe between two processes, with a bound on what is held in memory."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import anyio


class LineTooLongError(Exception):
    """A line exceeds its bound; what follows on the pipe cannot be understood."""


class Source(Protocol):
    """Where bytes come from."""

    async def receive(self) -> bytes:
        """Return what came next, or raise `anyio.EndOfStream`."""


class LineReader:
    """Reads the lines of a pipe.

    Args:
        stream: The pipe.
        max_bytes: Longest line.
    """

    def __init__(self, stream: Source, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._lines: deque[bytes] = deque()
        self._parts: list[bytes] = []
        self._gathered = 0

    async def read(self) -> bytes | None:
        """Return the next line without its end, or None once the pipe is closed; half a line is no line.

        Raises:
            LineTooLongError: A line exceeds its bound.
        """
        while not self._lines:
            try:
                data = await self._stream.receive()
            except anyio.EndOfStream:
                return None
            self._take(data)
        return self._lines.popleft()

    def _take(self, data: bytes) -> None:
        *complete, rest = data.split(b"\n")
        for line in complete:
            self._lines.append(b"".join([*self._parts, line]))
            self._parts, self._gathered = [], 0
        self._parts.append(rest)
        self._gathered += len(rest)
        longest = max(self._gathered, *(len(line) for line in self._lines), 0)
        if longest > self._max_bytes:
            raise LineTooLongError(f"a line of more than {self._max_bytes} bytes")
