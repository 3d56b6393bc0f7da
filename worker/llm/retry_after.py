"""Reads from an answer how long a provider asks to be left alone. Pure: the time is passed in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

MAX_WAIT_S = 86_400.0  # a mistaken header must not shut a model out for weeks
_MILLISECONDS = ("retry-after-ms", "x-ms-retry-after-ms")
_BUCKETS = ("requests", "tokens", "input-tokens", "output-tokens")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_HINT = re.compile(r"(?i)\b(?:try again|retry) in ((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)")


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the wait that `retry-after-ms` or `retry-after` asks for, in seconds.

    Args:
        headers: Looked up by lower-case names.
        now: Used for dates if the answer carries no `date` of its own.
    """
    for name in _MILLISECONDS:
        if (ms := _number(headers.get(name))) is not None:
            return _bounded(ms / 1000)
    value = headers.get("retry-after")
    if (seconds := _number(value)) is not None:
        return _bounded(seconds)
    if value is None or (at := _http_date(value)) is None:
        return None
    return _bounded((at - _sent_at(headers, now)).total_seconds())


def limit_reset_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return when the rate limits that an answer tells of let a request through again, in seconds.

    The limits that are used up decide, and of these the last to be renewed. If the answer says of none that
    it is used up, the first to be renewed is the first moment at which anything changes.
    """
    waits: list[float] = []
    used_up: list[float] = []
    for prefix in ("x-ratelimit-", "anthropic-ratelimit-"):
        for bucket in _BUCKETS:
            remaining, reset = (
                (f"{prefix}remaining-{bucket}", f"{prefix}reset-{bucket}")
                if prefix.startswith("x-")
                else (f"{prefix}{bucket}-remaining", f"{prefix}{bucket}-reset")
            )
            wait = _reset(headers.get(reset), headers, now)
            if wait is not None:
                waits.append(wait)
                if _number(headers.get(remaining)) == 0:
                    used_up.append(wait)
    if used_up:
        return max(used_up)
    return min(waits, default=None)


def hinted_s(message: str) -> float | None:
    """Return the wait that a message for people names, as in "Please try again in 1.898s"."""
    found = _HINT.search(message)
    return _bounded(_duration(found[1])) if found else None


def _reset(value: str | None, headers: Mapping[str, str], now: datetime) -> float | None:
    if value is None:
        return None
    value = value.strip()
    if (seconds := _number(value)) is not None:
        return _bounded(seconds)
    if _DURATION.fullmatch(value):
        return _bounded(_duration(value))
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return _bounded((_aware(at) - _sent_at(headers, now)).total_seconds())


def _duration(text: str) -> float:
    return sum(float(amount) * _UNIT_S[unit] for amount, unit in _PART.findall(text))


def _number(text: str | None) -> float | None:
    try:
        number = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _http_date(text: str) -> datetime | None:
    try:
        return _aware(parsedate_to_datetime(text))
    except (ValueError, OverflowError):
        return None


def _sent_at(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return the time on the provider's own clock, which its dates are measured against."""
    return _http_date(headers.get("date", "")) or now


def _aware(at: datetime) -> datetime:
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_WAIT_S)
