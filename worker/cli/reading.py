"""Turns the updates of a followed task into what a screen shows: text, and a note where text starts over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.client import StreamUpdate


@dataclass(frozen=True)
class StartsOver:
    """What was shown before no longer counts.

    Attributes:
        why: For people: "attempt 2 starts over".
    """

    why: str


class Reading:
    """Reads one task's updates, in order."""

    def __init__(self) -> None:
        self._run: str | None = None
        self._tries: dict[int, int] = {}  # by model call: the try whose text is on the screen

    def read(self, update: StreamUpdate) -> Iterator[str | StartsOver]:
        """Yield the update's text, with a note wherever it replaces what came before."""
        if update.run != self._run:
            if self._run is not None:
                yield StartsOver(f"attempt {update.attempt} starts over")
            self._run = update.run
            self._tries = {}
        for chunk in update.chunks:
            if chunk.kind != "text":
                continue
            shown = self._tries.setdefault(chunk.call, chunk.attempt)
            if chunk.attempt < shown:
                continue
            if chunk.attempt > shown:
                self._tries[chunk.call] = chunk.attempt
                yield StartsOver("the model is asked again, its answer starts over")
            yield chunk.text
