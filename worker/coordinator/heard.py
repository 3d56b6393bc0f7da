"""What a session has heard already: the subscription and each sync tell all that waits, again and again."""

from __future__ import annotations

from collections.abc import Set

from worker.models import Control

EARLY_S = 30.0  # for a run that is still to come: twice the time in which it must be accepted
_OF_HELD_RUNS = {"pause", "signal", "allotment"}  # nothing else says it again; a cancelled run never comes
_REMEMBERED = (
    20_000  # ids of runs and controls: more than can arrive within one late message of the subscription
)


class Remembered:
    """A bounded set: it forgets the oldest."""

    def __init__(self, limit: int = _REMEMBERED) -> None:
        self._ids: dict[str, None] = {}
        self._limit = limit

    def __contains__(self, key: str) -> bool:
        return key in self._ids

    def add(self, key: str) -> bool:
        """Add `key` and return whether it is new."""
        if key in self._ids:
            return False
        self._ids[key] = None
        if len(self._ids) > self._limit:
            del self._ids[next(iter(self._ids))]
        return True


class Heard:
    """Tells what is new from what is only said again. Pure: time is passed in, in monotonic seconds.

    Args:
        limit: Ids of runs, and of controls, that are remembered.
    """

    def __init__(self, *, limit: int = _REMEMBERED) -> None:
        self._runs = Remembered(limit)
        self._controls = Remembered(limit)
        self._early: dict[str, float] = {}  # controls of runs that are still to come, and since when

    def is_new(self, run: str) -> bool:
        """Note that `run` was assigned, and return whether nothing has said so before."""
        return self._runs.add(run)

    def is_due(self, control: Control, active: Set[str], now: float) -> bool:
        """Return whether a control is to be obeyed now, and note it: it was not before, and is not early.

        Args:
            control: What waits to be obeyed.
            active: The runs that the session has.
            now: The time.
        """
        return not self._is_early(control, active, now) and self._controls.add(control.control)

    def _is_early(self, control: Control, active: Set[str], now: float) -> bool:
        """Of a large burst some runs are still to come: what is said of them stands until they are here."""
        run = control.run
        is_known = run is None or run in active or run in self._runs
        if control.kind in _OF_HELD_RUNS and not is_known:
            since = self._early.setdefault(control.control, now)
            if now - since < EARLY_S:
                return True
        self._early.pop(control.control, None)
        return False
