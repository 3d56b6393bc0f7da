"""`signalbox submit`, `signalbox tasks` and `signalbox tail`: give work and look at it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import get_args

import anyio

from worker.cli import budgets, bulk, collecting, forks, structure, task_state, why
from worker.cli.common import (
    Commands,
    add_command,
    client,
    count,
    instant_ms,
    ms,
    number,
    positive,
    print_json,
    print_table,
    read_json,
    top_command,
    with_json,
)
from worker.cli.each import submit_lines
from worker.cli.graph import submit_graph
from worker.cli.model_limits import call_lines
from worker.cli.reading import Reading, StartsOver
from worker.client import ENDED, RetryPolicy, StreamUpdate, TaskSpec, TaskView
from worker.errors import SettingsError, UsageError
from worker.models import TaskStatus, Usage

STATUSES = list(get_args(TaskStatus))
_PAGE = 100  # tasks in a call, as the control plane bounds it
_ERROR_CHARS = 60  # of a message, in a table
_TASK = "its id, as submit and list print it"


def add_to(commands: Commands) -> None:
    """Add the commands."""
    submit = top_command(commands, "submit")
    who = submit.add_mutually_exclusive_group()
    who.add_argument("agent", nargs="?", metavar="AGENT", help="one that `signalbox agents list` shows")
    who.add_argument("--capability", metavar="NAME", help="any agent that has it, instead of AGENT")
    submit.add_argument(
        "--input", default="null", metavar="JSON", help="JSON, @FILE, or - for standard input; default: null"
    )
    submit.add_argument(
        "--each",
        metavar="FILE",
        help="a task for each line of JSON in FILE, or in standard input for -; prints how many",
    )
    submit.add_argument(
        "--graph",
        metavar="FILE",
        help="tasks that wait for each other, each a line of JSON in FILE, or in standard input for -, as in "
        '{"ref": "b", "agent": "writer", "input": 1, "after": [{"on": "#a"}]}; at most 10,000. The options '
        "hold for lines that say nothing else; with --dedup-key the same file can be given again",
    )
    submit.add_argument("--queue", metavar="NAME", help="whose workers do it; default: default")
    submit.add_argument("--tenant", metavar="NAME", help="for whom it is done; default: default")
    submit.add_argument("--priority", type=number, metavar="N", help="higher goes first; default: 0")
    submit.add_argument(
        "--dedup-key", metavar="KEY", help="a key that was used before names that task instead of a new one"
    )
    submit.add_argument(
        "--dedup-for", type=positive, metavar="SECONDS", help="how long; default: as long as the task is kept"
    )
    submit.add_argument("--delay", type=number, metavar="SECONDS", help="not before then")
    submit.add_argument(
        "--at", type=instant_ms, metavar="TIME", help="not before then: ISO 8601, or seconds since 1970"
    )
    collecting.add_to(submit)
    submit.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="for each attempt; default: the agent's",
    )
    submit.add_argument(
        "--start-within", type=positive, metavar="SECONDS", help="else it fails; counted from now"
    )
    submit.add_argument(
        "--end-within", type=positive, metavar="SECONDS", help="over all attempts; else it fails"
    )
    submit.add_argument(
        "--label", action="append", metavar="NAME", help="only on a worker that carries it (again for more)"
    )
    submit.add_argument(
        "--key", metavar="KEY", help="count it against the limits of this key, for example a customer's"
    )
    submit.add_argument(
        "--sticky", metavar="KEY", help="preferably on the worker that ran this key last, if it has room"
    )
    submit.add_argument(
        "--max-attempts",
        type=count,
        metavar="N",
        help="default: the agent's, else 3; 1: never tried again",
    )
    structure.add_to_submit(submit)
    budgets.add_to_submit(submit)
    submit.add_argument(
        "--follow",
        action="store_true",
        help="print its text as it comes, then its output; exit with 1 if it does not succeed",
    )
    submit.set_defaults(run=lambda a: _checked_submit(submit, a))
    with_json(submit, "print JSON; with --follow, a line for each update")

    tail = top_command(commands, "tail", "Exits with 1 if the task does not succeed.")
    tail.add_argument("task", metavar="TASK", help=_TASK)
    tail.set_defaults(run=lambda a: anyio.run(_tail, a))
    with_json(tail, "print a line of JSON for each update")

    _add_verbs(commands)


def _add_verbs(commands: Commands) -> None:
    parser = top_command(commands, "tasks")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    why.add_to(verbs)
    listing = add_command(
        verbs, "list", "list tasks, newest first", "With --status, those that changed last come first."
    )
    listing.add_argument("--tenant", metavar="NAME", help="whose tasks; default: default")
    listing.add_argument("--status", choices=STATUSES, metavar="STATUS", help=f"one of {', '.join(STATUSES)}")
    listing.add_argument(
        "--limit", type=count, default=50, metavar="N", help="at most so many; default: %(default)s"
    )
    show = add_command(verbs, "show", "show a task with its output and its history")
    show.add_argument("task", metavar="TASK", help=_TASK)
    cancel = add_command(
        verbs, "cancel", "cancel a task: at once while it waits, through its worker while it runs"
    )
    cancel.add_argument("task", metavar="TASK", help=_TASK)
    cancel.add_argument(
        "--subtree", action="store_true", help="with all that its runs have submitted, and will submit"
    )
    structure.add_to_tasks(verbs, _TASK)
    forks.add_to_tasks(verbs, _TASK)
    task_state.add_to(verbs, _TASK)
    for verb, run in ((listing, _list), (show, _show), (cancel, _cancel)):
        with_json(verb, "print JSON")
        verb.set_defaults(run=lambda a, run=run: anyio.run(run, a))
    for name, what in (
        ("pause", "pause a task: at once in line, else when its worker has handed it back"),
        ("resume", "let a paused task go on from where it stood in line"),
        ("retry", "give a failed, cancelled or skipped task its attempts anew"),
    ):
        verb = add_command(verbs, name, what)
        verb.add_argument("task", metavar="TASK", help=_TASK)
        with_json(verb, "print JSON")
        verb.set_defaults(run=lambda a: anyio.run(_steer, a))
    bulk.add_to(verbs)


def spec_of(arguments: argparse.Namespace) -> TaskSpec:
    """Return the task that the options describe.

    Raises:
        UsageError: The input is not JSON.
    """
    text = read_json("--input", arguments.input)
    attempts = arguments.max_attempts
    return TaskSpec(
        agent=arguments.agent,
        capability=arguments.capability,
        input=text,
        queue=arguments.queue,
        tenant=arguments.tenant,
        priority=arguments.priority,
        dedup_key=arguments.dedup_key,
        dedup_for_ms=ms(arguments.dedup_for),
        delay_ms=ms(arguments.delay),
        run_at=arguments.at,
        debounce=collecting.debounce_of(arguments),
        batch=collecting.batch_of(arguments),
        timeout_ms=ms(arguments.timeout),
        start_within_ms=ms(arguments.start_within),
        end_within_ms=ms(arguments.end_within),
        labels=arguments.label,
        key=arguments.key,
        sticky=arguments.sticky,
        retry=None if attempts is None else RetryPolicy(max_attempts=attempts),
        after=arguments.after,
        after_mode="any" if arguments.any else None,
        group=arguments.group,
        stack=arguments.stack,
        budget=budgets.of_task(arguments),
    )


def _checked_submit(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if arguments.graph is None and arguments.agent is None and arguments.capability is None:
        parser.error("who is to do it? give AGENT or --capability")
    return anyio.run(_submit, arguments)


async def _submit(arguments: argparse.Namespace) -> int:
    if arguments.each is not None and (arguments.follow or arguments.input != "null"):
        raise UsageError("--each brings the inputs and many tasks: it goes without --input and --follow")
    if arguments.graph is not None and (arguments.each is not None or arguments.follow):
        raise UsageError("--graph brings many tasks: it goes without --each and --follow")
    if arguments.any and not arguments.after and arguments.each is None and arguments.graph is None:
        raise UsageError("--any says how tasks of --after are waited for: give these")
    spec = await anyio.to_thread.run_sync(spec_of, arguments)
    async with client() as control:
        if arguments.graph is not None:
            return await submit_graph(control, arguments.graph, spec, as_json=arguments.json)
        if arguments.each is not None:
            return await submit_lines(control, arguments.each, spec, as_json=arguments.json)
        submitted = await control.submit(spec)
        if not arguments.follow:
            if arguments.json:
                print_json(submitted.model_dump(by_alias=True))
            else:
                print(submitted.task)
            return 0
        return await _print_stream(control.follow(submitted.task), as_json=arguments.json)


async def _tail(arguments: argparse.Namespace) -> int:
    async with client() as control:
        return await _print_stream(control.follow(arguments.task), as_json=arguments.json)


async def _print_stream(updates: AsyncIterator[StreamUpdate | TaskView], *, as_json: bool) -> int:
    reading = Reading()
    shown = ""
    async for update in updates:
        if as_json:
            print_json(update.model_dump(by_alias=True))
        elif isinstance(update, StreamUpdate):
            for piece in reading.read(update):
                if isinstance(piece, StartsOver):
                    _end_line(shown)
                    print(f"[{piece.why}]", file=sys.stderr, flush=True)
                    shown = ""
                else:
                    print(piece, end="", flush=True)
                    shown = piece
        else:
            _end_line(shown)
            _print_end(update)
        if isinstance(update, TaskView):
            return 0 if update.status == "succeeded" else 1
    return 1


def _end_line(shown: str) -> None:
    if shown and not shown.endswith("\n"):
        print(flush=True)


def _print_end(task: TaskView) -> None:
    if task.status == "succeeded":
        if task.output is not None:
            print(task.output)
        return
    reason = f": {task.error.message}" if task.error else ""
    print(f"signalbox: task {task.task} {task.status}{reason}", file=sys.stderr)


async def _list(arguments: argparse.Namespace) -> int:
    tasks: list[TaskView] = []
    cursor: str | None = None
    async with client() as control:
        while len(tasks) < arguments.limit:
            limit = min(_PAGE, arguments.limit - len(tasks))
            page = await control.tasks(
                tenant=arguments.tenant, status=arguments.status, limit=limit, cursor=cursor
            )
            tasks += page.tasks
            cursor = page.cursor
            if cursor is None:
                break
    if arguments.json:
        print_json([task.model_dump(by_alias=True) for task in tasks])
        return 0
    rows = [
        {
            "task": task.task,
            "agent": task.agent,
            "status": task.status,
            "attempt": f"{task.attempt} (of {task.max_attempts})",
            "submitted": _instant(task.submitted_at),
            "error": _cut(task.error.message) if task.error and task.status != "succeeded" else None,
        }
        for task in tasks
    ]
    print_table(rows, ["task", "agent", "status", "attempt", "submitted", "error"])
    if cursor is not None:
        print(f"(the newest {len(rows)}; more with --limit)", file=sys.stderr)
    return 0


async def _show(arguments: argparse.Namespace) -> int:
    async with client() as control:
        task = await control.get(arguments.task)
        history = await control.history(arguments.task) if task is not None else []
        state = await control.state(arguments.task) if task is not None else None
        links = await control.links(arguments.task) if task is not None else None
        calls = await control.models.calls(arguments.task) if task is not None else []
    if task is None or links is None:
        raise SettingsError(f"No task {arguments.task}")
    if arguments.json:
        told = {
            "history": [e.model_dump(by_alias=True) for e in history],
            "links": links.model_dump(by_alias=True),
            "calls": [call.model_dump(by_alias=True) for call in calls],
        }
        print_json({**task.model_dump(by_alias=True), **told})
        return 0
    for field, value in task.model_dump(exclude={"output", "usage", "error"}).items():
        shown = _instant(value) if field.endswith("_at") and value is not None else _plain(value)
        print(f"{field:<13} {shown}")
    if task.usage.calls:
        print(f"{'used':<13} {_used(task.usage)}")
    if task.error is not None and task.status in ENDED:
        print(f"{'error':<13} {task.error.code}: {task.error.message}")
    for field, said in task_state.lines(state) if state is not None else ():
        print(f"{field:<13} {said}")
    for field, said in structure.lines(links):
        print(f"{field:<13} {said}")
    if task.output is not None:
        print(f"{'output':<13} {task.output}")
    for line in call_lines(calls):
        print(f"{'model call':<13} {line}")
    print("\nhistory")
    for event in history:
        facts = "  ".join(f"{key}={_plain(value)}" for key, value in event.data.items())
        print(f"  {_instant(event.at)}  {event.type:<16} {facts}".rstrip())
    return 0


def _used(usage: Usage) -> str:
    """Return what a task's model calls used in a line; what nobody knows is left out."""
    tokens = [
        f"{count} {what} tokens"
        for count, what in ((usage.input_tokens, "input"), (usage.output_tokens, "output"))
        if count is not None
    ]
    cost = [] if usage.cost_micros is None else [budgets.dollars(usage.cost_micros)]
    return ", ".join([f"{usage.calls} calls", *tokens, *cost])


async def _cancel(arguments: argparse.Namespace) -> int:
    async with client() as control:
        status = await control.cancel(arguments.task, subtree=arguments.subtree)
    if arguments.json:
        print_json({"task": arguments.task, "status": status})
    elif status == "running":
        print("asked its worker to stop")
    else:
        print(status)
    return 0


async def _steer(arguments: argparse.Namespace) -> int:
    async with client() as control:
        verb = {"pause": control.pause, "resume": control.resume, "retry": control.retry}[arguments.verb]
        status = await verb(arguments.task)
    if arguments.json:
        print_json({"task": arguments.task, "status": status})
    elif arguments.verb == "pause" and status != "paused":
        print(f"{status}: it is paused when it comes back in line")
    else:
        print(status)
    return 0


def _cut(text: str) -> str:
    return text if len(text) <= _ERROR_CHARS else f"{text[: _ERROR_CHARS - 1]}…"


def _plain(value: object) -> object:
    if value is None:
        return "-"
    return int(value) if isinstance(value, float) and value.is_integer() else value  # 1, not 1.0


def _instant(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
