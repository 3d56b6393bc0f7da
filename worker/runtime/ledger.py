"""What becomes of a call of a tool, also when an earlier run died in the middle of it.

Before a call that could change something begins, its intent is stored and acknowledged; afterwards its
result. A run that finds an intent without a result does not know whether the call happened, and goes by the
tool's class:

    pure, idempotent   call again: a second time changes nothing
    keyed              call again with the same key: whoever is called knows it
    reconcilable       read back by the key; what is found is the result, else call
    unsafe             in doubt: a person says what became of it, or that it may run
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

import anyio

from worker.errors import AgentError, NonRetryable
from worker.models import Ask, Effect, Entry, Step
from worker.runtime.approval import Decision, decided, question
from worker.runtime.calling import rendered
from worker.runtime.canonical import args_hash
from worker.runtime.tools import Found, Tool, ToolContext, ToolResult

Action: TypeAlias = Literal["replay", "call", "intend", "read_back", "ask"]


class InDoubtError(NonRetryable):
    """Nobody knows whether a call happened, and a person did not let it run again."""

    code = "in_doubt"


class ReconcileError(AgentError):
    """Whether a call happened could not be read back; the run is tried again."""

    code = "reconcile_failed"
    retryable = True


class CallChangedError(NonRetryable):
    """An earlier run of the task called another tool here, or the same with other arguments."""

    code = "step_mismatch"


class Steps(Protocol):
    """What the ledger is kept in: the run's `Durable`."""

    async def find(self, key: str, kind: str) -> Step | None:
        """Return what stands under a key."""

    async def beside(self, key: str, kind: str) -> Step | None:
        """Return what stands beside a step."""

    async def keep(self, entry: Entry) -> None:
        """Return once the control plane has acknowledged an entry."""

    async def ask(self, ask: Ask) -> str:
        """Return what people decided; until they have, the run ends."""

    def busy(self, name: str) -> AbstractContextManager[None]:
        """Let no wait end the run before the block is done."""


def decide(now: Effect, known: Step | None) -> Action:
    """Return what to do about a call. Pure.

    A class that is not the one with which the call was begun vouches for nothing: its effect counts as
    unsafe.

    Args:
        now: The tool's class in this run.
        known: What earlier runs have kept of the call.
    """
    if known is None:
        return "call" if now == "pure" else "intend"
    if known.result is not None:
        return "replay"
    if known.state == "in_doubt":
        return "ask"
    began = known.effect or "unsafe"
    match now if now == began else "unsafe":
        case "pure" | "idempotent" | "keyed":
            return "call"
        case "reconcilable":
            return "read_back"
        case _:
            return "ask"


async def perform(  # noqa: PLR0917 - what a call is, in the order in which it is told
    steps: Steps,
    tool: Tool,
    key: str,
    arguments: dict[str, Any],
    context: ToolContext,
    call: Callable[[], Awaitable[ToolResult]],
) -> ToolResult:
    """Return what came of a call, which is made at most as often as the tool's class allows.

    Args:
        steps: The steps of the run.
        tool: What is called.
        key: The call's step.
        arguments: As they were checked.
        context: What the tool is given; its `key` names the call to the outside.
        call: Calls the tool, once.

    Raises:
        ArgumentsChangedError: People approved other arguments.
        CallChangedError: An earlier run called something else here.
        InDoubtError: A person said that a call in doubt is to fail, or nobody said anything in time.
        ReconcileError: The tool could not read back.
    """
    digest = args_hash(arguments)
    known = await steps.find(key, "tool")
    if known is not None:
        _check_same(known, tool, digest)
    action = decide(tool.effect, known)
    if action == "replay" and known is not None and known.result is not None:
        await _pass_by(steps, key)
        return ToolResult.load(known.result)
    if (refused := await _refusal(steps, tool, key, arguments, known)) is not None:
        await steps.keep(_entry(tool, key, digest, refused))
        return refused
    again: str | None = None
    if action == "ask":
        told = await _in_doubt(steps, tool, key, arguments)
        if isinstance(told, ToolResult):
            await steps.keep(_entry(tool, key, digest, told))
            return told
        again = told
    with steps.busy(tool.name):
        if action == "intend":
            await steps.keep(_entry(tool, key, digest, None))
        if again is not None:
            await steps.keep(Entry(key=again, kind="step", result="true"))
        found = await _read_back(tool, arguments, context) if action == "read_back" else None
        result = await call() if found is None else found
        await steps.keep(_entry(tool, key, digest, result))
    return result


async def _refusal(
    steps: Steps, tool: Tool, key: str, arguments: dict[str, Any], known: Step | None
) -> ToolResult | None:
    """Return what the model is told of a call that people did not approve; None when it may be made."""
    step = f"{key}.approval"
    asked = await steps.beside(step, "approval")
    if asked is None and (known is not None or not _needs_approval(tool, arguments)):
        return None
    found = await steps.ask(question(step, tool.name, arguments, why="tool"))
    decision = decided(tool.name, arguments, found)
    if decision.state == "approved":
        return None
    code = "refused" if decision.state == "refused" else "approval_expired"
    return ToolResult(f"This call was not approved: {_in_words(decision)}", ok=False, code=code)


def _in_words(decision: Decision) -> str:
    """Return a decision for the model, which need not know who made it."""
    if decision.state == "expired":
        return "nobody decided in time."
    return "a person refused it." if decision.note is None else f"a person refused it: {decision.note}"


def _needs_approval(tool: Tool, arguments: dict[str, Any]) -> bool:
    rule = tool.needs_approval
    if not callable(rule):
        return rule
    try:
        return bool(rule(arguments))
    except Exception:
        return True  # a rule that fails lets nothing pass


async def _in_doubt(steps: Steps, tool: Tool, key: str, arguments: dict[str, Any]) -> ToolResult | str:
    """Ask a person what became of a call; return what came of it, or the mark to leave before it is made.

    What a person let run may crash again: a run that finds its mark asks anew.
    """
    number = 1
    while True:
        doubt, again = _doubt(key, number)
        found = await steps.ask(question(doubt, tool.name, arguments, why="in_doubt", about=key))
        decision = decided(tool.name, arguments, found)
        if decision.state != "approved":
            told = f"Whether {tool.name!r} happened is in doubt since a run died in it, and {decision.told()}"
            raise InDoubtError(told[:1000])
        if decision.result is not None:
            return rendered(decision.result[0], tool)
        if await steps.beside(again, "step") is None:
            return again
        number += 1


def _doubt(key: str, number: int) -> tuple[str, str]:
    """Return the steps of the nth question about a call, and of the mark of the call that came of it."""
    suffix = "" if number == 1 else f"#{number}"
    return f"{key}.doubt{suffix}", f"{key}.again{suffix}"


async def _pass_by(steps: Steps, key: str) -> None:
    """Note that what stands beside a call that is done has come, too."""
    await steps.beside(f"{key}.approval", "approval")
    number = 1
    while await steps.beside(_doubt(key, number)[0], "approval") is not None:
        await steps.beside(_doubt(key, number)[1], "step")
        number += 1


async def _read_back(tool: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolResult | None:
    if tool.reconcile is None:
        raise ReconcileError(f"The tool {tool.name!r} has nothing to read back with")
    try:
        with anyio.fail_after(tool.timeout_s):
            found = await tool.reconcile(context.key, arguments)
    except AgentError:
        raise
    except Exception as error:
        what = f"Whether {tool.name!r} happened could not be read back: {type(error).__name__}: {error}"
        raise ReconcileError(what[:1000]) from error
    return rendered(found.value, tool) if isinstance(found, Found) else None


def _check_same(known: Step, tool: Tool, digest: str) -> None:
    if known.tool not in {None, tool.name}:
        raise CallChangedError(
            f"{known.key!r} was a call of {known.tool!r} in an earlier run, now it is of {tool.name!r}"
        )
    if known.args_hash not in {None, digest}:
        raise CallChangedError(
            f"{known.key!r} was a call of {tool.name!r} with other arguments in an earlier run"
        )


def _entry(tool: Tool, key: str, digest: str, result: ToolResult | None) -> Entry:
    return Entry(
        key=key,
        kind="tool",
        result=None if result is None else result.dump(),
        state="intended" if result is None else "done",
        effect=tool.effect,
        args_hash=digest,
        tool=tool.name,
    )
