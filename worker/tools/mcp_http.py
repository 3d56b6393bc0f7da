"""Carries MCP over HTTP: httpx2, which the MCP library uses, over connections to checked addresses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import httpcore2
import httpx2

from worker.tools.addresses import AddressRefusedError, Reach, check_url
from worker.tools.network import Resolve, checked

CONNECT_S = 15.0
READ_S = 300.0  # a stream may say nothing for long; a call has its own limit


class _Backend(httpcore2.AnyIOBackend):
    """Connects to addresses that were checked just before; TLS goes on to know the name."""

    def __init__(self, reach: Reach, resolve: Resolve) -> None:
        self._reach = reach
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            addresses = await checked(host, port, self._reach, self._resolve)
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        for address in addresses[:-1]:
            try:
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await super().connect_tcp(str(addresses[-1]), port, timeout, local_address, socket_options)


class CheckedTransport(httpx2.AsyncHTTPTransport):
    """Checks each URL and each address, if there is a `reach`, and bounds what an answer holds."""

    def __init__(self, reach: Reach | None, resolve: Resolve, max_bytes: int) -> None:
        super().__init__(trust_env=False)
        self._reach = reach
        self._max_bytes = max_bytes
        if reach is not None:
            self._pool = httpcore2.AsyncConnectionPool(
                ssl_context=httpx2.create_ssl_context(trust_env=False),
                network_backend=_Backend(reach, resolve),
            )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, once its URL has been checked."""
        if self._reach is not None:
            try:
                check_url(str(request.url), self._reach)
            except AddressRefusedError as error:
                raise httpx2.UnsupportedProtocol(str(error)) from error
        try:
            response = await super().handle_async_request(request)
        except AddressRefusedError as error:
            raise httpx2.ConnectError(str(error)) from error
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Bounded(response.stream, self._max_bytes)  # events have a bound of their own
        return response


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, max_bytes: int) -> None:
        self._stream = stream
        self._max_bytes = max_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for part in self._stream:
            size += len(part)
            if size > self._max_bytes:
                raise httpx2.StreamError(f"an answer of more than {self._max_bytes} bytes")
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def checked_client(
    reach: Reach | None, resolve: Resolve, headers: Mapping[str, str], max_bytes: int
) -> httpx2.AsyncClient:
    """Return a client for one server; nothing of it comes from the environment."""
    return httpx2.AsyncClient(
        transport=CheckedTransport(reach, resolve, max_bytes),
        headers={"accept-encoding": "identity", **headers},
        timeout=httpx2.Timeout(CONNECT_S, read=READ_S),
        trust_env=False,
        follow_redirects=False,
    )
