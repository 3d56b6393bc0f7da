"""`python -m bench peers`: other task queues and Signalbox, in turns on the same machine in the same minutes.

Each peer runs as its documentation has it, on a PostgreSQL whose commits are on disk before they are
answered; each run has a database of its own, a worker process with 50 slots and a producer process. Signalbox
runs as in `bench.noops`.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from anyio import to_thread

from bench import noops
from bench.peers.installed import installed, versions
from bench.peers.postgres import started
from bench.peers.rounds import Peer
from bench.stage import Figure, percentile

ROUNDS = 3
SIGNALBOX = "signalbox"
PEERS = ("pgqueuer", "bullmq", "procrastinate", "dbos")
RUNS = ("latency", "waiting", "live")


@dataclass(frozen=True)
class Measure:
    """One thing that is measured of each, and whether more of it is better."""

    name: str
    unit: str
    more_is_better: bool
    digits: int

    def best(self, values: Sequence[float]) -> float:
        """Return the best of the rounds."""
        return max(values) if self.more_is_better else min(values)

    def figures(self, found: Mapping[str, Sequence[float]]) -> list[Figure]:
        """Return a figure for each queue: its best round, its median, and both against Signalbox's.

        Args:
            found: What each queue gave in each round; Signalbox is one of them.
        """
        own = found[SIGNALBOX]
        figures = []
        for queue, values in found.items():
            best, median = self.best(values), statistics.median(values)
            note = f"best of {len(values)}, median {median:.{self.digits}f}"
            if queue != SIGNALBOX:
                times = best / self.best(own), median / statistics.median(own)
                note += f"; {times[0]:.2f} times Signalbox's best, {times[1]:.2f} its median"
            figures.append(Figure(f"{self.name}, {queue}", round(best, self.digits), self.unit, note))
        return figures


P50, P95, P99 = (Measure(f"latency {name}", "ms", False, 1) for name in ("p50", "p95", "p99"))
WAITING, LIVE = (Measure(f"throughput {name}", "tasks/s", True, 0) for name in ("waiting", "live"))
CPU = Measure("CPU a task waiting", "ms", False, 2)
SHARES = {P50: 0.5, P95: 0.95, P99: 0.99}
MEASURES = (*SHARES, WAITING, CPU, LIVE)


async def peers() -> AsyncIterator[Figure]:
    """Print each run as it ends, and yield what it comes to."""
    found: dict[Measure, dict[str, list[float]]] = {m: {} for m in MEASURES}
    with started() as postgres:
        where, pinned = installed(), versions()
        rivals = {f"{name} {pinned[name]}": Peer(name, where, postgres) for name in PEERS}
        print(f"PostgreSQL {postgres.version}; load average {_load()}", flush=True)
        for each in range(ROUNDS):
            for run in RUNS:  # each of all before the next, so that what is compared is minutes apart
                for queue, peer in [(SIGNALBOX, None), *rivals.items()]:
                    load = _load()
                    for measure, value in (await _measured(run, peer)).items():
                        found[measure].setdefault(queue, []).append(value)
                        note = f"round {each + 1}, load average {load}"
                        name = f"{measure.name}, {queue}"
                        print(Figure(name, round(value, 2), measure.unit, note).line(), flush=True)
    for measure, of_each in found.items():
        for figure in measure.figures(of_each):
            yield figure


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


async def _measured(run: str, peer: Peer | None) -> dict[Measure, float]:
    """Run one measurement of a peer, or of Signalbox for None."""
    if run == "latency":
        waits = (
            await noops.latencies(noops.PAUSE_S) if peer is None else await to_thread.run_sync(peer.latencies)
        )
        return {measure: percentile(waits, share) for measure, share in SHARES.items()}
    if run == "waiting":
        if peer is None:
            found = await noops.drained()
            rate, cpu_s = found.rate, found.cpu_s + found.host_s
        else:
            rate, cpu_s = await to_thread.run_sync(peer.waiting)
        return {WAITING: rate, CPU: 1000 * cpu_s / noops.TASKS}
    rate = (await noops.run_live()).rate if peer is None else await to_thread.run_sync(peer.live)
    return {LIVE: rate}
