"""`make demo`: the whole line on this machine, from submit to report, with a worker killed in mid-stream.

Starts the embedded host, a model (the provider that `.env` names, else the scripted model server, which is
simulated) and two workers; submits the tasks of first_light.json; prints their text as it comes; kills a
worker while it streams and lets the other finish; prints what came of each task. Exits 0 only if all of them
succeeded. KEEP=1 leaves it running.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpx
from pydantic import SecretStr

from examples.screen import TaskText, calls_between, print_result, say
from worker.backend import Backend
from worker.cli.agents import read_agents
from worker.cli.keys import new_key
from worker.client import Admin, Client, RetryPolicy, TaskSpec, TaskView
from worker.errors import SettingsError, SignalboxError
from worker.local import DEVELOPMENT_ADMIN_KEY, HOST, MODEL, REPOSITORY, LocalProcess, node_command
from worker.settings import Settings

DASHBOARD = REPOSITORY / "dashboard" / "dist" / "index.html"
FIRST_LIGHT = REPOSITORY / "examples" / "first_light.json"
WORKERS = ("worker-1", "worker-2")
KILL_AFTER_CHARS = 120  # of a task's text: its model call is well under way, and far from over
START_S = 30.0  # for the workers to register
LIMIT_S = 180.0
Worker = subprocess.Popen[bytes]
_COUNT = re.compile(r'^convex_function_calls_total\{.*path="([^"]+)"\} (\d+)$', re.MULTILINE)


@dataclass(frozen=True)
class Model:
    """Where model calls go."""

    base_url: str
    key: str
    name: str


@dataclass
class Stage:
    """What runs, and what happened to it."""

    url: str
    client: Client
    workers: dict[str, Worker]
    killing: anyio.Lock = field(default_factory=anyio.Lock)
    killed: str | None = None
    ended: dict[str, TaskView] = field(default_factory=dict)


def provider() -> Model | None:
    """Return the provider that the settings name, None if they name none.

    Raises:
        SettingsError: A setting is wrong, or the provider's model is not named.
    """
    key, _ = new_key("worker")  # the demo makes its own; here only the provider is of interest
    settings = Settings.from_env(convex_url="http://127.0.0.1", key=SecretStr(key))
    if settings.model_base_url is None:
        return None
    if settings.model is None:
        raise SettingsError("SIGNALBOX_MODEL is not set: name one of the provider's models")
    model_key = "" if settings.model_key is None else settings.model_key.get_secret_value()
    return Model(settings.model_base_url, model_key, settings.model)


@contextmanager
def started_model(given: Model | None) -> Iterator[Model]:
    """Yield the given provider, else a scripted model server for the time of the demo."""
    if given is not None:
        say(f"model: {given.name} at {given.base_url}")
        yield given
        return
    with LocalProcess(node_command(MODEL, ["--port", "0"])) as server:
        say(
            f"model: the scripted model server at {server.ready['url']}; its answers are SIMULATED "
            "(name a provider in .env to replace it)"
        )
        yield Model(server.ready["baseUrl"], "", "scripted-writer")


async def create_keys(url: str, admin_key: str) -> dict[str, str]:
    """Return a fresh key for each role."""
    keys = {}
    async with Backend(url, admin_key=SecretStr(admin_key)) as backend:
        for role in ("worker", "operator"):
            keys[role], digest = new_key(role)
            await Admin(backend).create_key(digest=digest, role=role, label=f"demo {role}")
    return keys


def start_worker(name: str, log: Path, url: str, key: str, model: Model) -> Worker:
    """Start a worker with room for three runs."""
    env = {
        **os.environ,
        "CONVEX_URL": url,
        "SIGNALBOX_KEY": key,
        "SIGNALBOX_MODEL_BASE_URL": model.base_url,
        "SIGNALBOX_MODEL_KEY": model.key,
        "SIGNALBOX_MODEL": model.name,
    }
    options = ["--name", name, "--queue", "default", "--concurrency", "3", "--grace", "2"]
    command = [sys.executable, "-m", "worker", "worker", *options, "--agents", "examples.first_light"]
    with log.open("wb") as output:
        return Worker(command, env=env, cwd=REPOSITORY, stdout=output, stderr=output)


def stop_workers(workers: Mapping[str, Worker]) -> None:
    """Let every worker drain, and end those that do not."""
    for process in workers.values():
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in workers.values():
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def submit(client: Client) -> dict[str, str]:
    """Submit the tasks of the file and return their ids with their names."""
    tasks = json.loads(await anyio.Path(FIRST_LIGHT).read_text(encoding="utf-8"))["tasks"]
    specs = [
        TaskSpec(
            agent=task["agent"],
            input=json.dumps(task["input"]),
            retry=RetryPolicy.model_validate(task["retry"]) if "retry" in task else None,
        )
        for task in tasks
    ]
    names = {}
    for task, answer in zip(tasks, await client.submit_many(specs), strict=True):
        if isinstance(answer, Exception):
            raise answer
        names[answer.task] = task["name"]
    return names


async def show(stage: Stage, task: str, text: TaskText) -> None:
    """Print a task's text as it comes, kill the worker that writes it, and keep the task that has ended."""
    async for update in stage.client.follow(task):
        if isinstance(update, TaskView):
            stage.ended[task] = update
            text.end(update)
        else:
            text.show(update)
            if text.chars >= KILL_AFTER_CHARS:
                await kill_worker_of(stage, task, update.run, text.name)


async def kill_worker_of(stage: Stage, task: str, run: str, name: str) -> None:
    """Kill, once, the worker that is streaming this run, as a crash or a power cut would."""
    async with stage.killing:
        view = await stage.client.get(task) if stage.killed is None else None
        if view is None or view.status != "running" or view.run != run:
            return
        for event in await stage.client.history(task):
            if event.type == "run_assigned" and event.run == run:
                stage.killed = str(event.data["worker"])
                process = stage.workers[stage.killed]
                process.kill()
                say(f"killed {stage.killed} (pid {process.pid}) with SIGKILL in mid-stream of {name!r}")


async def counts(url: str) -> dict[str, int]:
    """Return how often each function has run, as the host counts it."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).raise_for_status().text
    found: dict[str, int] = {}
    for path, runs in _COUNT.findall(text):
        found[path] = found.get(path, 0) + int(runs)
    return found


async def play(url: str, keys: Mapping[str, str], workers: dict[str, Worker]) -> bool:
    """Give the workers the tasks and watch; return whether all succeeded."""
    async with Client.connect(url, SecretStr(keys["operator"])) as client:
        stage = Stage(url, client, workers)
        await client.sync_agents(await anyio.to_thread.run_sync(read_agents, FIRST_LIGHT))
        await wait_for_agents(stage)
        before = await counts(url)
        names = await submit(client)
        say(f"submitted {len(names)} tasks")
        try:
            with anyio.move_on_after(LIMIT_S) as limit:
                async with anyio.create_task_group() as group:
                    for task, name in names.items():
                        group.start_soon(show, stage, task, TaskText(name))
        except ExceptionGroup as errors:
            raise first_of(errors) from None
        if limit.cancelled_caught:
            late = ", ".join(repr(name) for task, name in names.items() if task not in stage.ended)
            raise RuntimeError(f"not ended within {LIMIT_S:.0f} s: {late}")
        print_result(names, stage.ended, calls_between(before, await counts(url)))
    if stage.killed is None:
        say("no worker was killed: no answer was long and slow enough")
    return all(view.status == "succeeded" for view in stage.ended.values())


async def wait_for_agents(stage: Stage) -> None:
    """Wait until the workers have brought their agents.

    Raises:
        RuntimeError: A worker ended instead, or none has registered in time.
    """
    with anyio.move_on_after(START_S) as limit:
        while not {"count_words", "second_try"} <= {agent.name for agent in await stage.client.agents()}:
            for name, worker in stage.workers.items():
                if worker.poll() is not None:
                    raise RuntimeError(f"{name} ended with exit code {worker.returncode}: its log says why")
            await anyio.sleep(0.1)
    if limit.cancelled_caught:
        raise RuntimeError(f"no worker registered within {START_S:.0f} s: their logs say why")


def keep_running(url: str, keys: Mapping[str, str]) -> None:
    """Wait for the user, with everything up."""
    say("everything is still running; stop it with Ctrl-C.")
    if DASHBOARD.exists():
        say(f"Open {url} in a browser and sign in with the key {keys['operator']}")
    say("Try in another terminal:")
    print(f"    export CONVEX_URL={url} SIGNALBOX_KEY={keys['operator']}")
    print("    .venv/bin/signalbox submit writer --input '\"What is a lease?\"' --follow", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def staged(model: Model | None, folder: Path) -> bool:
    """Start everything, play, stop everything; return whether all tasks succeeded."""
    began = time.monotonic()
    options = ["--functions", str(REPOSITORY / "convex"), "--data", str(folder / "host")]
    with ExitStack() as stack:
        host = LocalProcess(node_command(HOST, [*options, "--port", "0", "--site-port", "0"]))
        url = stack.enter_context(host).ready["url"]
        say(f"Convex: the embedded host at {url}, serving convex/")
        if DASHBOARD.exists():
            say(f"dashboard: {url} (KEEP=1 leaves it there, and prints a key that signs in)")
        started = stack.enter_context(started_model(model))
        keys = anyio.run(create_keys, url, DEVELOPMENT_ADMIN_KEY)
        workers: dict[str, Worker] = {}
        stack.callback(stop_workers, workers)
        for name in WORKERS:
            workers[name] = start_worker(name, folder / f"{name}.log", url, keys["worker"], started)
        say(f"workers: {', '.join(f'{name} (pid {worker.pid})' for name, worker in workers.items())}")
        succeeded = anyio.run(play, url, keys, workers)
        seconds = time.monotonic() - began
        say(f"{'all tasks succeeded' if succeeded else 'NOT all tasks succeeded'} after {seconds:.1f} s")
        if os.environ.get("KEEP") == "1":
            keep_running(url, keys)
    return succeeded


def main() -> int:
    """Run the demo in a folder of its own, so that two can run side by side."""
    model = provider()
    parent = REPOSITORY / ".signalbox"
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=parent))
    failed = False
    try:
        failed = not staged(model, folder)
    except Exception:
        failed = True
        raise
    finally:
        if failed:
            say(f"data and logs are left in {folder.relative_to(REPOSITORY)}")
        else:
            shutil.rmtree(folder)
    return 1 if failed else 0


def first_of(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first of several errors that came together."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    # What was started is stopped in either case, also in the background, where a shell has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # As SIGINT, of which asyncio makes a cancellation; raised within its loop it would end in a traceback.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        sys.exit(main())
    except (SignalboxError, RuntimeError, OSError, httpx.HTTPError) as error:
        print(f"demo: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
