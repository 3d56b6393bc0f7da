"""What a deployment tells of itself: what happened in each minute, and what has ended, for an archive."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from worker.backend import Json
from worker.models import OMITTED, Wire

MINUTE_MS = 60_000
PARTS = ("runs", "steps", "signals", "deps", "children", "members", "batchItems", "events")  # of a task
_BUCKETS = 1_440  # minutes in a call, as the control plane bounds it


class Minute(Wire):
    """What happened in the minute that began at `bucket`, in milliseconds since the epoch.

    `wait_ms` is how long the runs that started had stood in line, `run_ms` how long those that ended had
    taken, each summed.
    """

    bucket: float
    submitted: float
    started: float
    retried: float
    succeeded: float
    failed: float
    cancelled: float
    skipped: float
    wait_ms: float
    run_ms: float
    model_calls: float
    input_tokens: float
    output_tokens: float
    cost_micros: float | None = OMITTED


class Demand(Wire):
    """What a queue could use: `wanted` slots are those with which nothing would wait.

    `more`: at least so many wait. `running` and `slots` are of the live workers that serve the queue.
    """

    queue: str
    waiting: int
    more: bool
    oldest_waiting_ms: float
    running: int
    slots: int
    wanted: int


class _Item(Wire):
    task: str
    parts: dict[str, list[str]]
    whole: bool
    position: str


class _Page(Wire):
    tasks: list[_Item]
    position: str
    done: bool


@dataclass(frozen=True, slots=True)
class ArchivedPage:
    """Tasks that have ended, each as a line of JSON without its newline, and the position behind them."""

    lines: list[str]
    position: str


_TEXTS = ("inputId", "outputId", "resultId")  # fields that name a large text


class Upkeep:
    """`stats:*` and `upkeep:*`, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def archive(
        self, *, after: str | None = None, until_ms: float | None = None, tenant: str | None = None
    ) -> AsyncIterator[ArchivedPage]:
        """Yield what has ended, in the order of the ends: rows as Convex encodes them, large texts with them.

        It needs an operator key.

        Args:
            after: The position that an earlier page gave; None: from the beginning.
            until_ms: What ended later is left, in milliseconds since the epoch; the last minute always is.
            tenant: This one alone.
        """
        args = {"until": until_ms, "tenant": tenant}
        given = {name: value for name, value in args.items() if value is not None}
        done = False
        while not done:
            found = await self._query("upkeep:exportTasks", {"after": after, **given})
            page = _Page.model_validate(found)
            after, done = page.position, page.done
            yield ArchivedPage([await self._archived_line(item) for item in page.tasks], page.position)

    async def demand(self, queue: str = "default") -> Demand:
        """Return how many slots a queue could use."""
        return Demand.model_validate(await self._query("autoscale:read", {"queue": queue}))

    async def note_archived(self, position: str) -> None:
        """Tell the deployment that everything up to `position` is kept elsewhere."""
        await self._mutation("upkeep:archived", {"position": position})

    async def _archived_line(self, item: _Item) -> str:
        task = json.loads(item.task)
        parts = {name: [json.loads(row) for row in rows] for name, rows in item.parts.items()}
        if not item.whole:
            parts = {name: await self._archived_part(task["_id"], name) for name in PARTS}
        rows = [task, *(row for name in ("runs", "steps") for row in parts[name])]
        names = {row[field] for row in rows for field in _TEXTS if row.get(field) is not None}
        texts = {name: await self._archived_text(name) for name in sorted(names)}
        line = {"position": item.position, "task": task, **parts, "texts": texts}
        return json.dumps(line, ensure_ascii=False, separators=(",", ":"))

    async def _archived_part(self, task: str, name: str) -> list[Json]:
        rows: list[Json] = []
        cursor: str | None = None
        while True:
            args = {"task": task, "part": name, "cursor": cursor}
            page = await self._query("upkeep:exportPart", args)
            rows.extend(json.loads(row) for row in page["rows"])
            cursor = page["cursor"]
            if cursor is None:
                return rows

    async def _archived_text(self, name: str) -> str:
        first = await self._query("upkeep:exportText", {"text": name})
        rest = [(await self._query("upkeep:exportText", {"text": part}))["text"] for part in first["rest"]]
        return "".join([first["text"], *rest])

    async def stats(self, *, scope: str = "all", since_ms: float, until_ms: float) -> list[Minute]:
        """Return the minutes in which something happened, oldest first; the last whole one comes within two.

        Args:
            scope: all, tenant:NAME, queue:NAME, agent:NAME or stack:NAME.
            since_ms: From then on, in milliseconds since the epoch.
            until_ms: Before then.
        """
        minutes: list[Minute] = []
        start = since_ms
        while start < until_ms:
            end = min(until_ms, start + _BUCKETS * MINUTE_MS)
            page = await self._query("stats:read", {"scope": scope, "from": start, "to": end})
            minutes.extend(Minute.model_validate(item) for item in page)
            start = end
        return minutes
