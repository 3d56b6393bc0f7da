"""What the workers of a chaos run play: each result tells which run and attempt made it."""

from __future__ import annotations

import json
import random
from typing import Any

import anyio

from worker.models import RetryPolicy
from worker.runtime import Context, agent
from worker.specs import TaskSpec

SIGNALS = 8  # that a hearer is told


def signed(ctx: Context) -> dict[str, Any]:
    """Return what tells which run and attempt made a result."""
    return {"run": ctx.run, "attempt": ctx.attempt}


async def hear(ctx: Context) -> dict[str, Any]:
    """Tell what the signals to a task brought, in the order in which they were heard."""
    heard: list[Any] = []
    async for told in ctx.signals():
        heard.append(told.data)
        if len(heard) == SIGNALS:
            break
    return {**signed(ctx), "heard": heard}


@agent("quick")
async def quick(ctx: Context, input: Any) -> dict[str, Any]:
    """Return at once."""
    return signed(ctx)


@agent("steady")
async def steady(ctx: Context, input: dict[str, float]) -> dict[str, Any]:
    """Stream for `seconds`."""
    for i in range(max(1, round(input["seconds"] / 0.05))):
        await ctx.stream(f"{i} ")
        await anyio.sleep(0.05)
    return signed(ctx)


@agent("shaky")
async def shaky(ctx: Context, input: Any) -> dict[str, Any]:
    """Fail every other time."""
    await anyio.sleep(0.02)
    if random.random() < 0.5:
        raise RuntimeError("as it happens")
    return signed(ctx)


@agent("stepper")
async def stepper(ctx: Context, input: Any) -> dict[str, Any]:
    """Take three steps with a wait between them that needs no worker; tell which run took each."""
    taken = [await ctx.step("first", signed, ctx)]
    await ctx.sleep(input["sleep"])
    taken.append(await ctx.step("second", signed, ctx))
    await anyio.sleep(0.05)
    taken.append(await ctx.step("third", signed, ctx))
    return {**signed(ctx), "steps": taken}


@agent("parent")
async def parent(ctx: Context, input: dict[str, float]) -> dict[str, Any]:
    """Gather three children, spawn two for nobody, and tell which they are."""
    retry = RetryPolicy(max_attempts=10, initial_ms=50, max_ms=500)
    kinds = ("quick", "steady", "quick")
    gathered = await ctx.gather(
        [TaskSpec(agent=name, input=json.dumps(input), retry=retry) for name in kinds]
    )
    spawned = await ctx.spawn([TaskSpec(agent="quick", input="null", retry=retry)] * 2)
    return {**signed(ctx), "children": [child.task for child in gathered] + spawned}


@agent("hearer")
async def hearer(ctx: Context, input: Any) -> dict[str, Any]:
    """Hear all signals."""
    return await hear(ctx)
