"""The clock of one run: when its last token or step came, and what it waits for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from worker.models import Silence, WaitsOn

SILENT_S = 30.0  # from here on a run is told to be silent


class Heard(Protocol):
    """A source that knows when it last heard anything, such as the answer to a model call."""

    heard_at: float


class Pulse:
    """Notes each sign of life of a run.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved_at = clock()
        self._step: str | None = None
        self._call: tuple[str, int] | None = None
        self._source: object = None

    def moved(self) -> None:
        """A token or a step came."""
        self._moved_at = self._clock()

    def doing(self, step: str | None) -> None:
        """A step has begun; None: none is under way."""
        self._step = step
        self.moved()

    @contextmanager
    def calling(self, model: str, attempt: int) -> Iterator[None]:
        """Note that a model is called, for the so-manieth time, while the block lasts."""
        self._call = (model, attempt)
        self.moved()
        try:
            yield
        finally:
            self._call = self._source = None
            self.moved()

    def listen(self, source: object) -> None:
        """Count what `source` hears: a model that only says that it is alive is slow and not stuck."""
        self._source = source

    def silence(self, run: str) -> Silence | None:
        """Return for how long nothing came and what the run waits for; None while it moves."""
        heard_at = getattr(self._source, "heard_at", None)
        moved_at = self._moved_at if heard_at is None else max(self._moved_at, heard_at)
        silent_s = self._clock() - moved_at
        if silent_s < SILENT_S:
            return None
        on: WaitsOn = "agent"
        name: str | None = None
        attempt: int | None = None
        if self._call is not None:
            on, (name, attempt) = "model", self._call
        elif self._step is not None:
            on, name = "step", self._step
        return Silence(run=run, ms=silent_s * 1000, on=on, name=name and name[:200], attempt=attempt)
