"""`signalbox schedules`: tasks that are submitted at times."""

from __future__ import annotations

import argparse
from datetime import datetime
from typing import Any, get_args

import anyio

from worker.cli import templates
from worker.cli.common import (
    Commands,
    add_command,
    client,
    moment,
    print_json,
    print_table,
    top_command,
    with_json,
)
from worker.cli.host_aids import duration_ms
from worker.errors import SettingsError
from worker.paging import pages
from worker.schedules import (
    CatchUpPolicy,
    CatchUpSpec,
    Overlap,
    ScheduleSpec,
    ScheduleView,
    Timing,
)

_PAGE = 100  # schedules in a call, as the control plane bounds it


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = top_command(commands, "schedules")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    setting = add_command(
        verbs,
        "set",
        "make or change a schedule",
        "The same again changes nothing. Give exactly one of --cron, --every and --at.",
    )
    setting.add_argument("name", metavar="NAME", help="what it is known by")
    setting.add_argument("agent", metavar="AGENT", help="one that `signalbox agents list` shows")
    templates.add_to(setting)
    _add_timing(setting)
    setting.add_argument(
        "--catch-up",
        choices=get_args(CatchUpPolicy),
        metavar="POLICY",
        help="for times missed by over a minute: skip, once (the last of them), all; default: once",
    )
    setting.add_argument(
        "--window",
        type=_duration,
        metavar="DURATION",
        help="make up for no more than what was missed so long ago; default: 1d",
    )
    setting.add_argument(
        "--overlap",
        choices=get_args(Overlap),
        metavar="RULE",
        help="while the task before has not ended: allow, skip, queue (one), "
        "cancel_other (with its children); default: allow",
    )
    setting.add_argument(
        "--jitter", type=_duration, metavar="DURATION", help="submit up to so much later; default: 0s"
    )
    setting.add_argument("--paused", action="store_true", help="do nothing until it is resumed")
    listing = add_command(verbs, "list", "list schedules by name")
    show = add_command(verbs, "show", "show a schedule and where it stands")
    pause = add_command(verbs, "pause", "let a schedule do nothing until it is resumed")
    resume = add_command(
        verbs, "resume", "let a paused schedule go on", "What fell due meanwhile is not made up."
    )
    remove = add_command(verbs, "remove", "remove a schedule; the tasks that it submitted stay")
    run = add_command(verbs, "run", "submit a schedule's task now and print its id")
    preview = add_command(
        verbs, "preview", "print the next times of a schedule, or of one that is not set yet"
    )
    preview.add_argument("name", metavar="NAME", nargs="?", help="a schedule; else give a time")
    _add_timing(preview)
    preview.add_argument(
        "--count", type=int, default=10, metavar="N", help="how many, at most 100; default: %(default)s"
    )
    for verb in (show, pause, resume, remove, run):
        verb.add_argument("name", metavar="NAME", help="as `signalbox schedules list` shows it")
    for verb, does in (
        (setting, _set),
        (listing, _list),
        (show, _show),
        (pause, _pause),
        (resume, _resume),
        (remove, _remove),
        (run, _run),
        (preview, _preview),
    ):
        verb.add_argument("--tenant", metavar="NAME", help="whose it is; default: default")
        with_json(verb, "print JSON")
        verb.set_defaults(run=lambda a, does=does: anyio.run(does, a))


def _add_timing(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cron",
        metavar="FIELDS",
        help="minute hour day-of-month month day-of-week, or a nickname such as @daily",
    )
    parser.add_argument("--zone", metavar="ZONE", help="of the cron, such as Europe/Berlin; default: UTC")
    parser.add_argument("--every", type=_duration, metavar="DURATION", help="such as 90s or 1h30m")
    parser.add_argument("--at", type=_instant, metavar="TIME", help="once, such as 2026-02-01T00:00:00Z")


def _duration(text: str) -> int:
    milliseconds = duration_ms(text)
    if milliseconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 90s or 1h30m")
    return milliseconds


def _instant(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time with its zone, such as 2026-02-01T00:00:00Z"
        )
    return at.timestamp() * 1000


def spec_of(arguments: argparse.Namespace) -> ScheduleSpec:
    """Return the schedule that the options describe.

    Raises:
        UsageError: The input is not JSON.
    """
    catch_up = CatchUpSpec(policy=arguments.catch_up, window_ms=arguments.window)
    return ScheduleSpec(
        name=arguments.name,
        tenant=arguments.tenant,
        template=templates.template_of(arguments),
        catch_up=catch_up if catch_up != CatchUpSpec() else None,
        overlap=arguments.overlap,
        jitter_ms=arguments.jitter,
        enabled=False if arguments.paused else None,
        **_timing(arguments),
    )


def _timing(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "cron": arguments.cron,
        "time_zone": arguments.zone,
        "every_ms": arguments.every,
        "at": arguments.at,
    }


async def _set(arguments: argparse.Namespace) -> int:
    spec = await anyio.to_thread.run_sync(spec_of, arguments)
    async with client() as control:
        answer = await control.set_schedule(spec)
    if arguments.json:
        print_json(answer.model_dump(by_alias=True))
    else:
        became = "changed" if answer.changed else "as it was"
        print(f"{spec.name}: {became}; next: {_time(answer.next_run_at) or 'never'}")
    return 0


async def _list(arguments: argparse.Namespace) -> int:
    async with client() as control:
        every = await pages(lambda at: control.schedules(tenant=arguments.tenant, limit=_PAGE, cursor=at))
    found = [view for page in every for view in page.schedules]
    if arguments.json:
        print_json([view.model_dump(by_alias=True) for view in found])
        return 0
    rows = [
        {
            "name": view.name,
            "agent": view.template.agent or view.template.capability,
            "when": _when(view),
            "state": "on" if view.enabled else "paused",
            "next": _time(view.next_run_at),
            "last": _time(view.last_run_at),
            "error": view.last_error.code if view.last_error else None,
        }
        for view in found
    ]
    print_table(rows, ["name", "agent", "when", "state", "next", "last", "error"])
    return 0


async def _show(arguments: argparse.Namespace) -> int:
    async with client() as control:
        view = await control.schedule(arguments.name, tenant=arguments.tenant)
    if view is None:
        raise SettingsError(f"No schedule {arguments.name}")
    _print(view, as_json=arguments.json)
    return 0


async def _pause(arguments: argparse.Namespace) -> int:
    async with client() as control:
        view = await control.pause_schedule(arguments.name, tenant=arguments.tenant)
    _print_state(view, as_json=arguments.json)
    return 0


async def _resume(arguments: argparse.Namespace) -> int:
    async with client() as control:
        view = await control.resume_schedule(arguments.name, tenant=arguments.tenant)
    _print_state(view, as_json=arguments.json)
    return 0


async def _remove(arguments: argparse.Namespace) -> int:
    async with client() as control:
        removed = await control.remove_schedule(arguments.name, tenant=arguments.tenant)
    if arguments.json:
        print_json({"removed": removed})
    else:
        print("removed" if removed else "there was none")
    return 0


async def _run(arguments: argparse.Namespace) -> int:
    async with client() as control:
        task = await control.run_schedule(arguments.name, tenant=arguments.tenant)
    if arguments.json:
        print_json({"task": task})
    else:
        print(task)
    return 0


async def _preview(arguments: argparse.Namespace) -> int:
    of = arguments.name or Timing(**_timing(arguments))
    async with client() as control:
        times = await control.preview_schedule(of, tenant=arguments.tenant, count=arguments.count)
    if arguments.json:
        print_json(times)
    else:
        for at in times:
            print(_time(at))
    return 0


def _print_state(view: ScheduleView, *, as_json: bool) -> None:
    if as_json:
        print_json(view.model_dump(by_alias=True))
    elif view.enabled:
        print(f"{view.name}: on; next: {_time(view.next_run_at)}")
    else:
        print(f"{view.name}: paused")


def _print(view: ScheduleView, *, as_json: bool) -> None:
    if as_json:
        print_json(view.model_dump(by_alias=True))
        return
    template = view.template.model_dump(exclude_none=True)
    facts = {
        "name": view.name,
        "tenant": view.tenant,
        "when": _when(view),
        "state": "on" if view.enabled else "paused",
        "next": _time(view.next_run_at),
        "last": _time(view.last_run_at),
        "last task": view.last_task,
        "submitted": view.fired,
        "overlapped": view.overlapped,
        "overlap": view.overlap,
        "catch up": f"{view.catch_up.policy}, within {_span(view.catch_up.window_ms)}",
        "jitter": _span(view.jitter_ms),
        **{f"task {field.replace('_', ' ')}": value for field, value in template.items()},
    }
    if view.missed is not None:
        facts["given up"] = f"{_time(view.missed.first)} to {_time(view.missed.last)}"
    if view.last_error is not None:
        facts["error"] = f"{_time(view.last_error.at)}  {view.last_error.message}"
    for field, value in facts.items():
        print(f"{field:<13} {'-' if value is None else value}")


def _when(view: ScheduleView) -> str:
    if view.cron is not None:
        return f"{view.cron} ({view.time_zone})"
    if view.every_ms is not None:
        return f"every {_span(view.every_ms)}"
    return f"once, {_time(view.at)}"


def _span(ms: float) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if ms >= size and ms % size == 0:
            return f"{int(ms // size)}{unit}"
    return f"{int(ms)}ms" if ms else "0s"


def _time(ms: float | None) -> str | None:
    return None if ms is None else moment(ms)
