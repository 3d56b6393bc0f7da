"""Connects only to addresses that were checked: a name is resolved once, and the result is what is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from typing import Any

import httpcore

from worker.http.sockets import Socket, SocketBackend
from worker.tools.addresses import Address, AddressRefusedError, Reach, flaw_of

Resolve = Callable[[str, int], Awaitable[list[str]]]
MAX_ADDRESSES = 4  # that are tried one after another
_SHARE = 0.5  # of the time that is left, for every address but the last


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name, as the system orders them.

    Raises:
        OSError: It has none, or nobody can tell.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def checked(host: str, port: int, reach: Reach, resolve: Resolve = resolve) -> list[Address]:
    """Return the addresses of a host, each of which may be called.

    Raises:
        AddressRefusedError: One of them may not be called: only hostile names mix such with public ones.
        OSError: The name has no address.
    """
    try:
        found = [ip_address(host)]
    except ValueError:
        found = [ip_address(text) for text in await resolve(host, port)]
    for address in found:
        if (what := flaw_of(address, reach.networks)) is not None:
            raise AddressRefusedError(f"{host[:80]} is at {address}, which is {what}.")
    if not found:
        raise OSError(f"{host[:80]} has no address")
    return list(dict.fromkeys(found))[:MAX_ADDRESSES]


class CheckedBackend(SocketBackend):
    """Connects as its base does, to addresses that were checked just before; TLS goes on to know the name."""

    def __init__(self, reach: Reach, resolve: Resolve = resolve) -> None:
        super().__init__()
        self._reach = reach
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> Socket:
        """Return a connection to the first address of `host` that answers."""
        clock = asyncio.get_running_loop().time
        end = None if timeout is None else clock() + timeout
        try:
            async with asyncio.timeout(timeout):
                addresses = await checked(host, port, self._reach, self._resolve)
        except TimeoutError:
            raise httpcore.ConnectTimeout("The name was not resolved in time") from None
        except OSError as error:
            raise httpcore.ConnectError(str(error) or type(error).__name__) from error
        for address in addresses[:-1]:
            share = None if end is None else max(0.0, end - clock()) * _SHARE
            try:
                return await super().connect_tcp(str(address), port, share, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        left = None if end is None else max(0.0, end - clock())
        return await super().connect_tcp(str(addresses[-1]), port, left, local_address, socket_options)
