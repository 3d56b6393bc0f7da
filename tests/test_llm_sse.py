"""The event-stream decoder keeps to WHATWG's grammar, however the bytes are split."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.llm.sse import EventDecoder, EventTooLarge, ServerSentEvent


def decoded(*chunks: bytes, max_bytes: int = 1000) -> list[tuple[str, str]]:
    decoder = EventDecoder(max_bytes)
    return [(event, data) for chunk in chunks for event, data in decoder.feed(chunk)]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\n", [("", "a")]),
        (b"data:a\r\n\r\n", [("", "a")]),
        (b"data: a\rdata: b\r\r", [("", "a\nb")]),
        (b"data: a\r\n\rdata: b\n\r\n", [("", "a"), ("", "b")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"data: \xef\xbb\xbfa\n\n", [("", "\ufeffa")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [("", "b")]),
        (b"data: a\ndata\ndata:  b\n\n", [("", "a\n\n b")]),
        (b"data\n\n", [("", "")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("", "b")]),
        (b"event: x\n\ndata: b\n\n", [("", "b")]),
        (b"event: x\nevent: y\ndata: b\n\n", [("y", "b")]),
        (b": comment\n\n:\n\ndata: a\n: between\n\n", [("", "a")]),
        (b"id: 1\n\nretry: 10\n\nid: 2\ndata: a\n\n", [("", "a")]),
        (b"Data: a\n data: b\ndata : c\n\n", []),
        (b"\n\n\r\n\r\r", []),
        (b"data: a\n\ndata: cut off", [("", "a")]),
        (b"data: a\n\ndata: cut off\n", [("", "a")]),
        (
            "data: a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\n\n".encode(),
            [("", "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg")],
        ),
        (b"data: \xff\xe4\xb8 \xf0\x9f\n\ndata: ok\n\n", [("", "\ufffd\ufffd \ufffd"), ("", "ok")]),
        (b"data: a\x00b\n\n", [("", "a\x00b")]),
    ],
)
def test_a_body_has_these_events(body: bytes, events: list[tuple[str, str]]) -> None:
    assert decoded(body) == events
    assert decoded(*(body[at : at + 1] for at in range(len(body)))) == events


LINES = st.sampled_from(
    [
        b"data: ",
        b"data",
        b":",
        b"event: x",
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b"\xef\xbb\xbf",
        b"\xe4\xb8\x96",
        b"id: 1",
        b"a",
    ]
)
BODIES = st.lists(LINES | st.binary(max_size=4), max_size=40).map(b"".join)


@given(body=BODIES, cuts=st.lists(st.integers(0, 160), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events(body: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[start:end] for start, end in itertools.pairwise(edges)]
    assert decoded(*chunks) == decoded(body)


@given(body=BODIES, limit=st.integers(1, 12), step=st.integers(1, 5))
def test_the_size_limit_strikes_at_the_same_event_for_any_split(body: bytes, limit: int, step: int) -> None:
    def outcome(chunks: list[bytes]) -> tuple[list[ServerSentEvent], bool]:
        decoder = EventDecoder(limit)
        events: list[ServerSentEvent] = []
        try:
            for chunk in chunks:
                for event in decoder.feed(chunk):
                    events.append(event)  # noqa: PERF402 - what came before the error counts
        except EventTooLarge:
            return events, True
        return events, False

    assert outcome([body]) == outcome([body[at : at + step] for at in range(0, len(body), step)])


def test_an_event_may_have_as_many_bytes_as_the_limit_and_not_one_more() -> None:
    fits = b"data: " + b"a" * 94  # 100 bytes with its field name
    assert decoded(fits + b"\n\n", max_bytes=100) == [("", "a" * 94)]
    assert decoded(fits[:50], fits[50:], b"\n\n" + fits + b"\n\n", max_bytes=100) == [("", "a" * 94)] * 2
    with pytest.raises(EventTooLarge, match="more than 100 bytes"):
        decoded(fits + b"a\n\n", max_bytes=100)
    with pytest.raises(EventTooLarge):
        decoded(fits[:50], fits[50:] + b"a", max_bytes=100)
    with pytest.raises(EventTooLarge):
        decoded(b"data: " + b"a" * 44 + b"\n", b"data: " + b"a" * 45 + b"\n", max_bytes=100)
    with pytest.raises(EventTooLarge):
        decoded(b":" + b"a" * 100 + b"\n", max_bytes=100)


def test_comments_do_not_count_towards_the_event_they_stand_in() -> None:
    body = b"data: a\n" + b": keep-alive\n" * 1000 + b"data: b\n\n"
    assert decoded(body, max_bytes=100) == [("", "a\nb")]


def test_a_large_event_in_small_reads_is_not_gone_over_again_at_each() -> None:
    body = (
        b"data: " + b"x" * (4 * 1024 * 1024) + b"\n\n"
    )  # looking at all of it at each read would take minutes
    decoder = EventDecoder()
    events = [event for at in range(0, len(body), 16) for event in decoder.feed(body[at : at + 16])]
    assert [len(event.data) for event in events] == [4 * 1024 * 1024]
