"""`signalbox approvals`: what tasks ask of people, and deciding it."""

from __future__ import annotations

import argparse
import json
from typing import get_args

import anyio

from worker.approvals import UNSAID, ApprovalState, ApprovalView, Verdict
from worker.cli.common import (
    Commands,
    add_command,
    client,
    moment,
    print_json,
    print_table,
    read_json,
    top_command,
    with_json,
)
from worker.client import Client
from worker.errors import ArgumentsChanged, UsageError

_STATES = list(get_args(ApprovalState))
_APPROVAL = "its id, as list prints it"
_HASH_CHARS = 8  # of a hash that is typed, at least
_PAGE = 100


def add_to(commands: Commands) -> None:
    """Add the commands."""
    parser = top_command(commands, "approvals")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_command(
        verbs, "list", "list what is open, newest first", "With --state, what became of others."
    )
    listing.add_argument(
        "--state",
        choices=[*_STATES, "all"],
        default="asked",
        metavar="STATE",
        help=f"{', '.join(_STATES)}, or all; default: asked",
    )
    which = listing.add_mutually_exclusive_group()
    which.add_argument("--task", metavar="TASK", help="of this task alone")
    which.add_argument("--tenant", metavar="NAME", help="whose; default: default")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most; default: 50")
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    showing = add_command(verbs, "show", "show a question with its arguments and their hash")
    showing.set_defaults(run=lambda a: anyio.run(_show, a))
    approving = add_command(
        verbs,
        "approve",
        "let it go on; of what is in doubt: it did not happen, run it",
        "A decision is made once, and binds the arguments that are printed.",
    )
    approving.add_argument(
        "--happened",
        metavar="JSON",
        help="of what is in doubt: it happened, and this came of it (JSON, @FILE, or - for standard input)",
    )
    refusing = add_command(
        verbs,
        "refuse",
        "do not let it go on; of what is in doubt: fail the task",
        "A decision is made once, and binds the arguments that are printed.",
    )
    for verb in (showing, approving, refusing):
        verb.add_argument("approval", metavar="APPROVAL", help=_APPROVAL)
    for verb, decision in ((approving, "approve"), (refusing, "refuse")):
        verb.add_argument(
            "--hash", metavar="HASH", help="refuse unless the arguments have this hash, or one that begins so"
        )
        verb.add_argument("--note", metavar="TEXT", help="for whoever reads it later, the agent included")
        verb.set_defaults(run=lambda a, decision=decision: anyio.run(_decide, a, decision))
    for verb in (listing, showing, approving, refusing):
        with_json(verb)


async def _list(arguments: argparse.Namespace) -> int:
    state = None if arguments.state == "all" else arguments.state
    found: list[ApprovalView] = []
    cursor: str | None = None
    async with client() as control:
        while len(found) < arguments.limit:
            limit = min(_PAGE, arguments.limit - len(found))
            page = await control.approvals.list(
                tenant=arguments.tenant, task=arguments.task, state=state, limit=limit, cursor=cursor
            )
            found += page.approvals
            cursor = page.cursor
            if cursor is None:
                break
    if arguments.json:
        print_json([approval.model_dump(by_alias=True) for approval in found])
    else:
        rows = [
            {
                "approval": each.approval,
                "task": each.task,
                "agent": each.agent,
                "tool": _plain(each.tool),
                "why": each.why,
                "state": each.state,
                "expires": moment(each.expires_at),
            }
            for each in found
        ]
        print_table(rows, ["approval", "task", "agent", "tool", "why", "state", "expires"])
    return 0


async def _show(arguments: argparse.Namespace) -> int:
    async with client() as control:
        _print(arguments, await control.approvals.get(arguments.approval))
    return 0


async def _decide(arguments: argparse.Namespace, decision: Verdict) -> int:
    happened = getattr(arguments, "happened", None)
    result = UNSAID
    if happened is not None:
        result = json.loads(await anyio.to_thread.run_sync(read_json, "--happened", happened))
    async with client() as control:
        args_hash = await _hash(control, arguments)
        decided = await control.approvals.decide(
            arguments.approval, decision, args_hash=args_hash, note=arguments.note, result=result
        )
    _print(arguments, decided)
    return 0


async def _hash(control: Client, arguments: argparse.Namespace) -> str:
    """Return the hash of what is decided on, once it is the one that was typed."""
    asked = await control.approvals.get(arguments.approval)
    typed: str | None = arguments.hash
    if typed is None:
        return asked.args_hash
    if len(typed) < _HASH_CHARS:
        raise UsageError(f"--hash: give at least {_HASH_CHARS} of its digits")
    if not asked.args_hash.startswith(typed.lower()):
        raise ArgumentsChanged(
            f"--hash: the arguments of approval {asked.approval} have the hash {asked.args_hash}; "
            f"see them: signalbox approvals show {asked.approval}"
        )
    return asked.args_hash


def _print(arguments: argparse.Namespace, approval: ApprovalView) -> None:
    if arguments.json:
        print_json(approval.model_dump(by_alias=True))
        return
    shown: dict[str, object] = {
        "approval": approval.approval,
        "state": approval.state,
        "why": approval.why,
        "tool": approval.tool,
        "arguments": approval.args,
        "hash": approval.args_hash,
        "task": approval.task,
        "agent": approval.agent,
        "step": approval.step,
        "asked": moment(approval.asked_at),
        "expires": moment(approval.expires_at),
    }
    if approval.decided_at is not None:
        shown["decided"] = moment(approval.decided_at)
    if approval.decided_by is not None:
        shown["by"] = f"{approval.decided_by_label} (key {approval.decided_by})"
    if approval.note is not None:
        shown["note"] = approval.note
    for field, value in shown.items():
        print(f"{field:<13} {_plain(str(value))}")


def _plain(text: str) -> str:
    """Return a text with what does not print written out, so that a model cannot fool who reads it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
