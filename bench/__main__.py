"""`python -m bench [NAME ...]`: latency, throughput, streams, idle, recovery, schedules; size by name."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence

import anyio

from bench import model_client, scale, schedules
from bench.stage import (
    BENCH_AGENT,
    Figure,
    Stage,
    cpu_s,
    own_rss_mb,
    percentile,
    rss_mb,
    scripted_model,
    staged,
)
from worker.cli.common import print_table
from worker.client import TaskSpec

NOOP = TaskSpec(agent="bench_noop", input="null")
SAMPLES = 400
TASKS = 5_000
STREAMS = 200
QUIET_S = 600.0
SETTLED_S = 150.0  # until the statistics of what went before are written
SUBMIT_BATCH = 50  # tasks in a call of the live run


async def latency() -> AsyncIterator[Figure]:
    """One producer, an idle worker: from the call of submit to the handler, with and without a pause."""
    for pause_s, how in ((0.05, f"{SAMPLES} no-ops, 50 ms apart"), (0.0, f"{SAMPLES} no-ops, no pause")):
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


async def waiting() -> AsyncIterator[Figure]:
    """5,000 no-ops wait; one worker with 50 slots drains them."""
    async with staged() as stage:
        with stage.worker(1):
            await stage.know("bench_noop")
        await stage.client.submit_many([NOOP] * TASKS)
        before = await stage.calls()
        with stage.worker(50) as pid:
            rows = await stage.all_ended(TASKS, 120)
            used, cpu = await stage.calls() - before, cpu_s(pid)
    seconds = (max(row["ended"] for row in rows) - min(row["began"] for row in rows)) / 1000
    yield Figure(
        "throughput, waiting", round(TASKS / seconds), "tasks/s", f"{TASKS} no-ops, worker CPU {cpu:.1f} s"
    )
    yield Figure("Convex calls a task, waiting", round(used / TASKS, 3), "calls")


async def live() -> AsyncIterator[Figure]:
    """5,000 no-ops are submitted while one worker with 50 slots runs them."""
    async with staged() as stage:
        with stage.worker(50):
            await stage.know("bench_noop")
            await warm_up(stage)
            before = await stage.calls()
            start = time.monotonic()
            for _ in range(0, TASKS, SUBMIT_BATCH):
                await stage.client.submit_many([NOOP] * SUBMIT_BATCH)
            await stage.all_ended(TASKS, 120)
            seconds = time.monotonic() - start
            used = await stage.calls() - before
    note = f"{TASKS} no-ops, submitted {SUBMIT_BATCH} a call"
    yield Figure("throughput, live", round(TASKS / seconds), "tasks/s", note)
    yield Figure("Convex calls a task, live", round(used / TASKS, 3), "calls")


async def streams() -> AsyncIterator[Figure]:
    """200 runs at once, each a stream of 50 chunks 20 ms apart; nobody watches."""
    async with staged() as stage:
        with scripted_model() as model, stage.worker(STREAMS, SIGNALBOX_MODEL_BASE_URL=model) as pid:
            await stage.client.sync_agents([BENCH_AGENT])
            await stage.know("bench_noop")
            await warm_up(stage)
            calls, cpu = await stage.calls(), cpu_s(pid)
            await stage.client.submit_many([TaskSpec(agent="bench_stream", input='"go"')] * STREAMS)
            rows = await stage.all_ended(STREAMS, 60)
            used, burnt, memory = await stage.calls() - calls, cpu_s(pid) - cpu, rss_mb(pid)
    seconds = (max(row["ended"] for row in rows) - min(row["began"] for row in rows)) / 1000
    yield Figure("200 streams, wall", round(seconds, 2), "s", "ideal 1.0 s; scripted (simulated) model")
    yield Figure("200 streams, worker CPU", round(burnt, 2), "s", "worker and its subscription process")
    yield Figure("200 streams, worker RSS", round(memory), "MB", "worker and its subscription process")
    yield Figure("Convex calls a task, streams", round(used / STREAMS, 3), "calls")


async def idle() -> AsyncIterator[Figure]:
    """A minute in which nothing happens."""
    async with staged() as stage:
        with stage.worker(50) as pid:
            await stage.know("bench_noop")
            await warm_up(stage)
            await anyio.sleep(5)
            calls, worker, host = await stage.calls(), cpu_s(pid), cpu_s(stage.host.pid)
            yield Figure("idle, worker RSS", round(own_rss_mb(pid)), "MB", "its subscription process apart")
            yield Figure("idle, RSS with its subscription process", round(rss_mb(pid)), "MB")
            await anyio.sleep(60)
            used = await stage.calls() - calls
            yield Figure(
                "idle minute, Convex calls", used, "calls", "the watchdog cron and one worker's heartbeats"
            )
            yield Figure("idle minute, worker CPU", round(cpu_s(pid) - worker, 2), "s")
            yield Figure("idle minute, host CPU", round(cpu_s(stage.host.pid) - host, 2), "s")


async def quiet() -> AsyncIterator[Figure]:
    """Ten minutes in which nothing happens: the calls of the worker, and of all else."""
    async with staged() as stage:
        with stage.worker(50):
            await stage.know("bench_noop")
            await warm_up(stage)
            await anyio.sleep(SETTLED_S)
            before, _ = await stage.metrics()
            await anyio.sleep(QUIET_S)
            after, _ = await stage.metrics()
    calls = {path: after[path] - before.get(path, 0.0) for path in after}
    of_worker = sum(count for path, count in calls.items() if path.startswith("worker:"))
    yield Figure("ten idle minutes, calls of the worker", of_worker, "calls", "heartbeats")
    others = ", ".join(f"{path} {count:.0f}" for path, count in sorted(calls.items()) if count)
    yield Figure("ten idle minutes, all other calls", sum(calls.values()) - of_worker, "calls", others)


BENCHES: dict[str, Callable[[], AsyncIterator[Figure]]] = {
    "latency": latency,
    "waiting": waiting,
    "live": live,
    "streams": streams,
    "idle": idle,
    "quiet": quiet,
    "recovery": scale.recovery,
    "schedules": schedules.lateness,
    "model-client": model_client.cpu,
    "long": scale.long_tasks,
    "crowd": scale.crowd,
    "backlog": scale.backlog,
}
SLOW = {"quiet", "model-client", "long", "crowd", "backlog"}  # minutes each: by name alone


async def run(names: Sequence[str]) -> None:
    """Run benchmarks one after the other, print each figure as it comes, and a table at the end."""
    figures = []
    for name in names:
        async for figure in BENCHES[name]():
            print(figure.line(), flush=True)
            figures.append(figure)
    print()
    rows = [{"figure": f.name, "value": f"{f.value:g} {f.unit}", "note": f.note} for f in figures]
    print_table(rows, ["figure", "value", "note"])


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    usual = [name for name in BENCHES if name not in SLOW]
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], default=usual, metavar="NAME")
    anyio.run(run, parser.parse_args().names)


if __name__ == "__main__":
    main()
