"""The worker's errors: callers catch these names and never a library's.

SignalboxError
├── SettingsError                 the environment or .env is wrong
│   └── UsageError                what was typed at the command line is wrong
├── AgentImportError              a module of agents does not import
├── BackendError                  a call to Convex did not bring a value
│   ├── TransportError            nothing is known about the outcome; the identical request may be sent again
│   │   ├── BackendUnreachable    no connection
│   │   ├── BackendTimeout        no answer in time
│   │   ├── ConnectionLost        the connection broke in mid-call
│   │   ├── BackendOverloaded     429 or 503; may say when to come back
│   │   └── BackendUnavailable    another 5xx
│   ├── ProtocolError             the answer is not Convex's
│   │   └── RequestRefused        400 or 413: turned away before any function saw it
│   ├── RequestUnencodable        the request is no JSON in UTF-8, so it was not sent
│   └── FunctionFailed            the function threw, so its transaction left nothing behind
│       ├── Unauthorized          no such key, revoked or expired
│       ├── Forbidden             the key's role or scope does not allow this
│       ├── InvalidArgument
│       ├── NotFound
│       ├── UnknownAgent
│       ├── PayloadTooLarge
│       ├── AlreadyDecided        an approval was decided, has expired or was withdrawn
│       ├── ArgumentsChanged      an approval is for other arguments
│       └── SessionEnded          a run is not this session's any more
└── AgentError                    raised by agents to say what should happen next
    ├── NonRetryable              the task fails for good
    └── RetryLater                the task is tried again, not before a given time
"""

# ruff: noqa: N818 - the names say what happened, as httpx's do: `BackendTimeout`, `SessionEnded`.
from __future__ import annotations

import math
from typing import ClassVar


class SignalboxError(Exception):
    """Base of every error of this package."""


class SettingsError(SignalboxError):
    """A setting is missing or malformed; the message is the one line to print."""


class UsageError(SettingsError):
    """An option was given what it cannot take; the message is the one line to print, and names it."""


class AgentImportError(SignalboxError):
    """A module of agents does not import; the message names the reason, the file and the line."""


class BackendError(SignalboxError):
    """A call to Convex did not bring a value."""


class TransportError(BackendError):
    """Nothing is known about the outcome; the identical request may be sent again."""

    retry_after_s: float | None = None


class BackendUnreachable(TransportError):
    """No connection could be made."""


class BackendTimeout(TransportError):
    """No answer came before the deadline of the call."""


class ConnectionLost(TransportError):
    """The connection broke before the answer was complete."""


class BackendOverloaded(TransportError):
    """Convex answered 429 or 503."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class BackendUnavailable(TransportError):
    """Convex, or a proxy before it, answered with a 5xx status."""


class ProtocolError(BackendError):
    """The answer is not one that Convex gives; most often CONVEX_URL points elsewhere."""


class RequestRefused(ProtocolError):
    """HTTP 400 or 413: this attempt was turned away as malformed or too large before any function saw it."""


class RequestUnencodable(BackendError):
    """The request cannot be written as JSON in UTF-8, so it was not sent."""


class FunctionFailed(BackendError):
    """The function threw: its transaction was rolled back.

    Args:
        message: One line that says what is wrong and what to do.
        code: The code of a `ConvexError`, or None when the function crashed with a plain error.
    """

    default_code: ClassVar[str | None] = None

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code if code is not None else self.default_code


class Unauthorized(FunctionFailed):
    """There is no such key, or it was revoked or has expired."""

    default_code = "unauthorized"


class Forbidden(FunctionFailed):
    """The key's role or scope does not allow the call."""

    default_code = "forbidden"


class InvalidArgument(FunctionFailed):
    """An argument was refused."""

    default_code = "invalid_argument"


class NotFound(FunctionFailed):
    """The thing named does not exist."""

    default_code = "not_found"


class UnknownAgent(FunctionFailed):
    """No agent of that name is registered."""

    default_code = "unknown_agent"


class PayloadTooLarge(FunctionFailed):
    """An argument is larger than the control plane stores."""

    default_code = "payload_too_large"


class AlreadyDecided(FunctionFailed):
    """An approval is not open any more; the message says who decided, or that it expired or was withdrawn."""

    default_code = "already_decided"


class ArgumentsChanged(FunctionFailed):
    """An approval is for other arguments than those whose hash was given."""

    default_code = "arguments_changed"


class SessionEnded(FunctionFailed):
    """A run's input was asked for by a session that does not hold the run any more."""

    default_code = "session_ended"


_CODED = (
    Unauthorized,
    Forbidden,
    InvalidArgument,
    NotFound,
    UnknownAgent,
    PayloadTooLarge,
    AlreadyDecided,
    ArgumentsChanged,
    SessionEnded,
)
_BY_CODE: dict[str | None, type[FunctionFailed]] = {cls.default_code: cls for cls in _CODED}


def function_error(code: str | None, message: str) -> FunctionFailed:
    """Return the narrowest error for a `ConvexError`'s code."""
    return _BY_CODE.get(code, FunctionFailed)(message, code)


class AgentError(SignalboxError):
    """Base of what an agent raises to say what should happen to its task."""


class NonRetryable(AgentError):
    """The task fails for good: trying again would not help."""


class RetryLater(AgentError):
    """The task is tried again, but not before `after_s` seconds have passed.

    Args:
        message: Why.
        after_s: Nothing is waited for below 0, and a year at most.

    Raises:
        ValueError: `after_s` is infinite or not a number.
    """

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        if not -math.inf < after_s < math.inf:
            raise ValueError(f"after_s must be a finite number of seconds, not {after_s}")
        self.after_s = after_s
