"""What the demo prints: the text of several tasks side by side, and the table at the end."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.cli.common import print_table
from worker.cli.reading import Reading, StartsOver
from worker.client import StreamUpdate, TaskView

NAME_WIDTH = 18  # the longest name in first_light.json
NARROWEST = 40  # columns of text, however small the terminal is
SHORTEST_LINE = 24  # less is held back until more comes
LONGEST_WORD = 80  # held back for its end; a script without spaces must not wait for ever
WORK = ("worker:", "dispatch:", "timers:", "tasks:submit")  # what tasks need; all else is looking on
_WHOLE = re.compile(r"""(.*(?:\s|(?:[^\W\d_]|[)\]"'”])[.,;:!?…]$))?(.*)""", re.DOTALL)  # "3." may become 3.5


def say(text: str) -> None:
    """Tell what the demo itself does."""
    print(f"• {text}", flush=True)


def whole_words(text: str) -> tuple[str, str]:
    """Return the part of a text that ends with a word's end, and the rest, which may be half a word."""
    found = _WHOLE.fullmatch(text)
    assert found is not None  # both parts may be empty
    whole, rest = found.groups("")
    return (text, "") if len(rest) > LONGEST_WORD else (whole, rest)


class TaskText:
    """One task's part of the screen: its text comes in pieces and is shown in whole words.

    Attributes:
        chars: Characters of the present attempt that have come so far.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.chars = 0
        self._reading = Reading()
        self._held = ""

    def show(self, update: StreamUpdate) -> None:
        """Print what an update brings."""
        for piece in self._reading.read(update):
            if isinstance(piece, StartsOver):
                self._held, self.chars = "", 0
                self._note(piece.why)
            else:
                self.chars += len(piece)
                self._held += piece
        ready, rest = whole_words(self._held)
        if len(ready) >= SHORTEST_LINE:
            self._print(ready)
            self._held = rest

    def end(self, view: TaskView) -> None:
        """Print what was held back, and how the task ended."""
        self._print(self._held)
        failure = f": {view.error.message}" if view.error and view.status != "succeeded" else ""
        self._note(f"{view.status}{failure}")

    def _print(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns - NAME_WIDTH - len(" │ ")
        for line in textwrap.wrap(text.strip(), max(NARROWEST, columns), break_on_hyphens=False):
            print(f"{self.name:>{NAME_WIDTH}} │ {line}", flush=True)

    def _note(self, text: str) -> None:
        print(f"{self.name:>{NAME_WIDTH}} ┃ [{text}]", flush=True)


@dataclass(frozen=True)
class Calls:
    """Runs of Convex functions, as Convex would count them.

    Attributes:
        work: What the tasks needed: submit, dispatch, timers and the workers' calls.
        looking: What watching them cost: the demo's own reading and listing.
    """

    work: int
    looking: int


def calls_between(before: Mapping[str, int], after: Mapping[str, int]) -> Calls:
    """Return what happened between two readings of the host's counts by function."""
    work = looking = 0
    for path, runs in after.items():
        more = runs - before.get(path, 0)
        if path.startswith(WORK):
            work += more
        else:
            looking += more
    return Calls(work, looking)


def print_result(names: Mapping[str, str], ended: Mapping[str, TaskView], calls: Calls) -> None:
    """Print what came of each task.

    Args:
        names: The tasks' names by id, in the order of the table.
        ended: The tasks by id.
        calls: What all of them took together.
    """
    share = calls.work / len(names)
    print()
    print_table(
        [_row(name, ended[task], share) for task, name in names.items()],
        ["task", "status", "attempts", "tokens", "duration", "Convex calls"],
    )
    tokens = sum(_tokens(view) or 0 for view in ended.values())
    print(
        f"\n{tokens} tokens and {calls.work} Convex calls in all; one call serves several tasks, so each is "
        f"given an even share.\nLooking on took {calls.looking} more calls: this screen follows every task."
    )


def _row(name: str, view: TaskView, share: float) -> dict[str, Any]:
    return {
        "task": name,
        "status": view.status,
        "attempts": view.attempt,
        "tokens": _tokens(view),
        "duration": f"{((view.ended_at or view.submitted_at) - view.submitted_at) / 1000:.1f} s",
        "Convex calls": f"{share:.1f}",
    }


def _tokens(view: TaskView) -> int | None:
    """Return the tokens in and out as the provider told them, None if no model answered."""
    counts = [n for n in (view.usage.input_tokens, view.usage.output_tokens) if n is not None]
    return sum(counts) if counts else None
