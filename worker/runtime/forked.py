"""The loop of a model in a fork: with what the fork changes, and without the effects that it may not have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worker.models import Entry, LlmLimits
from worker.runtime.calling import refused
from worker.runtime.canonical import args_hash
from worker.runtime.durable import Durable
from worker.runtime.llm_agent import LlmAgent
from worker.runtime.loop import Limits
from worker.runtime.tools import Tool, ToolResult


def changed(agent: LlmAgent, durable: Durable) -> LlmAgent:
    """Return the agent with what its fork changes; outside of forks as it is."""
    change = None if durable.sandbox is None else durable.sandbox.fork.change
    if change is None:
        return agent
    given: dict[str, Any] = {
        "models": change.models,
        "prompt": change.prompt,
        "temperature": change.temperature,
        "max_output_tokens": change.max_output_tokens,
        "limits": None if change.limits is None else _limits(agent.limits, change.limits),
    }
    return replace(agent, **{name: value for name, value in given.items() if value is not None})


def _limits(limits: Limits, change: LlmLimits) -> Limits:
    given = change.model_dump(exclude_none=True)
    if (max_ms := given.pop("max_ms", None)) is not None:
        given["max_s"] = max_ms / 1000
    return replace(limits, **given)


async def stand_in(durable: Durable, tool: Tool, key: str, arguments: Mapping[str, Any]) -> ToolResult | None:
    """Return what stands in for a call that is made for the first time; None: it may be made.

    In a fork that is what the same call has brought in the original, else for whatever may have an effect a
    refusal, which the model sees. Either is kept as the call's step.
    """
    sandbox = durable.sandbox
    if sandbox is None:
        return None
    digest = args_hash(dict(arguments))
    found = sandbox.recording(tool.name, digest)
    if found is not None and found.result is not None:
        known = {"result": found.result, "recorded": found.key}
        await durable.keep(Entry(key=key, kind="tool", args_hash=digest, tool=tool.name, **known))
        return ToolResult.load(found.result)
    asks = tool.needs_approval(dict(arguments)) if callable(tool.needs_approval) else tool.needs_approval
    if not sandbox.closed or (tool.effect == "pure" and not asks):
        return None
    why = "asks people" if tool.effect == "pure" else f"may have an effect ({tool.effect})"
    result = refused(
        "effect_forbidden",
        f"The tool {tool.name!r} {why}, and this is a fork without effects: it was not called.",
    )
    # Without its arguments: no recording for a fork of this fork.
    await durable.keep(Entry(key=key, kind="tool", result=result.dump(), tool=tool.name))
    return result
