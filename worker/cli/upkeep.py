"""`signalbox archive` and `signalbox stats`: what a deployment did, kept and counted."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import anyio

from worker.cli.budgets import dollars
from worker.cli.common import Commands, client, print_json, print_table, top_command, with_json
from worker.cli.host_aids import duration_ms
from worker.errors import SettingsError, UsageError
from worker.upkeep import Minute

_BLOCK = 64 * 1024  # read at a time while the last line is looked for


def add_to(commands: Commands) -> None:
    """Add the commands."""
    archive = top_command(
        commands,
        "archive",
        "What ended in the last minute is left for the next time. An existing file goes on behind its last "
        "line. Then the deployment knows how far the archive has come: with SIGNALBOX_ARCHIVE_FIRST=1 "
        "nothing else is deleted. It needs an operator key.",
    )
    archive.add_argument(
        "file", metavar="FILE", help="where to; - prints it, and tells the deployment nothing"
    )
    archive.add_argument(
        "--until", metavar="TIME", help="leave what ended later; ISO 8601, UTC unless it says otherwise"
    )
    archive.add_argument(
        "--tenant", metavar="NAME", help="this one alone; the deployment is told nothing then"
    )
    archive.add_argument("--after", metavar="POSITION", help="with -: go on behind a line's position")
    archive.set_defaults(run=lambda arguments: anyio.run(_archive, arguments))
    stats = top_command(commands, "stats")
    stats.add_argument(
        "--scope",
        default="all",
        metavar="SCOPE",
        help="all, tenant:NAME, queue:NAME, agent:NAME or stack:NAME; default: all",
    )
    stats.add_argument("--since", default="1h", metavar="DURATION", help="so long back; default: %(default)s")
    with_json(stats)
    stats.set_defaults(run=lambda arguments: anyio.run(_stats, arguments))


async def _archive(arguments: argparse.Namespace) -> int:
    until_ms = None if arguments.until is None else _moment_ms(arguments.until)
    if arguments.file == "-":
        await _write(sys.stdout.buffer, arguments.after, until_ms, arguments.tenant)
        return 0
    if arguments.after is not None:
        raise UsageError("--after: a file knows its own position; give it with - alone")
    with Path(arguments.file).open("a+b") as file:  # noqa: ASYNC230 - nothing else happens meanwhile
        after = last_position(file)
        tasks, position = await _write(file, after, until_ms, arguments.tenant)
    if position is not None and arguments.tenant is None:
        async with client() as deployment:
            await deployment.note_archived(position)
    print(f"{arguments.file}: {tasks} tasks written", file=sys.stderr)
    return 0


async def _write(
    file: BinaryIO, after: str | None, until_ms: float | None, tenant: str | None
) -> tuple[int, str | None]:
    tasks = 0
    position = after
    async with client() as deployment:
        async for page in deployment.archive(after=after, until_ms=until_ms, tenant=tenant):
            for line in page.lines:
                file.write(line.encode() + b"\n")
            file.flush()
            if page.lines and file is not sys.stdout.buffer:
                os.fsync(file.fileno())
            tasks += len(page.lines)
            position = page.position
    return tasks, position


def last_position(file: BinaryIO) -> str | None:
    """Return the position of an archive's last line, or None of an empty one; a torn last line is cut off.

    Raises:
        SettingsError: The file is no archive.
    """
    end = _after_newline(file, file.seek(0, os.SEEK_END))
    file.truncate(end)
    file.seek(0, os.SEEK_END)
    if end == 0:
        return None
    start = _after_newline(file, end - 1)
    file.seek(start)
    try:
        position = json.loads(file.read(end - start))["position"]
    except (ValueError, KeyError, TypeError):
        raise SettingsError(f"{file.name}: its last line is none of an archive; give another file") from None
    file.seek(0, os.SEEK_END)
    return str(position)


def _after_newline(file: BinaryIO, before: int) -> int:
    """Return where the line begins that goes on at `before`."""
    while before > 0:
        start = max(0, before - _BLOCK)
        file.seek(start)
        found = file.read(before - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        before = start
    return 0


def _moment_ms(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--until: {text!r} is no time such as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000


async def _stats(arguments: argparse.Namespace) -> int:
    until_ms = time.time() * 1000
    since = duration_ms(arguments.since)
    if since is None:
        raise UsageError(f"--since: {arguments.since!r} is no duration such as 30m or 1d")
    since_ms = until_ms - since
    async with client() as deployment:
        minutes = await deployment.stats(scope=arguments.scope, since_ms=since_ms, until_ms=until_ms)
    if arguments.json:
        print_json([minute.model_dump(by_alias=True) for minute in minutes])
        return 0
    columns = (
        "minute",
        "submitted",
        "started",
        "succeeded",
        "failed",
        "wait",
        "run",
        "calls",
        "tokens",
        "cost",
    )
    print_table([_row(minute) for minute in minutes], columns)
    return 0


def _row(minute: Minute) -> dict[str, object]:
    ended = minute.succeeded + minute.failed + minute.cancelled + minute.retried
    return {
        "minute": f"{datetime.fromtimestamp(minute.bucket / 1000, UTC):%Y-%m-%d %H:%M}Z",
        "submitted": int(minute.submitted),
        "started": int(minute.started),
        "succeeded": int(minute.succeeded),
        "failed": int(minute.failed),
        "wait": f"{minute.wait_ms / minute.started / 1000:.2f} s" if minute.started else None,
        "run": f"{minute.run_ms / ended / 1000:.2f} s" if ended else None,
        "calls": int(minute.model_calls),
        "tokens": int(minute.input_tokens + minute.output_tokens),
        "cost": dollars(int(minute.cost_micros)) if minute.cost_micros else None,
    }
