"""A whole worker in this process: it registers, works and leaves in order, whatever backend or agents do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Any, NoReturn

import anyio
import httpx
import pytest
import respx
from pydantic import SecretStr

from tests.whole_worker import ExitedNow, Gate, echo, working
from worker import errors, service
from worker.models import RegisterRequest, SyncReply, SyncRequest
from worker.runtime import Agent, Context, Environment, Registry, Run
from worker.service import Identity, Worker, run_worker
from worker.settings import Settings, key_now
from worker.testing import FakeControlPlane
from worker.testing.playing import Push


class Stubborn(Gate):
    """An agent that cannot be cancelled, and the exit that ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.exits: list[int] = []

    async def resist(self, ctx: Context, value: Any) -> Any:
        with anyio.CancelScope(shield=True):
            return await self.play(ctx, value)

    def exit_now(self, code: int) -> NoReturn:
        self.exits.append(code)
        self.opened.set()  # the process is gone, and the agent with it
        raise errors.SignalboxError("the process is gone")


async def test_many_tasks_are_done_and_the_worker_leaves_with_0() -> None:
    control = FakeControlPlane()
    async with working(control) as at:
        tasks = [control.submit("echo", n) for n in range(200)]
        await control.finished()
        assert all(t.status == "succeeded" and t.attempt == 1 for t in tasks)
        at.worker.leave("test")
        await at.ended.wait()
        assert at.code == 0
        assert control.has_signed_off(control.session_of("w"))
        assert len(control.syncs) < 60  # many results go in each sync


async def test_an_agent_that_raises_anything_takes_nobody_with_it() -> None:
    control = FakeControlPlane()
    async with working(control):
        bad, good = control.submit("boom", 1, max_attempts=2), control.submit("echo", 1)
        await control.finished()
        assert (bad.status, bad.attempt, good.status) == ("failed", 2, "succeeded")


async def test_a_cancelled_task_stops_its_run_alone() -> None:
    control, gate = FakeControlPlane(), Gate()
    async with working(control, Agent("gate", "", gate.play)):
        stopped, going = control.submit("gate", 1), control.submit("gate", 2)
        await gate.entered.wait()
        control.cancel(stopped)
        await control.finished([stopped])
        gate.opened.set()
        await control.finished()
        assert (stopped.status, going.status) == ("cancelled", "succeeded")


async def test_a_worker_that_leaves_lets_its_runs_end_and_takes_no_more() -> None:
    control, gate = FakeControlPlane(lease_s=0.6), Gate()
    async with working(control, Agent("gate", "", gate.play)) as at:
        task = control.submit("gate", 1)
        await gate.entered.wait()
        at.worker.leave("test")
        at.worker.leave("again")
        await anyio.sleep(1.5)  # well past the lease: heartbeats go on
        later = control.submit("gate", 2)
        assert not at.ended.is_set()
        gate.opened.set()
        await at.ended.wait()
        assert (task.status, task.attempt) == ("succeeded", 1)
        assert later.status == "pending"


async def test_runs_that_outlast_the_grace_period_are_handed_back_with_their_attempt() -> None:
    control, gate = FakeControlPlane(), Gate()
    async with working(control, Agent("gate", "", gate.play), grace_s=0.1) as at:
        task = control.submit("gate")
        await gate.entered.wait()
        at.worker.leave("test")
        await at.ended.wait()
        assert at.code == 0
        assert (task.status, task.attempt) == ("pending", 0)
        assert [run.state for run in control.runs.values()] == ["released"]


async def test_leaving_a_dead_backend_ends_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REPORT_S", 0.3)
    monkeypatch.setattr(service, "SIGN_OFF_S", 0.3)
    control, gate = FakeControlPlane(), Gate()
    async with working(control, Agent("gate", "", gate.play), grace_s=0.2) as at:
        control.submit("gate")
        await gate.entered.wait()
        control.silent = True
        at.worker.leave("test")
        await at.ended.wait()
        assert at.code == 0


async def test_an_agent_that_cannot_be_cancelled_ends_with_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "REPORT_S", 0.2)
    control, stubborn = FakeControlPlane(), Stubborn()

    with pytest.RaisesGroup(errors.SignalboxError, flatten_subgroups=True):
        async with working(
            control, Agent("stubborn", "", stubborn.resist), grace_s=0.1, exit_now=stubborn.exit_now
        ) as at:
            task = control.submit("stubborn")
            await stubborn.entered.wait()
            at.worker.leave("test")
            await anyio.sleep_forever()
    assert stubborn.exits == [0]
    assert task.status == "pending"  # it was handed back all the same


async def test_a_lost_session_is_followed_by_a_new_one_and_old_runs_write_nothing() -> None:
    control, gate = FakeControlPlane(), Gate()
    async with working(control, Agent("gate", "", gate.play)):
        task = control.submit("gate", 1)
        await gate.entered.wait()
        first = control.session_of("w")
        gate.opened = anyio.Event()
        control.expire(first)
        while control.session_of("w") == first or task.attempt < 2:
            await anyio.sleep(0.01)
        gate.opened.set()
        await control.finished()
        assert (task.status, task.attempt) == ("succeeded", 2)
        assert [run.state for run in control.runs.values()] == ["lost", "succeeded"]


async def test_the_control_plane_can_ask_a_worker_to_leave() -> None:
    control = FakeControlPlane()
    async with working(control) as at:
        await control.finished([control.submit("echo")])
        control.ask_to_drain(control.session_of("w"))
        await at.ended.wait()
        assert at.code == 0


async def test_a_key_that_is_revoked_ends_the_worker_with_1(caplog: pytest.LogCaptureFixture) -> None:
    control = FakeControlPlane()
    async with working(control) as at:
        await control.finished([control.submit("echo")])
        control.outages.append(errors.Unauthorized("This key was revoked; make another"))
        control.submit("echo")
        await at.ended.wait()
        assert at.code == 1
        assert "This key was revoked; make another" in caplog.text


async def test_a_session_that_another_key_holds_ends_the_worker_with_1(
    caplog: pytest.LogCaptureFixture,
) -> None:
    control = FakeControlPlane()
    async with working(control) as at:
        await control.finished([control.submit("echo")])
        control.outages.append(errors.Forbidden("Session s1 belongs to another key."))
        control.submit("echo")
        await at.ended.wait()
        assert at.code == 1
        assert "Session s1 belongs to another key." in caplog.text


async def test_a_key_that_was_rotated_is_read_again_and_the_work_goes_on() -> None:
    control, keys = FakeControlPlane(), ["new"]
    async with working(control, rekey=lambda: bool(keys) and keys.pop() == "new") as at:
        await control.finished([control.submit("echo")])
        first = control.session_of("w")
        control.outages.append(errors.Unauthorized("This key was revoked; make another"))
        task = control.submit("echo", 2)
        await control.finished([task])
        assert control.session_of("w") != first
        control.outages.append(errors.Unauthorized("This key was revoked; make another"))
        control.submit("echo")
        await at.ended.wait()
        assert at.code == 1


async def test_a_key_that_is_refused_at_a_later_registration_is_read_again_too() -> None:
    control, keys = FakeControlPlane(), ["new"]
    async with working(control, rekey=lambda: bool(keys) and keys.pop() == "new") as at:
        await control.finished([control.submit("echo")])
        control.outages.extend([errors.NotFound("No session s1."), errors.Unauthorized("revoked")])
        await control.finished([control.submit("echo")])
        control.outages.extend([errors.NotFound("No session s2."), errors.Unauthorized("revoked")])
        control.submit("echo")
        await at.ended.wait()
        assert at.code == 1


@respx.mock(base_url="http://127.0.0.1:9")
async def test_a_key_that_is_refused_is_replaced_by_the_one_read_again(respx_mock: respx.MockRouter) -> None:
    old, new = "sbw_" + "o" * 43, "sbw_" + "n" * 43

    def refuse(request: httpx.Request) -> httpx.Response:
        key = json.loads(request.content)["args"]["key"]
        error = {"code": "unauthorized", "message": f"{key} is not known"}
        return httpx.Response(200, json={"status": "error", "errorData": error})

    register = respx_mock.post("/api/mutation").mock(side_effect=refuse)
    settings = Settings(convex_url="http://127.0.0.1:9", key=old)
    with pytest.raises(errors.Unauthorized, match=f"{new} is not known"):
        await run_worker(settings, reread=lambda: SecretStr(new))
    assert register.call_count == 2


def test_the_key_is_read_again_from_the_environment_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIGNALBOX_KEY", raising=False)
    assert key_now() is None
    Path(".env").write_text("SIGNALBOX_KEY=sbw_" + "n" * 43)
    assert key_now() == SecretStr("sbw_" + "n" * 43)
    Path(".env").write_text("SIGNALBOX_KEY=sbw_half")
    assert key_now() is None
    Path(".env").write_bytes(b"SIGNALBOX_KEY=\xff")
    assert key_now() is None
    monkeypatch.setenv("SIGNALBOX_KEY", "sbw_" + "e" * 43)
    Path(".env").unlink()
    assert key_now() == SecretStr("sbw_" + "e" * 43)


async def test_a_name_that_another_process_takes_ends_the_worker_with_1_and_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    control, gate = FakeControlPlane(), Gate()
    async with working(control, Agent("gate", "", gate.play)) as at:
        control.submit("gate")
        await gate.entered.wait()
        other = await control.register(
            RegisterRequest(
                worker="w",
                incarnation="other",
                queues=[],
                agents=[],
                labels=[],
                llm=False,
                capacity=1,
                version="0",
            ),
            timeout=1,
        )
        await at.ended.wait()
        assert at.code == 1
        assert control.session_of("w") == other.session
        assert control.is_live(other.session)
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert lines == [
        "another process registered as worker w; give each worker its own name (SIGNALBOX_WORKER or --name)"
    ]


async def test_an_agent_that_cannot_be_cancelled_does_not_hold_up_an_exit_with_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "REPORT_S", 0.2)
    control, stubborn = FakeControlPlane(), Stubborn()

    with pytest.RaisesGroup(errors.SignalboxError, flatten_subgroups=True):
        async with working(control, Agent("stubborn", "", stubborn.resist), exit_now=stubborn.exit_now):
            control.submit("stubborn")
            await stubborn.entered.wait()
            control.expire(control.session_of("w"))  # the run that resists belongs to an older session
            await control.finished([control.submit("echo")])
            control.outages.append(errors.Forbidden("role"))
            control.submit("echo")
            await anyio.sleep_forever()
    assert stubborn.exits == [1]


async def test_a_run_that_may_happen_once_is_not_begun_by_a_worker_whose_accept_is_not_heard() -> None:
    class Deaf(FakeControlPlane):
        hears = False

        async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
            if request.accepted and not self.hears:
                raise errors.ConnectionLost("the accept is lost")
            return await super().sync(request, timeout=timeout)

    control, begun = Deaf(), []

    async def play(ctx: Context, value: Any) -> Any:
        begun.append(ctx.run)

    async with working(control, Agent("once", "", play)):
        task = control.submit("once", max_attempts=1)
        first = task.run
        while not control.syncs:
            await anyio.sleep(0.01)
        control.expire(control.session_of("w"))
        control.hears = True
        await control.finished()
        assert task.status == "succeeded"
        assert begun == [task.run]
        assert task.run != first


async def test_a_fault_of_the_worker_burns_attempts_instead_of_going_round_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(run: Run) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Run, "play", play)
    control = FakeControlPlane()
    async with working(control):
        task = control.submit("echo", max_attempts=2)
        await control.finished()
        assert (task.status, task.attempt) == ("failed", 2)
        assert task.outcome is not None
        assert task.outcome.kind == "failed"
        assert task.outcome.error.code == "worker_error"
        assert task.outcome.error.message == "The worker could not play the run: RuntimeError('a bug')"


@pytest.mark.parametrize(
    "error",
    [errors.Unauthorized("no such key"), errors.ProtocolError("not Convex"), errors.Forbidden("role")],
)
async def test_a_first_registration_that_is_refused_is_one_plain_error(error: Exception) -> None:
    control = FakeControlPlane()
    control.outages.append(error)
    worker = Worker(control, Identity("w"), Environment(Registry()))
    with pytest.raises(type(error)):
        await worker.run()


async def test_a_worker_can_leave_while_it_still_tries_to_register() -> None:
    control = FakeControlPlane()
    control.silent = True
    async with working(control) as at:
        await anyio.wait_all_tasks_blocked()
        at.worker.leave("test")
        await at.ended.wait()
        assert at.code == 0


async def test_a_side_loop_that_dies_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    control = FakeControlPlane()
    deaths = 0

    class Fragile(Push):
        async def run(self) -> None:
            nonlocal deaths
            deaths += 1
            if deaths == 1:
                raise RuntimeError("a bug")
            await super().run()

    worker = Worker(
        control,
        Identity("w"),
        Environment(Registry([Agent("echo", "", echo)])),
        subscribe=lambda session, deliver: Fragile(control, session, deliver),
    )
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            while deaths < 2:
                await anyio.sleep(0.01)
            await control.finished([control.submit("echo")])
            tasks.cancel_scope.cancel()
    assert "a side loop died and is started again" in caplog.text


async def test_the_first_signal_lets_the_worker_leave_and_the_second_ends_it() -> None:
    control, gate = FakeControlPlane(), Gate()
    exits: list[int] = []

    def remember(code: int) -> NoReturn:
        exits.append(code)
        raise ExitedNow

    async def obey(worker: Worker) -> None:
        with contextlib.suppress(ExitedNow):
            await service._obey_signals(worker, remember)

    async with working(control, Agent("gate", "", gate.play)) as at, anyio.create_task_group() as tasks:
        tasks.start_soon(obey, at.worker)
        control.submit("gate")
        await gate.entered.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        while not at.worker.leaving:
            await anyio.sleep(0.01)
        assert not exits
        os.kill(os.getpid(), signal.SIGINT)
        while not exits:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert exits == [128 + signal.SIGINT]


async def test_settings_that_lead_nowhere_are_one_line() -> None:
    settings = Settings(
        convex_url="http://127.0.0.1:9",  # the discard port: nobody listens
        key="sbw_" + "k" * 43,
        worker="w",
    )
    with pytest.raises(errors.BackendUnreachable, match=r"Cannot reach http://127\.0\.0\.1:9"):
        await run_worker(settings, start_s=0.3)


async def test_agents_that_do_not_import_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(
        convex_url="http://127.0.0.1:9", key="sbw_" + "k" * 43, agents=("nowhere_to_be_found",)
    )
    with pytest.raises(errors.AgentImportError, match="No module named 'nowhere_to_be_found'"):
        await run_worker(settings)
