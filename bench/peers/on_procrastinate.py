"""Procrastinate: asynchronous tasks on psycopg's pool, LISTEN/NOTIFY, finished jobs and their events kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import procrastinate  # type: ignore[import-not-found]

from bench.peers import program

POOL = 10  # a job has a connection only for a moment before and after its handler


class Producer:
    """Defers jobs in batches."""

    def __init__(self, app: procrastinate.App) -> None:
        self._app = app

    async def submit(self, starts: list[int]) -> None:
        """Defer a job for each."""
        task = self._app.configure_task("noop")
        if len(starts) == 1:
            await task.defer_async(start=starts[0])
        else:
            await task.batch_defer_async(*({"start": start} for start in starts))

    async def unfinished(self) -> bool:
        """Return whether a job waits or runs."""
        row = await self._app.connector.execute_query_one_async(
            "SELECT EXISTS (SELECT FROM procrastinate_jobs WHERE status IN ('todo', 'doing')) AS any"
        )
        return bool(row["any"])


def _app(database: str) -> procrastinate.App:
    return procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=database, min_size=POOL, max_size=POOL)
    )


async def install(database: str) -> None:
    """Create its tables."""
    app = _app(database)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()


async def work(database: str, began: program.Began, stopping: asyncio.Event) -> None:
    """Run a worker until it is told to stop."""
    app = _app(database)

    async def noop(start: int) -> None:
        began(start)

    app.task(noop, name="noop")
    async with app.open_async():
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=program.CONCURRENCY, install_signal_handlers=False)
        )
        await stopping.wait()
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)


@asynccontextmanager
async def producer(database: str) -> AsyncIterator[Producer]:
    """Open what submits."""
    app = _app(database)
    async with app.open_async():
        yield Producer(app)


if __name__ == "__main__":
    program.main(program.Peer(install, work, producer))
