"""Benchmarks of size: many runs at once, a long line, long tasks, a worker that is gone."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from collections.abc import AsyncIterator

import anyio

from bench.noops import NOOP
from bench.stage import (
    BENCH_AGENT,
    Figure,
    Stage,
    children,
    cpu_s,
    percentile,
    rss_mb,
    scripted_model,
    staged,
)
from tests.simulated_worker import SimulatedWorker
from worker.backend import Backend
from worker.client import TaskSpec

CROWD = 10_000
CROWD_WORKERS = 100
CROWD_RUN_S = 60.0
CROWD_S = 120.0
WAITING_FEW, WAITING_MANY = 1_000, 1_000_000
LOOKS = 200  # dispatches that are timed at each length of the line
LONG_RUNS = 70
PRODUCERS = 4  # that fill the line


async def crowd() -> AsyncIterator[Figure]:
    """10,000 runs at once, held by stub workers: a hundred sessions that speak the wire and do no work."""
    chance = random.Random(1)
    async with staged() as stage, Backend(stage.url) as backend:
        workers = [
            await SimulatedWorker.register(
                backend,
                stage.keys["worker"],
                f"stub{i}",
                capacity=math.ceil(CROWD / CROWD_WORKERS),
                agents=["bench_noop"],
            )
            for i in range(CROWD_WORKERS)
        ]
        peak = 0
        ended = 0
        late: list[float] = []

        async def hold(worker: SimulatedWorker) -> None:
            nonlocal ended
            until: dict[str, float] = {}
            while True:
                began = anyio.current_time()
                over = [run for run, at in until.items() if at <= began]
                await worker.succeed(over)
                late.append(anyio.current_time() - began)
                ended += len(over)
                for run in over:
                    del until[run]
                for run in worker.held:
                    until.setdefault(run, anyio.current_time() + chance.uniform(0.5, 1.5) * CROWD_RUN_S)
                await anyio.sleep(chance.uniform(0.5, 1.5))

        async with anyio.create_task_group() as group:
            for worker in workers:
                group.start_soon(hold, worker)
            submitted = 0
            while submitted < CROWD:
                await stage.client.submit_many([NOOP] * 1_000)
                submitted += 1_000
            with anyio.fail_after(300):
                while sum(len(worker.held) for worker in workers) < CROWD * 0.95:
                    await anyio.sleep(0.5)
            # From here on it is full: each run that ends makes room for one that waits.
            _, seconds = await stage.metrics()
            cpu, start, before = cpu_s(stage.host.pid), time.monotonic(), ended
            late.clear()
            while time.monotonic() - start < CROWD_S:
                await stage.client.submit_many([NOOP] * max(0, ended + CROWD + 500 - submitted))
                submitted = max(submitted, ended + CROWD + 500)
                peak = max(peak, sum(len(worker.held) for worker in workers))
                await anyio.sleep(1.0)
            wall = time.monotonic() - start
            _, after = await stage.metrics()
            burnt, done = cpu_s(stage.host.pid) - cpu, ended - before
            memory = rss_mb(stage.host.pid)
            group.cancel_scope.cancel()
    share = (after.get("dispatch:pass", 0.0) - seconds.get("dispatch:pass", 0.0)) / wall
    note = f"{CROWD_WORKERS} stub workers (simulated), runs of {CROWD_RUN_S:.0f} s"
    yield Figure("crowd, runs at once", peak, "runs", note)
    yield Figure("crowd, runs that ended", round(done / wall, 1), "runs/s")
    yield Figure("crowd, dispatch loop", round(100 * share, 1), "% of a core")
    yield Figure("crowd, host CPU", round(100 * burnt / wall, 1), "% of a core")
    yield Figure("crowd, sync p99", round(percentile(late, 0.99) * 1000), "ms", f"{len(late)} syncs")
    yield Figure("crowd, host RSS", round(memory), "MB")


async def backlog() -> AsyncIterator[Figure]:
    """Dispatch behind a short and a long line: a stub worker takes one task at a time."""
    p50: dict[int, float] = {}
    async with staged(synchronous="normal") as stage, Backend(stage.url) as backend:
        worker = await SimulatedWorker.register(
            backend, stage.keys["worker"], "stub", capacity=1, agents=["bench_noop"]
        )
        waits = 0
        for length in (WAITING_FEW, WAITING_MANY):
            while waits < length:
                await fill(stage, count := min(10_000, length - waits))
                waits += count
                await worker.sync()  # it lives on meanwhile
            times = []
            for _ in range(LOOKS + 20):
                await worker.finish_all()
                waits -= 1
                start = time.perf_counter()
                while not worker.waiting and not worker.held:
                    await worker.sync()
                times.append((time.perf_counter() - start) * 1000)
                await worker.sync()
            p50[length] = percentile(times[20:], 0.5)
            yield Figure(f"dispatch p50, {length:,} waiting", round(p50[length], 2), "ms", "stub worker")
    ratio = p50[WAITING_MANY] / p50[WAITING_FEW]
    yield Figure("dispatch p50, a million to a thousand waiting", round(ratio, 2), "times")


async def fill(stage: Stage, count: int) -> None:
    """Submit so many no-ops, from some producers at once."""
    async with anyio.create_task_group() as group:
        for i in range(PRODUCERS):
            part = count * (i + 1) // PRODUCERS - count * i // PRODUCERS
            group.start_soon(stage.client.submit_many, [NOOP] * part)


async def long_tasks() -> AsyncIterator[Figure]:
    """Function calls of tasks that stream 200 deltas over 60 s, 70 of them at once, unwatched and watched."""
    assert BENCH_AGENT.llm is not None
    agent = BENCH_AGENT.model_copy(
        update={
            "name": "bench_long",
            "llm": BENCH_AGENT.llm.model_copy(update={"model": "scripted-bench-200x300ms"}),
        }
    )
    async with staged() as stage, Backend(stage.url) as backend:
        with scripted_model() as model, stage.worker(LONG_RUNS, SIGNALBOX_MODEL_BASE_URL=model):
            await stage.client.sync_agents([agent])
            await stage.know("bench_noop")
            for watched in (False, True):
                spec = TaskSpec(agent="bench_long", input='"go"')
                before = await stage.calls()
                answers = await stage.client.submit_many([spec] * LONG_RUNS)
                tasks = [answer.task for answer in answers if not isinstance(answer, Exception)]
                async with anyio.create_task_group() as group:
                    if watched:
                        for task in tasks:
                            group.start_soon(watch, stage, backend, task)
                    await stage.all_ended(LONG_RUNS, 180)
                    used = await stage.calls() - before
                    group.cancel_scope.cancel()
                how = "watched" if watched else "unwatched"
                note = f"{LONG_RUNS} at once, 200 deltas each; scripted (simulated) model"
                yield Figure(f"calls of a 60 s task, {how}", round(used / LONG_RUNS, 2), "calls", note)


async def watch(stage: Stage, backend: Backend, task: str) -> None:
    """Keep a watch on a task, as a page does. What the page's own subscription runs is not counted here."""
    while True:
        args = {"key": stage.keys["operator"], "task": task, "forMs": 30_000}
        await backend.mutation("runs:watch", args, timeout=10)
        await anyio.sleep(15.0)


async def recovery() -> AsyncIterator[Figure]:
    """A worker is killed with SIGKILL: until its task runs again, elsewhere and under the same name."""
    for same_name in (False, True):
        async with staged() as stage:
            with stage.worker(5, SIGNALBOX_WORKER="first") as pid:
                await stage.know("bench_forever")
                task = (await stage.client.submit(TaskSpec(agent="bench_forever", input="null"))).task
                await until_attempt(stage, task, 1)
                name = "first" if same_name else "second"
                if not same_name:
                    with stage.worker(5, SIGNALBOX_WORKER=name):
                        await anyio.sleep(3)
                        yield await killed(stage, task, pid, "on another worker")
                else:
                    kill(pid)
                    start = time.monotonic()
                    with stage.worker(5, SIGNALBOX_WORKER=name):
                        await until_attempt(stage, task, 2)
                        took = time.monotonic() - start
                        yield Figure("killed worker, same name again", round(took, 2), "s", "from its start")


async def killed(stage: Stage, task: str, pid: int, where: str) -> Figure:
    """Kill the whole worker and return how long it takes until the task runs again."""
    kill(pid)
    start = time.monotonic()
    await until_attempt(stage, task, 2)
    return Figure(f"killed worker, {where}", round(time.monotonic() - start, 2), "s", "default settings")


def kill(pid: int) -> None:
    """Kill a worker and the processes that it has started, as the end of its container does."""
    for each in [*children(pid), pid]:
        os.kill(each, signal.SIGKILL)


async def until_attempt(stage: Stage, task: str, attempt: int) -> None:
    """Wait until a worker has begun this attempt of the task."""
    with anyio.fail_after(60):
        while True:
            view = await stage.client.get(task)
            run = view.run if view is not None and view.attempt >= attempt else None
            if run is not None and await stage.client.run_state(run) == "running":
                return
            await anyio.sleep(0.05)
