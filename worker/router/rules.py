"""What each class of failure means for the model, for the rest of its chain, and for later calls. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Same = Literal["no", "once", "after_wait"]
Next = Literal["no", "yes", "larger"]
Cools = Literal["no", "told", "long", "rate", "until_configured"]


@dataclass(frozen=True, slots=True)
class Rule:
    """How a class of failure is answered.

    Attributes:
        same: Whether the same model is asked again: once, a moment later; or `after_wait`, when no other
            model is free and the wait is short.
        next: Whether the next model can help; `larger`: only one with a larger window.
        cools: What it says of later calls: nothing; the provider told for how long; long; a matter of how
            many calls fail; or broken until somebody changes the configuration.
    """

    same: Same
    next: Next
    cools: Cools


_TRANSPORT = Rule("once", "yes", "rate")
RULES: dict[str, Rule] = {
    "rate_limited": Rule("after_wait", "yes", "told"),
    "quota_exhausted": Rule("no", "yes", "long"),
    "overloaded": Rule("once", "yes", "rate"),
    "server_error": Rule("once", "yes", "rate"),
    "timeout": _TRANSPORT,
    "connection": _TRANSPORT,
    "stream_truncated": _TRANSPORT,
    "stream_protocol": _TRANSPORT,
    "transient": Rule("once", "yes", "no"),
    "context_length": Rule("no", "larger", "no"),
    "content_filter": Rule("no", "no", "no"),
    "refusal": Rule("no", "no", "no"),
    "auth": Rule("no", "yes", "until_configured"),
    "permission": Rule("no", "yes", "until_configured"),
    "model_not_found": Rule("no", "yes", "until_configured"),
    "bad_request": Rule("no", "no", "no"),
    "too_large": Rule("no", "no", "no"),
}
UNKNOWN = Rule("no", "no", "no")  # of a class that nobody has thought about: it is not repeated blindly
POLICY = frozenset({"content_filter", "refusal"})  # a chain may say that the next model is asked after these

WINDOW_S = 60.0  # failures older than this say nothing of a model
FAILURES = 3  # within it, before a model cools
SHORTEST_COOL_S = 10.0
LONGEST_COOL_S = 30.0
UNTOLD_COOL_S = 15.0  # of a rate limit that did not say for how long; doubled with each in a row
LONGEST_UNTOLD_S = 60.0
QUOTA_COOL_S = 900.0


def rule_of(code: str, fallback_on: frozenset[str] = frozenset()) -> Rule:
    """Return the rule for a class, as a chain's policy changes it."""
    rule = RULES.get(code, UNKNOWN)
    return Rule(rule.same, "yes", rule.cools) if code in fallback_on & POLICY else rule


def is_soft(code: str) -> bool:
    """Return whether a model cools because calls fail, and not because it asked to be left alone."""
    return rule_of(code).cools == "rate"


def cooldown_s(code: str, retry_after_s: float | None, *, in_a_row: int, failures: int, calls: int) -> float:
    """Return for how long a model is not to be asked after a failure; inf: until it is configured.

    Args:
        code: The failure's class.
        retry_after_s: What the provider asks for.
        in_a_row: Failures since the last answer, this one included.
        failures: Those of the last `WINDOW_S` that say something of the model, this one included.
        calls: All calls that ended in that time, this one included.
    """
    match rule_of(code).cools:
        case "told":
            untold = UNTOLD_COOL_S * 2.0 ** min(max(in_a_row - 1, 0), 10)
            return min(untold, LONGEST_UNTOLD_S) if retry_after_s is None else retry_after_s
        case "long":
            return max(retry_after_s or 0.0, QUOTA_COOL_S)
        case "rate":
            told = retry_after_s or 0.0
            if failures < FAILURES or 2 * failures < calls:
                return told
            return max(told, min(SHORTEST_COOL_S * (failures - FAILURES + 1), LONGEST_COOL_S))
        case "until_configured":
            return math.inf
        case "no":
            return 0.0
