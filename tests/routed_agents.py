"""Agents that call models, for the tests of routing."""

from __future__ import annotations

from worker.runtime import Context, Prompt, agent


@agent("ask")
async def ask(ctx: Context, max_tokens: int) -> str:
    """Ask the worker's model."""
    return (await ctx.complete("hello", max_output_tokens=max_tokens)).text


@agent("chain")
async def chain(ctx: Context, models: list[str]) -> str:
    """Ask a chain of models, and tell who has answered."""
    prompt = Prompt([{"role": "user", "content": "hello"}], models=models)
    return (await ctx._host.answer(prompt)).model
