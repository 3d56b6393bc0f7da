"""Limits, pauses and reasons as an operator meets them, on a real host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from tests.command_line import call, invoke
from tests.deployment import Deployment, deployed
from tests.simulated_worker import SimulatedWorker
from tests.wire_shapes import answer_of, only, shape_of
from worker.backend import Backend
from worker.client import TaskSpec
from worker.why import Backlog, Why

pytestmark = pytest.mark.timeout(120)
LANES = 2_000


async def until(holds: Callable[[], Any], within_s: float = 15.0) -> None:
    with anyio.fail_after(within_s):
        while not await holds():
            await anyio.sleep(0.05)


async def test_an_operator_limits_pauses_and_asks_why(tmp_path: Path) -> None:
    async with deployed(tmp_path, lease_ms=120_000) as at, Backend(at.host.url) as backend:
        worker = await SimulatedWorker.register(backend, at.keys["worker"], "w")
        shown = await call(at, "limits", "set", "--queue", "default", "--limit", "1", "--rate", "100/10s")
        assert shown.code == 0, shown.err
        assert shown.out.splitlines()[1].split() == ["queue", "default", "1", "100/10s", "-", "-"]
        for _ in range(2):
            await at.client.submit(TaskSpec(agent="noop", input="null"))
        await worker.sync()
        await worker.sync()
        assert len(worker.held) == 1
        (waiting,) = (await at.client.tasks(status="pending")).tasks

        told = json.loads((await call(at, "tasks", "why", waiting.task, "--json")).out)
        assert [each["code"] for each in told["reasons"]] == ["scope_limit", "in_line"]
        assert "1 of 1 runs" in (await call(at, "tasks", "why", waiting.task)).out
        assert "default" in (await call(at, "tasks", "backlog")).out

        assert (await call(at, "pause")).code == 0
        assert [each.kind for each in await at.client.limits.list()] == ["queue", "system"]
        await worker.finish_all()
        await worker.sync()
        assert worker.held == {}
        assert (await call(at, "resume")).code == 0
        await worker.sync()
        await worker.sync()
        assert len(worker.held) == 1
        assert (await call(at, "limits", "remove", "--queue", "default")).out == "removed\n"
        assert await at.client.limits.list() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["limits", "set", "--queue", "q"], "give --limit, --rate or --weight"),
        (["limits", "set", "--burst", "3", "--limit", "1"], "--burst: it belongs to a --rate"),
        (["limits", "set", "--rate", "fast"], "'fast' is not a rate such as 100/m"),
        (["limits", "set", "--limit", "many"], "'many' is neither a whole number nor none"),
        (["pause", "--queue", "q", "--tenant", "t"], "not allowed with argument"),
    ],
)
def test_a_bad_option_is_a_usage_error(arguments: list[str], message: str) -> None:
    ran = invoke(*arguments)
    assert ran.code == 2
    assert message in ran.err


async def test_what_the_control_plane_refuses_is_told_in_one_line(tmp_path: Path) -> None:
    async with deployed(tmp_path) as at:
        ran = await call(at, "limits", "set", "--queue", "q", "--limit", "-1")
        assert (ran.code, len(ran.err.splitlines())) == (1, 1)
        assert "limit: -1 is outside 0 to 1000000." in ran.err


def test_reasons_and_backlog_say_what_their_validators_say() -> None:
    assert shape_of(Backlog) == answer_of("tasks:backlog")
    ours, theirs = only(shape_of(Why), "object"), only(answer_of("tasks:why"), "object")
    assert {k: v for k, v in ours.items() if k != "reasons"} == {
        k: v for k, v in theirs.items() if k != "reasons"
    }
    # A code that this version does not know is still shown.
    reason, told = (only(only(each["reasons"][0], "array"), "object") for each in (ours, theirs))
    assert reason.keys() == told.keys()
    assert {k: v for k, v in reason.items() if k != "code"} == {k: v for k, v in told.items() if k != "code"}


async def test_many_busy_lanes_cost_nothing_and_hide_none_that_can_run(tmp_path: Path) -> None:
    async with deployed(tmp_path, synchronous="normal") as at, Backend(at.host.url) as backend:
        workers = [
            await SimulatedWorker.register(backend, at.keys["worker"], name, capacity=1_000)
            for name in ("u", "v", "w")
        ]
        await at.client.limits.set("key", "*", {"limit": 1})
        keys = [f"k{i:05}" for i in range(LANES)] * 2
        await at.client.submit_many(TaskSpec(agent="noop", input="null", key=key) for key in keys)

        async def held() -> int:
            for worker in workers:
                await worker.sync()
            return sum(len(worker.held) for worker in workers)

        async def all_busy() -> bool:
            return await held() == LANES

        await until(all_busy, 60)
        task = (await at.client.submit(TaskSpec(agent="noop", input="null", key="zz"))).task
        await at.until(task, lambda view: view.status == "running", 2)
        assert await held() <= LANES + 1
        await anyio.sleep(2)
        before = await passes(at)
        await anyio.sleep(1.5)
        assert await passes(at) == before, "the loop sleeps"


async def passes(at: Deployment) -> int:
    """Return how many passes of dispatch the host has run."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{at.host.url}/metrics")).text
    (line,) = [line for line in text.splitlines() if 'path="dispatch:pass"' in line and "calls_total" in line]
    return int(line.rsplit(" ", 1)[1])
