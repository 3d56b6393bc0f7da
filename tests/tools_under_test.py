"""Tools of each class, and agents that call them, for tests that kill the worker in between.

What has happened outside is a file: a line for each time, with the key of the call. At each of its points a
call waits until the file of that point appears.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import anyio

from tests.agents_under_test import appeared
from worker.models import Effect
from worker.runtime import Context, Tool, ToolContext, agent
from worker.runtime.approval import ApprovalRefusedError
from worker.runtime.tools import Found, NotFound

POINTS = ("begun", "intended", "happened", "kept")  # what stands when a run waits there


async def passes(folder: Path, point: str) -> None:
    """Note that a run has come to a point, and wait until it may go on."""
    with (folder / "points").open("a") as points:
        points.write(f"{point}\n")
    await appeared(folder / point)


async def _act(arguments: dict[str, Any], context: ToolContext) -> str:
    folder = Path(arguments["folder"])
    await passes(folder, "intended")
    with (folder / "effects").open("a") as effects:
        effects.write(f"{context.key}\n")
    await passes(folder, "happened")
    return "done"


async def _found(key: str, arguments: dict[str, Any]) -> Found | NotFound:
    file = anyio.Path(arguments["folder"]) / "effects"
    lines = (await file.read_text()).split() if await file.exists() else []
    return Found("found") if key in lines else NotFound()


def tool_of(effect: Effect, *, needs_approval: bool = False) -> Tool:
    """Return a tool of a class."""
    return Tool(
        name=effect,
        description="",
        parameters={"type": "object", "properties": {"folder": {"type": "string"}}},
        call=_act,
        effect=effect,
        reconcile=_found if effect == "reconcilable" else None,
        needs_approval=needs_approval,
    )


TOOLS = {effect: tool_of(effect) for effect in get_args(Effect)}


@agent("caller")
async def caller(ctx: Context, input: dict[str, Any]) -> str:
    """Call the tool of a class."""
    folder = Path(input["folder"])
    await passes(folder, "begun")
    result = await ctx.call(TOOLS[input["effect"]], {"folder": input["folder"]})
    await passes(folder, "kept")
    return result.content


@agent("trio")
async def trio(ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
    """Call three tools at once; a person decides on those that are named."""
    results: dict[str, Any] = {}

    async def one(name: str) -> None:
        arguments = {"folder": f"{input['folder']}/{name}"}
        tool = tool_of("unsafe", needs_approval=name in input["asks"])
        results[name] = (await ctx.call(tool, arguments)).content

    async with anyio.create_task_group() as group:
        for name in ("a", "b", "c"):
            group.start_soon(one, name)
    return dict(sorted(results.items()))


@agent("asker")
async def asker(ctx: Context, input: dict[str, Any]) -> str:
    """Ask a person, with other arguments in a later run if told so."""
    amount = input["amount"] if ctx.attempt == 1 else input.get("later", input["amount"])
    try:
        decision = await ctx.approve("pay", {"amount": amount}, timeout=input.get("timeout"))
    except ApprovalRefusedError as error:
        return f"refused: {error.decision.note}"
    except TimeoutError:
        return "nobody decided"
    return f"paid {amount}, as {decision.label} says: {decision.note}"
