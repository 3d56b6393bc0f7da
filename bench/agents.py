"""Agents that the benchmarks' worker plays."""

from __future__ import annotations

import time
from typing import Any

import anyio

from worker.runtime import Context, agent


@agent("bench_noop")
async def noop(ctx: Context, input: Any) -> int:
    """Return when it began: nanoseconds of the monotonic clock that all processes of a machine share."""
    return time.monotonic_ns()


@agent("bench_forever")
async def forever(ctx: Context, input: Any) -> None:
    """Run until it is stopped."""
    await anyio.sleep_forever()
