"""What is told of the errors of runs, beside the control plane."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """The run that an error has ended; `code` is the failure's, as the task's row has it."""

    run: str
    task: str
    agent: str
    attempt: int
    code: str


Hook = TypeVar("Hook", bound=Callable[[BaseException, ErrorContext], object])
_hooks: list[Callable[[BaseException, ErrorContext], object]] = []


def on_error(hook: Hook) -> Hook:
    """Have `hook(error, context)` called whenever an agent raises; also a decorator.

    It is called in the process that plays the run, and holds up its other runs for as long as it takes. What
    it raises is logged and changes nothing.
    """
    if hook not in _hooks:
        _hooks.append(hook)
    return hook


def forget(hook: Callable[[BaseException, ErrorContext], object]) -> None:
    """Call a hook no more."""
    if hook in _hooks:
        _hooks.remove(hook)


def told(error: BaseException, context: ErrorContext) -> None:
    """Call every hook."""
    for hook in _hooks:
        try:
            hook(error, context)
        except (Exception, SystemExit):
            logger.exception("an error hook raised", extra={"action": "hook_raised", "run": context.run})
