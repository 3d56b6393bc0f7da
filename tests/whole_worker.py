"""A whole worker in this process, against a control plane in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import anyio

from worker.blame import Board
from worker.runtime import Agent, Context, Environment, Registry, Toolbox
from worker.service import Identity, Worker
from worker.testing import FakeControlPlane
from worker.testing.playing import Push


class ExitedNow(BaseException):
    """The worker ended its process."""


def exit_now(code: int) -> NoReturn:
    raise ExitedNow(code)


class Gate:
    """Agents that wait until they are let go."""

    def __init__(self) -> None:
        self.opened = anyio.Event()
        self.entered = anyio.Event()

    async def play(self, ctx: Context, value: Any) -> Any:
        self.entered.set()
        await self.opened.wait()
        return value


async def echo(ctx: Context, value: Any) -> Any:
    return value


async def boom(ctx: Context, value: Any) -> Any:
    raise SystemExit(value)


class Working:
    """A worker at work and the exit code it ended with."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.ended = anyio.Event()
        self.code: int | None = None


@asynccontextmanager
async def working(control: FakeControlPlane, *agents: Agent, **options: Any) -> AsyncIterator[Working]:
    registry = Registry([Agent("echo", "", echo), Agent("boom", "", boom), *agents])
    board = Board(10)
    environment = Environment(
        registry, board=board, model=options.pop("model", None), tools=options.pop("tools", Toolbox())
    )
    options = {"grace_s": 5.0, "exit_now": exit_now, **options}
    at = Working(
        Worker(
            control,
            Identity("w", concurrency=10),
            environment,
            subscribe=lambda session, deliver: Push(control, session, deliver),
            draw=lambda: 0.01,
            **options,
        )
    )

    async def work() -> None:
        at.code = await at.worker.run()
        at.ended.set()

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            yield at
            tasks.cancel_scope.cancel()
    board.close()
