"""What people decide before a run goes on: how it is asked, and what a later run finds.

A question is a step. The run that asks it ends, its task waits without a worker, and the next run finds the
decision, which holds for exactly the arguments that were asked for.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from worker.errors import NonRetryable
from worker.models import ApprovalWhy, Ask
from worker.runtime.canonical import args_hash, canonical

MAX_ARGUMENTS_BYTES = 64 * 1024  # more than a person can check; the control plane refuses more


class NotApprovedError(NonRetryable):
    """People did not approve what an agent asked for; `decision` says who and why."""

    code = "not_approved"

    def __init__(self, message: str, decision: Decision) -> None:
        super().__init__(message)
        self.decision = decision


class ApprovalRefusedError(NotApprovedError):
    """A person refused."""

    code = "approval_refused"


class ApprovalExpiredError(NotApprovedError, TimeoutError):
    """Nobody decided in time."""

    code = "approval_expired"


class ArgumentsChangedError(NonRetryable):
    """The arguments are not those that were decided on."""

    code = "arguments_changed"


class InvalidApprovalError(NonRetryable):
    """What is asked cannot be: its arguments are no JSON, or too large for a person to check."""

    code = "invalid_approval"


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a question.

    Attributes:
        state: "approved", "refused", or "expired" when nobody decided in time.
        by: Id of the key that decided; None when it expired.
        label: That key's label.
        note: What the person said to it.
        result: Of what is in doubt: the JSON value of "it happened, and this came of it", in a tuple.
    """

    state: Literal["approved", "refused", "expired"]
    by: str | None = None
    label: str | None = None
    note: str | None = None
    result: tuple[Any] | None = None

    def told(self) -> str:
        """Return it in a few words, for an error's line."""
        if self.state == "expired":
            return "nobody decided in time"
        note = "" if self.note is None else f": {self.note}"
        return f"{self.label!r} {self.state} it{note}"


Asker = Callable[[Ask], Awaitable[str]]


def question(
    step: str,
    what: str,
    arguments: Any,  # noqa: ANN401 - any JSON
    *,
    why: ApprovalWhy,
    about: str | None = None,
    timeout_s: float | None = None,
) -> Ask:
    """Return what people are to be asked.

    Raises:
        InvalidApprovalError: It cannot be asked.
    """
    try:
        text = canonical(arguments)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidApprovalError(f"The arguments of {what!r} are not JSON: {error}"[:500]) from error
    if (size := len(text.encode())) > MAX_ARGUMENTS_BYTES:
        raise InvalidApprovalError(
            f"The arguments of {what!r} have {size} bytes; at most {MAX_ARGUMENTS_BYTES} can be checked by a "
            "person: store them elsewhere and ask about where"
        )
    limit_ms = None if timeout_s is None else timeout_s * 1000
    return Ask(step=step, tool=what, args=text, why=why, about=about, timeout_ms=limit_ms)


def decided(what: str, arguments: Any, found: str) -> Decision:  # noqa: ANN401 - any JSON
    """Return the decision that a step's result tells.

    Raises:
        ArgumentsChangedError: It was made for other arguments.
    """
    told = json.loads(found)
    if told["argsHash"] != args_hash(arguments):
        raise ArgumentsChangedError(
            f"The arguments of {what!r} are not those that were decided on: they have changed since a person "
            "was asked"
        )
    result = (told["result"],) if "result" in told else None
    return Decision(told["state"], told["by"], told["label"], told["note"], result)


def granted(what: str, decision: Decision) -> Decision:
    """Return the decision if it lets the run go on.

    Raises:
        ApprovalRefusedError: A person refused.
        ApprovalExpiredError: Nobody decided in time.
    """
    if decision.state == "approved":
        return decision
    kind = ApprovalRefusedError if decision.state == "refused" else ApprovalExpiredError
    raise kind(f"{what!r} was not approved: {decision.told()}"[:1000], decision)
