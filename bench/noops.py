"""What a task costs that does nothing: how soon it begins, how many end in a second."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio

from bench.stage import Figure, Stage, cpu_s, percentile, staged
from worker.client import TaskSpec

NOOP = TaskSpec(agent="bench_noop", input="null")
SAMPLES = 400
PAUSE_S = 0.05
TASKS = 5_000
SUBMIT_BATCH = 50  # tasks in a call of the live run
LIMIT_S = 300.0  # a machine on which it takes longer is not fit to be measured


@dataclass(frozen=True)
class Throughput:
    """How fast `TASKS` no-ops ended.

    Attributes:
        rate: Tasks a second.
        calls: Function calls a task.
        cpu_s: What the worker and its subscription process used, in seconds of a processor.
        host_s: What the host used, in seconds of a processor.
    """

    rate: float
    calls: float
    cpu_s: float
    host_s: float


async def latency() -> AsyncIterator[Figure]:
    """One producer, an idle worker: from the call of submit to the handler, with and without a pause."""
    for pause_s, how in ((PAUSE_S, f"{SAMPLES} no-ops, 50 ms apart"), (0.0, f"{SAMPLES} no-ops, no pause")):
        waits = await latencies(pause_s)
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            yield Figure(f"dispatch latency {name}", round(percentile(waits, share), 2), "ms", how)


async def latencies(pause_s: float) -> list[float]:
    """Return the ms from the start of each submit call to the start of its handler."""
    async with staged() as stage:
        with stage.worker(50):
            await stage.know("bench_noop")
            await warm_up(stage)
            began: dict[str, int] = {}
            for _ in range(SAMPLES):
                start = time.monotonic_ns()
                task = (await stage.client.submit(NOOP)).task
                began[task] = start
                await anyio.sleep(max(0.0, pause_s - (time.monotonic_ns() - start) / 1e9))
            await stage.all_ended(SAMPLES, 30)
            waits = []
            for task, start in began.items():
                view = await stage.client.get(task)
                assert view is not None and view.output is not None
                waits.append((json.loads(view.output) - start) / 1e6)
    return waits


async def warm_up(stage: Stage) -> None:
    """Let both sides load and compile what they need."""
    await stage.client.submit_many([NOOP] * 20)
    await stage.all_ended(20, 30)


async def drained() -> Throughput:
    """5,000 no-ops wait; one worker with 50 slots drains them."""
    async with staged() as stage:
        with stage.worker(1):
            await stage.know("bench_noop")
        await stage.client.submit_many([NOOP] * TASKS)
        before, host = await stage.calls(), cpu_s(stage.host.pid)
        with stage.worker(50) as pid:
            await stage.settled(LIMIT_S)
            cpu, host_cpu = cpu_s(pid), cpu_s(stage.host.pid) - host
            rows = await stage.all_ended(TASKS, LIMIT_S)
            used = await stage.calls() - before
    seconds = (max(row["ended"] for row in rows) - min(row["began"] for row in rows)) / 1000
    return Throughput(TASKS / seconds, used / TASKS, cpu, host_cpu)


async def run_live() -> Throughput:
    """5,000 no-ops are submitted while one worker with 50 slots runs them: until the last has ended."""
    async with staged() as stage:
        with stage.worker(50) as pid:
            await stage.know("bench_noop")
            await warm_up(stage)
            before, cpu, host = await stage.calls(), cpu_s(pid), cpu_s(stage.host.pid)
            start = time.time()
            for _ in range(0, TASKS, SUBMIT_BATCH):
                await stage.client.submit_many([NOOP] * SUBMIT_BATCH)
            await stage.settled(LIMIT_S)
            cpu, host = cpu_s(pid) - cpu, cpu_s(stage.host.pid) - host
            rows = await stage.all_ended(TASKS, LIMIT_S)
            used = await stage.calls() - before
    return Throughput(TASKS / (max(row["ended"] for row in rows) / 1000 - start), used / TASKS, cpu, host)


async def waiting() -> AsyncIterator[Figure]:
    """The throughput of tasks that wait."""
    found = await drained()
    note = f"{TASKS} no-ops; CPU worker {found.cpu_s:.1f} s, host {found.host_s:.1f} s"
    yield Figure("throughput, waiting", round(found.rate), "tasks/s", note)
    yield Figure("Convex calls a task, waiting", round(found.calls, 3), "calls")


async def live() -> AsyncIterator[Figure]:
    """The throughput of tasks that are submitted meanwhile."""
    found = await run_live()
    note = (
        f"{TASKS} no-ops, {SUBMIT_BATCH} a call, CPU: worker {found.cpu_s:.1f} s, host {found.host_s:.1f} s"
    )
    yield Figure("throughput, live", round(found.rate), "tasks/s", note)
    yield Figure("Convex calls a task, live", round(found.calls, 3), "calls")
