"""Endpoints that runs are pushed to: `signalbox serve` as a process, and applications that answer as told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from tests.deployment import REPOSITORY, Deployment
from worker.client import AgentSpec
from worker.endpoints import EndpointSpec, Http
from worker.http.server import App, Message, Receive, Send, listen, serve
from worker.signing import flaw, secrets_of

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
ENV = {"SIGNALBOX_PUSH_SECRET": SECRET, "SIGNALBOX_PUSH_INSECURE": "1"}


class Served:
    """`signalbox serve` as a process."""

    def __init__(
        self,
        log: Path,
        *options: str,
        port: int = 0,
        agents: str = "tests.agents_under_test",
        **env: str,
    ) -> None:
        self.log = log
        with log.open("ab") as said:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "worker", "serve", "--port", str(port)),
                    *("--agents", agents, *options),
                ],
                env={**os.environ, "SIGNALBOX_PUSH_SECRET": SECRET, **env},
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=said,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, log.read_text()
        self.url: str = json.loads(line)["url"]
        self.port = int(self.url.rstrip("/").rsplit(":", 1)[1])

    def destroy(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


async def push_to(
    at: Deployment, url: str, *agents: str, name: str = "there", health_every_ms: float = 1000, **more: Any
) -> None:
    """Put an endpoint on the list and have agents played by it."""
    await at.client.set_endpoint(EndpointSpec(name=name, url=url, secret_variable="SIGNALBOX_PUSH_SECRET"))
    executor = Http(endpoint=name, health_every_ms=health_every_ms, **more)
    await at.client.sync_agents(
        [AgentSpec(name=agent, description="pushed", executor=executor) for agent in agents]
    )


@asynccontextmanager
async def answering(app: App) -> AsyncIterator[str]:
    """Serve an application on a socket of this process."""
    listener, port = await listen("127.0.0.1", 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, app, listener)
        yield f"http://127.0.0.1:{port}/"
        tasks.cancel_scope.cancel()


Said = tuple[int, dict[str, str], bytes]


def saying(
    answer: Callable[[dict[str, Any]], Awaitable[Said]],
    heard: list[dict[str, Any]],
) -> App:
    """Return an endpoint that answers runs as told; it is well, and checks who calls it."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        body = b""
        while scope["method"] == "POST":
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert flaw(secrets_of(SECRET), headers, body, time.time()) is None
        said: Said = (200, {}, b"{}")
        if scope["method"] == "POST":
            letter = json.loads(body)
            heard.append(letter)
            if letter["type"] == "run":
                said = await answer(letter)
        status, more, content = said
        pairs = [(k.encode(), v.encode()) for k, v in {**more, "content-length": str(len(content))}.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": content})

    return app


RESULT = json.dumps({"outcome": {"kind": "succeeded", "output": '"done"'}}).encode()


async def record_of(at: Deployment, task: str) -> tuple[Any, ...]:
    """Return what is kept of a task, without what differs from one task to the next."""
    view = (await at.task(task)).model_dump()
    run = view["run"]
    assert run is not None
    chunks = await at.client.tail(run)
    for field in ("task", "run", "submitted_at", "due_at", "started_at", "ended_at"):
        view.pop(field)
    events = [
        (
            event.type,
            event.run is None,
            {k: v for k, v in event.data.items() if k not in {"worker", "delayMs", "waitedMs"}},
        )
        for event in await at.client.history(task)
    ]
    text = "".join(chunk.text for chunk in chunks)
    return view, events, text, {(c.kind, c.call, c.attempt) for c in chunks}, await at.client.run_state(run)
