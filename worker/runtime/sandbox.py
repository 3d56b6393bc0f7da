"""Runs of forks: what the original has done stands in for doing it again, effects are refused unless allowed.

The control plane holds to the same (convex/model/sandbox.ts), so that a fault here does no harm. What an
agent does outside of steps, tools and the calls of its context nobody can keep from it.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from worker.errors import NonRetryable
from worker.models import Fork, Step

F = TypeVar("F", bound=Callable[..., Any])
_PURE = "__signalbox_pure__"
_EVENT = "%recorded/event/"  # as convex/model/forks.ts has it


class EffectForbiddenError(NonRetryable):
    """The run is one of a fork without effects, and its agent is about to have one."""

    code = "effect_forbidden"


def pure(work: F) -> F:
    """Mark a function whose calls change nothing outside, so that `ctx.step` may call it in a fork."""
    setattr(work, _PURE, True)
    return work


class Sandbox:
    """What one run of a fork may do, and what is recorded of the original.

    Attributes:
        fork: Where the task comes from and what has been changed.
    """

    def __init__(self, fork: Fork) -> None:
        self.fork = fork
        self._results: defaultdict[tuple[str, str], deque[Step]] = defaultdict(deque)
        self._answers: dict[str, str] = {}

    @property
    def closed(self) -> bool:
        """Whether effects are forbidden."""
        return self.fork.effects != "allow"

    def learn(self, steps: Iterable[Step]) -> dict[str, Step]:
        """Take the recordings out of a task's steps, and return the others by key."""
        own: dict[str, Step] = {}
        for step in sorted(steps, key=lambda step: step.key):  # in the order in which they were made
            if step.kind != "recorded":
                own[step.key] = step
            elif step.result is not None and step.key.startswith(_EVENT):
                self._answers[step.key.removeprefix(_EVENT)] = step.result
            elif step.result is not None and step.tool is not None and step.args_hash is not None:
                self._results[step.tool, step.args_hash].append(step)
        return own

    def recording(self, tool: str, args_hash: str) -> Step | None:
        """Return the next call of a tool with these arguments in the original; its result is there."""
        waiting = self._results.get((tool, args_hash))
        return waiting.popleft() if waiting else None

    def answer(self, key: str) -> str | None:
        """Return what ended the wait under this key in the original."""
        return self._answers.get(key)

    def check(self, what: str) -> None:
        """Refuse an effect.

        Raises:
            EffectForbiddenError: Effects are forbidden.
        """
        if self.closed:
            raise EffectForbiddenError(
                f"This is a fork of {self.fork.task} without effects, and {what}. "
                "Fork it with effects allowed to let it do that"
            )

    def guarded(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return what stands for the work of an agent's step: it is refused unless it is known to be pure."""

        def called(*args: object, **named: object) -> Any:  # noqa: ANN401 - whatever the work returns
            if not getattr(work, _PURE, False):
                what = f"the step {name!r} may have some; mark its function with @pure if it changes nothing"
                self.check(what)
            return work(*args, **named)

        return called
