"""Schedules on a real host: times against another reading of cron, a host that was down, conflicts."""

from __future__ import annotations

import itertools
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from cronsim import CronSim
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.deployment import Deployment, deployed
from worker.cli import main
from worker.schedules import CatchUpSpec, ScheduleSpec, Template

pytestmark = pytest.mark.timeout(180)

START = datetime(2026, 1, 15, 12, tzinfo=UTC)
ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # no daylight saving any more
    "Asia/Kolkata",  # half an hour off
    "Australia/Lord_Howe",  # clocks move by half an hour
    "Africa/Cairo",  # they move at midnight
    "America/Santiago",  # at midnight, in the southern half
    "Atlantic/Azores",  # an hour comes twice around midnight UTC
    "Pacific/Chatham",  # three quarters of an hour off
    "Antarctica/Troll",  # clocks move by two hours
]
EXPRESSIONS = [
    "* * * * *",
    "*/15 * * * *",
    "30 * * * *",
    "0 0 * * *",
    "30 0 * * *",
    "15 1 * * *",
    "30 2 * * *",
    "0,30 2,3 * * *",
    "59 23 * * *",
    "*/20 0-3 * * *",
    "0-45/15 2 * * *",
    "0 */6 * * *",
    "0 0 29 2 *",
    "0 12 31 * *",
    "0 0 L * *",
    "0 0 13 * 5",
    "0 0 */10 * 1",
    "0 9 * * 1-5",
    "30 2 * * 0",
    "0 0 * * 1#2",
    "0 0 * * 5L",
]
TURNS = [  # days or hours before clocks move somewhere, and ends of months
    datetime(2026, 3, 28, 11, tzinfo=UTC),
    datetime(2026, 10, 24, 23, 30, tzinfo=UTC),
    datetime(2026, 4, 4, 11, tzinfo=UTC),
    datetime(2026, 9, 5, 23, tzinfo=UTC),
    datetime(2028, 2, 28, 20, tzinfo=UTC),
    datetime(2026, 12, 31, 22, tzinfo=UTC),
]


# Where clocks move by less than an hour or at midnight, cronsim loses its way with rhythms (a `*` in
# minute or hour): it steps over a minute that comes again within the hour, and hands out midnights that do
# not exist.
LOST = {"Australia/Lord_Howe", "Africa/Cairo", "America/Santiago", "Atlantic/Azores"}


def expected(expression: str, zone: str, after: datetime, count: int) -> list[int]:
    """Return what cronsim finds behind `after`, in milliseconds since the epoch."""
    rhythm = "*" in "".join(expression.split()[:2])
    by_cronsim = minute_by_minute if rhythm and zone in LOST else walk
    found = by_cronsim(expression, ZoneInfo(zone), after)
    return [int(at.timestamp() * 1000) for at in itertools.islice(found, count)]


def walk(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield cronsim's own walk, each moment once.

    It walks by the wall for a cron that names times of the day: two that fall into one gap come out as one
    moment twice, and in an hour that comes twice it may begin behind itself. So it starts some days earlier.
    """
    last = after
    for at in CronSim(expression, (after - timedelta(days=3)).astimezone(zone)):
        if at.astimezone(UTC) > last:
            last = at.astimezone(UTC)
            yield last


def minute_by_minute(expression: str, zone: ZoneInfo, after: datetime) -> Iterator[datetime]:
    """Yield every minute that the zone shows and that cronsim's fields match."""
    fields = CronSim(expression, after)
    hour = after.replace(minute=0, second=0)
    while True:
        shown = {hour.astimezone(zone), (hour + timedelta(minutes=59)).astimezone(zone)}
        if any(each.month in fields.months and fields.match_day(each.date()) for each in shown):
            for minute in range(60):
                at = hour + timedelta(minutes=minute)
                here = at.astimezone(zone)
                if (
                    at > after
                    and here.minute in fields.minutes
                    and here.hour in fields.hours
                    and here.month in fields.months
                    and fields.match_day(here.date())
                ):
                    yield at
        hour += timedelta(hours=1)


class Preview:
    """`schedules:preview` over one connection after the other."""

    def __init__(self, at: Deployment) -> None:
        self._url = f"{at.host.url}/api/query"
        self._key = at.keys["submit"]

    def __call__(self, expression: str, zone: str, after: datetime, count: int) -> list[int]:
        args = {
            "key": self._key,
            "of": {"cron": expression, "timeZone": zone},
            "count": count,
            "after": after.timestamp() * 1000,
        }
        body = json.dumps({"path": "schedules:preview", "args": args, "format": "json"}).encode()
        request = urllib.request.Request(self._url, data=body, headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            reply = json.loads(answer.read())
        assert reply["status"] == "success", reply
        return [int(at) for at in reply["value"]]


def told(times: list[int], zone: str) -> list[str]:
    """Return instants as their zone shows them, for a failure that can be read."""
    return [datetime.fromtimestamp(ms / 1000, UTC).astimezone(ZoneInfo(zone)).isoformat() for ms in times]


@pytest.fixture(scope="module")
async def preview(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Preview]:
    async with deployed(tmp_path_factory.mktemp("preview"), synchronous="normal") as at:
        yield Preview(at)


async def test_eleven_zones_and_tricky_expressions_agree_with_cronsim(preview: Preview) -> None:
    def compare() -> None:
        for expression, zone in itertools.product(EXPRESSIONS, ZONES):
            for after in TURNS:
                ours = preview(expression, zone, after, 12)
                theirs = expected(expression, zone, after, 12)
                assert told(ours, zone) == told(theirs, zone), (expression, zone, after.isoformat())

    await anyio.to_thread.run_sync(compare)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    """Return one field of a cron: a star, a number, a list, a range, with or without a step."""
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.integers(1, max(2, (high - low) // 2))
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.lists(number, min_size=2, max_size=4, unique=True).map(lambda values: ",".join(map(str, values))),
        span,
        step.map(lambda by: f"*/{by}"),
        # cronsim takes a range of one number with a step for all from that number on
        st.tuples(span, step)
        .filter(lambda pair: len(set(pair[0].split("-"))) == 2)
        .map(lambda pair: f"{pair[0]}/{pair[1]}"),
    )


CRON = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6)).map(" ".join)
INSTANT = st.datetimes(datetime(2024, 1, 1), datetime(2029, 12, 31)).map(
    lambda at: at.replace(microsecond=0, tzinfo=UTC)
)


async def test_any_expression_zone_and_instant_agree_with_cronsim(preview: Preview) -> None:
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(CRON, st.sampled_from(ZONES), INSTANT)
    @example("50 2 * * *", "Europe/Berlin", datetime(2026, 10, 25, 1, 45, tzinfo=UTC))
    def compare(expression: str, zone: str, after: datetime) -> None:
        ours = preview(expression, zone, after, 6)
        assert told(ours, zone) == told(expected(expression, zone, after, 6), zone)

    await anyio.to_thread.run_sync(compare)


def virtual(start: datetime) -> list[str]:
    return ["--clock", f"virtual:{start.isoformat().replace('+00:00', 'Z')}"]


async def advance(at: Deployment, by: timedelta) -> None:
    """Let the host's clock go on, with all that is due on the way."""
    body = {"advanceMs": int(by.total_seconds() * 1000)}
    while True:
        answer = await anyio.to_thread.run_sync(_ask, at, body)
        if "target" not in answer:
            return
        body = {"to": answer["target"]}


def _ask(at: Deployment, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{at.host.url}/api/host/clock",
        data=json.dumps(body).encode(),
        headers={"authorization": f"Convex {at.host.admin_key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


async def nominal(at: Deployment, tenant: str = "default") -> list[datetime]:
    """Return the occurrences for which there are tasks, each as often as there is one."""
    found: list[datetime] = []
    for task in await at.all_tasks(tenant):
        (fired,) = [e for e in await at.client.history(task.task) if e.type == "schedule_fired"]
        assert isinstance(fired.data["nominal"], float)
        found.append(datetime.fromtimestamp(fired.data["nominal"] / 1000, UTC))
    return sorted(found)


def times(first: datetime, step: timedelta, last: datetime) -> Iterator[datetime]:
    while first <= last:
        yield first
        first += step


TEMPLATE = Template(agent="writer", input="1")
TEN = timedelta(minutes=10)


MADE_UP: dict[tuple[Any, timedelta | None], list[int]] = {  # minutes of the hour, by policy and window
    ("skip", None): [],
    ("once", None): [60],
    ("once", timedelta(minutes=4)): [],
    ("all", None): [10, 20, 30, 40, 50, 60],
    ("all", timedelta(minutes=30)): [40, 50, 60],
}


@pytest.fixture(scope="module")
async def was_down(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """A deployment that was down for an hour, with a schedule for each policy and a tenant for each."""
    async with deployed(tmp_path_factory.mktemp("down"), flags=virtual(START)) as at:
        await at.with_writer()
        for number, (policy, window) in enumerate(MADE_UP):
            await at.client.set_schedule(
                ScheduleSpec(
                    name="s",
                    tenant=f"t{number}",
                    cron="*/10 * * * *",
                    template=TEMPLATE,
                    catch_up=CatchUpSpec(policy=policy, window_ms=window and window.total_seconds() * 1000),
                )
            )
        await advance(at, timedelta(minutes=5))
        at.host.stop()
        at.host._flags = virtual(START + timedelta(minutes=65))
        await anyio.to_thread.run_sync(at.host.start)
        await advance(at, timedelta(minutes=6))
        yield at


@pytest.mark.parametrize("number", range(len(MADE_UP)), ids=[f"{p}-{w}" for p, w in MADE_UP])
async def test_a_host_that_was_down_for_an_hour_makes_up_what_the_policy_says(
    was_down: Deployment, number: int
) -> None:
    made_up = list(MADE_UP.values())[number]
    assert await nominal(was_down, f"t{number}") == [START + timedelta(minutes=m) for m in [*made_up, 70]]


async def test_a_day_with_conflicts_and_kills_is_each_occurrence_once(tmp_path: Path) -> None:
    async with deployed(
        tmp_path, flags=[*virtual(START), "--conflicts", "0.3:7"], synchronous="normal"
    ) as at:
        await at.with_writer()
        await at.client.set_schedule(
            ScheduleSpec(name="six", cron="0 6,18 * * *", time_zone="America/New_York", template=TEMPLATE)
        )
        await at.client.set_schedule(
            ScheduleSpec(
                name="often",
                every_ms=3_600_000,
                jitter_ms=1_800_000,
                template=TEMPLATE,
                catch_up=CatchUpSpec(policy="all"),
            )
        )
        for _ in range(4):
            await advance(at, timedelta(hours=6))
            at.host.kill()
            await anyio.to_thread.run_sync(at.host.start)
        await advance(at, timedelta(minutes=45))
        sixes = [START + timedelta(hours=11), START + timedelta(hours=23)]  # 23:00 and 11:00 UTC
        hour = timedelta(hours=1)
        assert await nominal(at) == sorted([*sixes, *times(START + hour, hour, START + timedelta(days=1))])


async def test_two_schedulers_at_once_do_an_occurrence_once(tmp_path: Path) -> None:
    async with deployed(
        tmp_path, flags=[*virtual(START), "--conflicts", "0.4:3"], synchronous="normal"
    ) as at:
        await at.with_writer()
        often = ScheduleSpec(name="s", every_ms=1000, template=TEMPLATE)
        await at.client.set_schedule(often)

        async def meddle() -> None:
            # The watchdog looks after the timers while they run, and the schedule is set again and again.
            for priority in range(8):
                await anyio.to_thread.run_sync(_run, at, "timers:watchdog", {})
                template = TEMPLATE.model_copy(update={"priority": priority % 2})
                await at.client.set_schedule(often.model_copy(update={"template": template}))

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(meddle)
            for _ in range(20):
                await advance(at, timedelta(seconds=1))
        await advance(at, timedelta(milliseconds=900))  # a pass that conflicted runs again a moment later
        second = timedelta(seconds=1)
        assert await nominal(at) == list(times(START + second, second, START + 20 * second))


def _run(at: Deployment, path: str, args: dict[str, Any]) -> None:
    request = urllib.request.Request(
        f"{at.host.url}/api/mutation",
        data=json.dumps({"path": path, "args": args, "format": "json"}).encode(),
        headers={"authorization": f"Convex {at.host.admin_key}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        reply = json.loads(answer.read())
    assert reply["status"] == "success" or "Optimistic" in reply["errorMessage"], reply


async def test_schedules_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with deployed(tmp_path, flags=virtual(START)) as at:
        await at.with_writer()
        monkeypatch.setenv("CONVEX_URL", at.host.url)
        monkeypatch.setenv("SIGNALBOX_KEY", at.keys["operator"])

        async def run(*arguments: str) -> tuple[int, str, str]:
            code = await anyio.to_thread.run_sync(main, ["schedules", *arguments])
            return code, *capsys.readouterr()

        async def said(*arguments: str) -> str:
            code, out, err = await run(*arguments)
            assert (code, err) == (0, "")
            return out

        async def refusal(*arguments: str, exits: int = 1) -> str:
            code, out, err = await run(*arguments)
            assert (code, out, err.count("\n")) == (exits, "", 1)
            return err

        setting = ["set", "nightly", "writer", "--cron", "30 2 * * *", "--zone", "Europe/Berlin"]
        setting += ["--input", '{"a": 1}']
        assert await said(*setting) == "nightly: changed; next: 2026-01-16T01:30:00Z\n"
        assert await said(*setting) == "nightly: as it was; next: 2026-01-16T01:30:00Z\n"
        options = ["--catch-up", "all", "--window", "2h", "--overlap", "queue", "--jitter", "30s"]
        more = ["--priority", "2", "--max-attempts", "1", "--label", "x", "--key", "k", "--queue", "q"]
        more += ["--stack", "shop", "--budget", "0.50"]
        await said("set", "often", "writer", "--every", "90s", *options, *more)
        shown = json.loads(await said("show", "often", "--json"))
        assert (shown["everyMs"], shown["jitterMs"], shown["overlap"]) == (90_000, 30_000, "queue")
        assert shown["catchUp"] == {"policy": "all", "windowMs": 7_200_000}
        assert shown["template"]["retry"]["maxAttempts"] == 1
        assert (shown["template"]["stack"], shown["template"]["budget"]["micros"]) == ("shop", 500_000)
        assert "every 90s" in await said("show", "often")
        assert (await said("list")).splitlines()[1].split()[:2] == ["nightly", "writer"]
        assert await said("pause", "nightly") == "nightly: paused\n"
        assert await said("resume", "nightly") == "nightly: on; next: 2026-01-16T01:30:00Z\n"
        nights = ["2026-01-16T01:30:00Z", "2026-01-17T01:30:00Z"]
        assert (await said("preview", "nightly", "--count", "2")).split() == nights
        assert await said("preview", "--every", "1h", "--count", "1") == "2026-01-15T13:00:00Z\n"
        assert (await at.task((await said("run", "nightly")).strip())).agent == "writer"
        assert await said("remove", "nightly") == "removed\n"
        assert await said("remove", "nightly") == "there was none\n"
        once = ["set", "once", "writer", "--at", "2026-01-15T12:00:01Z"]
        assert await said(*once) == "once: changed; next: 2026-01-15T12:00:01Z\n"
        assert "No schedule nightly" in await refusal("show", "nightly")
        assert "No agent named" in await refusal("set", "x", "ghost", "--every", "1h")
        assert "no such day ever comes" in await refusal("set", "x", "writer", "--cron", "0 0 31 2 *")
        assert "none is given" in await refusal("set", "x", "writer")
        wrong = ("set", "x", "writer", "--every", "1h", "--input", "{")
        assert "not JSON" in await refusal(*wrong, exits=2)
        for bad in (["--every", "soon"], ["--at", "2026-01-15"], ["--overlap", "maybe"]):
            with pytest.raises(SystemExit) as ended:
                main(["schedules", "set", "x", "writer", *bad])
            assert ended.value.code == 2
