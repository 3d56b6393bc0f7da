"""A tool that a person approves, for a worker that is watched in a browser. SIMULATED: no money moves."""

from __future__ import annotations

from worker.runtime import tool


@tool(effect="unsafe", needs_approval=True, access="outward")
async def pay(amount: int) -> str:
    """Pretend to pay an amount."""
    return f"paid {amount}, simulated"
