"""A whole deployment on this machine for tests: the host, keys, a client, worker processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from pydantic import SecretStr

from tests.host_process import HostProcess
from worker.backend import Backend
from worker.cli.keys import new_key
from worker.client import ENDED, Admin, AgentSpec, Client, RetryPolicy, TaskSpec, TaskView
from worker.models import LlmSpec

REPOSITORY = Path(__file__).resolve().parent.parent


def _children(process: int, name: str) -> list[int]:
    """Return the ids of a process's children whose command line holds `name`."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(process)], capture_output=True, text=True, check=False
    )  # its exit code is 1 when there are none
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if name in line]


class WorkerProcess:
    """`signalbox worker` as a process of its own."""

    def __init__(self, name: str, env: dict[str, str], options: Iterable[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._frozen: list[int] = []
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "worker", "worker", "--name", name, *options],
                env={**os.environ, "PYTHONFAULTHANDLER": "1", **env},
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def poll(self) -> int | None:
        return self._process.poll()

    async def freeze_listener(self) -> None:
        """Stop the process that brings the worker's wake-up calls: the child of its sidecar."""
        (sidecar,) = await self._started(self.pid)
        (listener,) = await self._started(sidecar)
        os.kill(listener, signal.SIGSTOP)
        self._frozen.append(listener)

    async def _started(self, parent: int) -> list[int]:
        with anyio.fail_after(20):
            while not (children := _children(parent, "worker.sidecar")):
                await anyio.sleep(0.05)
        return children

    async def killed(self) -> None:
        """Kill it, and return once its runs that play in a process of their own are gone too."""
        isolated = _children(self.pid, "worker.runtime.isolated")
        self.send(signal.SIGKILL)
        await self.ended(10)
        with anyio.fail_after(10):
            while any(Path(f"/proc/{process}").exists() for process in isolated):  # noqa: ASYNC240
                await anyio.sleep(0.01)

    async def ended(self, within_s: float) -> int:
        """Return its exit code once it has ended."""
        with anyio.fail_after(within_s):
            while (code := self._process.poll()) is None:
                await anyio.sleep(0.02)
        return code

    async def abort(self) -> None:
        """End it, with the stacks of its threads in its log."""
        if self._process.poll() is None:
            self.send(signal.SIGABRT)
            await self.ended(10)

    def destroy(self) -> None:
        for listener in self._frozen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(listener, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        self._process.wait()


class Deployment:
    """What a test drives; made by `deployed`."""

    def __init__(self, host: HostProcess, keys: dict[str, str], client: Client, folder: Path) -> None:
        self.host = host
        self.keys = keys
        self.client = client
        self._folder = folder
        self._workers: list[WorkerProcess] = []

    def worker(self, name: str, *options: str, url: str | None = None, **env: str) -> WorkerProcess:
        """Start a worker with the agents of the tests; it is ended with the deployment."""
        settings = {"CONVEX_URL": url or self.host.url, "SIGNALBOX_KEY": self.keys["worker"], **env}
        process = WorkerProcess(
            name, settings, ["--agents", "tests.agents_under_test", *options], self._folder / f"{name}.log"
        )
        self._workers.append(process)
        return process

    async def keep_alive(self, name: str) -> None:
        """Start a worker, and again whenever it is gone, as a container platform does; until cancelled."""
        while True:
            worker = self.worker(name)
            while worker.poll() is None:
                await anyio.sleep(0.05)

    def workers(self, name: str) -> list[WorkerProcess]:
        """Return the processes that were started under a name."""
        return [worker for worker in self._workers if worker.name == name]

    async def know(self, *agents: str) -> None:
        """Wait until workers have brought these agents; those that have not say where they stand."""
        looks, known = 0, set[str]()
        with anyio.move_on_after(15):
            while not set(agents) <= known:
                known = {agent.name for agent in await self.client.agents()}
                looks += 1
                await anyio.sleep(0.05)
        if not set(agents) <= known:
            for worker in self._workers:
                await worker.abort()
            raise AssertionError(f"after 15 s and {looks} looks only {known} are known:\n{self.logs()}")

    async def with_writer(self) -> None:
        """Enter the agent `writer`, which no worker plays: its tasks wait."""
        llm = LlmSpec(model=None, prompt="Write.", temperature=None, max_output_tokens=None)
        await self.client.sync_agents([AgentSpec(name="writer", description="", llm=llm)])

    async def submit(self, agent: str, input: Any = None, **more: Any) -> str:
        attempts = more.pop("attempts", None)
        retry = RetryPolicy(max_attempts=attempts, initial_ms=more.pop("initial_ms", 100))
        spec = TaskSpec(agent=agent, input=json.dumps(input), retry=retry, **more)
        return (await self.client.submit(spec)).task

    async def task(self, task: str) -> TaskView:
        view = await self.client.get(task)
        assert view is not None
        return view

    async def all_tasks(self, tenant: str = "default") -> list[TaskView]:
        """Return the tasks of a tenant, over all pages."""
        tasks: list[TaskView] = []
        cursor: str | None = None
        while True:
            page = await self.client.tasks(tenant=tenant, limit=100, cursor=cursor)
            tasks += page.tasks
            cursor = page.cursor
            if cursor is None:
                return tasks

    async def until(self, task: str, holds: Callable[[TaskView], bool], within_s: float = 15.0) -> TaskView:
        """Return the task once the condition holds of it."""
        view = await self.task(task)
        with anyio.move_on_after(within_s):
            while not holds(view):
                await anyio.sleep(0.05)
                view = await self.task(task)
        assert holds(view), f"still {view} after {within_s} s; workers said:\n{self.logs()}"
        return view

    async def begun(self, task: str) -> TaskView:
        """Return the task once a worker has accepted a run of it."""
        view = await self.until(task, lambda view: view.status == "running")
        assert view.run is not None
        with anyio.fail_after(10):
            while await self.client.run_state(view.run) == "assigned":
                await anyio.sleep(0.02)
        return view

    async def ended(self, tasks: Iterable[str], within_s: float = 15.0) -> list[TaskView]:
        """Return the tasks once all have ended."""
        deadline = anyio.current_time() + within_s
        return [
            await self.until(task, lambda view: view.status in ENDED, deadline - anyio.current_time())
            for task in tasks
        ]

    async def types(self, task: str) -> list[str]:
        """Return the types of a task's events, in order."""
        return [event.type for event in await self.client.history(task)]

    def logs(self) -> str:
        return "\n".join(f"--- {w.name}\n{w.log.read_text()[-3000:]}" for w in self._workers)

    def destroy_workers(self) -> None:
        for worker in self._workers:
            worker.destroy()


@asynccontextmanager
async def deployed(
    folder: Path,
    *,
    lease_ms: int = 15_000,
    synchronous: str = "full",
    flags: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Deployment]:
    """Yield a deployment whose data, logs and processes are gone at the end."""
    host = HostProcess(
        data=folder / "host",
        synchronous=synchronous,
        env={"SIGNALBOX_LEASE_MS": str(lease_ms), **(env or {})},
        flags=flags,
    )
    async with AsyncExitStack() as stack:
        await anyio.to_thread.run_sync(stack.enter_context, host)
        keys = {}
        async with Backend(host.url, admin_key=SecretStr(host.admin_key)) as backend:
            for role in ("worker", "submit", "operator"):
                keys[role], digest = new_key(role)
                await Admin(backend).create_key(digest=digest, role=role, label=role)
        client = await stack.enter_async_context(Client.connect(host.url, SecretStr(keys["operator"])))
        deployment = Deployment(host, keys, client, folder)
        stack.callback(deployment.destroy_workers)
        yield deployment
