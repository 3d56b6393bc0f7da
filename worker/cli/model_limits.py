"""`signalbox model-limits`: how models do, which ones cool, and the limits that workers keep to together."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence

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
from worker.model_limits import ModelCall, ModelView

_TIME = re.compile(r"(\d{1,9})(ms|s|m|h)")
_MESSAGE_CHARS = 60
_COLUMNS = ["model", "requests", "tokens", "per", "cools", "minute", "failed", "total", "last failure"]


def add_to(commands: Commands) -> None:
    """Add the commands."""
    parser = top_command(commands, "model-limits")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listing = add_command(verbs, "list", "list the models that workers ask, their limits and cooldowns")
    setting = add_command(
        verbs,
        "set",
        "limit the requests and tokens of a model",
        "All workers keep to a limit together. What is not given stays as it is.",
    )
    setting.add_argument(
        "--requests", type=count_or_none, metavar="N", help="requests in the time; none: no limit"
    )
    setting.add_argument(
        "--tokens", type=count_or_none, metavar="N", help="tokens in the time; none: no limit"
    )
    setting.add_argument("--per", type=_time, metavar="TIME", help="such as 1m (default), 10s, 1h")
    clearing = add_command(verbs, "clear", "let a model be asked again at once, by all workers")
    for verb in (setting, clearing):
        verb.add_argument("model", metavar="MODEL", help="provider/model")
    for verb in (listing, setting, clearing):
        with_json(verb)
    listing.set_defaults(run=lambda a: anyio.run(_list, a))
    setting.set_defaults(run=lambda a: _checked_set(setting, a))
    clearing.set_defaults(run=lambda a: anyio.run(_clear, a))


def _time(text: str) -> int:
    found = _TIME.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 1m, 10s or 500ms")
    return int(found[1]) * UNIT_MS[found[2]]


def _checked_set(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    given = {"requests": arguments.requests, "tokens": arguments.tokens, "per_ms": arguments.per}
    change = {name: None if value == "none" else value for name, value in given.items() if value is not None}
    if not change:
        parser.error("give --requests, --tokens or --per")
    return anyio.run(_set, arguments, change)


async def _set(arguments: argparse.Namespace, change: dict[str, int | None]) -> int:
    async with client() as control:
        _show(arguments, [await control.models.set(arguments.model, **change)])
    return 0


async def _clear(arguments: argparse.Namespace) -> int:
    async with client() as control:
        _show(arguments, [await control.models.clear(arguments.model)])
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        models = await control.models.list()
    if arguments.json:
        print_json([model.model_dump(by_alias=True) for model in models])
    else:
        print_table([_row(model) for model in models], _COLUMNS)
    return 0


def _show(arguments: argparse.Namespace, models: Sequence[ModelView]) -> None:
    if arguments.json:
        print_json(models[0].model_dump(by_alias=True))
    else:
        print_table([_row(model) for model in models], _COLUMNS)


def _row(model: ModelView) -> dict[str, object]:
    limited = model.requests is not None or model.tokens is not None
    error = model.error
    return {
        "model": model.model,
        "requests": model.requests,
        "tokens": model.tokens,
        "per": f"{model.per_ms / 1000:g} s" if limited else None,
        "cools": f"{model.cool_ms / 1000:.0f} s" if model.cool_ms > 0 else None,
        "minute": model.minute.requests,
        "failed": model.minute.failures,
        "total": model.total.requests,
        "last failure": error and f"{error.code}: {error.message}"[:_MESSAGE_CHARS],
    }


def call_lines(calls: Sequence[ModelCall]) -> Iterator[str]:
    """Yield a line for each attempt of a task's model calls."""
    for call in calls:
        tokens = "" if call.usage is None else f"{call.usage.input_tokens}+{call.usage.output_tokens} tokens"
        cost = "" if call.cost_micros is None else f"${call.cost_micros / 1_000_000:.6f}"
        about = " (estimated)" if call.estimated else ""
        why = "" if call.error is None else f"{call.error.code}: {call.error.message}"
        facts = "  ".join(part for part in (f"{call.ms / 1000:.2f} s", tokens, cost + about, why) if part)
        yield f"{call.call}.{call.attempt}  {call.model}  {call.state:<10}  {facts}"
