"""Many tasks at once: cancel and retry by filter, and what tasks failed of."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from worker.backend import Json
from worker.models import TaskStatus, Wire


class Filter(Wire):
    """Which tasks; None does not narrow it. Instants in milliseconds since the epoch, the first included."""

    tenant: str | None = None
    status: TaskStatus | None = None
    queue: str | None = None
    agent: str | None = None
    code: str | None = None
    submitted_after: float | None = None
    submitted_before: float | None = None


class BulkPage(Wire):
    """What became of a page of tasks; `cursor` is None on the last."""

    matched: int
    changed: int
    cursor: str | None


class FailedTask(Wire):
    """An example of a cause."""

    task: str
    agent: str
    attempt: int
    message: str
    ended_at: float | None


class FailureCause(Wire):
    """Failed tasks of one error code."""

    code: str
    count: int
    newest: list[FailedTask]


class Failures(Wire):
    """What the `counted` tasks that failed last failed of; with a `cursor` there are more."""

    causes: list[FailureCause]
    counted: int
    cursor: str | None


class Cause(Wire):
    """What attempts of one task came to grief over."""

    code: str
    count: int
    message: str
    state: str
    last_attempt: int
    last_at: float | None


class Bulk:
    """`tasks:cancelMany` and its like, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    def cancel_many(self, chosen: Filter, *, dry_run: bool = False) -> AsyncIterator[BulkPage]:
        """Cancel what waits, sleeps or runs and is chosen; yield each page when it is done.

        Tasks that change their status meanwhile may be passed over: calling it again reaches them.
        """
        return self._bulk_pages("tasks:cancelMany", {"dryRun": dry_run}, chosen)

    def retry_many(self, chosen: Filter, *, dry_run: bool = False) -> AsyncIterator[BulkPage]:
        """Give the failed tasks that are chosen their attempts anew; with a status, cancelled or skipped."""
        # A lost answer is asked for again: what the first try retried, and failed again, is left alone.
        more = {"dryRun": dry_run, "request": f"call-{uuid.uuid4()}"}
        return self._bulk_pages("tasks:retryMany", more, chosen)

    async def failures(self, tenant: str | None = None, cursor: str | None = None) -> Failures:
        """Return what the tasks of a tenant failed of, over a page of those that failed last."""
        given = {"tenant": tenant, "cursor": cursor}
        args = {name: value for name, value in given.items() if value is not None}
        return Failures.model_validate(await self._query("tasks:failures", args))

    async def causes(self, task: str) -> list[Cause]:
        """Return what the attempts of a task came to grief over, the last cause first."""
        return [Cause.model_validate(item) for item in await self._query("tasks:causes", {"task": task})]

    async def _bulk_pages(self, path: str, more: dict[str, Any], chosen: Filter) -> AsyncIterator[BulkPage]:
        cursor: str | None = None
        while True:
            args = {
                "filter": chosen.model_dump(by_alias=True, exclude_none=True),
                "cursor": cursor,
                **more,
            }
            page = BulkPage.model_validate(await self._mutation(path, args))
            yield page
            cursor = page.cursor
            if cursor is None:
                return
