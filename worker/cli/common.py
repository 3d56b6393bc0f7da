"""What commands share: where the deployment is, who calls, and how results are printed."""

from __future__ import annotations

import argparse
import ipaddress
import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from pydantic import SecretStr

from worker.backend import Backend
from worker.cli.commands import COMMANDS
from worker.errors import SettingsError, UsageError
from worker.local import DEVELOPMENT_ADMIN_KEY
from worker.settings import Settings, environment

if TYPE_CHECKING:
    from worker.client import Client

_FIRST_MS = 1e11  # the year 5138 in seconds, 1973 in milliseconds
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PATIENCE_S = 10.0  # of somebody at a terminal

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(commands: Commands, name: str, what: str, more: str = "") -> argparse.ArgumentParser:
    """Add a command or verb and return its parser.

    Args:
        commands: Where it belongs.
        name: What the user types.
        what: What it does, as a phrase: its line in the list, and the opening of its own help.
        more: Sentences that only its own help has.
    """
    return commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}. {more}".strip())


def top_command(commands: Commands, name: str, more: str = "") -> argparse.ArgumentParser:
    """Add one of `COMMANDS` and return its parser; `more` is what only its own help has."""
    return add_command(commands, name, COMMANDS[name].what, more)


def with_json(parser: argparse.ArgumentParser, what: str = "print JSON instead of a table") -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help=what)


def number(text: str) -> float:
    """Return the finite number that an option is given."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def count(text: str) -> int:
    """Return the whole number from 1 on that an option is given."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def positive(text: str) -> float:
    """Return the number above 0 that an option is given."""
    value = number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def ms(seconds: float | None) -> float | None:
    """Return an option's seconds in milliseconds."""
    return None if seconds is None else seconds * 1000


def instant_ms(text: str) -> float:
    """Return the milliseconds since the epoch of ISO 8601 text, or of seconds or milliseconds since it.

    A time without an offset is in this machine's time zone.
    """
    try:
        value = float(text)
    except ValueError:
        try:
            return datetime.fromisoformat(text).astimezone().timestamp() * 1000
        except (ValueError, OverflowError):
            value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time: write 2026-11-21T13:00:00Z, or seconds since 1970"
        )
    return value if value >= _FIRST_MS else value * 1000


def client() -> Client:
    """Return a client of the deployment that the environment or `.env` names."""
    from worker.client import Client  # noqa: PLC0415 - a worker needs none, and its models take long to import

    settings = Settings.from_env()
    return Client.connect(settings.convex_url, settings.key, deadline_s=_PATIENCE_S)


def admin_backend(url: str | None, key: str | None) -> Backend:
    """Return the deployment as its administrator.

    Options win over `CONVEX_URL` and `CONVEX_ADMIN_KEY`; on the loopback address the embedded host's
    development key is tried.

    Raises:
        SettingsError: The address or the key is not given.
    """
    url, secret = admin_address(url, key)
    return Backend(url, admin_key=secret)


def admin_address(url: str | None, key: str | None, *, default_url: str = "") -> tuple[str, SecretStr]:
    """Return where the deployment is and the key of its administrator, as `admin_backend` finds them.

    Raises:
        SettingsError: The address or the key is not given.
    """
    given = environment()
    url = url or given.get("CONVEX_URL", default_url)
    if not url:
        raise SettingsError("CONVEX_URL is not set: set it to your deployment's address, or give --url")
    key = key or given.get("CONVEX_ADMIN_KEY") or (DEVELOPMENT_ADMIN_KEY if _is_loopback(url) else None)
    if not key:
        raise SettingsError(
            "CONVEX_ADMIN_KEY is not set: take a deploy key from the Convex dashboard, or give --admin-key"
        )
    return url, SecretStr(key)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def print_json(value: object) -> None:
    """Print one JSON document on one line."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), flush=True)


def print_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Print rows under a heading, each column as wide as it needs; nothing is said as a dash."""
    cells = [list(columns), *[["-" if row[c] is None else str(row[c]) for c in columns] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def read_text(argument: str) -> str:
    """Return the text behind `@FILE`, of standard input for `-`, or the argument itself."""
    if argument == "-":
        return sys.stdin.read()
    if argument.startswith("@"):
        return Path(argument[1:]).read_text(encoding="utf-8")
    return argument


def read_json(option: str, argument: str) -> str:
    """Return the text that `read_text` brings, once it is known to be JSON.

    Raises:
        UsageError: It is not; the message names the option.
    """
    text = read_text(argument)
    try:
        json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{option} is not JSON ({error}); a plain text needs quotes: {option} '\"text\"'"
        ) from None
    return text


def count_or_none(text: str) -> int | str:
    """Return a whole number, or the word that takes a limit away."""
    if text == "none":
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor none") from None


def moment(ms: float) -> str:
    """Return a time, in milliseconds since the epoch, for people: milliseconds only if there are some."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return at.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")
