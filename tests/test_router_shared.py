"""Models shared by several workers through the real host: limits that are never passed, and cooldowns."""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from pathlib import Path

import anyio

from tests.deployment import Deployment, deployed
from tests.model_answers import END, chunk
from tests.model_server import Exchange, serving
from tests.push_endpoint import ENV, Served, push_to
from worker.model_limits import ModelView

AGENTS = ["--agents", "tests.routed_agents"]


class Provider:
    """A provider with limits in a sliding window, as strict as any: what comes too much is answered 429."""

    def __init__(self, requests: int, tokens: int, per_s: float) -> None:
        self.requests, self.tokens, self.per_s = requests, tokens, per_s
        self.seen: deque[tuple[float, int]] = deque()
        self.refused = 0
        self.answered = 0
        self.most = (0, 0)
        self.asked: dict[str, int] = defaultdict(int)

    async def handle(self, exchange: Exchange) -> None:
        now = time.monotonic()
        body = json.loads(exchange.body)
        self.asked[body["model"]] += 1
        if body["model"].startswith("hot"):
            await exchange.start(429, {"retry-after": "60"}, content_type="application/json")
            await exchange.send(b'{"error": {"message": "too hot"}}')
            await exchange.end()
            return
        while self.seen and self.seen[0][0] <= now - self.per_s:
            self.seen.popleft()
        used = sum(tokens for _, tokens in self.seen)
        if len(self.seen) >= self.requests or used + 30 > self.tokens:
            self.refused += 1
            await exchange.start(429, {"retry-after": "1"}, content_type="application/json")
            await exchange.end()
            return
        self.seen.append((now, 30))
        self.most = (max(self.most[0], len(self.seen)), max(self.most[1], used + 30))
        await exchange.start()
        await exchange.send(chunk(content="ok"))
        await exchange.send(END)
        await exchange.send(
            b'data: {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 20}}\n\n'
        )
        await exchange.send(b"data: [DONE]\n\n")
        await exchange.end()
        self.answered += 1


async def state_of(at: Deployment, model: str) -> ModelView | None:
    return next((each for each in await at.client.models.list() if each.model == model), None)


async def test_several_workers_keep_to_the_limits_of_a_provider_and_see_no_429_that_can_be_avoided(
    tmp_path: Path,
) -> None:
    provider = Provider(requests=12, tokens=600, per_s=1.0)
    async with deployed(tmp_path) as at, serving(provider.handle) as server:
        await at.client.models.set("default/m", requests=12, tokens=600, per_ms=1000)
        model = {"SIGNALBOX_MODEL_BASE_URL": server.base_url, "SIGNALBOX_MODEL": "m"}
        for name in ("one", "two"):
            at.worker(name, *AGENTS, "--concurrency", "10", **model)
        await at.know("ask")
        tasks = [await at.submit("ask", max_tokens) for max_tokens in [20] * 30]
        views = await at.ended(tasks, within_s=60)
        assert [view.status for view in views] == ["succeeded"] * len(tasks), at.logs()
        assert provider.refused == 0
        assert provider.answered == len(tasks)
        assert provider.most[0] <= 12
        assert provider.most[1] <= 600
        calls = [call for task in tasks for call in await at.client.models.calls(task)]
        assert [call.state for call in calls] == ["succeeded"] * len(tasks)


async def test_an_endpoint_and_a_worker_keep_to_the_limits_together(tmp_path: Path) -> None:
    provider = Provider(requests=8, tokens=400, per_s=1.0)
    async with deployed(tmp_path, env=ENV) as at, serving(provider.handle) as server:
        await at.client.models.set("default/m", requests=8, tokens=400, per_ms=1000)
        model = {"SIGNALBOX_MODEL_BASE_URL": server.base_url, "SIGNALBOX_MODEL": "m"}
        served = Served(tmp_path / "serve.log", *AGENTS, port=0, **model)
        try:
            await push_to(at, served.url, "ask")
            at.worker("one", *AGENTS, "--concurrency", "10", **model)
            await at.know("ask")
            tasks = [await at.submit("ask", max_tokens) for max_tokens in [20] * 12]
            views = await at.ended(tasks, within_s=60)
            assert [view.status for view in views] == ["succeeded"] * len(tasks), at.logs()
            assert (provider.refused, provider.answered) == (0, len(tasks))
            history = [event for task in tasks for event in await at.client.history(task)]
            by = {event.data["worker"] for event in history if event.type == "run_assigned"}
            assert by == {"push:there", "one"}
        finally:
            served.destroy()


async def test_what_a_worker_was_told_of_a_model_an_endpoint_knows_and_the_other_way_round(
    tmp_path: Path,
) -> None:
    provider = Provider(requests=1000, tokens=1_000_000, per_s=1.0)
    async with deployed(tmp_path, env=ENV) as at, serving(provider.handle) as server:
        model = {"SIGNALBOX_MODEL_BASE_URL": server.base_url}
        at.worker("one", *AGENTS, "--queue", "a", **model)
        await at.know("chain")
        served = Served(tmp_path / "serve.log", *AGENTS, port=0, **model)
        try:
            await push_to(at, served.url, "chain")
            for hot, first, second in (("hot", "a", "default"), ("hotter", "default", "a")):
                (view,) = await at.ended([await at.submit("chain", [hot, "cool"], queue=first)])
                assert json.loads(view.output or "") == "default/cool"
                with anyio.fail_after(10):
                    while (state := await state_of(at, f"default/{hot}")) is None or state.cool_ms == 0:
                        await anyio.sleep(0.05)
                (view,) = await at.ended([await at.submit("chain", [hot, "cool"], queue=second)])
                assert json.loads(view.output or "") == "default/cool"
                assert provider.asked[hot] == 1
        finally:
            served.destroy()


async def test_a_model_that_one_worker_was_told_to_leave_alone_is_left_alone_by_all(tmp_path: Path) -> None:
    provider = Provider(requests=1000, tokens=1_000_000, per_s=1.0)
    async with deployed(tmp_path) as at, serving(provider.handle) as server:
        model = {"SIGNALBOX_MODEL_BASE_URL": server.base_url}
        at.worker("one", *AGENTS, "--queue", "a", **model)
        at.worker("two", *AGENTS, "--queue", "b", **model)
        await at.know("chain")
        (first,) = await at.ended([await at.submit("chain", ["hot", "cool"], queue="a")])
        assert json.loads(first.output or "") == "default/cool"
        with anyio.fail_after(10):
            while (state := await state_of(at, "default/hot")) is None or state.cool_ms == 0:
                await anyio.sleep(0.05)
        (second,) = await at.ended([await at.submit("chain", ["hot", "cool"], queue="b")])
        assert json.loads(second.output or "") == "default/cool"
        assert provider.asked == {"hot": 1, "cool": 2}
        waits = await at.submit("chain", ["hot"], queue="b")
        view = await at.until(waits, lambda task: task.status == "delayed")
        assert view.due_at is not None
        assert await at.client.models.calls(waits) == []
        assert [(c.model, c.state) for c in await at.client.models.calls(first.task)] == [
            ("default/hot", "failed"),
            ("default/cool", "succeeded"),
        ]
