"""What goes into a sync: order, bounds, frozen bodies, and what happens when a sync fails or is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.simulated_worker import called
from worker.coordinator.lease import Lease
from worker.coordinator.outbox import MAX_CHUNK_BYTES, Outbox
from worker.coordinator.pace import ACCEPT_S, POLL_S, WATCHED_S, Pace
from worker.models import Amounts, Cancelled, Outcome, Spending, Succeeded, SyncRequest


def outbox(max_items: int = 256, max_bytes: int = 1_000_000) -> Outbox:
    return Outbox("s1", max_items=max_items, max_bytes=max_bytes)


def say(box: Outbox, run: str, text: str, *, call: int = 1, attempt: int = 1, now: float = 0.0) -> None:
    box.text(run, text, now, kind="text", call=call, attempt=attempt)


def done(text: str = "1") -> Outcome:
    return Succeeded(output=text)


def items(body: SyncRequest) -> int:
    return len(body.accepted) + len(body.chunks) + len(body.finished) + len(body.acknowledged)


def test_an_empty_outbox_sends_a_heartbeat_under_a_new_number() -> None:
    box = outbox()
    assert box.empty
    assert box.take() == SyncRequest(
        session="s1", seq=1, accepted=[], chunks=[], finished=[], acknowledged=[]
    )
    box.acknowledged()
    assert box.take().seq == 2


def test_everything_that_waits_goes_together() -> None:
    box = outbox()
    box.accept("r1", 0)
    say(box, "r1", "Hello")
    say(box, "r1", ", world")
    box.finish("r1", done(), None)
    box.acknowledge("c1")
    body = box.take()
    assert body.accepted == ["r1"]
    assert [(c.seq, c.text) for c in body.chunks] == [(0, "Hello, world")]
    assert [f.run for f in body.finished] == ["r1"]
    assert body.acknowledged == ["c1"]
    assert not box.empty
    box.acknowledged()
    assert box.empty


def test_text_of_another_call_attempt_or_kind_is_another_chunk() -> None:
    box = outbox()
    say(box, "r1", "a")
    say(box, "r1", "b", attempt=2)
    say(box, "r1", "c", call=2)
    box.text("r1", "d", 0, kind="log", call=2, attempt=1)
    say(box, "r1", "")
    chunks = box.take().chunks
    assert [(c.seq, c.kind, c.call, c.attempt, c.text) for c in chunks] == [
        (0, "text", 1, 1, "a"),
        (1, "text", 1, 2, "b"),
        (2, "text", 2, 1, "c"),
        (3, "log", 2, 1, "d"),
    ]


def test_a_chunks_number_goes_on_in_the_next_body() -> None:
    box = outbox()
    say(box, "r1", "a")
    box.take()
    box.acknowledged()
    say(box, "r1", "b")
    assert [c.seq for c in box.take().chunks] == [1]


@pytest.mark.parametrize("size", [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1, 3 * MAX_CHUNK_BYTES])
@pytest.mark.parametrize("letter", ["x", "é", "😀"])
def test_no_chunk_is_larger_than_its_bound_and_none_of_the_text_is_lost(size: int, letter: str) -> None:
    box, text = outbox(), letter * (size // len(letter.encode()))
    say(box, "r1", text)
    chunks = box.take().chunks
    assert all(len(c.text.encode()) <= MAX_CHUNK_BYTES for c in chunks)
    assert "".join(c.text for c in chunks) == text


def test_a_lone_surrogate_is_replaced_since_no_document_can_hold_it() -> None:
    box = outbox()
    say(box, "r1", "a\ud800b")
    assert box.take().chunks[0].text == "a?b"


def test_a_body_stays_the_same_until_it_is_acknowledged() -> None:
    box = outbox()
    box.finish("r1", done(), None)
    first = box.take()
    box.finish("r2", done(), None)
    assert box.take() is first
    box.acknowledged()
    assert [f.run for f in box.take().finished] == ["r2"]


def test_after_a_failure_the_heartbeat_goes_alone_and_repeats_an_old_number() -> None:
    box = outbox()
    box.take()
    box.acknowledged()
    box.finish("r1", done("x" * 1000), None)
    body = box.take()
    box.failed()
    heartbeat = box.take()
    assert (heartbeat.seq, items(heartbeat)) == (1, 0)
    box.failed()
    assert items(box.take()) == 0  # still alone
    box.acknowledged()
    assert box.take() is body
    box.acknowledged()
    assert box.empty


def test_a_lost_heartbeat_is_simply_sent_again() -> None:
    box = outbox()
    first = box.take()
    box.failed()
    assert box.take() is first


def test_bounds_in_items_hold_and_the_rest_follows_in_order() -> None:
    box = outbox(max_items=3)
    for number in range(4):
        box.accept(f"r{number}", 0)
        box.finish(f"r{number}", done(), None)
    bodies = []
    while not box.empty:
        bodies.append(box.take())
        box.acknowledged()
    assert [items(body) for body in bodies] == [3, 3, 2]
    assert box.oldest_accept_at is None


def test_an_item_larger_than_the_bound_in_bytes_goes_alone() -> None:
    box = outbox(max_bytes=10_000)
    box.finish("r1", done("a" * 20_000), None)
    box.finish("r2", done("b" * 9_000), None)
    assert [f.run for f in box.take().finished] == ["r1"]
    box.acknowledged()
    assert [f.run for f in box.take().finished] == ["r2"]


def test_a_talkative_run_does_not_keep_others_from_being_heard() -> None:
    box = outbox(max_bytes=MAX_CHUNK_BYTES)
    say(box, "loud", "x" * MAX_CHUNK_BYTES * 3)
    say(box, "quiet", "hello")
    heard = [c.run for body in drained(box) for c in body.chunks]
    assert heard.index("quiet") <= 1


def drained(box: Outbox) -> list[SyncRequest]:
    bodies = []
    while not box.empty:
        bodies.append(box.take())
        box.acknowledged()
    return bodies


def test_what_is_forgotten_is_not_sent() -> None:
    box = outbox()
    box.accept("r1", 0)
    say(box, "r1", "text")
    box.finish("r1", done(), None)
    box.forget("r1")
    box.forget("never known")
    assert box.empty
    assert (box.text_bytes, box.oldest_text_at, box.oldest_accept_at) == (0, None, None)


def test_what_calls_have_cost_is_told_though_their_run_is_forgotten() -> None:
    box = outbox()
    box.accept("r1", 0)
    say(box, "r1", "text")
    box.call(called("r1", 1))
    box.finish("r1", done(), None)
    box.forget("r1")
    box.call(called("r1", 2))  # which the loss has cut off
    assert not box.empty
    body = box.take()
    assert [call.call for call in body.calls or ()] == [1, 2]
    assert items(body) == 0
    box.acknowledged()
    assert box.empty
    box.forget("r1")
    assert box.empty
    assert box.take().calls is None


def test_a_refused_body_is_halved_until_the_item_to_blame_stands_alone() -> None:
    box = outbox()
    for number in range(8):
        box.finish(f"r{number}", done(), None)
    taken: dict[str, str] = {}
    while not box.empty:
        body = box.take()
        if any(f.run == "r5" and f.outcome.kind == "succeeded" for f in body.finished):
            box.refused("payload_too_large", "the output is too large", surely=True)
        else:
            taken.update({f.run: f.outcome.kind for f in body.finished})
            box.acknowledged()
    assert taken == {f"r{n}": "failed" if n == 5 else "succeeded" for n in range(8)}


def spent(run: str, calls: int) -> Spending:
    return Spending(run=run, spent=Amounts(calls=calls), reserved=Amounts(), want=None)


def test_what_runs_have_spent_is_told_again_after_a_body_that_was_refused() -> None:
    box = outbox()
    box.finish("bad", done(), None)
    box.accept("r1", 0)
    news = [[spent("r1", 1), spent("r2", 2)], [spent("r1", 3)]]
    told: list[Spending] = []
    for _ in range(20):
        body = box.take(spending=lambda: news.pop(0) if news else [])
        if any(f.outcome.kind == "succeeded" for f in body.finished):
            box.refused("x", "no", surely=True)
        else:
            told += body.spending or ()
            box.acknowledged()
    assert told == [spent("r1", 1), spent("r2", 2), spent("r1", 3)], "each once, and the newest last"
    assert box.empty


def test_spending_that_is_refused_alone_is_given_up_and_keeps_nothing_else() -> None:
    box = outbox()
    box.finish("r1", done(), None)
    bad, kinds = spent("r1", 1), []
    news = [[bad]]
    for _ in range(10):
        body = box.take(spending=lambda: news.pop() if news else [])
        if bad in (body.spending or ()):
            box.refused("x", "no", surely=True)
        else:
            kinds += [f.outcome.kind for f in body.finished]
            box.acknowledged()
    assert kinds == ["succeeded"]
    assert box.empty


def test_a_result_that_is_refused_leaves_what_its_run_has_spent() -> None:
    box = outbox()
    box.finish("r1", done(), None, spent("r1", 5))
    said: list[tuple[list[Spending] | None, list[str]]] = []
    while not box.empty:
        body = box.take()
        if any(f.outcome.kind == "succeeded" for f in body.finished):
            box.refused("x", "no", surely=True)
        else:
            said.append((body.spending, [f.outcome.kind for f in body.finished]))
            box.acknowledged()
    assert said == [(None, []), ([spent("r1", 5)], []), (None, ["failed"])]


def test_a_result_that_is_refused_twice_is_given_up() -> None:
    box = outbox()
    box.finish("r1", done(), None)
    box.take()
    assert box.refused("invalid_argument", "no", surely=True) is not None
    assert items(heartbeat_of(box)) == 0
    replaced = box.take().finished[0].outcome
    assert replaced.kind == "failed"
    assert replaced.error.message == "The result was refused: no"
    assert box.refused("invalid_argument", "no", surely=True) is not None
    assert box.empty


def heartbeat_of(box: Outbox) -> SyncRequest:
    body = box.take()
    box.acknowledged()
    return body


def test_a_body_is_to_blame_only_once_it_was_refused_again_and_again_or_surely() -> None:
    box = outbox()
    box.finish("r1", done(), None)
    for _ in range(3):
        body = box.take()
        assert box.refused("sync_refused", "Server Error", surely=False) is None
        assert items(heartbeat_of(box)) == 0  # it arrives, and that says nothing about the body
        assert box.take() is body
    assert box.refused("sync_refused", "Server Error", surely=False) is not None


def test_a_refused_body_without_items_goes_again_under_its_number() -> None:
    box = outbox()
    body = box.take()
    assert box.refused("x", "no", surely=True) is None
    box.finish("r1", done(), None)  # would be lost under a number that may have been used
    assert box.take() is body


def test_no_two_bodies_have_the_same_number() -> None:
    box = outbox()
    box.acknowledge("c1")
    refused = box.take()
    box.refused("x", "no", surely=True)
    box.finish("r1", done(), None)
    assert drained(box)[-1].seq > refused.seq


def test_a_refusal_can_be_sent_whatever_it_quotes() -> None:
    box = outbox()
    box.finish("r1", done(), None)
    box.take()
    box.refused("x", "not \ud800", surely=True)
    heartbeat_of(box)
    outcome = box.take().finished[0].outcome
    assert outcome.kind == "failed"
    assert outcome.error.message == "The result was refused: not ?"


def test_a_result_that_utf_8_cannot_hold_is_taken_all_the_same() -> None:
    box = outbox()
    box.finish("r1", done("\ud800"), None)
    assert not box.empty


def test_a_refused_heartbeat_blames_nothing() -> None:
    box = outbox()
    box.finish("r1", done(), None)
    body = box.take()
    box.failed()
    box.take()
    assert box.refused("x", "no", surely=True) is None
    assert box.take().seq == 0  # the heartbeat, again
    box.acknowledged()
    assert box.take() is body


RUNS = ["a", "b", "c"]


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("accept"), st.sampled_from(RUNS)),
            st.tuples(st.just("text"), st.sampled_from(RUNS), st.text(min_size=1, max_size=20)),
            st.tuples(st.just("finish"), st.sampled_from(RUNS)),
            st.tuples(st.just("ack"), st.sampled_from(["c1", "c2"])),
            st.tuples(st.just("sync"), st.sampled_from(["arrives", "fails", "answer lost", "refused"])),
        ),
        max_size=40,
    ),
    st.integers(1, 6),
    st.integers(1, 2000),
)
def test_whatever_fails_each_thing_takes_effect_once_and_in_order(
    steps: list[tuple[str, ...]], max_items: int, max_bytes: int
) -> None:
    box = outbox(max_items, max_bytes)
    said: dict[str, str] = dict.fromkeys(RUNS, "")
    over: set[str] = set()
    heard: dict[str, list[tuple[int, str]]] = {run: [] for run in RUNS}
    finished: list[str] = []
    seen_seq = 0

    def arrive(body: SyncRequest) -> None:
        nonlocal seen_seq
        assert items(body) <= max_items
        if body.seq > seen_seq:
            seen_seq = body.seq
            for chunk in body.chunks:
                assert chunk.run not in finished
                heard[chunk.run].append((chunk.seq, chunk.text))
            finished.extend(f.run for f in body.finished)

    def exchange(how: str) -> None:
        body = box.take()
        # What the control plane has applied once it does not refuse, and a lone item would be given up.
        may_be_refused = items(body) != 1 and (body.seq > seen_seq or items(body) == 0)
        if how in {"arrives", "answer lost"}:
            arrive(body)
        if how == "arrives":
            box.acknowledged()
        elif how == "refused" and may_be_refused:
            box.refused("x", "no", surely=True)
        else:
            box.failed()

    for step, *rest in steps:
        if step == "sync":
            exchange(rest[0])
        elif step == "ack":
            box.acknowledge(rest[0])
        elif rest[0] not in over:
            if step == "accept":
                box.accept(rest[0], 0)
            elif step == "text":
                said[rest[0]] += rest[1]
                say(box, rest[0], rest[1])
            else:
                over.add(rest[0])
                box.finish(rest[0], Cancelled(), None)
    for _ in itertools.takewhile(lambda _: not box.empty, range(1000)):
        exchange("arrives")
    assert box.empty
    assert sorted(finished) == sorted(over)
    for run, chunks in heard.items():
        assert [seq for seq, _ in chunks] == list(range(len(chunks)))
        assert "".join(text for _, text in chunks) == said[run]
    assert box.text_bytes == 0


# The lease and the pace, as tables.


def test_a_lease_counts_from_the_sending_and_a_late_answer_does_not_shorten_it() -> None:
    lease = Lease(15, sent_at=100)
    assert not lease.expired(114.9)
    assert lease.expired(115)
    lease.renew(15, sent_at=110)
    lease.renew(15, sent_at=105)
    assert lease.remaining_s(120) == 5
    assert lease.remaining_s(200) == 0


def test_a_lease_becomes_shorter_when_work_begins_and_longer_when_it_ends() -> None:
    lease = Lease(150, sent_at=0)
    lease.shorten(15, now=100)
    assert lease.expires_at == 115
    lease.shorten(15, now=110)  # a second run extends nothing
    assert lease.expires_at == 115
    lease.renew(150, sent_at=112)
    assert lease.expires_at == 262


def pace() -> Pace:
    made = Pace(heartbeat_s=5, idle_heartbeat_s=60)
    made.sent(100)
    made.succeeded(2)
    return made


@pytest.mark.parametrize(
    ("fill", "state", "due"),
    [
        ("", {}, 160),
        ("", {"busy": True}, 105),
        ("", {"polling": True}, 100 + POLL_S),
        ("accept", {"busy": True}, 101 + ACCEPT_S),
        ("text", {"busy": True}, 103),
        ("text", {"busy": True, "watched": {"other"}}, 103),
        ("text", {"busy": True, "watched": {"r1"}}, 101 + WATCHED_S),
        ("finish", {}, float("-inf")),
        ("acknowledge", {}, float("-inf")),
    ],
)
def test_each_thing_has_its_time(fill: str, state: dict[str, object], due: float) -> None:
    box = outbox()
    if fill == "accept":
        box.accept("r1", 101)
    elif fill == "text":
        say(box, "r1", "x", now=101)
    elif fill == "finish":
        box.finish("r1", done(), None)
    elif fill == "acknowledge":
        box.acknowledge("c1")
    asked = {"busy": False, "polling": False, "watched": set(), **state}
    assert pace().due_at(box, **asked) == pytest.approx(due)  # type: ignore[arg-type]


def test_a_run_that_waits_to_be_confirmed_is_not_kept_waiting() -> None:
    hurried = pace()
    hurried.hurry = True
    assert hurried.due_at(outbox(), busy=True, polling=False, watched=set()) < 100
    hurried.sent(101)
    assert hurried.due_at(outbox(), busy=True, polling=False, watched=set()) == 106


def test_failures_are_spaced_but_never_further_apart_than_half_a_heartbeat() -> None:
    failing = pace()
    box = outbox()
    box.finish("r1", done(), None)
    waits = []
    for _ in range(12):
        failing.failed(200, draw=1.0)
        waits.append(failing.due_at(box, busy=True, polling=False, watched=set()) - 200)
    assert waits[:3] == pytest.approx([0.2, 0.4, 0.8])
    assert max(waits) == pytest.approx(2.0)
    failing.failed(200, draw=0.0, retry_after_s=300)
    assert failing.due_at(box, busy=True, polling=False, watched=set()) == 202.5
    failing.succeeded(60)
    assert failing.next_sync_s == 5  # what an idle worker is told is too long for a busy one
    assert failing.due_at(box, busy=True, polling=False, watched=set()) == float("-inf")
