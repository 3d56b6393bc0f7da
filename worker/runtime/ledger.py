"""Makes each tool call of a task once, as far as that can be known: what stands under its key decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from worker.models import Entry
from worker.runtime.canonical import args_hash
from worker.runtime.durable import Durable
from worker.runtime.tools import Tool, ToolContext, ToolResult

_REPEATABLE = frozenset({"pure", "idempotent"})


async def perform(  # noqa: PLR0917 - each is a thing of its own
    durable: Durable,
    tool: Tool,
    key: str,
    arguments: dict[str, Any],
    context: ToolContext,  # noqa: ARG001 - for what reads an effect back
    call: Callable[[], Awaitable[ToolResult]],
) -> ToolResult:
    """Return the result of a call: the one that is kept, else that of making it now."""
    known = await durable.find(key, "tool")
    if known is not None and known.result is not None:
        return ToolResult.load(known.result)
    digest = args_hash(arguments)
    with durable.busy(key):
        if tool.effect not in _REPEATABLE and known is None:
            await durable.keep(_entry(key, tool, digest, None, "intended"))
        result = await call()
        await durable.keep(_entry(key, tool, digest, result.dump(), "done"))
    return result


def _entry(key: str, tool: Tool, digest: str, result: str | None, state: Any) -> Entry:  # noqa: ANN401
    return Entry(
        key=key, kind="tool", result=result, state=state, effect=tool.effect, args_hash=digest, tool=tool.name
    )
