"""What becomes of a run: an agent's value or exception as the outcome that is reported. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from worker.errors import NonRetryable, RetryLater
from worker.logs import Redactor
from worker.models import Failed, Outcome, RunError, Succeeded
from worker.runtime.llm_agent import LoopStoppedError
from worker.specs import TaskSpec

LONGEST_WAIT_S = 365 * 86_400.0  # as the control plane has it
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Result:
    """What an agent returns to submit tasks with its end: both commit together, or the run has failed.

    Attributes:
        value: The task's output.
        next: Children of the task, submitted all or none; 200 at most.
    """

    value: Any
    next: Sequence[TaskSpec] = ()


def failed(
    code: str,
    message: str,
    *,
    retryable: bool,
    not_before_ms: float | None = None,
    redo: list[str] | None = None,
) -> Failed:
    """Return a failure; `redo` are the steps that a retry by hand is to make anew."""
    error = RunError.model_construct(code=code, message=message)
    return Failed.model_construct(
        kind="failed", error=error, retryable=retryable, not_before_ms=not_before_ms, redo=redo
    )


def succeeded(value: Any, max_bytes: int) -> Outcome:  # noqa: ANN401 - whatever the agent returned
    """Return the outcome of an agent that returned `value`: a failure if it cannot be kept as JSON."""
    if isinstance(value, Result):
        outcome = succeeded(value.value, max_bytes)
        if not value.next or not isinstance(outcome, Succeeded):
            return outcome
        specs = [spec.model_dump(by_alias=True, exclude_none=True) for spec in value.next]
        return outcome.model_copy(update={"next": json.dumps(specs)})
    if value is None:
        return Succeeded.model_construct(kind="succeeded", output=None)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        why = "it refers to itself or nests too deeply" if isinstance(error, RecursionError) else str(error)
        return failed(
            "invalid_output", f"The agent returned something that is not JSON: {why}", retryable=False
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate: JSON can escape it, UTF-8 cannot hold it
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
        size = len(text)
    if size > max_bytes:
        return failed(
            "output_too_large",
            f"The output has {size} bytes, at most {max_bytes} are kept; store it elsewhere and return where",
            retryable=False,
        )
    return Succeeded.model_construct(kind="succeeded", output=text)


def raised(error: BaseException, redact: Redactor) -> Failed:
    """Return the failure that an agent's exception stands for.

    An exception may carry `code`, `retryable` and `retry_after_s`, as those of model calls do. The code is
    else the name of its class, and it is retryable. Whatever else stands in these fields is passed over.
    """
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    code = getattr(error, "code", None)
    if not isinstance(code, str) or not code:
        code = snake_case(type(error).__name__)
    retryable = getattr(error, "retryable", True)
    after_s = getattr(error, "after_s" if isinstance(error, RetryLater) else "retry_after_s", None)
    return failed(
        redact.line(code, 100),
        redact.line(_text_of(error)) or type(error).__name__,
        retryable=retryable is not False and not isinstance(error, NonRetryable),
        not_before_ms=_wait_ms(after_s),
        redo=list(error.redo) or None if isinstance(error, LoopStoppedError) else None,
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # `__str__` is the agent's code too
        return ""


def _wait_ms(after_s: object) -> float | None:
    """Return a wait that the wire can carry, in milliseconds; None for what is no number."""
    if not isinstance(after_s, int | float) or (isinstance(after_s, float) and math.isnan(after_s)):
        return None
    return min(max(0.0, after_s), LONGEST_WAIT_S) * 1000


def snake_case(name: str) -> str:
    """Return `HTTPStatusError` as `http_status_error`."""
    return _HUMP.sub("_", name).lower()
