"""Debounce and batch, as the options of the commands that submit tasks or say what is submitted."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from worker.cli.common import count, positive
from worker.client import Batch, Debounce
from worker.errors import UsageError


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--debounce",
        nargs=2,
        metavar=("KEY", "SECONDS"),
        help="wait so long for another with this key, which then replaces its input",
    )
    parser.add_argument(
        "--debounce-max", type=positive, metavar="SECONDS", help="from the first, however many follow"
    )
    parser.add_argument(
        "--batch",
        nargs=3,
        metavar=("KEY", "ITEMS", "SECONDS"),
        help="one task for so many with this key, or for those of so long: its input is the list of theirs",
    )


def debounce_of(arguments: argparse.Namespace) -> Debounce | None:
    """Return what --debounce says.

    Raises:
        UsageError: It is given wrong, or --debounce-max alone.
    """
    if arguments.debounce is None:
        if arguments.debounce_max is not None:
            raise UsageError("--debounce-max bounds --debounce: give that too")
        return None
    key, wait = arguments.debounce
    most = arguments.debounce_max
    return Debounce(
        key=key,
        for_ms=_given("--debounce", positive, wait) * 1000,
        max_ms=None if most is None else most * 1000,
    )


def batch_of(arguments: argparse.Namespace) -> Batch | None:
    """Return what --batch says.

    Raises:
        UsageError: It is given wrong.
    """
    if arguments.batch is None:
        return None
    key, items, wait = arguments.batch
    most = int(_given("--batch", count, items))
    return Batch(key=key, max_items=most, max_ms=_given("--batch", positive, wait) * 1000)


def _given(option: str, kind: Callable[[str], float], text: str) -> float:
    try:
        return kind(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"{option}: {error}") from None
