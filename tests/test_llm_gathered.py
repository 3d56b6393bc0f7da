"""Pieces of text come together, whatever they are cut at."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from worker.llm.gathered import Gathered


@given(st.text(), st.sets(st.integers(0, 60)))
def test_text_that_was_cut_between_its_utf16_halves_is_whole_again(text: str, cuts: set[int]) -> None:
    units = text.encode("utf-16-le")
    at = sorted({2 * cut for cut in cuts if 2 * cut < len(units)} | {0, len(units)})
    pieces = [units[start:end].decode("utf-16-le", "surrogatepass") for start, end in pairwise(at)]
    gathered = Gathered()
    shown = [gathered.add(piece) for piece in pieces]
    assert "".join(shown) == gathered.whole() == text
    assert bool(gathered) is bool(text)


def test_half_a_character_that_nothing_follows_is_none() -> None:
    gathered = Gathered()
    assert gathered.add("a\ud83d") == "a"
    assert gathered.add("") == ""
    assert gathered.add("b") == "\ufffdb"
    assert gathered.whole() == "a\ufffdb"


def test_many_pieces_are_one_text() -> None:
    gathered = Gathered()
    for number in range(5000):
        gathered.add(f"{number} ")
    assert gathered.whole() == "".join(f"{number} " for number in range(5000))
