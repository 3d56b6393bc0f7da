"""What stands in place of the host: a TCP proxy that fails on purpose, one fault at a time, or nobody."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

Mode = Literal["pass", "hang", "refuse", "swallow"]


class FaultProxy:
    """Listens on a free port and passes connections on to `target`, or does not.

    `pass`     bytes go both ways.
    `hang`     connections are accepted and nothing is ever answered; open connections freeze too.
    `refuse`   connections are closed at once; open ones break.
    `swallow`  requests reach the target; their answers are thrown away and the connection closed.

    Attributes:
        url: Where it listens.
        mode: The fault; set it at any time.
        accepted: Connections so far.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None and parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._mode: Mode = "pass"
        self._flowing = asyncio.Event()  # cleared while it hangs
        self._flowing.set()
        self._open: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.accepted = 0

    @property
    def mode(self) -> Mode:
        """The present fault."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode == "hang":
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode == "refuse":
            for writer in self._open:
                writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
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
        for writer in self._open:
            writer.transport.abort()
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._open.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # either side went away, or the test is over
        finally:
            self._tasks.discard(task)
            self._open.discard(writer)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._mode == "refuse":
            return
        onward_reader, onward = await asyncio.open_connection(*self._target)
        self._open.add(onward)
        try:
            there = asyncio.create_task(self._pump(reader, onward, answers=False))
            back = asyncio.create_task(self._pump(onward_reader, writer, answers=True))
            try:
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (there, back):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                        await task
        finally:
            self._open.discard(onward)
            onward.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            if self._mode == "refuse" or (self._mode == "swallow" and answers):
                return
            writer.write(data)
            await writer.drain()


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    """Yield an address that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
