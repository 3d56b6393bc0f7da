"""A session whose calls fail: lost answers, outages, refusals, strange answers, faults of its runs."""

from __future__ import annotations

import anyio
import pytest

from tests.recorded_session import LEASE_S, Recorder, introduction, session
from worker import errors
from worker.coordinator import register
from worker.models import (
    Succeeded,
    SyncReply,
    SyncRequest,
)
from worker.testing import FakeControlPlane


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


async def test_signing_off_from_a_dead_backend_ends_at_its_deadline() -> None:
    control, runs = FakeControlPlane(), Recorder()
    async with session(control, runs) as (live, ended):
        control.silent = True
        await live.drain(final=True, deadline_s=0.3)
        await ended.over.wait()
        assert ended.ending == "signed_off"


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
