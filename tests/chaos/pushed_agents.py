"""What the endpoint of a chaos run plays."""

from __future__ import annotations

from typing import Any

from tests.chaos.agents import hear, signed
from worker.runtime import Context, agent


@agent("pushed")
async def pushed(ctx: Context, input: Any) -> dict[str, Any]:
    """Return at once."""
    return signed(ctx)


@agent("pushed_hearer")
async def pushed_hearer(ctx: Context, input: Any) -> dict[str, Any]:
    """Hear all signals."""
    return await hear(ctx)
