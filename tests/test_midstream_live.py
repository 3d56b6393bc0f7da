"""Streams that break at every event: whoever is subscribed ends up with the final text alone."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import anyio
import pytest

from convex import ConvexClient
from tests.deployment import Deployment, deployed
from tests.model_answers import CUTS, EVENTS, WORDS, breaks, sends
from tests.model_server import Exchange, serving

FLUSH_S = 0.4  # a watched run is told of every 0.25 s: what came before the break is on the screen by then

pytestmark = pytest.mark.timeout(120)


async def provider(exchange: Exchange) -> None:
    """Answer as the model's name says: `CUT-HOW` breaks after so many events, any other is whole."""
    model = json.loads(exchange.body)["model"]
    if model == "whole":
        await sends(*EVENTS)(exchange)
    else:
        cut, how = model.split("-", 1)
        await breaks(EVENTS[: int(cut)], how.replace("-", " "), after_s=FLUSH_S)(exchange)


class Screen:
    """What a client that is subscribed to a task shows at each change: each call's latest attempt."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def take(self, chunks: list[dict[str, Any]]) -> None:
        latest: dict[float, float] = defaultdict(float)
        for chunk in chunks:
            latest[chunk["call"]] = max(latest[chunk["call"]], chunk["attempt"])
        parts = [c["text"] for c in chunks if c["kind"] == "text" and c["attempt"] == latest[c["call"]]]
        self.shown.append("".join(parts))


async def watch(at: Deployment, client: ConvexClient, task: str, screen: Screen) -> None:
    """Fill a screen until the task has ended."""
    key = at.keys["submit"]
    client.mutation("runs:watch", {"key": key, "task": task, "forMs": 60_000.0})
    args: dict[str, Any] = {"key": key, "task": task, "run": None, "after": -1.0}
    state: Any
    async for state in client.subscribe("runs:follow", args):
        screen.take(state["chunks"])
        if state["task"]["status"] in {"succeeded", "failed"}:
            return


async def test_a_stream_cut_at_any_event_leaves_its_watchers_with_the_final_text_alone(
    tmp_path: Path,
) -> None:
    async with deployed(tmp_path) as at, serving(provider) as server:
        model = {"SIGNALBOX_MODEL_BASE_URL": server.base_url}
        at.worker("w", "--agents", "tests.routed_agents", "--concurrency", "50", **model)
        await at.know("chain")
        client = ConvexClient(at.host.url)
        screens: dict[tuple[int, str], Screen] = {}
        tasks: list[str] = []
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for cut, how in CUTS:
                    name = f"{cut}-{how.replace(' ', '-')}"
                    task = await at.submit("chain", [name, "whole"])
                    tasks.append(task)
                    screens[cut, how] = Screen()
                    group.start_soon(watch, at, client, task, screens[cut, how])
        views = await at.ended(tasks)
        assert [json.loads(view.output or "") for view in views] == ["default/whole"] * len(tasks), at.logs()
        final = "".join(WORDS)
        for place, screen in screens.items():
            assert screen.shown[-1] == final, (place, screen.shown)
            assert all(final.startswith(text) for text in screen.shown), (place, screen.shown)
        partial = {text for screen in screens.values() for text in screen.shown} - {"", final}
        assert partial, "nothing was on any screen before the streams broke"
