"""`signalbox limits`, `signalbox pause`, `signalbox resume`: what bounds the work, at run time."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import anyio

from worker.cli.common import (
    UNIT_MS,
    Commands,
    add_command,
    client,
    count_or_none,
    print_json,
    print_table,
    top_command,
    with_json,
)
from worker.limits import Limit, Rate, ScopeKind

_KINDS: Sequence[ScopeKind] = ("queue", "agent", "tenant", "key", "lane")
_RATE = re.compile(r"(\d{1,9})/(\d{0,9})(ms|s|m|h|d)")
_EACH = "The name * is a default, for each name by itself."


def add_to(commands: Commands) -> None:
    """Add the commands."""
    parser = top_command(commands, "limits")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_command(verbs, "list", "list all limits and pauses")
    setting = add_command(
        verbs,
        "set",
        "set a limit, a rate or a weight",
        f"What is not given stays as it is. {_EACH} Without a scope it is the whole system.",
    )
    setting.add_argument(
        "--limit", type=count_or_none, metavar="N", help="runs at once; 0 starts none; none: no limit"
    )
    setting.add_argument(
        "--rate", type=_rate, metavar="N/TIME", help="starts in a time: 100/m, 5/10s, 1/500ms; none: no rate"
    )
    setting.add_argument(
        "--burst", type=int, metavar="N", help="starts at once after a rest (default: the N of --rate)"
    )
    setting.add_argument(
        "--weight",
        type=count_or_none,
        metavar="N",
        help="tasks in one turn of a lane (default: 1); none: as if unset",
    )
    removing = add_command(verbs, "remove", "remove all bounds of a scope, its pause too", _EACH)
    pausing = top_command(commands, "pause", f"What runs goes on. {_EACH}")
    resuming = top_command(commands, "resume")
    for verb in (setting, removing, pausing, resuming):
        _with_scope(verb)
    for verb in (listing, setting, removing, pausing, resuming):
        with_json(verb)
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    setting.set_defaults(run=lambda a: _checked_set(setting, a))
    removing.set_defaults(run=lambda a: anyio.run(_remove, a))
    pausing.set_defaults(run=lambda a: anyio.run(_pause, a))
    resuming.set_defaults(run=lambda a: anyio.run(_resume, a))


def _with_scope(parser: argparse.ArgumentParser) -> None:
    group = parser.add_mutually_exclusive_group()
    for kind in _KINDS:
        group.add_argument(f"--{kind}", metavar="NAME", help=f"the {_HELP.get(kind, kind)}")


_HELP = {"key": "tasks with this limit key", "lane": "lane, as `tasks why` names it"}


def _scope(arguments: argparse.Namespace) -> tuple[ScopeKind, str]:
    for kind in _KINDS:
        name = getattr(arguments, kind)
        if name is not None:
            return kind, name
    return "system", ""


def _rate(text: str) -> Rate | str:
    if text == "none":
        return text
    found = _RATE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate such as 100/m, 5/10s or 1/500ms, or none")
    count, times, unit = found.groups()
    return Rate(count=int(count), per_ms=int(times or 1) * UNIT_MS[unit], burst=int(count))


def _checked_set(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    change: dict[str, int | Rate | None] = {}
    for field in ("limit", "rate", "weight"):
        value = getattr(arguments, field)
        if value is not None:
            change[field] = None if value == "none" else value
    if arguments.burst is not None:
        rate = change.get("rate")
        if not isinstance(rate, Rate):
            parser.error("--burst: it belongs to a --rate; give that too")
        change["rate"] = rate.model_copy(update={"burst": arguments.burst})
    if not change:
        parser.error("give --limit, --rate or --weight")
    return anyio.run(_set, arguments, change)


async def _set(arguments: argparse.Namespace, change: dict[str, int | Rate | None]) -> int:
    async with client() as control:
        _show(arguments, await control.limits.set(*_scope(arguments), change))
    return 0


async def _pause(arguments: argparse.Namespace) -> int:
    async with client() as control:
        _show(arguments, await control.limits.pause(*_scope(arguments)))
    return 0


async def _resume(arguments: argparse.Namespace) -> int:
    async with client() as control:
        _show(arguments, await control.limits.resume(*_scope(arguments)))
    return 0


async def _remove(arguments: argparse.Namespace) -> int:
    async with client() as control:
        removed = await control.limits.remove(*_scope(arguments))
    if arguments.json:
        print_json({"removed": removed})
    else:
        print("removed" if removed else "there was none")
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        limits = await control.limits.list()
    if arguments.json:
        print_json([limit.model_dump(by_alias=True) for limit in limits])
    else:
        print_table([_row(limit) for limit in limits], ["scope", "name", "limit", "rate", "weight", "paused"])
    return 0


def _show(arguments: argparse.Namespace, limit: Limit) -> None:
    if arguments.json:
        print_json(limit.model_dump(by_alias=True))
    else:
        print_table([_row(limit)], ["scope", "name", "limit", "rate", "weight", "paused"])


def _row(limit: Limit) -> dict[str, object]:
    return {
        "scope": limit.kind,
        "name": limit.name or None,
        "limit": limit.limit,
        "rate": limit.rate and _told(limit.rate),
        "weight": limit.weight,
        "paused": "paused" if limit.paused else None,
    }


def _told(rate: Rate) -> str:
    unit, ms = max((each for each in UNIT_MS.items() if rate.per_ms % each[1] == 0), key=lambda each: each[1])
    times = rate.per_ms // ms
    burst = "" if rate.burst == rate.count else f", burst {rate.burst}"
    return f"{rate.count}/{'' if times == 1 else times}{unit}{burst}"
