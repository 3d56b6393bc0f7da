"""`signalbox budgets`: how much may be spent, and how much is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import get_args

import anyio

from worker.budgets import Balance, Budget, BudgetKind, BudgetSpec, OnBreach, Period, TaskBudget
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
from worker.models import Amounts, Caps

_KINDS: Sequence[BudgetKind] = ("tenant", "stack", "agent", "task")
_EACH = "The name * is a budget that each of the kind has for itself. Without a scope it is everything."
_TIME = re.compile(r"(\d{1,9})(ms|s|m|h|d)")
_COLUMNS = ["scope", "name", "period", "on breach", "limit", "spent", "held", "state"]


def add_to(commands: Commands) -> None:
    """Add the commands."""
    parser = top_command(commands, "budgets")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_command(verbs, "list", "list all budgets but those of single tasks, and how they stand")
    setting = add_command(
        verbs, "set", "set a budget, or change its limits", f"What is not given stays as it is. {_EACH}"
    )
    setting.add_argument(
        "--money", type=_dollars, metavar="DOLLARS", help="such as 10 or 0.05; none: no limit"
    )
    setting.add_argument("--tokens", type=count_or_none, metavar="N", help="input and output, or none")
    setting.add_argument("--calls", type=count_or_none, metavar="N", help="calls of models, or none")
    setting.add_argument(
        "--time", type=_time, metavar="TIME", help="time in workers: 90s, 30m, 2h; none: no limit"
    )
    setting.add_argument("--zone", metavar="ZONE", help="where days and months begin (default: UTC)")
    setting.add_argument(
        "--children",
        action=argparse.BooleanOptionalAction,
        help="whether what a task spawns spends from it too (default: yes)",
    )
    setting.add_argument(
        "--unpriced",
        type=_price,
        metavar="DOLLARS",
        help="what a million tokens count of a model without a price (default: such a model is refused)",
    )
    showing = add_command(verbs, "show", "show a budget and who has spent how much of it", _EACH)
    clearing = add_command(
        verbs, "clear", "count from nothing again, and let a paused scope go on", f"Live runs go on. {_EACH}"
    )
    clearing.add_argument("--of", metavar="NAME", help="of one of those who spend from it (default: of all)")
    removing = add_command(verbs, "remove", "remove a budget", _EACH)
    for verb in (setting, showing, clearing, removing):
        group = verb.add_mutually_exclusive_group()
        for kind in _KINDS:
            group.add_argument(f"--{kind}", metavar="NAME", help=f"the {kind}")
        verb.add_argument(
            "--period",
            choices=get_args(Period),
            default="total",
            help="for how long what is spent counts; run: each task has all of it (default: total)",
        )
        verb.add_argument(
            "--on-breach",
            choices=get_args(OnBreach),
            default="stop",
            help="what follows when it is spent: warn, take the cheapest model, pause the scope, "
            "ask for an approval, or fail the run (default: stop)",
        )
    for verb in (listing, setting, showing, clearing, removing):
        with_json(verb)
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    setting.set_defaults(run=lambda a: _checked_set(setting, a))
    showing.set_defaults(run=lambda a: anyio.run(_show, a))
    clearing.set_defaults(run=lambda a: anyio.run(_clear, a))
    removing.set_defaults(run=lambda a: anyio.run(_remove, a))


def add_to_submit(parser: argparse.ArgumentParser) -> None:
    """Add the options of a task that budgets know."""
    parser.add_argument("--stack", metavar="NAME", help="the application that it belongs to")
    parser.add_argument(
        "--budget",
        type=_dollars,
        metavar="DOLLARS",
        help="what it may spend over all of its runs, with what it spawns",
    )


def of_task(arguments: argparse.Namespace) -> TaskBudget | None:
    """Return a task's own budget, as the options say."""
    if arguments.budget is None or arguments.budget == "none":
        return None
    return TaskBudget(micros=arguments.budget)


def _dollars(text: str) -> int | str:
    if text == "none":
        return text
    micros = _decimal(text) * 1_000_000
    if micros != int(micros):
        raise argparse.ArgumentTypeError(f"{text!r} is finer than a micro-dollar")
    return int(micros)


def _price(text: str) -> float:
    return float(_decimal(text))  # dollars for a million tokens are micro-dollars for one


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not 0 <= value <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r} is no amount of dollars such as 10 or 0.05")
    return value


def _time(text: str) -> int | str:
    if text == "none":
        return text
    found = _TIME.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 90s, 30m or 2h, nor none")
    return int(found[1]) * UNIT_MS[found[2]]


def _scope(arguments: argparse.Namespace) -> tuple[BudgetKind, str | None]:
    for kind in _KINDS:
        name = getattr(arguments, kind)
        if name is not None:
            return kind, name
    return "all", None


def _checked_set(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    caps: dict[str, int | None] = {}
    for option, unit in (("money", "micros"), ("tokens", "tokens"), ("calls", "calls"), ("time", "ms")):
        value = getattr(arguments, option)
        if value is not None:
            caps[unit] = None if value == "none" else value
    others = (arguments.zone, arguments.children, arguments.unpriced)
    if not caps and all(value is None for value in others):
        parser.error("give --money, --tokens, --calls or --time")
    return anyio.run(_set, arguments, caps)


async def _set(arguments: argparse.Namespace, caps: dict[str, int | None]) -> int:
    kind, name = _scope(arguments)
    spec = BudgetSpec(
        kind=kind,
        name=name,
        period=arguments.period,
        on_breach=arguments.on_breach,
        zone=arguments.zone,
        caps=caps,
        children=arguments.children,
        unpriced=arguments.unpriced,
    )
    async with client() as control:
        budget = await control.budgets.set(spec)
    if arguments.json:
        print_json(budget.model_dump(by_alias=True))
    else:
        print_table([_row(budget, None)], _COLUMNS)
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        found = await control.budgets.list()
    if arguments.json:
        print_json([item.model_dump(by_alias=True) for item in found])
    else:
        print_table([_row(item.budget, item.balance) for item in found], _COLUMNS)
    return 0


async def _show(arguments: argparse.Namespace) -> int:
    kind, name = _scope(arguments)
    async with client() as control:
        found = await control.budgets.get(kind, name, period=arguments.period, on_breach=arguments.on_breach)
    if arguments.json:
        print_json(found.model_dump(by_alias=True))
        return 0
    rows = [_row(found.budget, balance) for balance in found.balances] or [_row(found.budget, None)]
    print_table(rows, _COLUMNS)
    return 0


async def _clear(arguments: argparse.Namespace) -> int:
    kind, name = _scope(arguments)
    async with client() as control:
        await control.budgets.clear(
            kind, name, period=arguments.period, on_breach=arguments.on_breach, scope=arguments.of
        )
    if arguments.json:
        print_json({"cleared": True})
    else:
        print("cleared")
    return 0


async def _remove(arguments: argparse.Namespace) -> int:
    kind, name = _scope(arguments)
    async with client() as control:
        removed = await control.budgets.remove(
            kind, name, period=arguments.period, on_breach=arguments.on_breach
        )
    if arguments.json:
        print_json({"removed": removed})
    else:
        print("removed" if removed else "there was none")
    return 0


def _row(budget: Budget, balance: Balance | None) -> dict[str, object]:
    return {
        "scope": budget.kind,
        "name": (balance.scope if balance is not None else budget.task or budget.name) or None,
        "period": _since(budget, balance),
        "on breach": budget.on_breach,
        "limit": told(budget.caps),
        "spent": None if balance is None else told(balance.spent, budget.caps),
        "held": None if balance is None else told(balance.held, budget.caps),
        "state": "paused" if balance is not None and balance.paused else None,
    }


def _since(budget: Budget, balance: Balance | None) -> str:
    if balance is None or balance.since == 0:
        return budget.period
    # A period begins at midnight of its zone, and the noon after it has its date in nearly all.
    noon = datetime.fromtimestamp(balance.since / 1000 + 43_200, UTC)
    return f"{noon:%Y-%m-%d}" if budget.period == "day" else f"{noon:%Y-%m}"


def told(amounts: Caps | Amounts, caps: Caps | None = None) -> str | None:
    """Return amounts in words, those alone that `caps` limits."""
    chosen = caps if caps is not None else amounts
    parts = [
        text
        for unit, text in (
            ("micros", dollars(amounts.micros or 0)),
            ("tokens", f"{amounts.tokens} tokens"),
            ("calls", f"{amounts.calls} calls"),
            ("ms", f"{(amounts.ms or 0) / 1000:g} s"),
        )
        if getattr(chosen, unit) is not None
    ]
    return ", ".join(parts) or None


def dollars(micros: int) -> str:
    """Return micro-dollars as dollars: to the cent, or as exactly as it takes."""
    return f"${micros / 1e6:.2f}" if micros % 10_000 == 0 else f"${micros / 1e6:.6f}".rstrip("0")
