"""`signalbox host advance | conflicts | faults`: what a running host offers tests and Convex does not."""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any

import httpx

from worker.cli.common import Commands, add_command, admin_address, moment, print_json, print_table, with_json
from worker.errors import BackendUnreachable, RequestRefused

_DEFAULT_URL = "http://127.0.0.1:3210"
_PATIENCE_S = 60.0  # an advance is answered after 30 s at the latest
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+)(ms|[smhdw])")
_ISO = re.compile(r"\d{4}-\d\d-\d\d(T\S+)?")
_NUMBER = re.compile(r"\d+|\d*\.\d+")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options of the host itself."""
    parser.add_argument(
        "--clock",
        metavar="real|virtual[:START]",
        default="real",
        help="virtual: time stands still until `signalbox host advance`; START as in 2026-01-01T00:00:00Z",
    )
    parser.add_argument(
        "--conflicts",
        metavar="RATE[:SEED]",
        default="0",
        help="undo this share of the runs of mutations as conflicts and run them again; default: %(default)s",
    )
    parser.add_argument(
        "--faults",
        metavar="SETTINGS",
        default="none",
        help="disturb what clients see, as in delay=20,drop=0.01,disconnect=0.005,seed=7",
    )
    parser.add_argument(
        "--record",
        action="store_true",
        help="keep what mutations read and wrote, for `signalbox host conflicts`",
    )


def add_to(verbs: Commands) -> None:
    """Add the verbs."""
    advance = add_command(
        verbs,
        "advance",
        "let the virtual clock of a running host go on",
        "Everything that falls due on the way runs, each at its own time.",
    )
    advance.add_argument(
        "by",
        metavar="DURATION|TIME",
        type=_clock_target,
        help="such as 90s, 1h30m, 7d, or 2026-02-01T00:00:00Z",
    )
    advance.set_defaults(run=_advance)
    conflicts = add_command(
        verbs,
        "conflicts",
        "print which mutations would have conflicted on Convex",
        "Needs a host that runs with --record. Mutations that ran within the window of each other "
        "count as run at the same time.",
    )
    conflicts.add_argument(
        "--window",
        metavar="MS",
        type=int,
        default=50,
        help="how long a mutation takes from its snapshot to its commit; default: %(default)s",
    )
    conflicts.add_argument(
        "--clear", action="store_true", help="forget what was recorded, for the next workload"
    )
    conflicts.set_defaults(run=_conflicts)
    faults = add_command(
        verbs, "faults", "disturb what the clients of a running host see, or tell what is disturbed"
    )
    faults.add_argument(
        "settings",
        metavar="SETTINGS",
        nargs="?",
        type=_fault_settings,
        help="such as delay=20,drop=0.01,disconnect=0.005,seed=7; off: nothing",
    )
    faults.set_defaults(run=_faults)
    for verb in (advance, conflicts, faults):
        verb.add_argument("--url", help=f"the host; default: CONVEX_URL, or {_DEFAULT_URL}")
        verb.add_argument(
            "--admin-key",
            metavar="KEY",
            help="default: CONVEX_ADMIN_KEY, or on loopback the key of a host that was given none",
        )
        with_json(verb, "print JSON instead of text")


def duration_ms(text: str) -> int | None:
    """Return the milliseconds of a duration such as `1h30m`, or None if it is none."""
    parts = _PART.findall(text)
    if not parts or "".join(amount + unit for amount, unit in parts) != text:
        return None
    return sum(int(amount) * _UNIT_MS[unit] for amount, unit in parts)


def _clock_target(text: str) -> dict[str, int | str]:
    milliseconds = duration_ms(text)
    if milliseconds is not None:
        return {"advanceMs": milliseconds}
    if _ISO.fullmatch(text):
        return {"to": text}
    raise argparse.ArgumentTypeError(f"{text!r} is neither a duration such as 1h30m nor a time")


def _fault_settings(text: str) -> dict[str, float]:
    if text == "off":
        return {}
    settings: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        if not _NUMBER.fullmatch(value):
            raise argparse.ArgumentTypeError(f"{part!r} is not as in drop=0.01")
        settings[name] = float(value) if "." in value else int(value)
    return settings


def _ask(
    arguments: argparse.Namespace, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return what a running host answers its administrator.

    Raises:
        SettingsError: There is no key.
        BackendUnreachable: Nobody answers.
        RequestRefused: The host says no.
    """
    url, key = admin_address(arguments.url, arguments.admin_key, default_url=_DEFAULT_URL)
    try:
        answer = httpx.request(
            method,
            url.rstrip("/") + path,
            json=body,
            headers={"Authorization": f"Convex {key.get_secret_value()}"},
            timeout=_PATIENCE_S,
            trust_env=False,
        )
        said: dict[str, Any] = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise BackendUnreachable(f"No host answers at {url}: {str(error) or type(error).__name__}") from None
    if answer.status_code != 200:
        raise RequestRefused(str(said.get("message", f"HTTP {answer.status_code}")))
    return said


def _advance(arguments: argparse.Namespace) -> int:
    body, ran = arguments.by, 0
    while True:
        answer = _ask(arguments, "POST", "/api/host/clock", body)
        ran += answer["ran"]
        if "reason" not in answer:
            break
        print(f"{moment(answer['now'])}: {answer['reason']}", file=sys.stderr)
        body = {"to": answer["target"]}
    if arguments.json:
        print_json({"now": answer["now"], "ran": ran})
    else:
        print(f"{moment(answer['now'])}: {ran} scheduled function{'' if ran == 1 else 's'} ran")
    return 0


def _conflicts(arguments: argparse.Namespace) -> int:
    if arguments.clear:
        cleared = _ask(arguments, "POST", "/api/host/conflicts/clear", {})["cleared"]
        if arguments.json:
            print_json({"cleared": cleared})
        else:
            print(f"forgot {cleared} runs")
        return 0
    matrix = _ask(arguments, "GET", f"/api/host/conflicts?window={arguments.window}")
    if arguments.json:
        print_json(matrix)
        return 0
    older = f" ({matrix['dropped']} older ones are forgotten)" if matrix["dropped"] else ""
    print(f"{matrix['runs']} runs of mutations{older}, each taken to last {matrix['windowMs']} ms")
    if matrix["pairs"]:
        print()
        print_table(
            [_pair(pair) for pair in matrix["pairs"]], ["mutation", "again", "share", "because of", "over"]
        )
    else:
        print("none of them would have run again")
    if matrix["mutations"]:
        print()
        columns = ["mutation", "runs", "wrote", "again", "share", "subscriptions", "most"]
        print_table([_mutation(row) for row in matrix["mutations"]], columns)
    return 0


def _pair(pair: dict[str, Any]) -> dict[str, object]:
    over = ", ".join(f"{place['index']} {place['conflicts']}" for place in pair["over"])
    return {
        "mutation": pair["mutation"],
        "again": pair["conflicts"],
        "share": f"{pair['share']:.0%}",
        "because of": pair["by"],
        "over": over,
    }


def _mutation(row: dict[str, Any]) -> dict[str, object]:
    return {
        "mutation": row["path"],
        "runs": row["runs"],
        "wrote": row["writes"],
        "again": row["conflicts"],
        "share": f"{row['share']:.0%}",
        "subscriptions": f"{row['meanSubscriptions']:.1f}",
        "most": row["maxSubscriptions"],
    }


def _faults(arguments: argparse.Namespace) -> int:
    if arguments.settings is None:
        answer = _ask(arguments, "GET", "/api/host/faults")
    else:
        answer = _ask(arguments, "POST", "/api/host/faults", arguments.settings)
    if arguments.json:
        print_json(answer)
        return 0
    counts = answer.pop("counts")
    is_off = not (answer["delay"] or answer["drop"] or answer["disconnect"])
    print("off" if is_off else ",".join(f"{name}={value}" for name, value in answer.items()))
    print(
        f"so far: {counts['delayed']} delayed, {counts['requests']} requests and "
        f"{counts['answers']} answers lost, {counts['disconnects']} sockets cut"
    )
    return 0
