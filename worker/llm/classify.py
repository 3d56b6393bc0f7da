"""Decides what kind of failure a provider's answer is. Pure.

An error inside a stream is classed like the HTTP status that it stands for. Words that say exactly what is
wrong win over the status, since gateways put many things under 400 and 500; general words count only where no
status is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any

from worker.llm.errors import (
    AuthFailed,
    BadRequest,
    ContentFiltered,
    ContextLength,
    ModelError,
    ModelNotFound,
    Overloaded,
    PermissionRefused,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    ServerError,
    TransientRefusal,
)
from worker.llm.retry_after import hinted_s, limit_reset_s, retry_after_s

_EXACT: dict[str, type[ModelError]] = {
    "insufficient_quota": QuotaExhausted,
    "insufficient_balance": QuotaExhausted,
    "billing_error": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "payment_required": QuotaExhausted,
    "context_length_exceeded": ContextLength,
    "exceed_context_size_error": ContextLength,
    "model_context_window_exceeded": ContextLength,
    "content_filter": ContentFiltered,
    "content_policy_violation": ContentFiltered,
    "responsibleaipolicyviolation": ContentFiltered,
    "data_inspection_failed": ContentFiltered,
    "rate_limit_exceeded": RateLimited,
    "rate_limit_error": RateLimited,
    "too_many_requests": RateLimited,
    "resource_exhausted": RateLimited,
    "overloaded_error": Overloaded,
    "engine_overloaded": Overloaded,
    "invalid_api_key": AuthFailed,
    "authentication_error": AuthFailed,
    "permission_error": PermissionRefused,
    "permission_denied": PermissionRefused,
    "model_not_found": ModelNotFound,
    "not_found_error": ModelNotFound,
    "request_too_large": RequestTooLarge,
}
_GENERAL: dict[str, type[ModelError]] = {
    "invalid_request_error": BadRequest,
    "invalid_argument": BadRequest,
    "bad_request_error": BadRequest,
    "badrequesterror": BadRequest,
    "notfounderror": ModelNotFound,
    "invalid_prompt": BadRequest,
    "api_error": ServerError,
    "timeout_error": ServerError,
    "conflict_error": TransientRefusal,
}
_STATUS: dict[int, type[ModelError]] = {
    401: AuthFailed,
    402: QuotaExhausted,
    403: PermissionRefused,
    404: ModelNotFound,
    408: TransientRefusal,
    409: TransientRefusal,
    413: RequestTooLarge,
    425: TransientRefusal,
    429: RateLimited,
    529: Overloaded,
}
# Servers that give no code for these say so in words. The last one is a prompt above a limit of tokens a
# minute: it is called a rate limit, but no wait makes it fit.
_TOO_LONG = re.compile(
    r"(?i)maximum context length|prompt is too long|context window|available context size"
    r"|reduce the length of the messages|input token count .* exceeds|^request too large for"
)
_OVERLOADED = re.compile(r"(?i)overload|at capacity|no capacity")
_CODE = re.compile(r"[\w.:/-]{1,100}")


def from_response(status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> ModelError:
    """Return the error that an HTTP answer of status 300 or above stands for.

    Args:
        status: The HTTP status.
        headers: Looked up by lower-case names.
        body: As much of it as was read.
        now: Used for dates if the answer carries no `date`.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    codes, message = _words(value)
    error_class = _error_class(codes, message, status)
    wait = retry_after_s(headers, now)
    if wait is None and error_class is RateLimited:
        wait = limit_reset_s(headers, now)
        wait = hinted_s(message) if wait is None else wait
    return error_class(
        message or _told_by(status),
        provider_code=codes[0] if codes else None,
        status=status,
        retry_after_s=wait,
        # A provider may forbid a retry; it cannot talk us into one.
        forbids_retry=headers.get("x-should-retry", "").strip().lower() == "false",
    )


def from_error(value: Any) -> ModelError:  # noqa: ANN401 - any JSON value that came as an error
    """Return the error that came as data under status 200: an object, a list of one, or a bare string."""
    codes, message = _words(value)
    status = next((int(code) for code in codes if _is_error_status(code)), None)
    error_class = _error_class(codes, message, status)
    return error_class(
        message or "The provider reported an error without a message",
        provider_code=codes[0] if codes else None,
        status=status,
        retry_after_s=hinted_s(message) if error_class is RateLimited else None,
    )


def _error_class(codes: list[str], message: str, status: int | None) -> type[ModelError]:
    if _TOO_LONG.search(message):
        return ContextLength
    words = [code.lower() for code in codes]
    for word in words:
        if word in _EXACT:
            return _EXACT[word]
    if status is None:
        named = (_GENERAL[word] for word in words if word in _GENERAL)
        overloaded = Overloaded if _OVERLOADED.search(message) else ServerError
        return next(named, overloaded)
    return _by_status(status, message)


def _by_status(status: int, message: str) -> type[ModelError]:
    if status < HTTPStatus.BAD_REQUEST:
        return ModelNotFound  # a redirect: the model is not at this address
    if status in _STATUS:
        return _STATUS[status]
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return BadRequest
    if status == HTTPStatus.SERVICE_UNAVAILABLE and _OVERLOADED.search(message):
        return Overloaded
    return ServerError


def _words(value: Any) -> tuple[list[str], str]:  # noqa: ANN401 - any JSON value
    """Return the codes of an error, the provider's own word first, and its message."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, str):
        return [], value
    if not isinstance(value, dict):
        return [], ""
    inner = value.get("error")
    if isinstance(inner, dict):
        return _codes(inner), _message(inner)
    if isinstance(inner, str):
        return _codes(value), inner
    return _codes(value), _message(value)


def _codes(error: dict[str, Any]) -> list[str]:
    codes = [code for code in _candidates(error) if _CODE.fullmatch(code)]
    return [code for code in codes if code != "error"]  # the type of an event, which says nothing more


def _candidates(error: dict[str, Any]) -> Iterator[str]:
    for name in ("code", "type", "status"):
        code = error.get(name)
        if isinstance(code, str) or (isinstance(code, int) and not isinstance(code, bool)):
            yield str(code)
    for name in ("innererror", "inner_error", "details"):  # Azure says there why the content filter closed
        inner = error.get(name)
        if isinstance(inner, dict):
            yield from (str(inner[key]) for key in ("code", "error_code") if isinstance(inner.get(key), str))


def _message(error: dict[str, Any]) -> str:
    for name in ("message", "detail", "msg"):
        message = error.get(name)
        if isinstance(message, str):
            return message
    return ""


def _is_error_status(code: str) -> bool:
    return len(code) == 3 and code.isascii() and code.isdigit() and code >= "400"


def _told_by(status: int) -> str:
    if status < HTTPStatus.BAD_REQUEST:
        return f"The provider answered with a redirect (HTTP {status}); set the base URL to where it leads"
    try:
        return f"The provider answered with HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"The provider answered with HTTP {status}"
