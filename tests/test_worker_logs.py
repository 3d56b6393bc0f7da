"""Logs: constant messages with facts, on one line each, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.logs import HumanFormatter, JsonFormatter, Redactor, configure

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJlLWJ5dGVz"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key sbw_abcdefghijklmnop.", "key sbw_[redacted]."),
        ("sk-proj-0123456789abcdef", "sk-[redacted]"),
        ("gsk_0123456789abcdef and ghp_0123456789abcdef", "gsk_[redacted] and ghp_[redacted]"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_[redacted]"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [redacted]"),
        ("authorization: bearer sk-0123456789abcdef", "authorization: bearer sk-[redacted]"),
        ("Convex instance|0123456789abcdef", "Convex [redacted]"),
        (f"token {JWT}!", "token [redacted jwt]!"),
        ("https://user:pass@example.com/x", "https://[redacted]@example.com/x"),
        ("mail me@example.com about https://example.com", "mail me@example.com about https://example.com"),
        ("the convex combination of bearers is basic", "the convex combination of bearers is basic"),
        ("desk-jockey risk-averse task-1", "desk-jockey risk-averse task-1"),
    ],
)
def test_what_looks_like_a_secret_goes(text: str, clean: str) -> None:
    assert Redactor()(text) == clean


@given(st.text(), st.text(alphabet="abcXYZ0189+/=", min_size=6, max_size=40), st.text())
def test_a_known_secret_never_passes(before: str, secret: str, after: str) -> None:
    redact = Redactor([secret])
    assert secret not in redact(before + secret + after).replace("[redacted]", "")
    assert secret not in redact.known(before + secret + after).replace("[redacted]", "")


@given(
    st.lists(st.text(alphabet="ab", min_size=6, max_size=12), min_size=1, max_size=4),
    st.lists(st.text(alphabet="abc", max_size=9), max_size=20),
)
def test_a_text_that_comes_in_pieces_is_shown_as_if_it_came_at_once(
    secrets: list[str], pieces: list[str]
) -> None:
    redact = Redactor(secrets)
    shown, rest = "", ""
    for piece in pieces:
        clean, rest = redact.split(rest + piece)
        assert len(rest) < max(map(len, secrets))
        shown += clean
    assert shown + redact.known(rest) == redact.known("".join(pieces))


def test_a_secret_goes_from_json_text_within_json_text() -> None:
    secret = 'pass"word\\é'
    redact = Redactor([secret])
    inner = json.dumps({"arguments": json.dumps({"key": secret})})
    for text in (inner, json.dumps([secret]), json.dumps([secret], ensure_ascii=False), secret):
        clean = redact.known(text)
        assert "[redacted]" in clean
        assert "word" not in clean
        assert text == secret or json.loads(clean)


def test_a_short_value_is_not_taken_for_a_secret() -> None:
    assert Redactor(["abcde"])("abcde") == "abcde"
    assert Redactor(["abcdef"])("abcdef") == "[redacted]"


def test_a_line_is_one_line_valid_and_bounded() -> None:
    line = Redactor().line("first\n  second \ud800" + "x" * 600, limit=50)
    assert line.startswith("first second ?xxx")
    assert len(line) == 50
    line.encode()


def record(**facts: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "worker.x", "levelname": "INFO", "levelno": 20, "msg": "run assigned"}
    )
    made.__dict__.update(facts)
    return made


def test_people_read_the_message_and_the_facts() -> None:
    line = HumanFormatter(Redactor()).format(record(action="run_assigned", run="r1", key="sbw_abcdefghijkl"))
    assert line.endswith("INFO    run assigned  run='r1' key='sbw_[redacted]'")


def test_machines_read_json_also_when_a_fact_is_a_secret_or_no_json() -> None:
    secret = 'se"cret-value'
    made = record(
        action="x", count=3, ok=True, error=ValueError(f"with {secret}"), header="Bearer 0123456789abcdef"
    )
    entry = json.loads(JsonFormatter(Redactor([secret])).format(made))
    assert entry["message"] == "run assigned"
    assert (entry["action"], entry["count"], entry["ok"]) == ("x", 3, True)
    assert entry["header"] == "Bearer [redacted]"
    assert "[redacted]" in entry["error"]


@pytest.mark.parametrize("style", ["human", "json"])
def test_a_traceback_is_redacted_too(style: str) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure("INFO", "json" if style == "json" else "human", Redactor(["hunter2-secret"]), stream)
        try:
            raise ValueError("hunter2-secret")
        except ValueError:
            logging.getLogger("worker.test").exception("it failed", extra={"action": "x"})
        assert sys.exc_info() == (None, None, None)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert "ValueError: [redacted]" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
