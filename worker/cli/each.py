"""`signalbox submit --each`: a task for each line of a file, streamed to the control plane page by page."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from worker.cli.common import print_json
from worker.client import Client, Submitted, TaskSpec
from worker.errors import FunctionFailed, TransportError

_NAMED = 20  # refused lines that people are shown; with --json each is


@dataclass(slots=True)
class Tally:
    """What became of the lines so far."""

    submitted: int = 0
    duplicates: int = 0
    refused: int = 0
    drawn: deque[int] = field(default_factory=deque)  # lines that were sent and have no answer yet

    def refuse(self, line: int, code: str | None, message: str, *, as_json: bool) -> None:
        """Count a line that makes no task, and name it."""
        self.refused += 1
        if as_json:
            print_json({"line": line, "code": code, "message": message})
        elif self.refused <= _NAMED:
            print(f"line {line}: {message}", file=sys.stderr, flush=True)

    def take(self, line: int, answer: Submitted | Exception, *, as_json: bool) -> None:
        """Count what became of a line that was submitted."""
        if isinstance(answer, Exception):
            code = answer.code if isinstance(answer, FunctionFailed) else None
            self.refuse(line, code, str(answer), as_json=as_json)
            return
        self.submitted += not answer.duplicate
        self.duplicates += answer.duplicate
        if as_json:
            print_json({"line": line, **answer.model_dump(by_alias=True)})

    def end(self, *, as_json: bool) -> int:
        """Say how many lines became what; return the exit code."""
        if not as_json:
            if self.refused > _NAMED:
                print(
                    f"and {self.refused - _NAMED} more lines (--json names each)", file=sys.stderr, flush=True
                )
            print(f"submitted {self.submitted}, duplicates {self.duplicates}, refused {self.refused}")
        return 1 if self.refused else 0


async def submit_lines(control: Client, source: str, like: TaskSpec, *, as_json: bool) -> int:
    """Submit a task for each line of a file, or of standard input for `-`; return the exit code.

    Each is `like` the one given, with the line as its input; its dedup key, if any, is that one's and the
    number of the line, so a file that was interrupted can be given again.

    Raises:
        TransportError: The control plane could not be reached; the message says which line is the next.
    """
    tally = Tally()
    with _opened(source) as lines:
        try:
            async for answer in control.submit_each(_specs(lines, like, tally, as_json=as_json)):
                tally.take(tally.drawn.popleft(), answer, as_json=as_json)
        except TransportError as error:
            again = "" if like.dedup_key is None else "; the same command goes on from there"
            raise TransportError(
                f"{error}; stopped at line {tally.drawn[0]}, {tally.submitted} submitted before it{again}"
            ) from error
    return tally.end(as_json=as_json)


def _opened(source: str) -> AbstractContextManager[Iterable[str]]:
    return nullcontext(sys.stdin) if source == "-" else Path(source).open(encoding="utf-8")


def _specs(lines: Iterable[str], like: TaskSpec, tally: Tally, *, as_json: bool) -> Iterator[TaskSpec]:
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text:
            continue
        try:
            json.loads(text)
        except ValueError as error:
            tally.refuse(number, "invalid_argument", f"not JSON ({error})", as_json=as_json)
            continue
        tally.drawn.append(number)
        key = None if like.dedup_key is None else f"{like.dedup_key}-{number}"
        yield like.model_copy(update={"input": text, "dedup_key": key})
