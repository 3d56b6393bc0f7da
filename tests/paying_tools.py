"""Tools that move no money, for a worker that is watched in a browser: what they do is SIMULATED."""

from __future__ import annotations

import anyio

from worker.runtime import tool


@tool(effect="unsafe", needs_approval=True, access="outward")
async def pay(amount: int) -> str:
    """Pretend to pay an amount."""
    return f"paid {amount}, simulated"


@tool(effect="unsafe", access="outward", timeout_s=600.0)
async def wire(amount: int) -> str:
    """Pretend to wire an amount, and never come to an end: the worker dies first."""
    await anyio.sleep_forever()
    return f"wired {amount}"
