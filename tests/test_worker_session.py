"""A session against a control plane in memory: lease, fences, lost answers, outages, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.simulated_worker import called
from worker import errors
from worker.coordinator import Session, register
from worker.coordinator.session import MAX_GATHERED_BYTES, Remembered
from worker.models import (
    AgentOffer,
    Allotment,
    Assignment,
    Control,
    Inbox,
    ModelReport,
    ModelState,
    RegisterRequest,
    RunResult,
    Signal,
    Silence,
    Spending,
    Succeeded,
    SyncReply,
    SyncRequest,
)
from worker.testing import FakeControlPlane

LEASE_S = 0.6  # short enough to see one run out, long enough for a busy machine to renew it


class Recorder:
    """Runs that do nothing but remember what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.changed = anyio.Event()

    def _note(self, *what: str) -> None:
        self.told.append(what)
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    def assigned(self, assignment: Assignment) -> None:
        self._note("assigned", assignment.run)

    def cancel(self, run: str, reason: str) -> None:
        self._note("cancel", run)

    def pause(self, run: str, reason: str) -> None:
        self._note("pause", run)

    def signal(self, run: str, signal: Signal) -> None:
        self._note("signal", run, signal.name)

    def stepped(self, run: str, key: str, refusal: str | None) -> None:
        self._note("stepped", run, key, *([] if refusal is None else [refusal]))

    def models(self, states: list[ModelState]) -> None:
        """None of these runs calls a model."""

    def model_reports(self) -> list[ModelReport]:
        return []

    def allotted(self, run: str, allotment: Allotment) -> None:
        self._note("allotted", run, allotment.verdict)

    def spending(self) -> list[Spending]:
        return []

    def silent(self) -> list[Silence]:
        return []

    def confirmed(self, run: str) -> None:
        self._note("confirmed", run)

    def lost(self, run: str) -> None:
        self._note("lost", run)

    def settled(self, result: RunResult) -> None:
        self._note("settled", result.run, str(result.accepted))

    def drain(self, reason: str) -> None:
        self._note("drain")

    async def until(self, *what: str) -> None:
        while what not in self.told:
            await self.changed.wait()


def introduction(worker: str = "w", incarnation: str = "1", capacity: int = 10) -> RegisterRequest:
    return RegisterRequest(
        worker=worker,
        incarnation=incarnation,
        queues=["default"],
        agents=[AgentOffer(name="echo", description="")],
        labels=[],
        llm=True,
        capacity=capacity,
        version="0",
    )


class Endings:
    """How a session ended, once it has."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.ending: str | None = None


@asynccontextmanager
async def session(
    control: FakeControlPlane, runs: Recorder, **options: Any
) -> AsyncIterator[tuple[Session, Endings]]:
    opened = await register(control, introduction(), deadline_s=5)
    made, ended = Session(control, opened, runs, draw=lambda: 0.5, **options), Endings()

    async def keep() -> None:
        await made.run()
        ended.ending = None if made.ending is None else made.ending.code
        ended.over.set()

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep)
            yield made, ended
            tasks.cancel_scope.cancel()


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


async def test_a_lost_answer_has_one_effect_and_its_repeat_still_tells_everything() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        first = control.submit("echo")
        await runs.until("assigned", first.run or "")
        live.accept(first.run or "")
        live.text(first.run or "", "hello", kind="text", call=0, attempt=1)
        live.hurry()
        await runs.until("confirmed", first.run or "")
        control.lost_answers.append(errors.ConnectionLost("answer lost"))
        live.finish(first.run or "", Succeeded(output="1"), None)
        second = control.submit("echo")
        control.cancel(second)
        await runs.until("settled", first.run or "", "True")
        await runs.until("assigned", second.run or "")
        await runs.until("cancel", second.run or "")
        await live.flush()
        bodies = [body for body in control.syncs if body.finished]
        assert len(bodies) == 2
        assert bodies[0] == bodies[1]
        assert control.runs[first.run or ""].text() == "hello"


async def test_a_backend_that_falls_silent_ends_the_session_by_its_own_clock() -> None:
    control, runs = FakeControlPlane(lease_s=LEASE_S), Recorder()
    async with session(control, runs) as (live, ended):
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")
        live.accept(task.run or "")
        control.silent = True
        await ended.over.wait()
        assert ended.ending == "expired"
        assert ("lost", task.run or "") in runs.told
        syncs = len(control.syncs)
        live.finish(task.run or "", Succeeded(output="1"), None)  # late, so it is dropped
        live.text(task.run or "", "late", kind="text", call=0, attempt=1)
        await live.flush()
        await live.room()
        assert len(control.syncs) == syncs


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


class Choking(FakeControlPlane):
    """Takes heartbeats and chokes on everything else."""

    choking = True

    async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
        if self.choking and (request.finished or request.chunks):
            await anyio.sleep(timeout)
            raise errors.BackendTimeout("too slow")
        return await super().sync(request, timeout=timeout)


async def test_a_result_that_cannot_be_delivered_does_not_cost_the_lease() -> None:
    control, runs = Choking(lease_s=LEASE_S), Recorder()
    async with session(control, runs, polling=lambda: False) as (live, _):
        fat, other = control.submit("echo"), control.submit("echo")
        live.deliver(await control.inbox(live.id, timeout=1))
        live.finish(fat.run or "", Succeeded(output="x" * 1000), None)
        await anyio.sleep(LEASE_S * 4)
        assert control.is_live(live.id)
        control.choking = False
        live.finish(other.run or "", Succeeded(output="2"), None)
        await live.flush()
        assert (fat.status, other.status) == ("succeeded", "succeeded")


async def test_outages_are_survived_within_the_lease() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")
        control.outages.extend(
            [
                errors.BackendUnreachable("down"),
                errors.BackendOverloaded("busy", 0.01),
                errors.ProtocolError("a proxy's page"),
                errors.FunctionFailed("Server Error"),
            ]
        )
        live.finish(task.run or "", Succeeded(output="1"), None)
        await live.flush()
        assert task.status == "succeeded"


class Refusing(FakeControlPlane):
    """Refuses every body that holds one certain output."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
        if any(f.outcome.kind == "succeeded" and f.outcome.output == "bad" for f in request.finished):
            raise self.error
        return await super().sync(request, timeout=timeout)


@pytest.mark.parametrize(
    "error",
    [
        errors.PayloadTooLarge("an output is too large"),
        errors.RequestUnencodable("half a surrogate pair"),
        errors.RequestRefused("too large for a proxy"),
        errors.FunctionFailed("Server Error"),
    ],
)
async def test_one_result_that_is_refused_fails_alone(error: Exception) -> None:
    control, runs = Refusing(error), Recorder()
    async with session(control, runs) as (live, _):
        tasks = [control.submit("echo") for _ in range(5)]
        live.deliver(await control.inbox(live.id, timeout=1))
        for number, task in enumerate(tasks):
            live.finish(task.run or "", Succeeded(output="bad" if number == 3 else "1"), None)
        await live.flush()
        assert [t.status for t in tasks] == ["succeeded"] * 3 + ["failed"] + ["succeeded"]


async def test_a_refused_heartbeat_leaves_the_body_that_may_have_arrived_whole() -> None:
    class Unlucky(FakeControlPlane):
        answered, heartbeats = True, 0  # heartbeats since an answer was lost

        async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
            if self.answered and request.finished:
                self.answered = False
                self.lost_answers.append(errors.ConnectionLost("answer lost"))
            elif not self.answered and not request.finished:
                self.heartbeats += 1
                if self.heartbeats == 1:
                    raise errors.InvalidArgument("a heartbeat is refused")
            return await super().sync(request, timeout=timeout)

    control, runs = Unlucky(), Recorder()
    async with session(control, runs) as (live, _):
        tasks = [control.submit("echo") for _ in range(4)]
        live.deliver(await control.inbox(live.id, timeout=1))
        for task in tasks:
            live.finish(task.run or "", Succeeded(output="1"), None)
        await live.flush()
        assert control.heartbeats >= 2
        assert [len(body.finished) for body in control.syncs if body.finished] == [4, 4]
        assert all(task.status == "succeeded" for task in tasks)


async def test_an_accept_that_is_refused_is_a_run_that_is_lost() -> None:
    class NoAccepts(FakeControlPlane):
        async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
            if request.accepted:
                raise errors.InvalidArgument("no such run")
            return await super().sync(request, timeout=timeout)

    control, runs = NoAccepts(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo")
        await runs.until("assigned", task.run or "")
        live.accept(task.run or "")
        await runs.until("lost", task.run or "")


def strange_answer() -> SyncReply:
    """Return an answer that the reading of it cannot bear."""
    reply = SyncReply(
        live=True,
        ended=None,
        assigned=[],
        lost=[],
        controls=[],
        watched=[],
        results=[],
        lease_ms=0,
        next_sync_ms=0,
    )
    return reply.model_copy(update={"assigned": None, "lost": None})


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        KeyError("x"),
        RecursionError(),
        ExceptionGroup("g", [OSError("x")]),
        OSError("x"),
        AssertionError(),
        errors.SignalboxError("x"),
        errors.ProtocolError("x"),
        errors.RequestRefused("x"),
        errors.RequestUnencodable("x"),
        errors.BackendUnreachable("x"),
        errors.BackendTimeout("x"),
        errors.ConnectionLost("x"),
        errors.BackendOverloaded("x", 300),
        errors.BackendUnavailable("x"),
        errors.FunctionFailed("x"),
        errors.FunctionFailed("x", "too_many_workers"),
        errors.InvalidArgument("x"),
        errors.SessionEnded("x"),
        strange_answer(),
    ],
    ids=repr,
)
async def test_whatever_a_body_meets_the_next_heartbeat_goes_out(error: Exception | SyncReply) -> None:
    class Meeting(FakeControlPlane):
        met, heartbeats = False, 0

        async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
            if not request.finished:
                reply = await super().sync(request, timeout=timeout)
                self.heartbeats += self.met
                return reply
            self.met = True
            if isinstance(error, Exception):
                raise error
            return error

    control, runs = Meeting(lease_s=LEASE_S), Recorder()
    async with session(control, runs, polling=lambda: False) as (live, ended):
        task, busy = control.submit("echo"), control.submit("echo")
        live.deliver(await control.inbox(live.id, timeout=1))
        live.finish(task.run or "", Succeeded(output="1"), None)
        while control.heartbeats < 3:
            await anyio.sleep(0.01)
        assert not ended.over.is_set()
        assert ("lost", busy.run or "") not in runs.told


class Faulty(Recorder):
    """Runs that fall over whatever they are told."""

    def _note(self, *what: str) -> None:
        super()._note(*what)
        raise RuntimeError("a bug")


async def test_a_fault_in_the_runs_costs_the_run_and_not_the_session() -> None:
    control, runs = FakeControlPlane(), Faulty()
    async with session(control, runs) as (live, ended):
        task = control.submit("echo", max_attempts=2)
        control.ask_to_drain(live.id)
        await control.finished()
        await live.flush()
        assert not ended.over.is_set()
        assert task.outcome is not None
        assert task.outcome.kind == "failed"
        assert task.outcome.error.code == "worker_error"


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


async def test_signing_off_from_a_dead_backend_ends_at_its_deadline() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, ended):
        control.silent = True
        await live.drain(final=True, deadline_s=0.3)
        await ended.over.wait()
        assert ended.ending == "signed_off"


async def test_a_large_input_is_fetched() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, _):
        task = control.submit("echo", "x" * 10_000)
        await runs.until("assigned", task.run or "")
        control.outages.append(errors.BackendUnreachable("down"))
        assert await live.input(task.run or "") == task.input


async def test_registration_goes_on_until_the_backend_is_there() -> None:
    control = FakeControlPlane()
    control.outages.extend([errors.BackendUnreachable("down")] * 3)
    opened = await register(control, introduction(), deadline_s=None, draw=lambda: 0.01)
    assert control.is_live(opened.registered.session)


@pytest.mark.parametrize(
    "error",
    [
        errors.Unauthorized("x"),
        errors.Forbidden("x"),
        errors.InvalidArgument("x"),
        errors.RequestUnencodable("x"),
    ],
)
async def test_a_refused_registration_is_not_repeated(error: Exception) -> None:
    control = FakeControlPlane()
    control.outages.append(error)
    with pytest.raises(type(error)):
        await register(control, introduction(), deadline_s=None)


async def test_the_first_registration_has_a_deadline_and_knows_a_wrong_address() -> None:
    control = FakeControlPlane()
    control.outages.extend([errors.BackendUnreachable("down")] * 1000)
    with anyio.fail_after(5), pytest.raises(errors.BackendUnreachable):
        await register(control, introduction(), deadline_s=0.2, draw=lambda: 0.1)
    control.outages[:] = [errors.ProtocolError("a web page")]
    with pytest.raises(errors.ProtocolError):
        await register(control, introduction(), deadline_s=5)


def test_memory_of_ids_is_bounded_and_forgets_the_oldest() -> None:
    memory = Remembered(limit=2)
    assert [memory.add(key) for key in "abab"] == [True, True, False, False]
    assert memory.add("c")
    assert not memory.add("b")
    assert memory.add("a")
