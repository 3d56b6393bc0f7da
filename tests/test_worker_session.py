"""A session against a control plane in memory: what it brings and tells, what it loses, how it ends."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from tests.recorded_session import LEASE_S, Recorder, session
from tests.simulated_worker import called
from worker import errors
from worker.coordinator import Session
from worker.coordinator.session import MAX_GATHERED_BYTES
from worker.models import (
    Control,
    Inbox,
    Succeeded,
)
from worker.testing import FakeControlPlane


async def test_a_run_is_started_once_however_often_it_is_brought() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo", 1)
        inbox = await control.inbox(live.id, timeout=1)
        live.deliver(inbox)
        live.deliver(inbox)
        run = inbox.assigned[0].run
        live.accept(run)
        live.finish(run, Succeeded(output="1"), None)
        await live.flush()
        live.deliver(inbox)  # an old state of the subscription that arrives late
        await live.flush()
        assert task.status == "succeeded"
        assert runs.told.count(("assigned", run)) == 1
        assert ("settled", run, "True") in runs.told


async def test_polling_finds_work_without_a_subscription() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        await live.flush()
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")


async def test_the_subscription_hears_when_a_sync_was_first() -> None:
    control, runs = FakeControlPlane(), Recorder()
    overtaken = anyio.Event()
    async with session(control, runs, overtaken=overtaken.set):
        control.submit("echo")
        await overtaken.wait()


async def test_heartbeats_go_on_for_a_run_that_says_nothing() -> None:
    control, runs = FakeControlPlane(lease_s=LEASE_S), Recorder()
    async with session(control, runs, polling=lambda: False) as (live, ended):
        task = control.submit("echo")
        live.deliver(await control.inbox(live.id, timeout=1))
        live.accept(task.run or "")
        await anyio.sleep(LEASE_S * 3)
        assert control.is_live(live.id)
        assert not ended.over.is_set()
        live.finish(task.run or "", Succeeded(output="1"), None)
        await live.flush()
        assert task.status == "succeeded"


@pytest.mark.parametrize(
    ("disturb", "ending"),
    [
        (lambda control, live: control.expire(live.id), "heartbeat_timeout"),
        (lambda control, live: control.outages.append(errors.NotFound("an empty deployment")), "not_found"),
        (lambda control, live: control.outages.append(errors.Unauthorized("revoked")), "unauthorized"),
        (lambda control, live: control.outages.append(errors.Forbidden("another key's")), "forbidden"),
    ],
)
async def test_every_way_to_lose_the_session_stops_its_runs(
    disturb: Callable[[FakeControlPlane, Session], None], ending: str
) -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, ended):
        task = control.submit("echo")
        run = task.run or ""
        await runs.until("assigned", run)
        disturb(control, live)
        live.hurry()
        await ended.over.wait()
        assert ended.ending == ending
        assert ("lost", run) in runs.told


async def test_the_subscription_can_tell_that_the_session_is_over() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs, polling=lambda: False) as (live, ended):
        await live.flush()
        control.expire(live.id)
        live.deliver(await control.inbox(live.id, timeout=1))
        await ended.over.wait()
        assert ended.ending == "heartbeat_timeout"
        live.deliver(await control.inbox(live.id, timeout=1))  # no harm


async def test_a_control_is_obeyed_once_and_acknowledged() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")
        control.cancel(task)
        control.ask_to_drain(live.id)
        inbox = await control.inbox(live.id, timeout=1)
        live.deliver(inbox)
        live.deliver(inbox)
        await live.flush()
        assert runs.told.count(("cancel", task.run or "")) == 1
        assert runs.told.count(("drain",)) == 1
        assert (await control.inbox(live.id, timeout=1)).controls == []


async def test_what_is_said_of_a_run_that_is_still_to_come_waits_for_it() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")
        (brought,) = (await control.inbox(live.id, timeout=1)).assigned
        later = brought.model_copy(update={"run": "later"})
        said = [
            Control(control=kind, kind=kind, run="later", reason="", signal=None)
            for kind in ("pause", "cancel")
        ]
        live.deliver(Inbox(live=True, ended=None, assigned=[], controls=said, watched=[]))
        assert [told[0] for told in runs.told if "later" in told] == ["cancel"]  # which keeps it from coming
        live.deliver(Inbox(live=True, ended=None, assigned=[later], controls=said, watched=[]))
        assert [told[0] for told in runs.told if "later" in told] == ["cancel", "assigned", "pause"]
        await live.flush()
    acknowledged = [key for sync in control.syncs for key in sync.acknowledged]
    assert acknowledged == ["cancel", "pause"]


async def test_a_run_that_is_somebody_elses_by_now_is_told_so() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo")
        run = task.run or ""
        await runs.until("assigned", run)
        control.runs[run].state = "lost"
        live.accept(run)
        live.hurry()
        await runs.until("lost", run)
        assert ("confirmed", run) not in runs.told


async def test_a_call_that_the_loss_of_its_run_cuts_off_is_told_all_the_same() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        run = control.submit("echo").run or ""
        await runs.until("assigned", run)
        control.runs[run].state = "lost"
        live.accept(run)
        live.hurry()
        await runs.until("lost", run)
        live.call(called(run, 1))
        await live.flush()
    assert [call.run for sync in control.syncs for call in sync.calls or ()] == [run]


async def test_calls_that_the_end_of_a_session_cuts_off_are_told_all_the_same() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, ended):
        run = control.submit("echo").run or ""
        await runs.until("assigned", run)
        control.expire(live.id)
        live.call(called(run, 1))
        live.hurry()
        await ended.over.wait()
        live.call(called(run, 2))  # it was cut off
        control.outages.append(errors.BackendUnreachable("down"))
        await live.tell_calls(5.0)
    assert [call.call for sync in control.syncs for call in sync.calls or ()] == [1, 2]
    assert len({sync.seq for sync in control.syncs}) == len(control.syncs)


async def test_watched_text_goes_at_once_and_other_text_waits() -> None:
    control, runs = FakeControlPlane(next_sync_ms=60_000), Recorder()
    async with session(control, runs, polling=lambda: False) as (live, _):
        task = control.submit("echo")
        run = task.run or ""
        live.deliver(await control.inbox(live.id, timeout=1))
        live.accept(run)
        await runs.until("confirmed", run)
        live.text(run, "unseen ", kind="text", call=0, attempt=1)
        await anyio.sleep(0.3)
        assert control.runs[run].text() == ""
        control.watched.add(run)
        live.deliver(await control.inbox(live.id, timeout=1))
        while control.runs[run].text() != "unseen ":
            await anyio.sleep(0.01)


async def test_a_writer_waits_while_too_much_text_has_gathered() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo")
        run = task.run or ""
        await runs.until("assigned", run)
        await live.flush()
        control.silent = True
        live.text(run, "x" * MAX_GATHERED_BYTES, kind="text", call=0, attempt=1)
        await live.room()  # at the bound there is room
        # One too many, also if a sync that nobody answers has taken its share meanwhile.
        share = live.registered.max_sync_bytes
        live.text(run, "x" * (share + 1), kind="text", call=0, attempt=1)
        waited = anyio.Event()

        async def write() -> None:
            await live.room()
            waited.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            assert not waited.is_set()
            control.silent = False
            live.hurry()


async def test_a_drain_stops_new_runs_and_the_final_one_hands_back_what_is_left() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, ended):
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")
        await live.drain(final=False, deadline_s=1)
        assert control.submit("echo").status == "pending"
        await live.drain(final=True, deadline_s=1)
        await ended.over.wait()
        assert ended.ending == "signed_off"
        assert (task.status, task.attempt) == ("pending", 0)


async def test_a_drain_can_tell_that_the_session_is_over() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs, polling=lambda: False) as (live, ended):
        await live.flush()
        control.expire(live.id)
        await live.drain(final=False, deadline_s=1)
        await ended.over.wait()
        assert ended.ending == "ended"


async def test_a_large_input_is_fetched() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo", "x" * 10_000)
        await runs.until("assigned", task.run or "")
        control.outages.append(errors.BackendUnreachable("down"))
        assert await live.input(task.run or "") == task.input
