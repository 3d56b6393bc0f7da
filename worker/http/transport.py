"""The transport under the model client and under every call to Convex.

httpx's shared pool does work that grows with the square of the open streams, so here each stream has a
connection of its own, and finding an idle one is a pop from a list. Measured with 200 concurrent streams of
50 chunks, 20 ms apart (ideal 1.0 s), a warm client on 2 cores shared with the server; wall and client CPU in
seconds:

                                       wall   CPU
    httpx, keep-alive 1,000            6.2    5.7
    httpx, its defaults                2.4    1.4
    httpx, no keep-alive               1.19   0.87
    httpx, a client for each stream    1.20   0.87
    an httpcore connection for each    1.13   0.76
    the same on our sockets            1.11   0.47    this module
    h11 on our sockets                 1.08   0.42
    bare sockets, nothing parsed       1.07   0.12

httpcore stays because it keeps httpx's responses, keep-alive and respx for a twentieth of a second. With
deadlines, decoding and joining on top (`worker.llm`) it is 1.15 and 0.75; 500 such streams take 1.3 and 1.3.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import httpcore
import httpx

from worker.http.sockets import SocketBackend

KEEPALIVE_S = 15.0  # shorter than any provider's own limit, so that a reused connection is seldom a dead one
MAX_IDLE = 100  # enough for a burst of next turns; more would only hold file descriptors


class StreamTransport(httpx.AsyncBaseTransport):
    """Connections to one origin, one stream on each at a time.

    Closing a response frees its connection without awaiting anything that a cancellation could interrupt. The
    number of connections is the caller's affair.
    """

    def __init__(self, url: httpx.URL) -> None:
        self._origin = httpcore.Origin(
            url.raw_scheme, url.raw_host, url.port or (443 if url.scheme == "https" else 80)
        )
        self._ssl_context: ssl.SSLContext | None = None
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    @property
    def open_connections(self) -> int:
        """How many connections are busy or kept alive."""
        return len(self._busy) + len(self._idle)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and return its response as soon as the headers have come."""
        connection = self._take()
        try:
            response = await connection.http.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        except BaseException as error:
            self.give_back(connection)
            if (translated := _translated(error)) is not None:
                raise translated from error
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, connection, self),
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close every connection; streams still open end with an error."""
        for connection in (*self._idle, *self._busy):
            connection.backend.abort()
        self._idle.clear()
        self._busy.clear()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection whose answer was read to its end; close any other."""
        if connection not in self._busy:
            return
        self._busy.remove(connection)
        if connection.http.is_idle() and len(self._idle) < MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.backend.abort()

    def _take(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()  # the one used last: the others may grow old and go
            if not connection.http.has_expired():
                break
            connection.backend.abort()
        else:
            connection = _Connection(self._origin, self._tls())
        self._busy.add(connection)
        return connection

    def _tls(self) -> ssl.SSLContext | None:
        if self._origin.scheme == b"https" and self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()  # reads the certificates from disk, so once
        return self._ssl_context


class _Connection:
    __slots__ = ("backend", "http")

    def __init__(self, origin: httpcore.Origin, ssl_context: ssl.SSLContext | None) -> None:
        self.backend = SocketBackend()
        self.http = httpcore.AsyncHTTPConnection(
            origin, ssl_context=ssl_context, keepalive_expiry=KEEPALIVE_S, network_backend=self.backend
        )


class _Body(httpx.AsyncByteStream):
    def __init__(
        self, response: httpcore.Response, connection: _Connection, transport: StreamTransport
    ) -> None:
        self._response = response
        self._connection = connection
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._response.aiter_stream():
                yield part
        except Exception as error:
            if (translated := _translated(error)) is not None:
                raise translated from error
            raise

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        finally:
            self._transport.give_back(self._connection)


def _translated(error: BaseException) -> httpx.TransportError | None:
    """Return httpx's error of the same name for httpcore's."""
    named = getattr(httpx, type(error).__name__, None)
    if not type(error).__module__.startswith("httpcore") or not isinstance(named, type):
        return None
    return named(str(error)) if issubclass(named, httpx.TransportError) else None
