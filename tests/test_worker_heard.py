"""What a session takes for new: no I/O, and time is passed in."""

import pytest

from worker.coordinator.heard import EARLY_S, Heard, Remembered
from worker.models import Control


def control(kind: str, run: str | None = "r", key: str = "c") -> Control:
    return Control.model_validate({"control": key, "kind": kind, "run": run, "reason": "", "signal": None})


def test_memory_of_ids_is_bounded_and_forgets_the_oldest() -> None:
    memory = Remembered(limit=2)
    assert [memory.add(key) for key in "abab"] == [True, True, False, False]
    assert memory.add("c")
    assert not memory.add("b")
    assert memory.add("a")


def test_a_run_is_new_once_and_a_control_is_obeyed_once() -> None:
    heard = Heard()
    assert [heard.is_new("r") for _ in range(2)] == [True, False]
    assert [heard.is_due(control("pause"), {"r"}, 0.0) for _ in range(2)] == [True, False]
    assert heard.is_due(control("pause", key="other"), {"r"}, 0.0)


@pytest.mark.parametrize("kind", ["pause", "signal", "allotment"])
def test_what_is_said_of_a_run_that_never_comes_is_due_in_the_end(kind: str) -> None:
    heard = Heard()
    dues = [heard.is_due(control(kind), set(), now) for now in (5.0, 5.0 + EARLY_S - 0.001, 5.0 + EARLY_S)]
    assert dues == [False, False, True]


@pytest.mark.parametrize("kind", ["pause", "signal", "allotment"])
def test_what_was_early_is_due_with_its_run_and_only_then_counts_as_obeyed(kind: str) -> None:
    heard = Heard()
    assert not heard.is_due(control(kind), set(), 0.0)
    heard.is_new("r")
    assert [heard.is_due(control(kind), {"r"}, 1.0) for _ in range(2)] == [True, False]


def test_a_cancelled_run_never_comes_and_a_control_of_no_run_waits_for_none() -> None:
    assert Heard().is_due(control("cancel"), set(), 0.0)
    assert Heard().is_due(control("drain", run=None), set(), 0.0)


def test_a_run_hears_what_is_said_of_it_however_many_came_after_it() -> None:
    heard = Heard(limit=1)  # of so many it remembers the last
    heard.is_new("r")
    heard.is_new("later")
    assert heard.is_due(control("pause"), {"r", "later"}, 0.0)


def test_what_is_said_of_a_run_that_has_ended_is_due_at_once() -> None:
    heard = Heard()
    heard.is_new("r")
    assert heard.is_due(control("signal"), set(), 0.0)
