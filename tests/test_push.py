"""Runs that are pushed over HTTP: a real host, `signalbox serve`, and endpoints that misbehave."""

from __future__ import annotations

import json
import signal
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from pydantic import SecretStr

from tests.deployment import Deployment, deployed
from tests.push_endpoint import (
    ENV,
    OTHER,
    RESULT,
    SECRET,
    Served,
    answering,
    push_to,
    record_of,
    saying,
)
from worker.client import AgentSpec
from worker.endpoints import EndpointSpec, Http
from worker.errors import InvalidArgument
from worker.http.server import Message, Receive, Send
from worker.serve import Endpoint, ServeSettings
from worker.service import run_worker
from worker.settings import Settings
from worker.signing import secrets_of, signed

AGENTS = "tests.agents_under_test"

pytestmark = pytest.mark.timeout(60)  # several processes start in each test


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployed(tmp_path, synchronous="normal", env=ENV) as deployment:
        yield deployment


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    """A deployment for tests that have an endpoint and agents of their own, by name."""
    async with deployed(tmp_path_factory.mktemp("shared"), synchronous="normal", env=ENV) as deployment:
        yield deployment


async def test_a_task_leaves_the_same_record_whether_it_is_polled_or_pushed(
    at: Deployment, tmp_path: Path
) -> None:
    polling = at.worker("polling")
    await at.know("slow", "failing", "noop")
    polled = [
        await at.submit("slow", {"seconds": 0.3}),
        await at.submit("failing", {"times": 1}),
        await at.submit("failing", {"times": 9}, attempts=2),
        await at.submit("noop", {"a": ["ü", None, 1.5]}),
    ]
    await at.ended(polled)
    polling.send(signal.SIGTERM)
    await polling.ended(15)
    served = Served(tmp_path / "serve.log")
    try:
        await push_to(at, served.url, "slow", "failing", "noop")
        with anyio.fail_after(20):
            while [w for w in at.workers("polling") if w.poll() is None]:
                await anyio.sleep(0.05)
        pushed = [
            await at.submit("slow", {"seconds": 0.3}),
            await at.submit("failing", {"times": 1}),
            await at.submit("failing", {"times": 9}, attempts=2),
            await at.submit("noop", {"a": ["ü", None, 1.5]}),
        ]
        await at.ended(pushed)
        for one, other in zip(polled, pushed, strict=True):
            assert await record_of(at, one) == await record_of(at, other)
        workers = {
            event.data["worker"]
            for task in pushed
            for event in await at.client.history(task)
            if event.type == "run_assigned"
        }
        assert workers == {"push:there"}
    finally:
        served.destroy()


async def test_a_result_that_does_not_come_soon_comes_by_a_callback(at: Deployment, tmp_path: Path) -> None:
    served = Served(tmp_path / "serve.log", "--hold", "0")
    try:
        await push_to(at, served.url, "slow", "noop")
        task = await at.submit("slow", {"seconds": 2.5})
        view = await at.begun(task)
        assert view.run is not None
        with anyio.fail_after(10):
            while not await at.client.tail(view.run):
                await anyio.sleep(0.05)
        assert (await at.task(task)).status == "running"  # its text comes before its end
        large = await at.submit("noop", "x" * 400_000)
        first, second = await at.ended([task, large])
        assert (first.status, first.output) == ("succeeded", '"attempt 1"')
        assert second.output is not None
        assert len(second.output) == 400_002
        text = "".join(chunk.text for chunk in await at.client.tail(view.run))
        assert text == "".join(f"word{i} " for i in range(50))
    finally:
        served.destroy()


async def test_a_run_goes_again_when_its_process_is_killed_and_starts_anew(
    at: Deployment, tmp_path: Path
) -> None:
    served = Served(tmp_path / "serve.log", "--hold", "0")
    await push_to(at, served.url, "slow")
    task = await at.submit("slow", {"seconds": 3})
    await at.begun(task)
    await anyio.sleep(0.3)
    served.destroy()
    again = Served(tmp_path / "again.log", "--hold", "0", port=served.port)
    try:
        (view,) = await at.ended([task])
        assert (view.status, view.output, view.attempt) == ("succeeded", '"attempt 2"', 2)
    finally:
        again.destroy()


async def test_a_dead_endpoint_is_noticed_and_used_again_when_it_is_back(
    at: Deployment, tmp_path: Path
) -> None:
    served = Served(tmp_path / "serve.log", "--hold", "0")
    await push_to(at, served.url, "stubborn", "noop")
    task = await at.submit("stubborn")
    await at.begun(task)
    served.destroy()
    with anyio.fail_after(15):
        while (endpoint := (await at.client.endpoints())[0]).live:
            await anyio.sleep(0.1)
    assert endpoint.misses == 3
    assert "cannot be reached" in (endpoint.error or "")
    assert "task_retried" in await at.types(task)
    await at.client.cancel(task)
    other = await at.submit("noop", 1)
    again = Served(tmp_path / "again.log", port=served.port)
    try:
        (view,) = await at.ended([other])
        assert view.status == "succeeded"
        assert (await at.client.endpoints())[0].misses == 0
    finally:
        again.destroy()


async def test_a_task_that_began_with_other_code_is_not_played_by_an_endpoint(
    at: Deployment, tmp_path: Path
) -> None:
    source = """
        from worker.runtime import agent

        @agent("letter", version="{version}")
        async def letter(ctx, value):
            drafted = await ctx.step("draft", str, "{version}")
            await ctx.wait_for("go")
            return [drafted, "{version}"]
        """
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        module = textwrap.dedent(source.replace("{version}", version))
        (tmp_path / version / "letters.py").write_text(module)

    def release(version: str, port: int = 0) -> Served:
        log = tmp_path / "serve.log"
        return Served(log, "--agents", "letters", port=port, PYTHONPATH=str(tmp_path / version))

    served = release("v1")
    try:
        await push_to(at, served.url, "letter")
        old = await at.submit("letter")
        await at.until(old, lambda view: view.status == "waiting_event")
        served.destroy()
        served = release("v2", served.port)
        new = await at.submit("letter")
        await at.until(new, lambda view: view.status == "waiting_event")
        for task in (old, new):
            await at.client.signal(task, "go")
        (view,) = await at.ended([new])
        assert view.output == '["v2","v2"]'
        # It finds other code, once at the most, and from then on is given to nobody.
        await at.until(old, lambda view: view.status == "pending")
        (reason, *_) = (await at.client.why(old)).reasons
        assert reason.code == "no_worker_for_version"
    finally:
        served.destroy()


async def test_a_pushed_run_is_cancelled(at: Deployment, tmp_path: Path) -> None:
    served = Served(tmp_path / "serve.log")
    try:
        await push_to(at, served.url, "stubborn")
        task = await at.submit("stubborn")
        await at.begun(task)
        await at.client.cancel(task)
        (view,) = await at.ended([task], within_s=5)
        assert view.status == "cancelled"
    finally:
        served.destroy()


@pytest.mark.parametrize(
    ("status", "headers", "content", "code"),
    [
        (200, {}, b"garbage", "endpoint_bad_answer"),
        (200, {}, b"{}", "endpoint_bad_answer"),
        (200, {}, b'{"outcome":{"kind":"maybe"}}', "endpoint_bad_answer"),
        (200, {}, b"x" * 10_000_000, "endpoint_answer_too_large"),
        (302, {"location": "http://169.254.169.254/"}, b"", "endpoint_redirected"),
        (500, {}, b"", "endpoint_http_500"),
        (404, {}, b"", "endpoint_http_404"),
        (400, {}, b'{"error":{"code":"no_such_model","message":"none"}}', "no_such_model"),
    ],
)
async def test_an_answer_that_is_no_result_fails_the_run(
    shared: Deployment,
    status: int,
    headers: dict[str, str],
    content: bytes,
    code: str,
    request: pytest.FixtureRequest,
) -> None:
    heard: list[dict[str, Any]] = []

    async def answer(letter: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return (status, headers, content) if letter["attempt"] == 1 else (200, {}, RESULT)

    async with answering(saying(answer, heard)) as url:
        odd = f"odd-{request.node.callspec.indices['status']}"
        await push_to(shared, url, odd, name=odd)
        (view,) = await shared.ended([await shared.submit(odd, {"x": 1})])
        retried = [
            event for event in await shared.client.history(view.task) if event.type != "task_submitted"
        ]
        assert code in {event.data.get("code") for event in retried}
        # What it will not take however often it is asked is not asked again.
        assert view.status == ("failed" if 300 <= status < 500 else "succeeded")
        assert json.loads(heard[0]["input"]) == {"x": 1}


async def test_a_busy_endpoint_is_left_alone_for_as_long_as_it_asks_and_a_silent_one_is_given_up(
    shared: Deployment,
) -> None:
    heard: list[float] = []

    async def answer(letter: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        heard.append(time.monotonic())
        if letter["agent"] == "silent" and letter["attempt"] == 1:
            await anyio.sleep(5)
        if len(heard) == 1:
            return 429, {"retry-after": "2"}, b""
        return 200, {}, RESULT

    async with answering(saying(answer, [])) as url:
        await push_to(shared, url, "busy", "silent", name="busy", timeout_ms=500)
        (view,) = await shared.ended([await shared.submit("busy", attempts=1)])
        assert (view.status, view.attempt) == ("succeeded", 2)  # being turned away burns no attempt
        assert heard[1] - heard[0] >= 2
        (view,) = await shared.ended([await shared.submit("silent")])
        assert view.status == "succeeded"
        codes = [event.data.get("code") for event in await shared.client.history(view.task)]
        assert "endpoint_timeout" in codes


async def test_callbacks_count_only_when_signed_in_time_once_and_while_the_run_is_theirs(
    shared: Deployment,
) -> None:
    heard: list[dict[str, Any]] = []

    async def answer(letter: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        return 202, {}, b""

    async with answering(saying(answer, heard)) as url, httpx.AsyncClient() as http:
        await push_to(shared, url, "mine", name="mine")
        task = await shared.submit("mine")
        view = await shared.begun(task)
        while not heard:
            await anyio.sleep(0.02)
        letter = heard[0]

        async def call(
            more: dict[str, Any], message: str = "m1", secret: str = SECRET, at_s: float | None = None
        ) -> tuple[int, dict[str, Any]]:
            body = json.dumps({"run": view.run, "attempt": 1, **more}).encode()
            headers = signed(secrets_of(secret), message, body, at_s or time.time())
            response = await http.post(letter["callbackUrl"], content=body, headers=headers)
            return response.status_code, response.json()

        won = {"outcome": {"kind": "succeeded", "output": "1"}}
        chunk = {"chunks": [{"seq": 0, "text": "hello"}]}
        assert (await call(won, secret=OTHER))[0] == 401
        assert (await call(won, at_s=time.time() - 301))[0] == 401
        assert (await call(won, at_s=time.time() + 360))[0] == 401
        assert (await call({**won, "run": "nobody"}))[0] == 401
        assert (await http.post(letter["callbackUrl"], content=b"{}")).status_code == 401
        assert (await call({"chunks": [{"seq": "x"}]}))[0] == 400
        assert (await call({"chunks": [], "pad": "x" * 3_000_000}))[0] == 413
        assert await call(chunk, "m2") == (200, {"stop": False, "standing": None})
        assert (await call(chunk, "m2"))[1]["code"] == "replayed"
        assert (await shared.task(task)).status == "running"
        assert [chunk.text for chunk in await shared.client.tail(view.run or "")] == ["hello"]
        status, said = await call({**won, "attempt": 2}, "m3")
        assert (status, said["code"]) == (409, "run_ended")
        assert (await call({"next": [{"agent": "mine", "input": "2"}]}, "m4"))[0] == 400  # without an outcome
        assert (await shared.task(task)).status == "running"
        assert (await call({**won, "next": [{"agent": "mine", "input": "2"}]}, "m5"))[0] == 200
        assert (await shared.task(task)).output == "1"
        status, said = await call({"outcome": {"kind": "succeeded", "output": "2"}}, "m6")
        assert (status, said["code"]) == (409, "run_ended")
        assert (await shared.types(task)).count("run_refused") == 2
        assert (await shared.task(task)).output == "1"
        with anyio.fail_after(5):
            while [letter.get("input") for letter in heard].count("2") != 1:
                await anyio.sleep(0.02)


async def test_a_run_that_comes_again_is_answered_as_it_was_before(shared: Deployment) -> None:
    """Something between sends a post again whose answer it has lost."""
    endpoint = Endpoint(ServeSettings(secret=SecretStr(SECRET), agents=(AGENTS,), concurrency=1))
    lost: list[int] = []

    async def doubling(scope: Message, receive: Receive, send: Send) -> None:
        parts: list[Message] = []
        while scope["method"] == "POST" and (not parts or parts[-1]["more_body"]):
            parts.append(await receive())

        def given() -> Receive:
            left = iter(parts)

            async def part() -> Message:
                return next(left)

            return part

        async def lose(message: Message) -> None:
            lost.append(message.get("status", 0))

        if parts:
            await endpoint(scope, given(), lose)
        await endpoint(scope, given(), send)

    async with answering(doubling) as url:
        await push_to(shared, url, "noop", "slow", name="doubled")
        task = await shared.submit("noop", 1, attempts=1)
        (view,) = await shared.ended([task])
        assert (view.status, view.output, view.attempt) == ("succeeded", "1", 1)
        tasks = [await shared.submit("slow", {"seconds": 0.5}, attempts=1) for _ in range(3)]
        views = await shared.ended(tasks)
        assert {view.status for view in views} == {"succeeded"}
    assert 429 in lost, "it had no room, for two at the least"


async def test_a_wake_up_call_brings_a_worker_that_leaves_when_nothing_is_left(
    at: Deployment, tmp_path: Path
) -> None:
    first = at.worker("first")
    await at.know("noop", "slow")
    first.send(signal.SIGTERM)
    await first.ended(15)
    served = Served(
        tmp_path / "serve.log",
        CONVEX_URL=at.host.url,
        SIGNALBOX_KEY=at.keys["worker"],
        SIGNALBOX_WORKER="woken",
        SIGNALBOX_SERVE_IDLE_S="0.5",
    )
    try:
        spec = EndpointSpec(name="wake", url=served.url, mode="wake", secret_variable="SIGNALBOX_PUSH_SECRET")
        await at.client.set_endpoint(spec)
        for _ in range(2):  # it sleeps in between, and is woken again
            tasks = [await at.submit("noop", i) for i in range(5)]
            views = await at.ended(tasks)
            assert {view.status for view in views} == {"succeeded"}
            await until_alone(at)
    finally:
        served.destroy()


async def test_work_that_comes_while_a_woken_worker_leaves_has_another_come_behind_it(at: Deployment) -> None:
    first = at.worker("first")
    await at.know("noop")
    first.send(signal.SIGTERM)
    await first.ended(15)
    leaves, may_go, working = anyio.Event(), anyio.Event(), []
    settings = Settings(
        convex_url=at.host.url, key=SecretStr(at.keys["worker"]), worker="woken", agents=(AGENTS,)
    )

    async def wake(idle_s: float, on_leave: Callable[[], None]) -> int:
        working.append("comes")

        def tell() -> None:
            on_leave()
            leaves.set()

        code = await run_worker(settings, idle_s=idle_s, on_leave=tell)
        await may_go.wait()
        working.append("gone")
        return code

    endpoint = Endpoint(ServeSettings(secret=SecretStr(SECRET), idle_s=0.1), wake=wake)
    async with answering(endpoint) as url:
        spec = EndpointSpec(name="wake", url=url, mode="wake", secret_variable="SIGNALBOX_PUSH_SECRET")
        await at.client.set_endpoint(spec)
        early = await at.submit("noop")
        await leaves.wait()
        late = await at.submit("noop")
        await until_alone(at)
        may_go.set()
        views = await at.ended([early, late])
        await at.client.remove_endpoint("wake")
    assert [view.status for view in views] == ["succeeded", "succeeded"]
    assert working[:3] == ["comes", "gone", "comes"], "one behind the other"


async def until_alone(at: Deployment) -> None:
    """Wait until no worker lives."""
    with anyio.fail_after(15):
        async with httpx.AsyncClient() as http:
            while (await http.get(f"{at.host.site_url}/health")).json()["liveWorkers"]:
                await anyio.sleep(0.1)


async def test_what_is_not_to_be_called_is_refused_with_its_field(at: Deployment) -> None:
    secret = "SIGNALBOX_PUSH_SECRET"
    for spec, why in [
        (EndpointSpec(name="e", url="https://10.0.0.1/", secret_variable=secret), "url: a literal address"),
        (EndpointSpec(name="e", url="https://a.example.com/", secret_variable="HOME"), "secretVariable: "),
        (EndpointSpec(name="e", url="https://a.example.com/", secret_variable="SIGNALBOX_NONE"), "not set"),
        (EndpointSpec(name="e f", url="https://a.example.com/", secret_variable=secret), "name: "),
    ]:
        with pytest.raises(InvalidArgument, match=why):
            await at.client.set_endpoint(spec)
    ghost = AgentSpec(name="a", description="", executor=Http(endpoint="ghost"))
    with pytest.raises(InvalidArgument, match="not on the operator's list"):
        await at.client.sync_agents([ghost])
    assert await at.client.endpoints() == []
    assert await at.client.agents() == []
