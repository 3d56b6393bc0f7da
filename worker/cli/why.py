"""`signalbox tasks why` and `signalbox tasks backlog`: why things wait, and how much does."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

import anyio

from worker.cli.common import Commands, add_command, client, print_json, print_table, with_json


def add_to(verbs: Commands) -> None:
    """Add the verbs."""
    why = add_command(
        verbs,
        "why",
        "tell why a task does not run now, and what would change that",
        "All reasons that hold are printed, in the order in which they stand in its way.",
    )
    why.add_argument("task", metavar="TASK", help="its id, as submit and list print it")
    backlog = add_command(
        verbs,
        "backlog",
        "tell how much waits in each queue, how long the oldest has, and how late the last runs began",
    )
    for verb, run in ((why, _why), (backlog, _backlog)):
        with_json(verb)
        verb.set_defaults(run=lambda a, run=run: anyio.run(run, a))


async def _why(arguments: argparse.Namespace) -> int:
    async with client() as control:
        found = await control.why(arguments.task)
    if arguments.json:
        print_json(found.model_dump(by_alias=True))
        return 0
    print(f"{found.status}, lane {found.lane}")
    rows = [
        {"reason": each.message, "clears": each.clears, "at": None if each.at is None else _instant(each.at)}
        for each in found.reasons
    ]
    print_table(rows, ["reason", "clears", "at"])
    return 0


async def _backlog(arguments: argparse.Namespace) -> int:
    async with client() as control:
        found = await control.backlog()
    if arguments.json:
        print_json(found.model_dump(by_alias=True))
        return 0
    rows = [
        {
            "queue": each.queue,
            "waiting": f"{each.waiting}{' or more' if each.more else ''}",
            "oldest": f"{each.oldest_ms / 1000:.1f} s",
        }
        for each in found.queues
    ]
    print_table(rows, ["queue", "waiting", "oldest"])
    if found.more:
        print("There are more queues.")
    lag = found.start_lag
    if lag is not None:
        print(
            f"The last {lag.runs} runs began after {lag.p50_ms:.0f} ms (p50), {lag.p95_ms:.0f} ms (p95), "
            f"{lag.max_ms:.0f} ms (most)."
        )
    return 0


def _instant(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
