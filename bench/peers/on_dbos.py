"""DBOS Transact: asynchronous workflows without steps on a database-backed queue, submitted by its client.

Its queues are polled, once a second unless it is told otherwise: here as often as still makes it faster.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy  # type: ignore[import-not-found]
from dbos import DBOS, DBOSClient, EnqueueOptions  # type: ignore[import-not-found]

from bench.peers import program

NAME = "bench"
VERSION = "1"
POLL_S = 0.01


class Producer:
    """Enqueues workflows, many in one transaction."""

    def __init__(self, database: str) -> None:
        self._client = DBOSClient(system_database_url=database, application_name=NAME)
        self._engine = sqlalchemy.create_engine(database.replace("postgresql:", "postgresql+psycopg:"))

    def close(self) -> None:
        """Close its connections."""
        self._client.destroy()
        self._engine.dispose()

    async def submit(self, starts: list[int]) -> None:
        """Enqueue a workflow for each; it has no call for many, but takes a transaction of its caller."""
        options: EnqueueOptions = {"workflow_name": "noop", "queue_name": "noops", "app_version": VERSION}
        if len(starts) == 1:
            await self._client.enqueue_async(options, starts[0])
        else:
            await asyncio.to_thread(self._submit_many, options, starts)

    def _submit_many(self, options: EnqueueOptions, starts: list[int]) -> None:
        with self._engine.begin() as connection:
            for start in starts:
                self._client.enqueue_in_transaction(connection, options, start)

    async def unfinished(self) -> bool:
        """Return whether a workflow waits or runs."""
        return await asyncio.to_thread(self._unfinished)

    def _unfinished(self) -> bool:
        query = "SELECT EXISTS (SELECT FROM dbos.workflow_status WHERE status IN ('ENQUEUED', 'PENDING'))"
        with self._engine.connect() as connection:
            return bool(connection.execute(sqlalchemy.text(query)).scalar())


def _launch(database: str) -> None:
    DBOS(
        config={
            "name": NAME,
            "system_database_url": database,
            "application_version": VERSION,
            "log_level": "WARNING",
        }
    )


async def install(database: str) -> None:
    """Create its tables."""
    _launch(database)
    DBOS.launch()
    await DBOS.register_queue_async(
        "noops", worker_concurrency=program.CONCURRENCY, polling_interval_sec=POLL_S
    )
    DBOS.destroy()


async def work(database: str, began: program.Began, stopping: asyncio.Event) -> None:
    """Run a worker until it is told to stop."""
    _launch(database)

    async def noop(start: int) -> None:
        began(start)

    DBOS.workflow(name="noop")(noop)
    DBOS.launch()
    await stopping.wait()
    DBOS.destroy()


@asynccontextmanager
async def producer(database: str) -> AsyncIterator[Producer]:
    """Open what submits."""
    opened = await asyncio.to_thread(Producer, database)
    try:
        yield opened
    finally:
        opened.close()


if __name__ == "__main__":
    program.main(program.Peer(install, work, producer))
