"""An HTTP proxy that fails on purpose, request by request, drawn from a seed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

FAULTS = (
    "request lost",  # it never arrives, and the connection is closed
    "answer lost",  # it has its effect, and nobody learns of it
    "late request",
    "late answer",
    "twice",  # it arrives twice, the second time later
    "reset",  # the connection breaks within the answer
    "black hole",  # it never arrives and nothing is ever answered
    "black hole behind",  # it has its effect, and nothing is ever answered
)
_LONGEST_HEAD = 64 * 1024
_BLACK_HOLE_S = 20.0


class ChaosProxy:
    """Passes requests on to `target` on connections of their own, a share of them with a fault.

    WebSockets are passed on as they are; `rate` of them end after a while.

    Attributes:
        url: Where it listens.
        rate: The share of requests with a fault, from 0 to 1; set it at any time.
        faults: How often each was drawn.
    """

    def __init__(self, target: str, *, rate: float, seed: int) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None and parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._chance = random.Random(seed)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.rate = rate
        self.faults: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_LONGEST_HEAD)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"upgrade: websocket" in head.lower():
                await self._tunnel(head, reader, writer)
            else:
                body = await reader.readexactly(_length(head))
                await self._serve(_closing(head) + body, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # either side went away, or the test is over
        finally:
            self._tasks.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _serve(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        fault = self._draw()
        if fault == "request lost":
            return
        if fault == "black hole":
            await asyncio.sleep(_BLACK_HOLE_S)
            return
        if fault == "late request":
            await asyncio.sleep(self._chance.uniform(0.05, 2.0))
        answer = await self._ask(request)
        if fault == "black hole behind":
            await asyncio.sleep(_BLACK_HOLE_S)
            return
        if fault == "answer lost":
            return
        if fault == "late answer":
            await asyncio.sleep(self._chance.uniform(0.05, 2.0))
        if fault == "twice":
            late = asyncio.create_task(self._again(request, self._chance.uniform(0, 1.0)))
            self._tasks.add(late)
            late.add_done_callback(self._tasks.discard)
        if fault == "reset":
            writer.write(answer[: self._chance.randrange(len(answer) + 1)])
            await writer.drain()
            writer.transport.abort()
            return
        writer.write(answer)
        await writer.drain()

    def _draw(self) -> str | None:
        if self._chance.random() >= self.rate:
            return None
        fault = self._chance.choice(FAULTS)
        self.faults[fault] += 1
        return fault

    async def _again(self, request: bytes, after_s: float) -> None:
        await asyncio.sleep(after_s)
        with contextlib.suppress(OSError):
            await self._ask(request)

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._target)
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read(-1)
        finally:
            writer.close()

    async def _tunnel(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward_reader, onward = await asyncio.open_connection(*self._target)
        onward.write(head)
        ways = [
            asyncio.create_task(_pump(reader, onward)),
            asyncio.create_task(_pump(onward_reader, writer)),
        ]
        ends = self._chance.random() < self.rate
        try:
            await asyncio.wait(
                ways,
                return_when=asyncio.FIRST_COMPLETED,
                timeout=self._chance.uniform(0.1, 5.0) if ends else None,
            )
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            onward.transport.abort()
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _closing(head: bytes) -> bytes:
    """Return the head of a request after which the connection ends, so that an answer ends with it."""
    lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"connection: close", b"", b""])
