"""Tasks begun anew or from a step of another one, and tasks side by side."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from worker.backend import Json
from worker.models import ForkChanges, RunError, StepUsage, TaskStatus, Wire

Effects = Literal["forbid", "allow"]

__all__ = ["Compared", "Comparison", "Effects", "ForkChanges", "ForkOf", "Forked", "Forks", "ToolCalls"]


class Forked(Wire):
    """A fork that was made, or that an earlier call with the same request made."""

    task: str
    duplicate: bool


class ForkOf(Wire):
    """Where a fork comes from; `at` is the first step that it takes anew, None: all of them."""

    task: str
    at: str | None


class ToolCalls(Wire):
    """How often a tool was called, refused calls included."""

    tool: str
    calls: int


class Compared(Wire):
    """What one task has used and done, as far as its first 1,000 steps tell; with `more` there are others.

    `usage` is that of its own turns, without the `replayed` steps that it has from its origin; `ms` is from
    its first run to its end.
    """

    task: str
    agent: str
    status: str
    fork_of: ForkOf | None
    effects: Effects | None
    ms: float | None
    runs: int
    turns: int
    replayed: int
    tools: list[ToolCalls]
    usage: StepUsage
    output: str | None
    large_output: bool
    error: RunError | None
    more: bool


class Comparison(Wire):
    """Tasks side by side; `parts` is the first step that only one has, or that differs."""

    tasks: list[Compared]
    parts: str | None
    same_output: bool


class Forks:
    """`tasks:restart`, `tasks:fork` and `tasks:compare`, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def restart(self, task: str, *, request: str | None = None) -> TaskStatus:
        """Begin a task from scratch, on any version of its agent: its steps are dropped.

        Args:
            task: Its id.
            request: The same within seven days does nothing; None: each call is a restart of its own.

        Returns:
            Its status now: paused while there are steps left to drop.

        Raises:
            InvalidArgument: It runs, or has succeeded.
        """
        args = {"task": task, "request": request or f"call-{uuid.uuid4()}"}
        status: TaskStatus = (await self._mutation("tasks:restart", args))["status"]
        return status

    async def fork(
        self,
        task: str,
        *,
        at: str | None = None,
        input: str | None = None,
        change: ForkChanges | None = None,
        effects: Effects = "forbid",
        new_version: bool = False,
        request: str | None = None,
    ) -> Forked:
        """Make a task that goes on from a step of this one; its runs have no effects unless they are allowed.

        Args:
            task: Any task, whatever its state.
            at: Key of the first step that is taken anew; by default all of them are.
            input: JSON text; the task's own unless given.
            change: What its models are given instead of what the agent says.
            effects: "allow" lets its runs do what those of any task do.
            new_version: On whatever version of the agent there is, not on the one that took its steps.
            request: A repeat with the same text finds the fork that the first call made.
        """
        # A lost answer is asked for again: without a request the second try would make a second fork.
        args: dict[str, Any] = {
            "task": task,
            "effects": effects,
            "newVersion": new_version,
            "request": request or f"call-{uuid.uuid4()}",
        }
        if at is not None:
            args["at"] = at
        if input is not None:
            args["input"] = input
        if change is not None:
            args["change"] = change.model_dump(by_alias=True)
        return Forked.model_validate(await self._mutation("tasks:fork", args))

    async def compare(self, task: str, other: str) -> Comparison:
        """Return two tasks side by side: cost, time, turns, tools, output, and where they part."""
        return Comparison.model_validate(await self._query("tasks:compare", {"task": task, "other": other}))
