"""A provider's refusal is classed by what should happen next, and its wish to be left alone is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.llm import errors
from worker.llm.classify import from_error, from_response
from worker.llm.errors import ModelError
from worker.llm.retry_after import MAX_WAIT_S, hinted_s, limit_reset_s, retry_after_s

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def refusal(status: int, body: Any = None, **headers: str) -> ModelError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return from_response(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, NOW)


def told(message: str = "", code: Any = None, kind: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code}}


@pytest.mark.parametrize(
    ("status", "code", "retryable", "fallback"),
    [
        (301, "model_not_found", False, True),
        (400, "bad_request", False, False),
        (401, "auth", False, True),
        (402, "quota_exhausted", False, True),
        (403, "permission", False, True),
        (404, "model_not_found", False, True),
        (405, "bad_request", False, False),
        (408, "transient", True, True),
        (409, "transient", True, True),
        (413, "too_large", False, False),
        (422, "bad_request", False, False),
        (425, "transient", True, True),
        (429, "rate_limited", True, True),
        (500, "server_error", True, True),
        (502, "server_error", True, True),
        (503, "server_error", True, True),
        (504, "server_error", True, True),
        (529, "overloaded", True, True),
        (599, "server_error", True, True),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>Bad Gateway</html>", b'{"error":', b"null", b"[]", b"[" * 100_000]
)
def test_a_status_alone_decides_where_the_body_says_nothing(
    status: int, code: str, retryable: bool, fallback: bool, body: bytes
) -> None:
    error = refusal(status, body)
    assert (error.code, error.retryable, error.fallback) == (code, retryable, fallback)
    assert (error.status, error.provider_code, error.retry_after_s) == (status, None, None)
    assert str(status) in str(error)
    assert "<html>" not in str(error)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (429, told(code="insufficient_quota", kind="insufficient_quota"), "quota_exhausted"),
        (403, told(kind="billing_error"), "quota_exhausted"),
        (400, told(code="context_length_exceeded"), "context_length"),
        (
            400,
            told("prompt is too long: 210000 tokens > 200000 maximum", kind="invalid_request_error"),
            "context_length",
        ),
        (
            500,
            told("the request exceeds the available context size", kind="exceed_context_size_error"),
            "context_length",
        ),
        (
            400,
            {"object": "error", "message": "This model's maximum context length is 4096 tokens."},
            "context_length",
        ),
        (
            413,
            told("Request too large for model `x` on tokens per minute", "rate_limit_exceeded"),
            "context_length",
        ),
        (
            429,
            told("Request too large for gpt-4o on tokens per min", "rate_limit_exceeded"),
            "context_length",
        ),
        (400, {"error": {"message": "filtered", "code": "content_filter"}}, "content_filter"),
        (
            400,
            {"error": {"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
            "content_filter",
        ),
        (400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "bad"}}], "bad_request"),
        (400, told("API key not valid", "invalid_api_key"), "auth"),
        (400, told(code="model_not_found"), "model_not_found"),
        (401, told(kind="invalid_request_error"), "auth"),
        (503, told("The engine is currently overloaded"), "overloaded"),
        (503, told("no", kind="overloaded_error"), "overloaded"),
        (500, told("The engine is currently overloaded"), "server_error"),
        (503, {"error": "Service at capacity"}, "overloaded"),
        (400, {"detail": "missing field"}, "bad_request"),
    ],
)
def test_words_that_say_exactly_what_is_wrong_win_over_the_status(status: int, body: Any, code: str) -> None:
    assert refusal(status, body).code == code


@pytest.mark.parametrize(
    ("value", "code", "provider_code", "message"),
    [
        ({"error": {"code": 502, "message": "gone"}}, "server_error", "502", "gone"),
        ({"error": {"code": "429", "message": "slow"}}, "rate_limited", "429", "slow"),
        (
            {"error": {"type": "overloaded_error", "message": "Overloaded"}},
            "overloaded",
            "overloaded_error",
            "Overloaded",
        ),
        (
            {"error": {"type": "invalid_request_error", "message": "no"}},
            "bad_request",
            "invalid_request_error",
            "no",
        ),
        ({"error": {"message": "we are overloaded"}}, "overloaded", None, "we are overloaded"),
        (
            {"object": "error", "type": "BadRequestError", "message": "no", "code": 40303},
            "bad_request",
            "40303",
            "no",
        ),
        (
            {"object": "error", "type": "NotFoundError", "message": "no", "code": 404},
            "model_not_found",
            "404",
            "no",
        ),
        ({"error": "CUDA out of memory"}, "server_error", None, "CUDA out of memory"),
        ("died", "server_error", None, "died"),
        (
            {"error": {"code": True, "message": 5}},
            "server_error",
            None,
            "The provider reported an error without a message",
        ),
        ({"error": {"code": "spaces are no code", "message": "m"}}, "server_error", None, "m"),
        ([], "server_error", None, "The provider reported an error without a message"),
    ],
)
def test_an_error_in_a_stream_is_classed_like_the_status_it_stands_for(
    value: Any, code: str, provider_code: str | None, message: str
) -> None:
    error = from_error(value)
    assert (error.code, error.provider_code, str(error)) == (code, provider_code, message)


def test_every_class_has_a_code_of_its_own() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ModelError) and "code" in vars(kind)
    ]
    assert len({kind.code for kind in kinds}) == len(kinds) == 16


def test_a_provider_may_forbid_a_retry_but_cannot_demand_one() -> None:
    assert not refusal(503, x_should_retry="false").retryable
    assert refusal(503, x_should_retry="true").retryable
    assert not refusal(400, x_should_retry="true").retryable


def test_only_a_rate_limit_reads_the_limits_that_every_answer_carries() -> None:
    limits = {"x_ratelimit_reset_tokens": "6m0s", "x_ratelimit_remaining_tokens": "0"}
    assert refusal(429, **limits).retry_after_s == 360
    assert refusal(503, **limits).retry_after_s is None
    assert refusal(503, retry_after="3", **limits).retry_after_s == 3
    assert refusal(429, told("Please try again in 1.898s.")).retry_after_s == pytest.approx(1.898)
    assert from_error(
        {"error": {"code": 429, "message": "try again in 20ms"}}
    ).retry_after_s == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7.5"}, 7.5),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:59:30 GMT"}, 0.0),
        # The provider's clock is ten minutes behind ours; only the difference on its own clock counts.
        ({"retry-after": "Sat, 21 Nov 2026 11:50:30 GMT", "date": "Sat, 21 Nov 2026 11:50:00 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", "date": "yesterday"}, 30.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sat, 99 Nov 2026 12:00:30 GMT"}, None),
        ({"retry-after": "86400"}, MAX_WAIT_S),
        ({"retry-after": "86401"}, MAX_WAIT_S),
        ({"retry-after": "1e300"}, MAX_WAIT_S),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-ratelimit-reset-requests": "1s"}, 1.0),
        ({"x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({"x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-reset-requests": "12"}, 12.0),
        ({"x-ratelimit-reset-requests": "soon", "x-ratelimit-reset-tokens": "2s"}, 2.0),
        # What is used up decides, and of two the later one.
        (
            {
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "0",
            },
            360.0,
        ),
        (
            {
                "x-ratelimit-reset-requests": "9s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "3s",
            },
            9.0,
        ),
        # Nothing is known to be used up: the first moment at which anything changes.
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, 1.0),
        (
            {
                "anthropic-ratelimit-tokens-reset": "2026-11-21T12:00:42Z",
                "anthropic-ratelimit-tokens-remaining": "0",
            },
            42.0,
        ),
        ({"anthropic-ratelimit-tokens-reset": "2026-11-21T12:00:42"}, 42.0),
        ({"anthropic-ratelimit-input-tokens-reset": "2026-11-21T11:00:00Z"}, 0.0),
    ],
)
def test_rate_limits_tell_when_they_are_renewed(headers: dict[str, str], seconds: float | None) -> None:
    assert limit_reset_s(headers, NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit reached. Please try again in 1.898s. Visit", 1.898),
        ("Please try again in 6m0s.", 360.0),
        ("please retry in 59ms", 0.059),
        ("try again in a while", None),
        ("", None),
    ],
)
def test_a_message_may_hint_at_a_wait(message: str, seconds: float | None) -> None:
    assert hinted_s(message) == (None if seconds is None else pytest.approx(seconds))
