"""What can go wrong with a model call, named by what should happen next.

ModelError
├── RateLimited            rate_limited       wait for `retry_after_s`, or take another model at once
├── QuotaExhausted         quota_exhausted    no credit left: waiting does not help
├── Overloaded             overloaded         the provider has no capacity now
├── ServerError            server_error       the provider failed
├── TransientRefusal       transient          408, 409, 425: the same request may pass a moment later
├── ModelTimeout           timeout            one of the caller's time limits passed
├── ConnectionFailed       connection         no connection, or it broke
├── StreamTruncated        stream_truncated   the body ended without its terminal marker
├── StreamProtocolError    stream_protocol    bytes that cannot be read as the dialect
├── ContextLength          context_length     the prompt is too long for this model
├── ContentFiltered        content_filter     the provider's filter blocked the prompt or the answer
├── Misconfigured          broken until somebody changes the configuration
│   ├── AuthFailed         auth
│   ├── PermissionRefused  permission
│   └── ModelNotFound      model_not_found
└── BadRequest             bad_request        the caller's fault: no model would take it
    └── RequestTooLarge    too_large
"""

# ruff: noqa: N818 - the names say what happened, as those of worker/errors.py do.
from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from worker.errors import SignalboxError

if TYPE_CHECKING:
    from worker.llm.messages import TokenUsage


class ModelError(SignalboxError):
    """A model call did not bring a complete answer.

    Args:
        message: One line for people, free of secrets.
        provider_code: The provider's own word for the error, if it gave one.
        status: The HTTP status, also when an error inside a stream stands for it.
        retry_after_s: The shortest wait that the provider asks for, in seconds.
        forbids_retry: The provider said that the same request will fail again.

    Attributes:
        code: The class of the error, as stored and shown.
        retryable: Another try on the same model can help.
        fallback: The next model of a chain can help.
        partial_output: Deltas were handed out before; whoever showed them must drop them.
        usage: What the provider had counted when it broke off; None if it told nothing, which is not zero.
    """

    code: ClassVar[str]
    retryable: bool = False
    fallback: bool = True

    def __init__(
        self,
        message: str,
        *,
        provider_code: str | None = None,
        status: int | None = None,
        retry_after_s: float | None = None,
        forbids_retry: bool = False,
    ) -> None:
        super().__init__(message)
        self.provider_code = provider_code
        self.status = status
        self.retry_after_s = retry_after_s
        self.partial_output = False
        self.usage: TokenUsage | None = None
        if forbids_retry:
            self.retryable = False


class RateLimited(ModelError):
    """Too many requests or tokens in a span of time."""

    code = "rate_limited"
    retryable = True


class QuotaExhausted(ModelError):
    """The account has no credit left; only its owner can change that."""

    code = "quota_exhausted"


class Overloaded(ModelError):
    """The provider has no capacity at the moment."""

    code = "overloaded"
    retryable = True


class ServerError(ModelError):
    """The provider, or a gateway before it, failed."""

    code = "server_error"
    retryable = True


class TransientRefusal(ModelError):
    """The request was refused for a moment only: 408, 409 or 425."""

    code = "transient"
    retryable = True


class ModelTimeout(ModelError):
    """One of the call's time limits passed; the message says which."""

    code = "timeout"
    retryable = True


class ConnectionFailed(ModelError):
    """No connection could be made, or it broke in the middle."""

    code = "connection"
    retryable = True


class StreamTruncated(ModelError):
    """The body ended, however cleanly, before the message was complete."""

    code = "stream_truncated"
    retryable = True


class StreamProtocolError(ModelError):
    """The answer cannot be read: bad JSON, a page of HTML, an event past the size limit."""

    code = "stream_protocol"
    retryable = True


class ContextLength(ModelError):
    """The prompt does not fit this model; one with a larger window may take it."""

    code = "context_length"


class ContentFiltered(ModelError):
    """The provider's content filter blocked the call."""

    code = "content_filter"
    fallback = False


class Misconfigured(ModelError):
    """This deployment stays broken until its configuration changes; another one may work."""


class AuthFailed(Misconfigured):
    """The key is missing, wrong or revoked."""

    code = "auth"


class PermissionRefused(Misconfigured):
    """The key is good, but not for this."""

    code = "permission"


class ModelNotFound(Misconfigured):
    """There is no such model, or nothing that speaks this dialect, at the address."""

    code = "model_not_found"


class BadRequest(ModelError):
    """The request is wrong in itself, so no model would take it."""

    code = "bad_request"
    fallback = False


class RequestTooLarge(BadRequest):
    """The request's body is larger than the provider accepts."""

    code = "too_large"
