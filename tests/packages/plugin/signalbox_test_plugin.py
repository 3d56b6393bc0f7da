"""An agent and tools in a package of their own."""

from __future__ import annotations

from typing import Any

from worker.runtime import Context, Tool, ToolContext, agent


@agent("shouting")
async def shouting(ctx: Context, input: str) -> str:
    """Shout what it is given."""
    return input.upper()


async def shout(arguments: dict[str, Any], context: ToolContext) -> str:
    return str(arguments["text"]).upper()


tools = [
    Tool(
        name="shout",
        description="Shout a text",
        parameters={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        call=shout,
        effect="pure",
        access="read",
    )
]
