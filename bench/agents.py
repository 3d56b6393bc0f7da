"""Agents that the benchmarks' worker plays."""

from __future__ import annotations

import time
from typing import Any

from worker.runtime import Context, agent


@agent("bench_noop")
async def noop(ctx: Context, input: Any) -> int:
    """Return when it began: nanoseconds of the monotonic clock that all processes of a machine share."""
    return time.monotonic_ns()
