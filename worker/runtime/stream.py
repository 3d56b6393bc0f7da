"""Turns a stream of tokens into a few well-sized writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from worker.models import ChunkKind

PHRASE_CHARS = 100  # a phrase longer than this is not waited for
_SHORTEST_PHRASE = 12  # so that "e.g." and "1,000" do not count as phrases
_ENDS = frozenset(".,;:!?\n")
FLUSH_S = 0.2  # a model that pauses in mid-phrase still shows what it has said


class Label(NamedTuple):
    """What a piece of text belongs to.

    `call` counts the model calls of the run from 1, and is 0 for what the agent itself says; `attempt` counts
    the tries of that call from 1.
    """

    kind: ChunkKind
    call: int
    attempt: int


OWN_TEXT = Label("text", 0, 1)
OWN_LOG = Label("log", 0, 1)


class Timer(Protocol):
    """A call that was put off, as `asyncio.TimerHandle`."""

    def cancel(self) -> None:
        """Call it off."""


class StreamWriter:
    """Gathers text and passes it on in phrases: at punctuation, at 100 characters, or after 0.2 s.

    The first text under a label goes at once, since somebody may be waiting for it.

    Args:
        emit: Takes each phrase.
        later: Calls a function after so many seconds, as `loop.call_later`.
        split: Returns what may be passed on of a text, and what is to wait for its continuation, which must
            not be long.
    """

    def __init__(
        self,
        emit: Callable[[Label, str], None],
        later: Callable[[float, Callable[[], None]], Timer],
        split: Callable[[str], tuple[str, str]] = lambda text: (text, ""),
    ) -> None:
        self._emit = emit
        self._later = later
        self._split = split
        self._label: Label | None = None
        self._parts: list[str] = []
        self._chars = 0
        self._timer: Timer | None = None
        self._held: dict[Label, str] = {}  # what waits

    def push(self, text: str, label: Label) -> None:
        """Add `text`, writing what has gathered once a phrase is complete."""
        if not text:
            return
        first = label != self._label
        if first:
            self._write()
            self._label = label
        self._parts.append(text)
        self._chars += len(text)
        if first or self._chars >= PHRASE_CHARS or (self._chars >= _SHORTEST_PHRASE and text[-1] in _ENDS):
            self._write()
        elif self._timer is None:
            self._timer = self._later(FLUSH_S, self._write)

    def flush(self, call: int | None = None) -> None:
        """Write what has gathered, and what waits: of one call, which is over, or of all."""
        self._write()
        for label in [each for each in self._held if call is None or each.call == call]:
            self._emit(label, self._held.pop(label))

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._parts and self._label is not None:
            label, text = self._label, "".join(self._parts)
            self._parts, self._chars = [], 0
            shown, rest = self._split(self._held.pop(label, "") + text)
            if rest:
                self._held[label] = rest
            if shown:
                self._emit(label, shown)
