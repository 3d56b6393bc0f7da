"""How a connection sends: what is written for a request goes out in one piece."""

from __future__ import annotations

import asyncio

import anyio
import httpcore
import pytest

from worker.http.sockets import SEND_BYTES, Socket

pytestmark = pytest.mark.anyio


class Wire(asyncio.Transport):
    """Keeps what it is given to send, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))

    def abort(self) -> None:
        pass


def connected() -> tuple[Socket, Wire]:
    socket, wire = Socket(), Wire()
    socket.connection_made(wire)
    return socket, wire


async def test_the_head_and_the_body_of_a_request_are_sent_together_when_the_answer_is_awaited() -> None:
    socket, wire = connected()
    await socket.write(b"POST / HTTP/1.1\r\n\r\n")
    await socket.write(b"body")
    assert wire.sent == []
    async with anyio.create_task_group() as group:
        group.start_soon(socket.read, 1)
        await anyio.wait_all_tasks_blocked()
        assert wire.sent == [b"POST / HTTP/1.1\r\n\r\nbody"]
        socket.data_received(b"answer")
    await socket.write(b"next")
    socket.data_received(b"x")
    assert await socket.read(1) == b"x"
    assert wire.sent[1:] == [b"next"]


@pytest.mark.parametrize(("size", "at_once"), [(SEND_BYTES, True), (SEND_BYTES - 1, False)])
async def test_a_large_body_is_not_held(size: int, at_once: bool) -> None:
    socket, wire = connected()
    await socket.write(b"x" * size)
    assert bool(wire.sent) is at_once


async def test_a_connection_that_is_lost_before_it_is_read_sends_nothing_and_says_why() -> None:
    socket, wire = connected()
    await socket.write(b"request")
    socket.connection_lost(ConnectionResetError("reset by peer"))
    with pytest.raises(httpcore.ReadError, match="reset by peer"):
        await socket.read(1)
    assert wire.sent == []
    with pytest.raises(httpcore.WriteError):
        await socket.write(b"again")
