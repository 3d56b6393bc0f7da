"""Calls one tool: within its time, and with a result of bounded size, whatever the tool does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import anyio

from worker.errors import AgentError
from worker.runtime.canonical import dumped
from worker.runtime.loop import TOLD_CHARS, Call
from worker.runtime.schema import Schema
from worker.runtime.tools import Tool, Toolbox, ToolContext, ToolError, ToolResult

MAX_KEPT_BYTES = 500_000  # of any result: a step holds a megabyte, and JSON may double what it escapes


def unfit(call: Call, tools: Toolbox) -> ToolResult | None:
    """Return what the model is told of a call that cannot be made; None when it can be."""
    tool = tools.get(call.name)
    if tool is None:
        known = ", ".join(sorted(tool.name for tool in tools)) or "none"
        return refused("unknown_tool", f"There is no tool named {call.name[:100]!r}. The tools are: {known}.")
    if call.arguments is None:
        written = call.raw if len(call.raw) <= TOLD_CHARS else f"{call.raw[:TOLD_CHARS]}..."
        return refused("invalid_arguments", f"The arguments must be a JSON object. You wrote: {written}")
    try:
        check_arguments(tool, call.arguments)
    except ValueError as error:
        return refused("invalid_arguments", f"The arguments do not fit: {error}. Call it again with others.")
    return None


def check_arguments(tool: Tool, arguments: Mapping[str, Any]) -> None:
    """Return if a tool takes these arguments.

    Raises:
        ValueError: It does not; the message is one line for the model.
    """
    if tool.check is not None:
        tool.check(dict(arguments))
    else:
        Schema(tool.parameters).check(dict(arguments))


def refused(code: str, message: str) -> ToolResult:
    """Return the result of a call that was not made, or has failed."""
    return ToolResult(message, ok=False, code=code)


async def perform(tool: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
    """Return what the model is given for a call.

    Raises:
        AgentError: The tool says that the run fails, or when it is to be tried again.
    """
    began = time.monotonic()
    result = await _within_time(tool, arguments, context)
    ms = round((time.monotonic() - began) * 1000, 1)
    return ToolResult(result.content, ok=result.ok, code=result.code, cut=result.cut, ms=ms)


async def _within_time(tool: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
    with anyio.move_on_after(tool.timeout_s) as scope:
        try:
            value = await tool.call(arguments, context)
        except AgentError:
            raise
        except ToolError as error:
            return fitted(refused("failed", str(error)), tool)
        except (Exception, SystemExit) as error:  # a tool that calls exit() must not take the worker with it
            what = f"{type(error).__name__}: {error}"[:1000]
            return fitted(refused("failed", f"The tool failed: {what}"), tool)
        return rendered(value, tool)
    if not scope.cancelled_caught:
        raise AssertionError("a call has neither returned nor been cancelled")
    return refused(
        "timeout", f"The tool did not return within {tool.timeout_s:.6g} s; what it did is not known."
    )


def rendered(value: Any, tool: Tool) -> ToolResult:  # noqa: ANN401 - whatever the tool returned
    """Return a tool's value as the model is given it: a text as it is, anything else as JSON."""
    try:
        text = value if isinstance(value, str) else dumped(value)
    except (TypeError, ValueError, RecursionError) as error:
        return refused("failed", f"The tool returned something that is not JSON: {error}"[:1000])
    return fitted(ToolResult(text), tool)


def fitted(result: ToolResult, tool: Tool) -> ToolResult:
    """Return a result within the tool's size; what is beyond is cut, with a mark."""
    most = min(tool.max_result_bytes, MAX_KEPT_BYTES)
    text = result.content
    if len(text) * 4 <= most:  # it need not be encoded to be known to fit
        return result
    whole = text.encode("utf-8", "replace")  # a lone surrogate is in no valid JSON document
    if len(whole) <= most:
        return result
    kept = whole[:most].decode("utf-8", "ignore")
    cut = len(whole) - len(kept.encode())
    mark = f"\n[cut here: {len(whole)} bytes in all, the first {len(whole) - cut} are above]"
    return ToolResult(kept + mark, ok=result.ok, code=result.code, cut=cut)
