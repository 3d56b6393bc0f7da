"""`signalbox tasks restart`: what to do with a task whose code has changed under it."""

from __future__ import annotations

import argparse

import anyio

from worker.cli.common import Commands, add_command, client, print_json, with_json


def add_to_tasks(verbs: Commands, task_help: str) -> None:
    """Add the verbs to those of `signalbox tasks`."""
    restart = add_command(
        verbs,
        "restart",
        "begin a task from scratch, on whatever version of its agent there is now",
        "Its steps are dropped. Signals that it has taken and tasks that it has submitted are not undone.",
    )
    restart.add_argument("task", metavar="TASK", help=task_help)
    with_json(restart, "print JSON")
    restart.set_defaults(run=lambda a: anyio.run(_restart, a))


async def _restart(arguments: argparse.Namespace) -> int:
    async with client() as control:
        status = await control.restart(arguments.task)
    if arguments.json:
        print_json({"task": arguments.task, "status": status})
    else:
        print("pending, once all of its steps are dropped" if status == "paused" else status)
    return 0
