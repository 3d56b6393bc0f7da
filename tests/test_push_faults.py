"""A pushed run keeps its promises while its messages are lost, late, repeated and overtaken, both ways.

SIGNALBOX_FAULTS=500 lets so many of them go wrong.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from pydantic import SecretStr

from tests.deployment import Deployment, deployed
from tests.faulty_push_agents import EFFECTS
from tests.push_endpoint import ENV, SECRET, answering, push_to
from worker.client import TaskView
from worker.http.server import App, Message, Receive, Send
from worker.serve import Endpoint, ServeSettings

pytestmark = pytest.mark.timeout(240)

FAULTS = int(os.environ.get("SIGNALBOX_FAULTS", "16"))
SHARE = 0.3  # of the messages
SIGNALS = 5
AGENTS = ("striking", "stepping", "listening", "gathering")


class Faults:
    """Draws what becomes of a message; once so many have gone wrong, they arrive."""

    def __init__(self, seed: int, most: int) -> None:
        self._most = most
        self._draw = random.Random(seed)
        self._late: set[asyncio.Task[None]] = set()
        self.drawn = 0

    def draw(self, *kinds: str) -> str:
        """Return what goes wrong, or nothing."""
        if self.drawn == self._most or self._draw.random() > SHARE:
            return ""
        self.drawn += 1
        return self._draw.choice(kinds)

    async def pause(self) -> None:
        """Wait for as long as a message is late."""
        await anyio.sleep(self._draw.uniform(0.05, 1.0))

    def post(self, app: App) -> App:
        """Return an endpoint to which posts and checks get, or do not."""

        async def faulty(scope: Message, receive: Receive, send: Send) -> None:
            match self.draw("dropped", "unanswered", "late", "turned away"):
                case "dropped":
                    raise anyio.BrokenResourceError
                case "unanswered":
                    await app(scope, receive, _nowhere)
                    raise anyio.BrokenResourceError
                case "turned away":
                    await send({"type": "http.response.start", "status": 503, "headers": []})
                    await send({"type": "http.response.body", "body": b""})
                case "late":
                    await self.pause()
                    await app(scope, receive, send)
                case _:
                    await app(scope, receive, send)

        return faulty

    @asynccontextmanager
    async def ended_with(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """Stop an endpoint in the end, and wait for what is still on its way."""
        try:
            yield
        finally:
            self._most = self.drawn
            await asyncio.gather(*self._late, return_exceptions=True)
            await endpoint.stop()

    def callbacks(self) -> httpx.AsyncBaseTransport:
        """Return the endpoint's way to the control plane."""
        return _Callbacks(self)

    def later(self, transport: httpx.AsyncBaseTransport, request: httpx.Request) -> None:
        """Let a request arrive when its sender has given it up."""

        async def arrive() -> None:
            await self.pause()
            await (await transport.handle_async_request(request)).aread()

        task = asyncio.get_running_loop().create_task(arrive())
        self._late.add(task)
        task.add_done_callback(self._late.discard)


class _Callbacks(httpx.AsyncBaseTransport):
    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._network = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        copy = httpx.Request(request.method, request.url, headers=request.headers, content=body)
        match self._faults.draw("dropped", "unanswered", "overtaken", "late", "bad gateway"):
            case "dropped":
                raise httpx.ConnectError("the request was lost")
            case "unanswered":
                await (await self._network.handle_async_request(copy)).aread()
                raise httpx.ReadError("the answer was lost")
            case "overtaken":
                self._faults.later(self._network, copy)
                raise httpx.ReadTimeout("no answer in time")
            case "bad gateway":
                return httpx.Response(502)
            case "late":
                await self._faults.pause()
        return await self._network.handle_async_request(copy)

    async def aclose(self) -> None:
        await self._network.aclose()


async def _nowhere(message: Message) -> None:
    """Throw an answer away."""


async def _tell(at: Deployment, task: str) -> None:
    for number in range(SIGNALS):
        await anyio.sleep(0.1)
        await at.client.signal(task, "told", number)


async def test_pushed_runs_keep_their_promises_on_a_bad_network(tmp_path: Path) -> None:
    faults = Faults(7, FAULTS)
    settings = ServeSettings(
        secret=SecretStr(SECRET), agents=("tests.faulty_push_agents",), hold_s=0.3, grace_s=1
    )
    endpoint = Endpoint(settings, transport=faults.callbacks())
    async with (
        deployed(tmp_path, synchronous="normal", env=ENV) as at,
        answering(faults.post(endpoint)) as url,
        faults.ended_with(endpoint),
    ):
        await push_to(at, url, *AGENTS, health_every_ms=1000)
        tasks: dict[str, list[str]] = {agent: [] for agent in AGENTS}
        async with anyio.create_task_group() as telling:
            for number in range(1 + FAULTS // 8):
                for agent in AGENTS:
                    given = SIGNALS if agent == "listening" else f"{agent}{number}"
                    tasks[agent].append(await at.submit(agent, given, attempts=100))
                telling.start_soon(_tell, at, tasks["listening"][-1])
        ended = {agent: [await _stopped(at, task) for task in tasks[agent]] for agent in AGENTS}
        assert faults.drawn > FAULTS / 2
        in_doubt = [view for view in ended["striking"] if view.status == "waiting_approval"]
        done = [view for agent in AGENTS for view in ended[agent] if view not in in_doubt]
        assert {view.status for view in done} == {"succeeded"}
        assert set(EFFECTS.values()) == {1}, EFFECTS
        assert [_output(view) for view in ended["listening"]] == [list(range(SIGNALS))] * len(
            tasks["listening"]
        )
        for view in ended["stepping"]:
            assert _output(view) == sorted(_output(view))  # no step was taken by two attempts
        assert {view.output for view in ended["gathering"]} == {"2"}
        for task in tasks["gathering"]:
            assert len((await at.client.children(task)).tasks) == 2


async def _stopped(at: Deployment, task: str) -> TaskView:
    """Return a task that has ended, or asks people about a call that is in doubt."""
    return await at.until(
        task, lambda view: view.ended_at is not None or view.status == "waiting_approval", within_s=120
    )


def _output(view: TaskView) -> list[int]:
    assert view.output is not None
    found: list[int] = json.loads(view.output)
    return found
