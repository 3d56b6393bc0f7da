"""What the benchmarks share: a host that syncs every commit, a worker, and how costs are read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
from pydantic import SecretStr

from worker.backend import Backend
from worker.cli.keys import new_key
from worker.client import Admin, AgentSpec, Client
from worker.local import DEVELOPMENT_ADMIN_KEY, HOST, MODEL, REPOSITORY, LocalProcess, node_command
from worker.models import LlmSpec

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CALLS = re.compile(r'convex_function_calls_total\{[^}]*path="([^"]+)"[^}]*\} (\S+)')
_SECONDS = re.compile(r'convex_function_seconds_sum\{[^}]*path="([^"]+)"[^}]*\} (\S+)')
LOOK = "tasks:list"  # how a benchmark sees that its tasks have ended
LOOK_S = 0.5  # between two looks: the tasks themselves hold when they began and ended
MODEL_NAME = "scripted-bench-50x20ms"


@dataclass(frozen=True)
class Figure:
    """One measured figure."""

    name: str
    value: float
    unit: str
    note: str = ""

    def line(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({"figure": self.name, "value": self.value, "unit": self.unit, "note": self.note})


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process and of its children that still run or that it has waited for."""
    total = _own_cpu_s(pid)
    for child in children(pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended since, into its parent's
            total += _own_cpu_s(child)
    return total


def _own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process and its children in MB."""
    return sum(own_rss_mb(each) for each in [pid, *children(pid)])


def own_rss_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


def children(pid: int) -> list[int]:
    """Return the processes that a process has started, and theirs."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    direct = [int(part) for part in text.split()]
    return [each for child in direct for each in (child, *children(child))]


@dataclass
class Stage:
    """A host with its keys and a client."""

    host: LocalProcess
    url: str
    keys: dict[str, str]
    client: Client
    folder: Path

    async def calls(self) -> int:
        """Return how many functions the host has run, as Convex bills them, but for looks from here."""
        calls, _ = await self.metrics()
        return round(sum(count for path, count in calls.items() if path != LOOK))

    async def metrics(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return calls and seconds of each function so far."""
        async with httpx.AsyncClient(timeout=30) as http:
            text = (await http.get(f"{self.url}/metrics")).text
        calls: dict[str, float] = {}
        for path, value in _CALLS.findall(text):
            calls[path] = calls.get(path, 0.0) + float(value)
        return calls, {path: float(value) for path, value in _SECONDS.findall(text)}

    @contextmanager
    def worker(self, concurrency: int, **env: str) -> Iterator[int]:
        """Start a worker and yield its process id."""
        settings = {"CONVEX_URL": self.url, "SIGNALBOX_KEY": self.keys["worker"], **env}
        command = [sys.executable, "-m", "worker", "worker", "--agents", "bench.agents"]
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, "--concurrency", str(concurrency)],
                env={**os.environ, **settings},
                cwd=REPOSITORY,
                stdout=log,
                stderr=log,
            )
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)

    async def know(self, agent: str) -> None:
        """Wait until an agent is registered."""
        with anyio.fail_after(30):
            while agent not in {each.name for each in await self.client.agents()}:
                await anyio.sleep(0.02)

    async def settled(self, within_s: float) -> None:
        """Wait until no task waits or runs, looking rarely: a look costs the host as much as a few tasks."""
        with anyio.fail_after(within_s):
            while (await self.client.tasks(status="pending", limit=1)).tasks or (
                await self.client.tasks(status="running", limit=1)
            ).tasks:
                await anyio.sleep(LOOK_S)

    async def all_ended(self, count: int, within_s: float) -> list[dict[str, Any]]:
        """Return start, end and output of the newest `count` tasks once all have succeeded."""
        await self.settled(within_s)
        rows: list[dict[str, Any]] = []
        cursor = None
        while len(rows) < count:
            page = await self.client.tasks(status="succeeded", limit=100, cursor=cursor)
            rows += [{"began": t.started_at, "ended": t.ended_at, "output": t.output} for t in page.tasks]
            cursor = page.cursor
            if cursor is None:
                break
        assert len(rows) >= count, f"{count - len(rows)} tasks did not succeed"
        return rows[:count]


@asynccontextmanager
async def staged(*, synchronous: str = "full") -> AsyncIterator[Stage]:
    """Yield a fresh host with the control plane."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        flags: Sequence[str] = [
            *("--functions", str(REPOSITORY / "convex"), "--data", str(folder)),
            *("--port", "0", "--site-port", "0", "--synchronous", synchronous),
        ]
        host = stack.enter_context(LocalProcess(node_command(HOST, flags)))
        url = host.ready["url"]
        keys = {}
        async with Backend(url, admin_key=SecretStr(DEVELOPMENT_ADMIN_KEY)) as backend:
            for role in ("worker", "operator"):
                keys[role], digest = new_key(role)
                await Admin(backend).create_key(digest=digest, role=role, label=role)
        client = await stack.enter_async_context(Client.connect(url, SecretStr(keys["operator"])))
        yield Stage(host, url, keys, client, folder)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


@contextmanager
def scripted_model() -> Iterator[str]:
    """Yield the base URL of a scripted (simulated) model server."""
    with LocalProcess(node_command(MODEL, ["--port", "0"])) as server:
        yield f"{server.ready['url']}/v1"


BENCH_AGENT = AgentSpec(
    name="bench_stream",
    description="streams 50 chunks, 20 ms apart",
    llm=LlmSpec(model=MODEL_NAME, prompt="", temperature=None, max_output_tokens=None),
)
