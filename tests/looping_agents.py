"""An agent that a model plays, whose tools note each call and wait until a test lets them go on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio

from worker.errors import RetryLater
from worker.runtime import Context, Limits, LlmAgent, ToolContext, agent, tool

FOLDER = "SIGNALBOX_TEST_FOLDER"


async def _work(name: str, n: int, key: str) -> str:
    folder = Path(os.environ[FOLDER])
    with (folder / "calls").open("a") as calls:
        calls.write(f"{name} {n} {key}\n")
    gate = anyio.Path(folder / f"open-{n}")
    while not await gate.exists():
        await anyio.sleep(0.01)
    return f"{name} {n}"


@tool(effect="pure")
async def note(n: int, ctx: ToolContext) -> str:
    """Note a number."""
    return await _work("note", n, ctx.key)


@tool(effect="pure")
async def look(n: int, ctx: ToolContext) -> str:
    """Look a number up."""
    return await _work("look", n, ctx.key)


@agent("looper")
async def looper(ctx: Context, input: Any) -> Any:
    """Play as many turns as the model has, then tell what became of them; fail once if `again` is said."""
    limits = Limits(max_turns=1000, max_tool_calls=1000)
    result = await ctx.play(LlmAgent(tools=["note", "look"], limits=limits), input)
    if isinstance(input, dict) and input.get("again") and ctx.attempt == 1:
        raise RetryLater("once more, from the steps", 0)
    told = await ctx.emit("looped", {"turns": result.turns})
    return {"text": result.text, "turns": result.turns, "calls": result.tool_calls, "told": told}
