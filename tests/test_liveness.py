"""Three clocks, one stopped at a time: a worker's process, the loop that takes assignments, each run."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import anyio
import pytest

from tests.deployment import deployed
from tests.fault_proxy import FaultProxy
from worker.models import Silence
from worker.runtime.pulse import SILENT_S, Pulse

pytestmark = pytest.mark.timeout(120)


async def test_a_frozen_listener_is_seen_and_replaced_and_the_work_goes_on(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        worker = at.worker("w")
        await at.know("stubborn", "noop")
        running = await at.submit("stubborn")
        await at.begun(running)
        await worker.freeze_listener()
        worker.send(signal.SIGCONT)  # it alone is frozen
        ages: list[float] = []
        with anyio.fail_after(20):
            while not ages or ages[-1] < 4_000:
                clocks = (await at.client.state(running)).clocks
                assert clocks is not None and clocks.inbox_age_ms is not None
                ages.append(clocks.inbox_age_ms)
                await anyio.sleep(0.2)
        (done,) = await at.ended([await at.submit("noop", 1)])
        assert done.status == "succeeded"
        with anyio.fail_after(20):
            while ages[-1] > 3_000:
                clocks = (await at.client.state(running)).clocks
                assert clocks is not None and clocks.inbox_age_ms is not None
                ages.append(clocks.inbox_age_ms)
                await anyio.sleep(0.2)
        assert (await at.task(running)).attempt == 1, "its process and its runs were alive all along"


async def test_an_agent_that_blocks_the_event_loop_is_blamed_and_its_worker_leaves(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=2000) as at:
        worker = at.worker("w1", "--concurrency", "2")
        await at.know("blocking", "slow")
        innocent = await at.submit("slow", {"seconds": 1.5}, attempts=2)
        await at.begun(innocent)
        blocking = await at.submit("blocking", attempts=2)
        first = (await at.begun(blocking)).run
        assert await worker.ended(within_s=15) == -signal.SIGKILL
        said = worker.log.read_text()
        assert f"blocked by the code of run {first}; the worker ends" in said
        other = at.worker("w2")
        (view,) = await at.ended([blocking])
        assert view.output == str(other.pid), "it plays in a process of its own now"
        (spared,) = await at.ended([innocent])
        assert spared.status == "succeeded"


async def test_a_stopped_process_is_not_taken_for_a_blocked_one(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=1000) as at:
        worker = at.worker("w")
        await at.know("noop")
        worker.send(signal.SIGSTOP)
        await anyio.sleep(3.0)
        worker.send(signal.SIGCONT)
        (view,) = await at.ended([await at.submit("noop", 1)])
        assert view.status == "succeeded"
        assert worker.poll() is None


async def test_a_dead_socket_costs_the_lease_and_the_run_goes_on_elsewhere(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=2000) as at, FaultProxy(at.host.url) as proxy:
        cut_off = at.worker("w1", url=proxy.url)
        await at.know("slow")
        task = await at.submit("slow", {"seconds": 3.0})
        await at.begun(task)
        proxy.mode = "hang"
        at.worker("w2")
        (view,) = await at.ended([task], within_s=30)
        assert (view.status, view.output) == ("succeeded", '"attempt 2"')
        lost = [event.data for event in await at.client.history(task) if event.type == "task_retried"]
        assert [data["code"] for data in lost] == ["heartbeat_timeout"]
        assert cut_off.poll() is None, "it goes on trying"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Source:
    heard_at: float | None = None


def test_a_run_is_silent_from_the_limit_on_and_says_what_it_waits_for() -> None:
    clock = Clock()
    pulse = Pulse(clock)
    clock.now += SILENT_S - 0.001
    assert pulse.silence("r") is None
    clock.now += 0.001
    assert pulse.silence("r") == Silence(run="r", ms=SILENT_S * 1000, on="agent", name=None, attempt=None)
    pulse.moved()
    assert pulse.silence("r") is None
    pulse.doing("fetch")
    clock.now += 40
    assert pulse.silence("r") == Silence(run="r", ms=40_000, on="step", name="fetch", attempt=None)
    with pulse.calling("m", 2):
        clock.now += 31
        assert pulse.silence("r") == Silence(run="r", ms=31_000, on="model", name="m", attempt=2)
    assert pulse.silence("r") is None


def test_a_model_that_sends_comments_is_slow_and_one_that_sends_nothing_is_stuck() -> None:
    clock, source = Clock(), Source()
    pulse = Pulse(clock)
    with pulse.calling("m", 1):
        pulse.listen(source)
        for _ in range(10):
            clock.now += 20
            source.heard_at = clock.now
            assert pulse.silence("r") is None
        clock.now += 35
        stuck = pulse.silence("r")
        assert stuck is not None
        assert (stuck.ms, stuck.on) == (35_000, "model")


def test_a_silence_is_told_in_the_words_of_the_wire() -> None:
    silence = Silence(run="r", ms=1.0, on="model", name="m", attempt=1)
    assert json.loads(silence.model_dump_json(by_alias=True)) == {
        "run": "r",
        "ms": 1.0,
        "on": "model",
        "name": "m",
        "attempt": 1,
    }
