"""What a follower's screen shows of a task whose runs and model calls are replaced by others."""

from __future__ import annotations

from worker.cli.reading import Reading, StartsOver
from worker.client import StreamUpdate
from worker.models import Chunk, ChunkKind


def update(run: str, attempt: int, *chunks: Chunk) -> StreamUpdate:
    return StreamUpdate(run=run, attempt=attempt, chunks=list(chunks))


def chunk(text: str, *, call: int = 1, attempt: int = 1, kind: ChunkKind = "text") -> Chunk:
    return Chunk(run="r", seq=0, call=call, attempt=attempt, kind=kind, text=text)


def test_text_is_read_in_order_and_other_kinds_are_left_out() -> None:
    reading = Reading()
    assert list(reading.read(update("r1", 1))) == []
    assert list(
        reading.read(update("r1", 1, chunk("a"), chunk("why", kind="reasoning"), chunk("x", kind="log")))
    ) == ["a"]
    assert list(reading.read(update("r1", 1, chunk("b"), chunk("c", call=2)))) == ["b", "c"]


def test_another_run_starts_over() -> None:
    reading = Reading()
    assert list(reading.read(update("r1", 1, chunk("a", attempt=2)))) == ["a"]
    assert list(reading.read(update("r2", 2, chunk("b")))) == [StartsOver("attempt 2 starts over"), "b"]


def test_a_model_call_that_is_tried_again_starts_over_and_the_call_before_it_stands() -> None:
    reading = Reading()
    first = reading.read(update("r1", 1, chunk("plan"), chunk("hal", call=2)))
    assert list(first) == ["plan", "hal"]
    second = list(
        reading.read(update("r1", 1, chunk("half", call=2, attempt=2), chunk("!", call=2, attempt=2)))
    )
    assert [type(piece) for piece in second] == [StartsOver, str, str]
    assert second[1:] == ["half", "!"]


def test_late_text_of_a_try_that_was_replaced_is_dropped() -> None:
    reading = Reading()
    list(reading.read(update("r1", 1, chunk("old"), chunk("new", attempt=2))))
    assert list(reading.read(update("r1", 1, chunk("older")))) == []
