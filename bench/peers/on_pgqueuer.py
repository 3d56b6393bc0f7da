"""PgQueuer: asyncpg and uvloop as its own command has them, durable tables, finished jobs in its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg  # type: ignore[import-not-found]
import uvloop  # type: ignore[import-not-found]
from pgqueuer import PgQueuer  # type: ignore[import-not-found]
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]
from pgqueuer.models import Job  # type: ignore[import-not-found]
from pgqueuer.queries import Queries  # type: ignore[import-not-found]

from bench.peers import program

BATCH = program.CONCURRENCY // 2  # the largest that it takes with a bound on what runs at once


class Producer:
    """Enqueues jobs in batches."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._queries = Queries(AsyncpgDriver(connection))

    async def submit(self, starts: list[int]) -> None:
        """Enqueue a job for each."""
        payloads = [str(start).encode() for start in starts]
        await self._queries.enqueue(["noop"] * len(starts), payloads, [0] * len(starts))

    async def unfinished(self) -> bool:
        """Return whether a job waits or runs: one that has ended leaves the table for the log."""
        return bool(await self._connection.fetchval("SELECT EXISTS (SELECT FROM pgqueuer)"))


async def install(database: str) -> None:
    """Create its tables."""
    connection = await asyncpg.connect(database)
    await Queries(AsyncpgDriver(connection)).install()
    await connection.close()


async def work(database: str, began: program.Began, stopping: asyncio.Event) -> None:
    """Run a worker until it is told to stop."""
    pgq = PgQueuer(AsyncpgDriver(await asyncpg.connect(database)))

    async def noop(job: Job) -> None:
        began(int(job.payload or b"0"))

    pgq.entrypoint("noop")(noop)
    worker = asyncio.create_task(pgq.run(batch_size=BATCH, max_concurrent_tasks=program.CONCURRENCY))
    await stopping.wait()
    pgq.shutdown.set()
    pgq.qm.shutdown.set()
    await worker


@asynccontextmanager
async def producer(database: str) -> AsyncIterator[Producer]:
    """Open what submits."""
    connection = await asyncpg.connect(database)
    try:
        yield Producer(connection)
    finally:
        await connection.close()


if __name__ == "__main__":
    program.main(program.Peer(install, work, producer), uvloop.run)
