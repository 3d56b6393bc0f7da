"""`--after` of submit, `signalbox tasks tree` and `signalbox groups`: tasks that hang together."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import anyio

from worker.cli.common import Commands, add_command, client, print_json, print_table, top_command, with_json
from worker.client import Client, TaskLinks, TaskView
from worker.errors import SettingsError
from worker.groups import After, GroupView
from worker.paging import pages

_POLICIES = ("skip", "run", "fail")
_TREE_TASKS = 1_000  # that a tree shows
_PAGE = 100
_GROUP = "its id, as list prints it"


def add_to_submit(submit: argparse.ArgumentParser) -> None:
    """Add the options that link a new task to others."""
    submit.add_argument(
        "--after",
        action="append",
        type=_after,
        metavar="TASK[:skip|:run]",
        help="it waits for this task (again for more); if that does not succeed it fails, is skipped or runs",
    )
    submit.add_argument(
        "--any", action="store_true", help="with --after: it waits for the first of them that succeeds"
    )
    submit.add_argument("--group", metavar="GROUP", help="an open group that it joins")


def _after(text: str) -> After:
    task, colon, policy = text.partition(":")
    if not task or (colon and policy not in _POLICIES):
        raise argparse.ArgumentTypeError(f"{text!r} is not TASK, TASK:skip or TASK:run")
    return After.model_validate({"on": task, "onFailure": policy or None})


def add_to_tasks(verbs: Commands, task_help: str) -> None:
    """Add the verb to those of `signalbox tasks`."""
    tree = add_command(verbs, "tree", "show a task with all that its runs have submitted, at whatever depth")
    tree.add_argument("task", metavar="TASK", help=task_help)
    tree.set_defaults(run=lambda a: anyio.run(_tree, a))
    with_json(tree, "print JSON")


def add_to(commands: Commands) -> None:
    """Add the commands."""
    parser = top_command(commands, "groups")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_command(verbs, "list", "list groups, newest first")
    listing.add_argument("--tenant", metavar="NAME", help="whose groups; default: default")
    show = add_command(verbs, "show", "show a group: how its tasks stand, and what became of its callback")
    seal = add_command(
        verbs, "seal", "let nothing join a group any more, so that it is complete when its tasks have ended"
    )
    cancel = add_command(verbs, "cancel", "seal a group and cancel what has not ended of it")
    retry = add_command(verbs, "retry-callback", "call a callback anew that was given up")
    for verb in (show, seal, cancel, retry):
        verb.add_argument("group", metavar="GROUP", help=_GROUP)
    for verb, run in (
        *((listing, _list), (show, _show), (seal, _seal), (cancel, _cancel)),
        (retry, _retry_callback),
    ):
        with_json(verb)
        verb.set_defaults(run=lambda a, run=run: anyio.run(run, a))


def lines(links: TaskLinks) -> Iterator[tuple[str, str]]:
    """Yield what a task hangs together with, as fields and their text."""
    if links.parent is not None:
        yield "parent", links.parent
    for edge in links.after:
        yield "after", f"{edge.task} ({edge.status}, if it does not succeed: {edge.on_failure})"
    for edge in links.dependents:
        yield "dependent", f"{edge.task} ({edge.status})"
    for child in links.children:
        yield "child", f"{child.task} ({child.status})"
    for group in links.groups:
        yield "group", group
    if links.more:
        yield "", "(and more)"


async def _tree(arguments: argparse.Namespace) -> int:
    async with client() as control:
        root = await control.get(arguments.task)
        if root is None:
            raise SettingsError(f"No task {arguments.task}")
        found = await _below(control, root)
    if arguments.json:
        print_json([{"depth": depth, **task.model_dump(by_alias=True)} for depth, task in found])
        return 0
    for depth, task in found:
        print(f"{'  ' * depth}{task.task}  {task.agent}  {task.status}")
    if len(found) == _TREE_TASKS:
        print(f"(the first {_TREE_TASKS} tasks)")
    return 0


async def _below(control: Client, root: TaskView) -> list[tuple[int, TaskView]]:
    """Return the tasks of a tree, each behind its parent, with their depth; never more than are shown."""
    found: list[tuple[int, TaskView]] = []
    waiting = [(0, root)]
    while waiting and len(found) < _TREE_TASKS:
        depth, task = waiting.pop()
        found.append((depth, task))
        children: list[TaskView] = []
        cursor: str | None = None
        while len(children) < _TREE_TASKS:
            page = await control.children(task.task, limit=_PAGE, cursor=cursor)
            children += page.tasks
            cursor = page.cursor
            if cursor is None:
                break
        waiting += [(depth + 1, child) for child in reversed(children)]
    return found


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        every = await pages(lambda at: control.groups(tenant=arguments.tenant, limit=_PAGE, cursor=at))
    groups = [group for page in every for group in page.groups]
    if arguments.json:
        print_json([group.model_dump(by_alias=True) for group in groups])
        return 0
    rows = [
        {
            "group": group.group,
            "name": group.name,
            "tasks": _progress(group),
            "state": _state(group),
            "callback": group.callback.state,
        }
        for group in groups
    ]
    print_table(rows, ["group", "name", "tasks", "state", "callback"])
    return 0


def _progress(group: GroupView) -> str:
    counts = group.counts
    ended = counts.succeeded + counts.failed + counts.cancelled + counts.skipped
    return f"{ended} of {max(ended, counts.total)}"


def _state(group: GroupView) -> str:
    return group.result or ("sealed" if group.sealed else "open")


async def _show(arguments: argparse.Namespace) -> int:
    async with client() as control:
        group = await control.group(arguments.group)
    if group is None:
        raise SettingsError(f"No group {arguments.group}")
    if arguments.json:
        print_json(group.model_dump(by_alias=True))
        return 0
    for field, value in (
        ("group", group.group),
        ("tenant", group.tenant),
        ("name", group.name),
        ("state", _state(group)),
        ("tasks", _progress(group)),
        *((kind, count) for kind, count in group.counts.model_dump(exclude={"total"}).items() if count),
        ("callback", group.callback.state),
        ("calls", group.callback.name),
        ("tries", group.callback.tries),
        ("error", group.callback.error),
        ("follow-up", group.callback.task),
    ):
        if value is not None:
            print(f"{field:<13} {value}")
    return 0


async def _seal(arguments: argparse.Namespace) -> int:
    async with client() as control:
        await control.seal_group(arguments.group)
    return _said(arguments, "sealed")


async def _cancel(arguments: argparse.Namespace) -> int:
    async with client() as control:
        await control.cancel_group(arguments.group)
    return _said(arguments, "cancelling")


async def _retry_callback(arguments: argparse.Namespace) -> int:
    async with client() as control:
        state = await control.retry_callback(arguments.group)
    if state == "none":
        raise SettingsError(f"{arguments.group} has no callback, or is not complete: nothing to call")
    return _said(arguments, state)


def _said(arguments: argparse.Namespace, state: str) -> int:
    if arguments.json:
        print_json({"group": arguments.group, "state": state})
    else:
        print(state)
    return 0
