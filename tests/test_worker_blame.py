"""The note of which run a process executes: right for every way a coroutine goes, there after a crash."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest

from worker.blame import Board, blamed, marked


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board(3)
    yield made
    made.close()


async def test_the_slot_is_noted_exactly_while_the_code_runs(board: Board) -> None:
    seen: list[int] = []

    async def work() -> str:
        seen.append(board.cell[0])
        await anyio.lowlevel.checkpoint()
        seen.append(board.cell[0])
        return "value"

    async def watch() -> None:
        seen.append(board.cell[0])

    async def drive() -> None:
        assert await marked(work(), board.cell, 2) == "value"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive)
        tasks.start_soon(watch)
    assert seen == [2, 0, 2]
    assert board.cell[0] == 0


async def test_exceptions_pass_in_and_out(board: Board) -> None:
    async def work() -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, KeyError("in"))
        try:
            await future
        except KeyError as error:
            assert board.cell[0] == 1
            raise ValueError("out") from error

    with pytest.raises(ValueError, match="out") as caught:
        await marked(work(), board.cell, 1)
    assert isinstance(caught.value.__cause__, KeyError)
    assert board.cell[0] == 0


async def test_cancellation_reaches_the_code_and_its_clean_up(board: Board) -> None:
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cleaned.append(board.cell[0])
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            cleaned.append(board.cell[0])

    with anyio.move_on_after(0.01) as scope:
        await marked(work(), board.cell, 3)
    assert scope.cancelled_caught
    assert cleaned == [3, 3]


def test_closing_runs_the_clean_up_under_the_mark(board: Board) -> None:
    cleaned: list[int] = []

    async def work() -> None:
        try:
            await asyncio.Future()
        finally:
            cleaned.append(board.cell[0])

    async def outer() -> None:
        await marked(work(), board.cell, 1)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        coroutine = outer()
        coroutine.send(None)
        coroutine.close()
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    assert cleaned == [1]
    assert board.cell[0] == 0


def test_a_reader_of_the_memory_finds_the_run(board: Board) -> None:
    first, second = board.take("run-a"), board.take("run-b" * 10)
    assert blamed(board.fd) is None
    board.cell[0] = first
    assert blamed(board.fd) == "run-a"
    board.cell[0] = second
    assert blamed(board.fd) == "run-b" * 10
    board.cell[0] = 99
    assert blamed(board.fd) is None


def test_slots_are_bounded_and_come_back(board: Board) -> None:
    slots = [board.take(f"run{n}") for n in range(3)]
    assert sorted(slots) == [1, 2, 3]
    assert board.take("one more") == 0
    board.give_back(slots[1])
    assert board.take("again") == slots[1]
    board.give_back(0)
    assert board.take("x" * 64) == 0  # a name that does not fit


CRASH = """
import asyncio, os, subprocess, sys
from worker.blame import Board, marked

READER = "import sys; from worker.blame import blamed; sys.stdin.read(); print(blamed(int(sys.argv[1])))"
board = Board(2)
subprocess.Popen([sys.executable, "-c", READER, str(board.fd)], stdin=subprocess.PIPE, pass_fds=[board.fd])

async def calm():
    await asyncio.sleep(60)

async def crash():
    await asyncio.sleep(0)
    os._exit(7)

async def step(work, slot):
    await marked(work, board.cell, slot)

async def main():
    tasks = [asyncio.ensure_future(step(calm(), board.take("calm-run")))]
    tasks.append(asyncio.ensure_future(step(crash(), board.take("crashing-run"))))
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_a_process_that_exits_in_mid_step_leaves_its_runs_name_to_another() -> None:
    # The reader holds the output open until its writer is gone and it has said what it found.
    child = subprocess.run(
        [sys.executable, "-c", CRASH], stdout=subprocess.PIPE, timeout=15, check=False, text=True
    )
    assert (child.returncode, child.stdout.strip()) == (7, "crashing-run")


def test_the_memory_goes_with_its_board() -> None:
    board = Board(1)
    fd = board.fd
    board.close()
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)
