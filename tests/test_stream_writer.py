"""The text of a run on its way out: the first of it at once, the rest in phrases."""

from __future__ import annotations

from collections.abc import Callable

from worker.runtime.stream import PHRASE_CHARS, Label, StreamWriter


class Timers:
    """Timers that go off when told."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def later(self, _seconds: float, call: Callable[[], None]) -> Timers:
        self.waiting.append(call)
        return self

    def cancel(self) -> None:
        self.waiting.clear()


def writer() -> tuple[StreamWriter, list[str], Timers]:
    out: list[str] = []
    timers = Timers()
    return StreamWriter(lambda label, text: out.append(text), timers.later), out, timers


ANSWER = Label("text", 1, 1)


def test_the_first_text_goes_at_once_and_the_rest_in_phrases() -> None:
    write, out, _ = writer()
    for token in ["I", " am", " writing", " one", " phrase,", " and", " 1", ",", "000", " more"]:
        write.push(token, ANSWER)
    write.push("", ANSWER)
    assert out == ["I", " am writing one phrase,"]
    write.flush()
    write.flush()
    assert out == ["I", " am writing one phrase,", " and 1,000 more"]


def test_text_without_a_phrase_goes_by_size() -> None:
    write, out, _ = writer()
    for _ in range(PHRASE_CHARS + 1):
        write.push("x", ANSWER)
    assert [len(text) for text in out] == [1, PHRASE_CHARS]


def test_a_pause_shows_what_has_been_said() -> None:
    write, out, timers = writer()
    for token in ["a", "b", "c"]:
        write.push(token, ANSWER)
    assert len(timers.waiting) == 1
    timers.waiting[0]()
    assert out == ["a", "bc"]


def test_another_label_flushes_what_came_before() -> None:
    write, out, _ = writer()
    write.push("a", ANSWER)
    write.push("b", ANSWER)
    write.push("c", ANSWER._replace(attempt=2))
    assert out == ["a", "b", "c"]
