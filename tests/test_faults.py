"""What must hold when processes die, freeze or lose their connection: real ones, with real signals."""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections import Counter
from pathlib import Path

import anyio
import pytest
from pydantic import SecretStr

from tests.deployment import Deployment, deployed
from tests.fault_proxy import FaultProxy
from worker.api import Api
from worker.backend import Backend
from worker.client import Client, Submitted, TaskSpec
from worker.errors import TransportError
from worker.models import AgentOffer, Chunk, Finished, RegisterRequest, Succeeded, SyncRequest

pytestmark = pytest.mark.timeout(120)
TASKS = 100  # that are submitted while the host is killed


async def test_a_host_that_is_killed_again_and_again_loses_no_acknowledged_task(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=3000) as at:
        for name in ("w1", "w2"):
            at.worker(name, "--concurrency", "10")
        await at.know("noop", "slow")
        tasks: list[str] = []
        async with anyio.create_task_group() as group:
            group.start_soon(kill_host_often, at, tasks)
            for i in range(TASKS):
                work = at.submit("slow", {"seconds": 0.2}) if i % 4 == 0 else at.submit("noop", i)
                tasks.append(await work)
                await anyio.sleep(0.05)
        ended = await at.ended(tasks, within_s=60)
        assert Counter(view.status for view in ended) == {"succeeded": TASKS}
        for task in tasks:
            types = await at.types(task)
            assert types.count("task_submitted") == 1
            assert types.count("task_succeeded") == 1
            # Every assignment is closed by exactly one end: no run is left without an owner.
            ends = sum(types.count(end) for end in ("task_retried", "task_succeeded"))
            assert types.count("run_assigned") == ends


async def kill_host_often(at: Deployment, acknowledged: list[str]) -> None:
    """Kill the host about thirteen times while tasks are submitted, however fast the machine is."""
    killed_at = 0
    while (killed_at := killed_at + random.randint(3, 12)) < TASKS:
        while len(acknowledged) < killed_at:
            await anyio.sleep(0.01)
        await anyio.sleep(random.uniform(0.0, 0.1))  # between two calls, or in one
        await anyio.to_thread.run_sync(at.host.kill)
        await anyio.to_thread.run_sync(at.host.start)


async def test_a_frozen_worker_writes_nothing_after_its_lease(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=1500) as at:
        zombie = at.worker("zombie")
        await at.know("slow")
        task = await at.submit("slow", {"seconds": 2.0})
        first = await at.begun(task)
        await anyio.sleep(0.5)  # it is streaming now
        zombie.send(signal.SIGSTOP)
        at.worker("other")
        ended = (await at.ended([task], within_s=20))[0]
        assert ended.output == '"attempt 2"'
        events = len(await at.client.history(task))
        zombie.send(signal.SIGCONT)
        await anyio.sleep(3.0)  # past the end of its run
        assert first.run is not None
        history = await at.client.history(task)
        assert {event.type for event in history[events:]} <= {"run_refused"}
        assert (await at.task(task)).output == '"attempt 2"'
        text = [c.text for c in (await at.client.tail(first.run)) if "word39" in c.text]
        assert text == [], "the last word of the frozen attempt was written after its lease"
        again = await at.submit("noop", "still here")
        assert (await at.ended([again]))[0].status == "succeeded"


async def test_a_worker_outlives_a_backend_that_accepts_and_never_answers(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=1500) as at, FaultProxy(at.host.url) as proxy:
        worker = at.worker("w", url=proxy.url)
        await at.know("slow")
        task = await at.submit("slow", {"seconds": 1.0})
        await at.begun(task)
        proxy.mode = "hang"
        await anyio.sleep(4.0)  # its lease is over, and every call hangs
        assert worker.poll() is None
        accepted = proxy.accepted
        await anyio.sleep(4.0)
        assert proxy.accepted > accepted, "it stopped trying"
        proxy.mode = "pass"
        assert (await at.ended([task], within_s=30))[0].status == "succeeded"


async def test_a_worker_stops_in_time_although_the_backend_never_answers(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=1500) as at, FaultProxy(at.host.url) as proxy:
        worker = at.worker("w", "--grace", "1", url=proxy.url)
        await at.know("stubborn")
        await at.begun(await at.submit("stubborn"))
        proxy.mode = "hang"
        worker.send(signal.SIGTERM)
        await worker.ended(within_s=20)


async def test_a_draining_worker_keeps_its_lease_and_finishes_its_run(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=1000) as at:
        worker = at.worker("w")
        await at.know("slow")
        task = await at.submit("slow", {"seconds": 3.0})
        await at.begun(task)
        worker.send(signal.SIGTERM)
        waiting = await at.submit("noop")
        assert (await at.ended([task]))[0].output == '"attempt 1"'
        assert await worker.ended(within_s=10) == 0
        assert (await at.task(waiting)).status == "pending"


async def test_a_run_that_outlasts_the_grace_period_is_handed_back_with_no_attempt_burnt(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as at:
        worker = at.worker("w", "--grace", "0.5")
        await at.know("stubborn")
        task = await at.submit("stubborn", attempts=1)
        await at.begun(task)
        worker.send(signal.SIGTERM)
        assert await worker.ended(within_s=15) == 0
        view = await at.until(task, lambda view: view.status == "pending")
        assert view.error is None


async def test_tasks_that_crash_their_worker_end_in_the_dead_letter_and_the_others_go_on(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as at, anyio.create_task_group() as group:
        group.start_soon(at.keep_alive, "w1")
        group.start_soon(at.keep_alive, "w2")
        await at.know("poison", "slow")
        poison = [await at.submit("poison", attempts=3) for _ in range(10)]
        others = [await at.submit("slow", {"seconds": 1.0}, attempts=3) for _ in range(20)]
        dead = await at.ended(poison, within_s=90)
        alive = await at.ended(others, within_s=90)
        group.cancel_scope.cancel()
        assert Counter(view.status for view in dead) == {"failed": 10}
        assert Counter(view.status for view in alive) == {"succeeded": 20}
        for view in dead:
            assert view.error is not None
            assert view.error.code in {"worker_died", "process_died"}


async def test_a_killed_worker_is_noticed_at_once_and_its_run_goes_on_elsewhere(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:  # with the default lease of 15 s
        at.worker("w1", "--concurrency", "1")
        await at.know("slow")
        task = await at.submit("slow", {"seconds": 1.0})
        await at.begun(task)
        await anyio.sleep(0.3)
        at.worker("w2")
        with anyio.fail_after(10):  # well before the lease would have ended
            for worker in at.workers("w1"):
                worker.send(signal.SIGKILL)
            view = (await at.ended([task], within_s=10))[0]
        assert (view.status, view.attempt) == ("succeeded", 2)


async def test_a_sync_whose_answer_is_lost_has_one_effect_and_its_repeat_the_same_answer(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as at, FaultProxy(at.host.url) as proxy, Backend(proxy.url) as backend:
        api = Api(backend, SecretStr(at.keys["worker"]))
        session = (await api.register(registration(), timeout=5)).session
        first, second, third = [await at.submit("noop", i) for i in range(3)]
        inbox = await api.inbox(session, timeout=5)
        runs = {assigned.task: assigned.run for assigned in inbox.assigned}
        await at.client.cancel(second)
        body = SyncRequest(
            session=session,
            seq=1,
            accepted=[],
            chunks=[Chunk(run=runs[first], seq=0, call=0, attempt=0, kind="text", text="once")],
            finished=[Finished(run=runs[first], outcome=Succeeded(output="1"), usage=None)],
            acknowledged=[],
        )
        proxy.mode = "swallow"
        with pytest.raises(TransportError):
            await api.sync(body, timeout=2)
        assert (await at.task(first)).status == "succeeded", "the request arrived, its answer did not"
        proxy.mode = "pass"
        reply = await api.sync(body, timeout=5)
        assert reply.results[0].accepted
        assert [assigned.task for assigned in reply.assigned] == [third]
        assert [control.run for control in reply.controls] == [runs[second]]
        assert (await at.types(first)).count("task_succeeded") == 1
        assert [chunk.text for chunk in await at.client.tail(runs[first])] == ["once"]


def registration() -> RegisterRequest:
    return RegisterRequest(
        worker="by-hand",
        incarnation=str(uuid.uuid4()),
        queues=["default"],
        agents=[AgentOffer(name="noop", description="")],
        labels=[],
        llm=False,
        capacity=10,
        version="test",
    )


async def test_a_submit_whose_answer_is_lost_makes_one_task(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at, FaultProxy(at.host.url) as proxy:
        async with Backend(at.host.url) as backend:
            await Api(backend, SecretStr(at.keys["worker"])).register(registration(), timeout=5)
        async with (
            Client.connect(proxy.url, SecretStr(at.keys["submit"])) as client,
            anyio.create_task_group() as group,
        ):
            proxy.mode = "swallow"

            async def submit() -> None:
                spec = TaskSpec(agent="noop", input=json.dumps("once"))
                submitted.append(await client.submit(spec))

            submitted: list[Submitted] = []
            group.start_soon(submit)
            await anyio.sleep(1.0)
            proxy.mode = "pass"
        assert submitted[0].duplicate
        assert [view.task for view in (await at.client.tasks()).tasks] == [submitted[0].task]
