"""Agents that note what they do to the outside, for endpoints whose messages get lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio

from worker.client import TaskSpec
from worker.runtime import Context, agent, tool

EFFECTS: Counter[str] = Counter()  # how often each call was made


@tool(effect="unsafe")
async def strike(name: str) -> str:
    """Note that it was called."""
    EFFECTS[name] += 1
    await anyio.sleep(0.02)
    return name


@agent("striking")
async def striking(ctx: Context, input: str) -> str:
    """Call an unsafe tool three times."""
    for i in range(3):
        await ctx.call(strike, {"name": f"{input}/{i}"})
    return "done"


@agent("stepping")
async def stepping(ctx: Context, input: Any) -> list[int]:
    """Take four steps, and return the attempt that took each of them."""

    async def take() -> int:
        await anyio.sleep(0.02)
        return ctx.attempt

    return [await ctx.step(f"step{i}", take) for i in range(4)]


@agent("listening")
async def listening(ctx: Context, input: int) -> list[Any]:
    """Return the data of so many signals, in the order in which they were heard."""
    heard: list[Any] = []
    async for told in ctx.signals():
        heard.append(told.data)
        if len(heard) == input:
            break
    return heard


@agent("gathering")
async def gathering(ctx: Context, input: Any) -> int:
    """Return how many children have ended."""
    return len(await ctx.gather([TaskSpec(agent="stepping", input="null") for _ in range(2)]))
