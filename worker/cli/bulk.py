"""`signalbox tasks cancel-many`, `retry-many` and `failures`: many tasks at once, and what they failed of."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import get_args

import anyio

from worker.bulk import BulkPage, Failures, Filter
from worker.cli.common import Commands, add_command, client, instant_ms, print_json, print_table, with_json
from worker.models import TaskStatus

_MESSAGE_CHARS = 60  # in a table


def add_to(verbs: Commands) -> None:
    """Add the verbs to those of `signalbox tasks`."""
    cancel = add_command(
        verbs,
        "cancel-many",
        "cancel every task that a filter names",
        "Without --status, all that wait, sleep or run. Tasks that change their status meanwhile may be "
        "passed over: again reaches them.",
    )
    retry = add_command(
        verbs,
        "retry-many",
        "give every task that a filter names its attempts anew",
        "Without --status, those that failed. One that has never run waits again for those that it comes "
        "after and that the filter names too.",
    )
    for verb, run in ((cancel, _cancel), (retry, _retry)):
        verb.add_argument("--tenant", metavar="NAME", help="whose tasks; default: default")
        verb.add_argument("--status", choices=get_args(TaskStatus), metavar="STATUS", help="instead of those")
        verb.add_argument("--queue", metavar="NAME", help="those of this queue")
        verb.add_argument("--agent", metavar="NAME", help="those for this agent")
        verb.add_argument("--code", metavar="CODE", help="of the error, as failures lists it")
        verb.add_argument(
            "--after", type=instant_ms, metavar="TIME", help="submitted then or later (ISO 8601)"
        )
        verb.add_argument(
            "--before", type=instant_ms, metavar="TIME", help="submitted before then (ISO 8601)"
        )
        verb.add_argument(
            "--all", action="store_true", help="the tenant's every task: needed without a filter"
        )
        verb.add_argument("--dry-run", action="store_true", help="only count them")
        verb.set_defaults(run=lambda a, verb=verb, run=run: _checked(verb, run, a))
        with_json(verb, "print JSON")
    failures = add_command(
        verbs,
        "failures",
        "show what tasks failed of, by error code",
        "Over those that failed last, a few hundred; with a task, over its attempts.",
    )
    failures.add_argument("task", nargs="?", metavar="TASK", help="its attempts; default: the tenant's tasks")
    failures.add_argument("--tenant", metavar="NAME", help="whose tasks; default: default")
    failures.set_defaults(run=lambda a: anyio.run(_failures, a))
    with_json(failures)


def _checked(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], Coroutine[None, None, int]],
    arguments: argparse.Namespace,
) -> int:
    if not (_chosen(arguments).model_dump(exclude_none=True).keys() - {"tenant"} or arguments.all):
        parser.error("name the tasks with a filter such as --queue, or give --all")
    return anyio.run(run, arguments)


def _chosen(arguments: argparse.Namespace) -> Filter:
    return Filter(
        tenant=arguments.tenant,
        status=arguments.status,
        queue=arguments.queue,
        agent=arguments.agent,
        code=arguments.code,
        submitted_after=arguments.after,
        submitted_before=arguments.before,
    )


async def _cancel(arguments: argparse.Namespace) -> int:
    chosen = _chosen(arguments)
    async with client() as control:
        return await _print_pages(
            control.cancel_many(chosen, dry_run=arguments.dry_run), arguments, "cancelled"
        )


async def _retry(arguments: argparse.Namespace) -> int:
    chosen = _chosen(arguments)
    async with client() as control:
        return await _print_pages(
            control.retry_many(chosen, dry_run=arguments.dry_run), arguments, "tried again"
        )


async def _print_pages(pages: AsyncIterator[BulkPage], arguments: argparse.Namespace, done: str) -> int:
    matched = changed = 0
    async for page in pages:
        matched += page.matched
        changed += page.changed
    if arguments.json:
        print_json({"matched": matched, "changed": changed})
    elif arguments.dry_run:
        print(f"{matched} would be {done}")
    else:
        print(f"{changed} {done}")
    return 0


async def _failures(arguments: argparse.Namespace) -> int:
    async with client() as control:
        if arguments.task is not None:
            causes = await control.causes(arguments.task)
            if arguments.json:
                print_json([cause.model_dump(by_alias=True) for cause in causes])
                return 0
            rows = [
                {
                    "code": cause.code,
                    "attempts": cause.count,
                    "last": cause.last_attempt,
                    "at": _instant(cause.last_at),
                    "message": cause.message[:_MESSAGE_CHARS],
                }
                for cause in causes
            ]
            print_table(rows, ["code", "attempts", "last", "at", "message"])
            return 0
        found = await control.failures(arguments.tenant)
    if arguments.json:
        print_json(found.model_dump(by_alias=True))
    else:
        _print_failures(found)
    return 0


def _print_failures(found: Failures) -> None:
    rows = [
        {
            "code": cause.code,
            "tasks": cause.count,
            "last": cause.newest[0].task,
            "at": _instant(cause.newest[0].ended_at),
            "message": cause.newest[0].message[:_MESSAGE_CHARS],
        }
        for cause in found.causes
    ]
    print_table(rows, ["code", "tasks", "last", "at", "message"])
    if found.cursor is not None:
        print(f"of the {found.counted} tasks that failed last; there are more")


def _instant(ms: float | None) -> str | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
