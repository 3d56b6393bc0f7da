"""Each way in which a run can go wrong ends in a state of its own; and a run of hours ends well."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from tests.deployment import deployed

pytestmark = pytest.mark.timeout(120)
LONG_RUN_S = float(os.environ.get("SIGNALBOX_LONG_RUN_S", "0"))


@pytest.mark.parametrize(
    ("agent", "value", "more", "code", "says"),
    [
        ("failing", {"times": 9}, {}, "runtime_error", "failure 2"),
        ("stubborn", None, {"timeout_ms": 300.0}, "timeout", "time limit ran out"),
        ("glutton", None, {}, "memory_error", "MemoryError"),
    ],
)
async def test_an_exception_a_time_limit_and_a_failed_allocation_fail_the_task_and_leave_the_worker(
    tmp_path: Path, agent: str, value: object, more: dict[str, float], code: str, says: str
) -> None:
    async with deployed(tmp_path) as at:
        worker = at.worker("w")
        await at.know(agent, "noop")
        task = await at.submit(agent, value, attempts=2, **more)
        (view,) = await at.ended([task], within_s=30)
        assert view.error is not None
        assert (view.status, view.attempt, view.error.code) == ("failed", 2, code)
        assert says in view.error.message
        assert (await at.types(task)).count("task_retried") == 1
        (after,) = await at.ended([await at.submit("noop", 1)])
        assert after.status == "succeeded"
        assert worker.poll() is None


async def test_a_run_that_the_kernel_kills_for_its_memory_is_blamed_then_isolated_then_failed(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as at, anyio.create_task_group() as group:
        group.start_soon(at.keep_alive, "w")
        await at.know("oom")
        task = await at.submit("oom", attempts=2)
        (view,) = await at.ended([task], within_s=60)
        workers = len(at.workers("w"))
        group.cancel_scope.cancel()
    assert view.error is not None
    assert (view.status, view.attempt, view.error.code) == ("failed", 2, "process_died")
    assert "was ended by SIGKILL" in view.error.message
    assert workers == 2, "the second attempt took nobody with it"


@pytest.mark.skipif(
    not LONG_RUN_S,
    reason="a run of real hours (steps.test.ts has one on its own clock): set SIGNALBOX_LONG_RUN_S=7200",
)
@pytest.mark.timeout(0)
async def test_a_run_of_hours_keeps_its_lease(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        at.worker("w")
        await at.know("slow")
        task = await at.submit("slow", {"seconds": LONG_RUN_S})
        (view,) = await at.ended([task], within_s=LONG_RUN_S * 1.5 + 60)
        assert (view.status, view.output) == ("succeeded", '"attempt 1"')
