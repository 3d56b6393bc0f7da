"""What runs do to the sockets of their provider: closed when a run ends early, and never used up."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import httpx
import pytest

from tests.model_server import Exchange, Handler, ModelServer, serving
from tests.whole_worker import exit_now
from worker.blame import Board
from worker.http import StreamTransport
from worker.llm import ChatClient
from worker.models import LlmSpec
from worker.router import Router
from worker.runtime import Environment, ModelCaller, Registry, Sole
from worker.runtime.model import Prompt, Tally
from worker.runtime.stream import Label, StreamWriter
from worker.service import Identity, Worker
from worker.testing import FakeControlPlane, FakeTask
from worker.testing.playing import Push

CLOSED_S = 1.0  # how soon a socket is closed once its run is to end
CANCELS = 30
DELTAS = 10_000
GROWTH_BYTES = 1024 * 1024  # for 8,000 of them: the text itself, and no more than 100 bytes for each piece
SPEC = LlmSpec(model="m", prompt="", temperature=None, max_output_tokens=None)


def piece(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


class Provider:
    """Streams without end, until it is told to answer."""

    def __init__(self) -> None:
        self.answers = False
        self.closed_at: list[float] = []

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.start()
        await exchange.send(piece("word "))
        if self.answers:
            await exchange.send(piece("", "stop") + b"data: [DONE]\n\n")
            await exchange.end()
            return
        await exchange.client_gone()
        self.closed_at.append(anyio.current_time())


@dataclass
class Stage:
    control: FakeControlPlane
    server: ModelServer
    transport: StreamTransport
    lag_s: float = 0.0  # the longest time in which this machine ran nothing of us

    def ask(self, **options: float) -> FakeTask:
        return self.control.submit("llm", "go", llm=SPEC, max_attempts=1, **options)

    async def streaming(self, requests: int) -> None:
        """Wait until so many runs have shown text."""
        while sum(bool(run.chunks) for run in self.control.runs.values()) < requests:
            await anyio.sleep(0.005)

    async def watch(self) -> None:
        while True:
            before = anyio.current_time()
            await anyio.sleep(0.01)
            self.lag_s = max(self.lag_s, anyio.current_time() - before - 0.01)


@asynccontextmanager
async def staged(handler: Handler) -> AsyncIterator[Stage]:
    """Run a worker in this process whose model is `handler`."""
    control, board = FakeControlPlane(next_sync_ms=20), Board(CANCELS)
    async with serving(handler) as server:
        transport = StreamTransport(httpx.URL(server.base_url))
        async with ChatClient(server.base_url, None, CANCELS, transport=transport) as client:
            worker = Worker(
                control,
                Identity("w", concurrency=CANCELS),
                Environment(Registry([]), model=ModelCaller(Router(Sole(client))), board=board),
                subscribe=lambda session, deliver: Push(control, session, deliver),
                draw=lambda: 0.01,
                exit_now=exit_now,
            )
            stage = Stage(control, server, transport)
            with anyio.fail_after(15):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(worker.run)
                    tasks.start_soon(stage.watch)
                    yield stage
                    tasks.cancel_scope.cancel()
            board.close()


@pytest.mark.parametrize("why", ["cancel", "lost lease", "deadline"])
async def test_a_run_that_must_end_closes_its_socket_within_a_second(why: str) -> None:
    provider = Provider()
    async with staged(provider) as stage:
        begun = anyio.current_time()
        task = stage.ask(**({"timeout_ms": 300.0} if why == "deadline" else {}))
        await stage.streaming(1)
        told_at = anyio.current_time()
        if why == "cancel":
            stage.control.cancel(task)
        elif why == "lost lease":
            stage.control.expire(stage.control.session_of("w"))
        else:
            told_at = begun + 0.3
        while not provider.closed_at:
            await anyio.sleep(0.005)
        await stage.control.finished()
        assert provider.closed_at[0] - told_at < CLOSED_S + stage.lag_s


async def test_30_cancels_leave_the_connections_to_others() -> None:
    provider = Provider()
    async with staged(provider) as stage:
        tasks = [stage.ask() for _ in range(CANCELS)]
        await stage.streaming(CANCELS)
        assert stage.transport.open_connections == CANCELS
        for task in tasks:
            stage.control.cancel(task)
        await stage.control.finished()
        assert {task.status for task in tasks} == {"cancelled"}
        assert stage.transport.open_connections == 0
        provider.answers = True
        again = [stage.ask() for _ in range(CANCELS)]
        await stage.control.finished()
        assert {task.status for task in again} == {"succeeded"}


async def test_a_long_answer_holds_memory_flat() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        for _ in range(DELTAS // 100):
            await exchange.send(piece(" word") * 100)
        await exchange.send(piece("", "stop") + b"data: [DONE]\n\n")
        await exchange.end()

    shown, traced = 0, []

    def emit(label: Label, text: str) -> None:
        nonlocal shown
        before, shown = shown, shown + len(text)
        if before < 5 * DELTAS // 5 <= shown:
            traced.append(tracemalloc.get_traced_memory()[0])

    async with serving(handler) as server, ChatClient(server.base_url) as client:
        writer = StreamWriter(emit, asyncio.get_running_loop().call_later)
        caller = ModelCaller(Router(Sole(client)))
        tracemalloc.start()
        try:
            prompt = Prompt(messages=[{"role": "user", "content": "go"}], model="m")
            answer = await caller.answer(prompt, writer, Tally())
            traced.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert shown == len(answer.completion.text) == 5 * DELTAS
    after_a_fifth, most = traced
    assert most - after_a_fifth < GROWTH_BYTES
