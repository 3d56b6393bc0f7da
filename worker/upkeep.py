"""What a deployment tells of itself, minute by minute."""

from __future__ import annotations

from typing import Any

from worker.backend import Json
from worker.models import Wire

MINUTE_MS = 60_000
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


class Upkeep:
    """`stats:*`, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def stats(self, *, scope: str = "all", since_ms: float, until_ms: float) -> list[Minute]:
        """Return the minutes in which something happened, oldest first; the last whole one comes within two.

        Args:
            scope: all, tenant:NAME, queue:NAME or agent:NAME.
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
