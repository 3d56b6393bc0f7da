"""`make demo`: the whole line on this machine, from submit to report, with a worker killed in mid-stream.

Starts the embedded host, a model (the provider that `.env` names, else the scripted model server, which is
simulated) and two workers; submits the tasks of first_light.json; prints their text as it comes; kills a
worker while it streams and lets the other finish; prints what came of each task. Exits 0 only if all of them
succeeded. KEEP=1 leaves it running.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
from pydantic import SecretStr

from worker.backend import Backend
from worker.cli.agents import read_agents
from worker.cli.common import print_table
from worker.cli.keys import new_key
from worker.client import Admin, Client, RetryPolicy, StreamUpdate, TaskSpec, TaskView
from worker.errors import SignalboxError
from worker.local import DEVELOPMENT_ADMIN_KEY, HOST, MODEL, REPOSITORY, LocalProcess, node_command
from worker.settings import environment

FIRST_LIGHT = REPOSITORY / "examples" / "first_light.json"
DATA = REPOSITORY / ".signalbox" / "demo"
WORKERS = ("worker-1", "worker-2")
KILL_AFTER_CHARS = 120  # of text on the screen: the model call is well under way, and far from over
LIMIT_S = 180.0


@dataclass(frozen=True)
class Model:
    """Where model calls go."""

    base_url: str
    key: str
    name: str
    simulated: bool


@dataclass
class Shown:
    """What the screen has shown of one task."""

    name: str
    run: str | None = None
    chars: int = 0


@dataclass
class Stage:
    """What runs, and what happened to it."""

    url: str
    client: Client
    workers: dict[str, subprocess.Popen[bytes]]
    killed: str | None = None
    ended: dict[str, TaskView] = field(default_factory=dict)


def say(text: str) -> None:
    """Tell what the demo itself does."""
    print(f"• {text}", flush=True)


@contextmanager
def started_model() -> Iterator[Model]:
    """Yield the provider that the settings name, else a scripted model server for the time of the demo."""
    given = environment()
    if base_url := given.get("SIGNALBOX_MODEL_BASE_URL"):
        model = Model(base_url, given.get("SIGNALBOX_MODEL_KEY", ""), given.get("SIGNALBOX_MODEL", ""), False)
        say(f"model: {model.name or 'the default'} at {base_url}")
        yield model
        return
    with LocalProcess(node_command(MODEL, ["--port", "0"])) as server:
        url = server.ready["url"]
        say(
            f"model: the scripted model server at {url}; its answers are SIMULATED "
            "(name a provider in .env to replace it)"
        )
        yield Model(f"{url}/v1", "", "scripted-writer", True)


async def create_keys(url: str, admin_key: str) -> dict[str, str]:
    """Return a fresh key for each role."""
    keys = {}
    async with Backend(url, admin_key=SecretStr(admin_key)) as backend:
        for role in ("worker", "operator"):
            keys[role], digest = new_key(role)
            await Admin(backend).create_key(digest=digest, role=role, label=f"demo {role}")
    return keys


def start_worker(name: str, url: str, key: str, model: Model) -> subprocess.Popen[bytes]:
    """Start a worker with room for three runs; its log goes to a file."""
    env = {
        **os.environ,
        "CONVEX_URL": url,
        "SIGNALBOX_KEY": key,
        "SIGNALBOX_MODEL_BASE_URL": model.base_url,
        "SIGNALBOX_MODEL_KEY": model.key,
        "SIGNALBOX_MODEL": model.name,
    }
    command = [sys.executable, "-m", "worker", "worker", "--name", name, "--concurrency", "3"]
    with (DATA / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--agents", "examples.first_light"], env=env, cwd=REPOSITORY, stdout=log, stderr=log
        )


def stop_workers(workers: Mapping[str, subprocess.Popen[bytes]]) -> None:
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


async def show(stage: Stage, task: str, shown: Shown) -> None:
    """Print a task's text as it comes, and keep the task once it has ended."""
    async for update in stage.client.follow(task):
        if isinstance(update, TaskView):
            stage.ended[task] = update
            print(f"{shown.name:>18} ┃ [{update.status}]", flush=True)
        else:
            await show_text(stage, update, shown)


async def show_text(stage: Stage, update: StreamUpdate, shown: Shown) -> None:
    """Print new text, and kill the worker that writes it once enough is there."""
    if update.run != shown.run:
        if shown.run is not None:
            print(f"{shown.name:>18} ┃ [attempt {update.attempt} starts over]", flush=True)
        shown.run, shown.chars = update.run, 0
    text = "".join(chunk.text for chunk in update.chunks if chunk.kind == "text")
    if text.strip():
        print(f"{shown.name:>18} │ {' '.join(text.split())}", flush=True)
        shown.chars += len(text)
    if stage.killed is None and shown.chars >= KILL_AFTER_CHARS:
        await kill_worker_of(stage, update.run, shown.name)


async def kill_worker_of(stage: Stage, run: str, name: str) -> None:
    """Kill, as a crash or a power cut would, the worker that is streaming this run."""
    for task in [view.task for view in (await stage.client.tasks(status="running")).tasks if view.run == run]:
        for event in await stage.client.history(task):
            if event.type == "run_assigned" and event.run == run:
                stage.killed = str(event.data["worker"])
    if stage.killed is not None:
        process = stage.workers[stage.killed]
        process.kill()
        say(f"killed {stage.killed} (pid {process.pid}) with SIGKILL in mid-stream of {name!r}")


async def calls(url: str) -> int:
    """Return how many functions the host has run so far, as Convex would count them."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{url}/metrics")).text
    lines = [line for line in text.splitlines() if line.startswith("convex_function_calls_total{")]
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines)


def print_result(stage: Stage, names: Mapping[str, str], used: int) -> None:
    """Print what came of each task."""
    rows = [row(names[task], stage.ended[task], used / len(names)) for task in names]
    print()
    print_table(rows, ["task", "status", "attempts", "tokens", "duration", "Convex calls"])
    tokens = sum(view.usage.output_tokens or 0 for view in stage.ended.values())
    print(
        f"\n{used} Convex calls and {tokens} output tokens in all. One call serves several tasks; "
        "the column shares them out evenly."
    )


def row(name: str, view: TaskView, share: float) -> dict[str, Any]:
    """Return a line of the table."""
    tokens = (
        None if view.usage.calls == 0 else (view.usage.input_tokens or 0) + (view.usage.output_tokens or 0)
    )
    return {
        "task": name,
        "status": view.status,
        "attempts": view.attempt,
        "tokens": tokens,
        "duration": f"{((view.ended_at or 0) - view.submitted_at) / 1000:.1f} s",
        "Convex calls": f"{share:.1f}",
    }


async def play(url: str, keys: Mapping[str, str], workers: dict[str, subprocess.Popen[bytes]]) -> bool:
    """Give the workers the tasks and watch; return whether all succeeded and a worker was killed."""
    async with Client.connect(url, SecretStr(keys["operator"])) as client:
        await client.sync_agents(await anyio.to_thread.run_sync(read_agents, FIRST_LIGHT))
        await wait_for_agents(client)
        stage = Stage(url, client, workers)
        before = await calls(url)
        names = await submit(client)
        say(f"submitted {len(names)} tasks")
        with anyio.fail_after(LIMIT_S):
            async with anyio.create_task_group() as group:
                for task, name in names.items():
                    group.start_soon(show, stage, task, Shown(name))
        print_result(stage, names, await calls(url) - before)
    if stage.killed is None:
        say("no worker was killed: no text was long enough")
    return stage.killed is not None and all(view.status == "succeeded" for view in stage.ended.values())


async def wait_for_agents(client: Client) -> None:
    """Wait until the workers have brought their agents."""
    with anyio.fail_after(30):
        while not {"count_words", "second_try"} <= {agent.name for agent in await client.agents()}:
            await anyio.sleep(0.1)


def keep_running(url: str, keys: Mapping[str, str]) -> None:
    """Wait for the user, with everything up."""
    say("everything is still running; stop it with Ctrl-C. Try in another terminal:")
    print(f"    export CONVEX_URL={url} SIGNALBOX_KEY={keys['operator']}")
    print("    .venv/bin/signalbox submit writer --input '\"What is a lease?\"' --follow", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def main() -> int:
    """Run the demo."""
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir(parents=True)
    began = time.monotonic()
    with ExitStack() as stack:
        host = stack.enter_context(
            LocalProcess(
                node_command(
                    HOST,
                    [
                        *("--functions", str(REPOSITORY / "convex"), "--data", str(DATA / "host")),
                        *("--port", "0", "--site-port", "0", "--synchronous", "full"),
                    ],
                )
            )
        )
        url = host.ready["url"]
        say(f"Convex: the embedded host at {url}, serving convex/")
        model = stack.enter_context(started_model())
        keys = anyio.run(create_keys, url, DEVELOPMENT_ADMIN_KEY)
        workers = {name: start_worker(name, url, keys["worker"], model) for name in WORKERS}
        stack.callback(stop_workers, workers)
        say(f"workers: {', '.join(f'{name} (pid {process.pid})' for name, process in workers.items())}")
        succeeded = anyio.run(play, url, keys, workers)
        seconds = time.monotonic() - began
        say(f"{'all tasks succeeded' if succeeded else 'NOT all went well'} after {seconds:.1f} s")
        if os.environ.get("KEEP") == "1":
            keep_running(url, keys)
    return 0 if succeeded else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SignalboxError, RuntimeError, TimeoutError) as error:
        print(
            f"demo: {error or 'it took too long'}; logs are in {DATA.relative_to(REPOSITORY)}",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
