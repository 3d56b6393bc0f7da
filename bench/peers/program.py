"""What a peer's Python programs share: a worker and a producer that tell `bench.peers.rounds` in JSON.

    python -m bench.peers.on_NAME install|work|latency|waiting|live DATABASE_URL

It runs in the peers' own environment, so nothing here imports anything but the standard library.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

CONCURRENCY = 50
TASKS = 5_000
SAMPLES = 400
PAUSE_S = 0.05
PAGE = 500  # tasks a call when nobody watches the clock
LIVE_PAGE = 50
WARM_UP = 20
LOOK_S = 0.02  # between two looks for whether all have ended; so exact is a throughput


class Producer(Protocol):
    """Submits no-ops and sees when they have ended."""

    async def submit(self, starts: list[int]) -> None:
        """Submit a no-op for each of these, durably, in one call if the peer can."""

    async def unfinished(self) -> bool:
        """Return whether any submitted task has not ended, by what the database says."""


@dataclass
class Began:
    """What the handlers of a worker saw. A no-op is given the instant of its submit call, or 0."""

    first: int = 0
    waits: list[float] = field(default_factory=list)

    def __call__(self, start: int) -> None:
        """Note that a handler has begun."""
        now = time.monotonic_ns()
        self.first = self.first or now
        if start:
            self.waits.append((now - start) / 1e6)


@dataclass(frozen=True)
class Peer:
    """A task queue as its documentation would have it used, on one PostgreSQL database.

    Attributes:
        install: Creates its tables.
        work: Runs a worker with `CONCURRENCY` slots until the event is set.
        producer: Opens what submits.
    """

    install: Callable[[str], Awaitable[None]]
    work: Callable[[str, Began, asyncio.Event], Awaitable[None]]
    producer: Callable[[str], AbstractAsyncContextManager[Producer]]


def say(fact: dict[str, Any]) -> None:
    """Print one line of JSON."""
    print(json.dumps(fact), flush=True)


async def _all_ended(producer: Producer) -> None:
    while await producer.unfinished():
        await asyncio.sleep(LOOK_S)


async def _warm_up(producer: Producer) -> None:
    await producer.submit([0] * WARM_UP)
    await _all_ended(producer)


async def latency(producer: Producer) -> None:
    """Submit one no-op every 50 ms; the worker knows how long each took to its handler."""
    await _warm_up(producer)
    for _ in range(SAMPLES):
        start = time.monotonic_ns()
        await producer.submit([start])
        await asyncio.sleep(max(0.0, PAUSE_S - (time.monotonic_ns() - start) / 1e9))
    await _all_ended(producer)
    say({"ended": time.monotonic_ns()})


async def waiting(producer: Producer) -> None:
    """Submit all, say so, and say when a worker that is started then has ended the last."""
    for _ in range(0, TASKS, PAGE):
        await producer.submit([0] * PAGE)
    say({"submitted": TASKS})
    await _all_ended(producer)
    say({"ended": time.monotonic_ns()})


async def live(producer: Producer) -> None:
    """Submit all while the worker works, and say how long it took until the last had ended."""
    await _warm_up(producer)
    start = time.monotonic_ns()
    for _ in range(0, TASKS, LIVE_PAGE):
        await producer.submit([0] * LIVE_PAGE)
    await _all_ended(producer)
    say({"seconds": (time.monotonic_ns() - start) / 1e9})


async def _work(peer: Peer, database: str) -> None:
    began, stopping = Began(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await peer.work(database, began, stopping)
    say({"first": began.first, "waits": began.waits})


async def _run(peer: Peer, what: str, database: str) -> None:
    if what == "install":
        await peer.install(database)
    elif what == "work":
        await _work(peer, database)
    else:
        async with peer.producer(database) as producer:
            await {"latency": latency, "waiting": waiting, "live": live}[what](producer)


def main(peer: Peer, run: Callable[[Any], object] = asyncio.run) -> None:
    """Do what the command line says.

    Args:
        peer: The task queue.
        run: How its own command starts an event loop.
    """
    _, what, database = sys.argv
    run(_run(peer, what, database))
