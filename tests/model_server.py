"""A loopback HTTP server for tests that sends exactly the bytes it is told to, when it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

Handler = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request and the means to answer it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    chunked: bool = False

    async def start(
        self,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        chunked: bool = True,
        content_type: str = "text/event-stream",
    ) -> None:
        """Send the status and headers; without `chunked` only closing ends the body."""
        self.chunked = chunked
        fields = {"content-type": content_type, **(headers or {})}
        fields.setdefault("transfer-encoding" if chunked else "connection", "chunked" if chunked else "close")
        reason = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Other"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in fields.items())]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send a piece of the body in a write of its own."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data)
        await self.writer.drain()

    async def end(self) -> None:
        """End the body in order."""
        if self.chunked:
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()

    async def client_gone(self) -> None:
        """Return once the client has closed the connection."""
        while await self.reader.read(65536):
            pass


@dataclass
class ModelServer:
    """What the server has seen."""

    base_url: str
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    open: int = 0


@asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[ModelServer]:
    """Serve `handler` on a free port; a connection serves further requests as long as bodies are chunked."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open += 1
        tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while (exchange := await _request(reader, writer)) is not None:
                server.requests.append(exchange)
                await handler(exchange)
                if not exchange.chunked:
                    break
        except ConnectionError:
            pass  # the client left: what most of these tests are about
        except asyncio.CancelledError:
            pass  # the test is over
        finally:
            server.open -= 1
            writer.transport.abort() if writer.transport.get_write_buffer_size() else writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, backlog=1024, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = ModelServer(f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/v1")
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head[0].split(" ", 2)
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(method, path, headers, body, reader, writer)
