"""Agents that the tests' workers play."""

from __future__ import annotations

import os
from typing import Any

import anyio

from worker.runtime import Context, agent


@agent("noop")
async def noop(ctx: Context, input: Any) -> Any:
    return input


@agent("slow")
async def slow(ctx: Context, input: dict[str, float]) -> str:
    """Stream a word every 50 ms for `seconds`, then say which attempt it was."""
    for i in range(int(input["seconds"] / 0.05)):
        await ctx.stream(f"word{i} ")
        await anyio.sleep(0.05)
    return f"attempt {ctx.attempt}"


@agent("poison")
async def poison(ctx: Context, input: Any) -> None:
    os._exit(3)


@agent("stubborn")
async def stubborn(ctx: Context, input: Any) -> None:
    """Work until it is cancelled."""
    await anyio.sleep_forever()


@agent("failing")
async def failing(ctx: Context, input: dict[str, int]) -> int:
    """Fail as often as told, then return the attempt."""
    if ctx.attempt <= input["times"]:
        raise RuntimeError(f"failure {ctx.attempt}")
    return ctx.attempt
