"""`python -m bench [NAME ...]`: latency, throughput, streams, idle, recovery, schedules; size by name."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence

import anyio

from bench import model_client, noops, scale, schedules
from bench.noops import warm_up
from bench.peers import compare
from bench.stage import (
    BENCH_AGENT,
    Figure,
    cpu_s,
    own_rss_mb,
    rss_mb,
    scripted_model,
    staged,
)
from worker.cli.common import print_table
from worker.client import TaskSpec
from worker.errors import SettingsError

STREAMS = 200
QUIET_S = 600.0
SETTLED_S = 150.0  # until the statistics of what went before are written


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
    "latency": noops.latency,
    "waiting": noops.waiting,
    "live": noops.live,
    "streams": streams,
    "idle": idle,
    "quiet": quiet,
    "recovery": scale.recovery,
    "schedules": schedules.lateness,
    "model-client": model_client.cpu,
    "long": scale.long_tasks,
    "crowd": scale.crowd,
    "backlog": scale.backlog,
    "peers": compare.peers,
}
SLOW = {"quiet", "model-client", "long", "crowd", "backlog", "peers"}  # minutes each: by name alone


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is to be stopped
    try:
        anyio.run(run, parser.parse_args().names)
    except SettingsError as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
