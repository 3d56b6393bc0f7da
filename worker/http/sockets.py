"""Gives httpcore its bytes straight from asyncio.

httpcore's own asyncio backend wraps each read in cancel scopes and checkpoints; for 200 streams that is half
of the client's CPU (figures in transport.py). Here a read is one future, and a connection can be closed
without awaiting, so a cancelled task cannot leak it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore

HIGH_WATER_BYTES = 256 * 1024  # the kernel holds the rest, and the provider waits
SEND_BYTES = 64 * 1024  # so much is sent without waiting for the rest of the request
FALLBACK_S = 0.25  # as RFC 8305: then the next address is tried beside the first


class Socket(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. Reads and writes have no limits of their own: the caller's cancel scope bounds them.

    httpcore writes a request's head and its body apart and then reads. What it writes is held until then, so
    that both go out at once: one system call, and one wake-up of the server, in place of two.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._paused = False
        self._ended = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self.connect_by = float("inf")  # on the loop's clock; TLS shares the time limit of TCP

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # create_connection makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep what came and wake the reader."""
        self._parts.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= HIGH_WATER_BYTES and self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Let the transport close: after the end of the answer there is nothing left to send."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note why, and wake the reader."""
        self._ended = True
        self._error = exc
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - see the class
        """Return all that has come, waiting for the first byte; empty at the end.

        This can be more than `max_bytes`: splitting it again would only cost time.
        """
        self._send()
        if not self._parts and not self._ended:
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if not self._parts:
            if self._error is not None:
                raise httpcore.ReadError(_why(self._error))
            return b""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._held_bytes = 0
        if self._paused and self._transport is not None and not self._ended:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - see the class
        """Send `buffer`, which is in memory already, with the next read at the latest.

        Nobody waits for the peer to take it.
        """
        if self._transport is None or self._ended:
            raise httpcore.WriteError("The connection is closed")
        self._unsent.append(buffer)
        self._unsent_bytes += len(buffer)
        if self._unsent_bytes >= SEND_BYTES:
            self._send()

    def _send(self) -> None:
        if not self._unsent:
            return
        data = self._unsent[0] if len(self._unsent) == 1 else b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_bytes = 0
        if self._transport is not None and not self._ended:  # else the read finds why
            self._transport.write(data)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - what `connect_by` leaves
    ) -> Socket:
        """Encrypt the connection."""
        loop = asyncio.get_running_loop()
        assert self._transport is not None  # a connected socket has one
        try:
            with anyio.fail_after(self.connect_by - loop.time()):
                transport = await loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError:
            self.abort()
            raise httpcore.ConnectTimeout("TLS was not established in time") from None
        except OSError as error:  # TLS errors are among these
            self.abort()
            raise httpcore.ConnectError(_why(error)) from error
        except BaseException:
            self.abort()
            raise
        assert transport is not None  # a connection lost in between raises
        self._transport = transport
        return self

    async def aclose(self) -> None:
        """Close at once."""
        self.abort()

    def abort(self) -> None:
        """Close at once, from anywhere."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - as httpcore declares it
        """Return what httpcore asks: whether the peer closed an idle connection, and the TLS object."""
        if info == "is_readable":
            return bool(self._parts) or self._ended
        return None if self._transport is None else self._transport.get_extra_info(info)


class SocketBackend(httpcore.AsyncNetworkBackend):
    """Connects once: each connection has a backend of its own, so that its socket can be found and closed."""

    def __init__(self) -> None:
        self.socket: Socket | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - never given
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - never given
    ) -> Socket:
        """Return a connection to `host`, trying its addresses side by side."""
        loop = asyncio.get_running_loop()
        connect_by = float("inf") if timeout is None else loop.time() + timeout
        try:
            with anyio.fail_after(timeout):
                _, socket = await loop.create_connection(Socket, host, port, happy_eyeballs_delay=FALLBACK_S)
        except TimeoutError:
            raise httpcore.ConnectTimeout("TCP did not connect in time") from None
        except OSError as error:
            raise httpcore.ConnectError(_why(error)) from error
        socket.connect_by = connect_by
        self.socket = socket
        return socket

    def abort(self) -> None:
        """Close the connection, if there is one."""
        if self.socket is not None:
            self.socket.abort()


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
