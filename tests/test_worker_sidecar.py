"""The sidecar: it outlives its worker just long enough to say which run took it down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.watched_processes import gone
from worker.sidecar import Gone, Left, watch_parent

KEY = "sbw_" + "k" * 43

WORKER = """
import sys, os
import anyio
from pydantic import SecretStr
from worker.blame import Board, marked
from worker.wake import Wake

async def crash(how):
    await anyio.sleep(0.05)
    if how == "exit":
        os._exit(3)
    await anyio.sleep_forever()

async def main(url, how):
    board = Board(4)
    wake = Wake(url=url, key=SecretStr(sys.stdin.readline().strip()), session="session-1", board=board,
                deliver=lambda inbox: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wake.run)
        while wake.process_id is None:
            await anyio.sleep(0.01)
        await anyio.sleep(0.5)  # for the sidecar to read its first line
        print(wake.process_id, flush=True)
        if how == "leave":
            tasks.cancel_scope.cancel()
        slot = board.take("run-7")
        with anyio.move_on_after(30):
            await marked(crash(how), board.cell, slot)

anyio.run(main, *sys.argv[1:])
"""


class Backend:
    """Answers HTTP calls with success, except those that are to fail first, and keeps them."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.failures = 0
        self.asked = asyncio.Event()
        self.knocked = asyncio.Event()  # somebody wants to subscribe
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if not head.startswith("POST /api/mutation"):
                self.knocked.set()
                writer.close()  # the subscription's WebSocket: it will try again
                return
            length = int(
                next(h for h in head.lower().split("\r\n") if h.startswith("content-length")).split(":")[1]
            )
            body = json.loads(await reader.readexactly(length))
            if self.failures:
                self.failures -= 1
                writer.close()
                return
            self.calls.append(body)
            answer = b'{"status":"success","value":null,"logLines":[]}'
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (len(answer), answer)
            )
            await writer.drain()
            self.asked.set()
        writer.close()


@asynccontextmanager
async def backend() -> AsyncIterator[Backend]:
    made = Backend()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        with anyio.fail_after(18):
            yield made
    finally:
        server.close()


@asynccontextmanager
async def worker(url: str, how: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A worker's process, and the id of its sidecar."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WORKER, url, how, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(f"{KEY}\n".encode())
        await process.stdin.drain()
        yield process, int(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_run_that_ends_its_process_is_blamed() -> None:
    async with backend() as control, worker(control.url, "exit") as (process, sidecar):
        await control.asked.wait()
        assert await process.wait() == 3
        await gone(sidecar)
        assert [call["path"] for call in control.calls] == ["worker:crashed"]
        assert control.calls[0]["args"] == {"key": KEY, "session": "session-1", "blamed": "run-7"}


async def test_a_worker_that_is_killed_while_it_waits_blames_nobody() -> None:
    async with backend() as control, worker(control.url, "wait") as (process, sidecar):
        control.failures = 1  # the report is repeated
        await anyio.sleep(0.5)  # it has told of itself before its run begins, and executes it until it waits
        process.send_signal(signal.SIGKILL)
        await control.asked.wait()
        await gone(sidecar)
        assert [call["args"]["blamed"] for call in control.calls] == [None]


async def test_a_death_is_reported_while_the_subscription_hangs() -> None:
    async with backend() as control, worker(control.url, "wait") as (process, sidecar):
        (listener,) = children(sidecar)
        await control.knocked.wait()  # the client tries on and on, in one call that holds the listener's lock
        process.send_signal(signal.SIGKILL)
        await control.asked.wait()
        await gone(sidecar)
        await gone(listener)


async def test_a_sidecar_ends_with_its_listener() -> None:
    async with backend() as control, worker(control.url, "wait") as (_, sidecar):
        os.kill(children(sidecar)[0], signal.SIGKILL)
        await gone(sidecar)
    assert control.calls == []  # its worker lives, and starts another


async def test_a_worker_that_leaves_in_order_is_not_reported() -> None:
    async with backend() as control, worker(control.url, "leave") as (process, sidecar):
        assert await process.wait() == 0
        await gone(sidecar)
        assert control.calls == []


async def test_the_key_is_in_no_process_list() -> None:
    async with backend() as control, worker(control.url, "wait") as (_, sidecar):
        with open(f"/proc/{sidecar}/cmdline", "rb") as arguments:  # noqa: ASYNC230, PTH123
            assert KEY.encode() not in arguments.read()
        with open(f"/proc/{sidecar}/environ", "rb") as environment:  # noqa: ASYNC230, PTH123
            assert KEY.encode() not in environment.read()


async def test_signals_for_the_whole_terminal_leave_the_sidecar_alone() -> None:
    async with backend() as control, worker(control.url, "wait") as (process, sidecar):
        os.kill(sidecar, signal.SIGINT)
        os.kill(sidecar, signal.SIGTERM)
        process.send_signal(signal.SIGKILL)
        await control.asked.wait()
        await gone(sidecar)


@pytest.mark.parametrize(("said", "end"), [(b"", Gone), (b'{"op":"leave"}\n', Left)])
async def test_the_parents_last_word_decides(said: bytes, end: type[Exception]) -> None:
    source = asyncio.StreamReader()
    source.feed_data(said)
    source.feed_eof()
    with pytest.raises(end):
        await watch_parent(source)
