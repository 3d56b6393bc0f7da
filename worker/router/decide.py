"""Decides what a call does next: which model it asks, after what wait, or how it ends. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from worker.router.rules import rule_of

TRIES = 2  # of one model in one call
LONGEST_WAIT_S = 5.0  # that a call waits in all; beyond it the queue waits, and the worker is free
SOON_S = 1.0  # the same model is worth this wait although another is free: it has the prompt in its cache


@dataclass(frozen=True, slots=True)
class Chain:
    """Models in the order in which they are asked.

    Attributes:
        models: Names as `provider/model`; each counts once.
        fallback_on: "content_filter" and "refusal": that the next model is asked after these too.
    """

    models: tuple[str, ...]
    fallback_on: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Option:
    """A model of the chain as it stands now.

    Attributes:
        name: `provider/model`.
        free_in_s: 0: it can be asked; inf: not before its configuration changes.
        window: Tokens of its context; None: not known.
        capable: Whether it can do what is asked, as far as that is known.
        blocked: The class of failure that keeps it from being asked, if there is one.
    """

    name: str
    free_in_s: float = 0.0
    window: int | None = None
    capable: bool = True
    blocked: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt of this call that failed.

    Attributes:
        model: Who was asked.
        code: The class.
        wait_s: Until the same model may be asked again: what the provider asked for, or a moment by chance.
        forbidden: The provider said that the same request would fail again.
    """

    model: str
    code: str
    wait_s: float = 0.0
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """The tokens of a prompt: at least `least`, most likely `likely`."""

    least: int = 0
    likely: int = 0


@dataclass(frozen=True, slots=True)
class Try:
    """Ask `model`, `after_s` seconds from now."""

    model: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class End:
    """The call has failed.

    Attributes:
        code: The class of failure that decided.
        retryable: A later attempt can do better.
        after_s: When that is worth while; 0: there is no reason to wait.
    """

    code: str
    retryable: bool
    after_s: float = 0.0


def next_move(
    options: Sequence[Option],
    failures: Sequence[Failure],
    *,
    need: Need = Need(),
    fallback_on: frozenset[str] = frozenset(),
    waited_s: float = 0.0,
    remaining_s: float = math.inf,
) -> Try | End:
    """Return what a call does next.

    Args:
        options: The chain, the model that is to be asked first in front.
        failures: The attempts so far, in order.
        need: The size of the prompt.
        fallback_on: The chain's policy.
        waited_s: How long the call has waited so far, attempts not counted.
        remaining_s: Until its deadline.
    """
    last = failures[-1] if failures else None
    rule = None if last is None else rule_of(last.code, fallback_on)
    if last is not None and rule is not None and rule.next == "no":
        return End(last.code, retryable=False)
    patience_s = min(LONGEST_WAIT_S - waited_s, remaining_s)
    usable = [option for option in options if _is_usable(option, options, failures, need)]
    waits = {option.name: _wait_s(option, failures) for option in usable}
    if last is not None and rule is not None and rule.same == "once":
        wait = waits.get(last.model, math.inf)
        if wait <= min(SOON_S, patience_s):
            return Try(last.model, wait)
    free = [option for option in usable if waits[option.name] <= 0]
    if free:
        fits = [option for option in free if option.window is None or need.likely <= option.window]
        return Try((fits or free)[0].name)
    soonest = min(usable, key=lambda option: waits[option.name], default=None)
    if soonest is not None and waits[soonest.name] <= patience_s:
        return Try(soonest.name, waits[soonest.name])
    return _end(options, failures, need)


def _is_usable(option: Option, options: Sequence[Option], failures: Sequence[Failure], need: Need) -> bool:
    """Return whether this call may still ask a model, now or in a while."""
    return not _is_hopeless(option, options, failures, need) and not (
        (its := [failure for failure in failures if failure.model == option.name])
        and (len(its) >= TRIES or rule_of(its[-1].code).same == "no")
    )


def _is_hopeless(option: Option, options: Sequence[Option], failures: Sequence[Failure], need: Need) -> bool:
    """Return whether asking a model cannot help, not even in a later attempt."""
    if not option.capable or option.free_in_s == math.inf or _is_too_small(option, need.least):
        return True
    windows = {other.name: other.window for other in options}
    for failure in failures:
        if failure.model == option.name and (
            failure.forbidden or rule_of(failure.code).next in {"no", "larger"}
        ):
            return True
        if failure.code == "context_length":
            too_small = windows.get(failure.model)
            if too_small is not None and _is_too_small(option, too_small + 1):
                return True
    return False


def _is_too_small(option: Option, tokens: int) -> bool:
    return option.window is not None and option.window < tokens


def _wait_s(option: Option, failures: Sequence[Failure]) -> float:
    """Return when a model that this call may ask can be asked."""
    asked = [failure.wait_s for failure in failures if failure.model == option.name]
    return max(option.free_in_s, asked[-1] if asked else 0.0)


def _end(options: Sequence[Option], failures: Sequence[Failure], need: Need) -> End:
    left = [option for option in options if not _is_hopeless(option, options, failures, need)]
    if left:
        code = failures[-1].code if failures else "no_model_free"
        after_s = min(_wait_s(option, failures) for option in left)
        return End(code, retryable=True, after_s=after_s if after_s > SOON_S else 0.0)
    if failures:
        return End(failures[-1].code, retryable=False)
    blocked = next((option.blocked for option in options if option.blocked is not None), None)
    if blocked is not None:
        return End(blocked, retryable=False)
    if any(option.capable for option in options):
        return End("context_length", retryable=False)
    return End("no_capable_model", retryable=False)
