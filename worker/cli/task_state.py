"""`signalbox tasks state` and `signalbox tasks signal`: look into a task, and tell it something."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import anyio

from worker.cli.common import Commands, add_command, client, print_json, read_json, with_json
from worker.client import TaskState

_STUCK_INBOX_MS = 10_000  # the inbox loop turns every 2 s


def add_to(verbs: Commands, task_help: str) -> None:
    """Add the verbs to those of `signalbox tasks`."""
    state = add_command(
        verbs, "state", "show how a task stands: its progress, its state, and what a live run waits for"
    )
    state.add_argument("task", metavar="TASK", help=task_help)
    state.set_defaults(run=lambda a: anyio.run(_state, a))
    with_json(state, "print JSON")
    signal = add_command(
        verbs,
        "signal",
        "tell a task something; one that waits for it wakes",
        "It is kept until a run takes it. The same --id again within an hour changes nothing.",
    )
    signal.add_argument("task", metavar="TASK", help=task_help)
    signal.add_argument("name", metavar="NAME", help="what the task waits for")
    signal.add_argument(
        "--data", default="null", metavar="JSON", help="JSON, @FILE, or - for standard input; default: null"
    )
    signal.add_argument("--id", metavar="ID", help="makes a repeat harmless")
    signal.set_defaults(run=lambda a: anyio.run(_signal, a))
    with_json(signal, "print JSON")


async def _state(arguments: argparse.Namespace) -> int:
    async with client() as control:
        state = await control.state(arguments.task)
    if arguments.json:
        print_json(state.model_dump(by_alias=True))
        return 0
    print(f"{'status':<13} {state.status}")
    for field, shown in lines(state):
        print(f"{field:<13} {shown}")
    return 0


def lines(state: TaskState) -> Iterator[tuple[str, str]]:
    """Yield what there is to say of a task beyond its status."""
    if state.waits_for is not None:
        yield "waits for", state.waits_for
    if (told := state.progress) is not None:
        of = "" if told.total is None else f" of {told.total:g}"
        yield "progress", f"{told.done:g}{of} {told.message}".rstrip()
    if state.state is not None:
        yield "state", state.state
    if state.steps:
        yield "steps", str(state.steps)
    clocks = state.clocks
    if clocks is None:
        return
    if clocks.silent_ms is not None:
        attempt = "" if clocks.attempt is None else f", try {clocks.attempt}"
        name = "" if clocks.name is None else f" {clocks.name}"
        on = {"model": "the model", "step": "step", "agent": "its own code"}[clocks.on or "agent"]
        yield "silent", f"for {clocks.silent_ms / 1000:.0f} s, in {on}{name}{attempt}"
    if clocks.inbox_age_ms is not None and clocks.inbox_age_ms > _STUCK_INBOX_MS:
        yield "inbox", f"its worker has not listened for {clocks.inbox_age_ms / 1000:.0f} s"


async def _signal(arguments: argparse.Namespace) -> int:
    data = json.loads(await anyio.to_thread.run_sync(read_json, "--data", arguments.data))
    async with client() as control:
        new = await control.signal(arguments.task, arguments.name, data, id=arguments.id)
    if arguments.json:
        print_json({"task": arguments.task, "name": arguments.name, "new": new})
    else:
        print("told" if new else "known already")
    return 0
