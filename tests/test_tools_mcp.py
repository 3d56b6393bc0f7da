"""MCP servers as sources of tools: over pipes and HTTP, and in every way in which a server can fail."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.server.mcpserver import MCPServer

from tests.deployment import REPOSITORY
from tests.watched_processes import gone
from tests.web_server import Resolver, page, server
from worker.http.server import listen, serve
from worker.runtime.calling import check_arguments, perform
from worker.runtime.tools import (
    InvalidToolError,
    Toolbox,
    ToolContext,
    ToolError,
    ToolSourceError,
    UnknownToolError,
)
from worker.tools.addresses import LOOPBACK, Reach
from worker.tools.mcp import Http, McpServer, Stdio


class Silent:
    def progress(self, done: float, total: float | None = None, message: str = "") -> None: ...

    def log(self, message: str, **facts: object) -> None: ...


CONTEXT = ToolContext("k", "t", "r", Silent())


class Small:
    """The small server over pipes, and how often it was started."""

    def __init__(self, folder: Path, *mode: str, **more: Any) -> None:
        self.counter = folder / "starts"
        program = [sys.executable, str(REPOSITORY / "tests" / "mcp_server.py"), str(self.counter), *mode]
        self.server = McpServer("small", Stdio(command=program, env={"GIVEN": "1"}), **more)

    @property
    def starts(self) -> list[int]:
        return [int(line) for line in self.counter.read_text().split()] if self.counter.exists() else []

    async def call(self, name: str, **given: Any) -> Any:
        (tool,) = [tool for tool in await self.server.tools() if tool.name == f"small_{name}"]
        return await tool.call(given, CONTEXT)


@asynccontextmanager
async def small(folder: Path, *mode: str, **more: Any) -> AsyncIterator[Small]:
    made = Small(folder, *mode, **more)
    try:
        yield made
    finally:
        with anyio.fail_after(10):
            await made.server.aclose()


async def test_tools_of_a_server_are_chosen_like_any_others(tmp_path: Path) -> None:
    async with small(tmp_path) as one:
        box = Toolbox()
        box.add_source(one.server)
        assert not one.counter.exists()  # nothing is started before it is needed
        chosen = await box.chosen(["small_echo", "small_add_numbers"])
        assert [tool.name for tool in chosen] == ["small_echo", "small_add_numbers"]
        assert len(await box.chosen(["small_*"])) == 12  # the odd one is left out
        with pytest.raises(UnknownToolError, match="'small_other' is none of"):
            await box.chosen(["small_other"])
        with pytest.raises(UnknownToolError, match="no tool named 'other'"):
            await box.chosen(["other"])
        echo = chosen.get("small_echo")
        assert echo is not None and echo.description == "The tool echo"
        assert json.loads(await echo.call({"x": 1}, CONTEXT)) == {"x": 1}
        assert await one.call("picture", x=1) == '[image/png, 6 bytes]\n{"x": 1}'
        assert len(one.starts) == 1
    await gone(one.starts[0])


async def test_whatever_a_server_does_the_model_is_told_in_one_line(tmp_path: Path) -> None:
    async with small(tmp_path, max_message_bytes=100_000) as one:
        box = Toolbox()
        box.add_source(one.server)
        for name, says in (
            ("die", "exit code 3"),
            ("huge", "more than 100000 bytes"),
            ("fails", "no such customer"),
        ):
            (tool,) = await box.chosen([f"small_{name}"])
            told = await perform(tool, {}, CONTEXT)
            assert (
                (told.ok, told.code) == (False, "failed")
                and says in told.content
                and "\n" not in told.content
            )
        (tool,) = await box.chosen(["small_echo"])
        check_arguments(tool, {"x": 1})
        assert (await perform(tool, {"x": 1}, CONTEXT)).content == '{"x": 1}'
        with pytest.raises(ValueError, match="x"):
            check_arguments(tool, {"x": "one"})
        await box.aclose()
        assert not one.server._keeping


def test_prefixes_do_not_overlap() -> None:
    box = Toolbox()
    box.add_source(McpServer("a", Http(url="https://example.com/")))
    box.add_source(McpServer("a", Http(url="https://example.org/")))
    for name in ("a_b", "", "x y"):
        with pytest.raises(InvalidToolError):
            box.add_source(McpServer(name, Http(url="https://example.com/")))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            {},
            {
                "echo": ("unsafe", "outward"),
                "add_numbers": ("unsafe", "outward"),
                "die": ("unsafe", "outward"),
            },
        ),
        (
            {"trusted": True},
            {
                "echo": ("pure", "read"),
                "add_numbers": ("idempotent", "write"),
                "die": ("unsafe", "destructive"),
            },
        ),
        ({"effects": {"echo": "idempotent"}}, {"echo": ("idempotent", "outward")}),
        ({"trusted": True, "effects": {"echo": "unsafe"}}, {"echo": ("unsafe", "read")}),
    ],
    ids=["untrusted", "trusted", "the operator knows", "the operator knows better"],
)
async def test_a_server_is_believed_only_if_it_is_trusted(
    tmp_path: Path, more: Any, expected: dict[str, tuple[str, str]]
) -> None:
    async with small(tmp_path, needs_approval=True, **more) as one:
        tools = {tool.name.removeprefix("small_"): tool for tool in await one.server.tools()}
        assert {name: (tools[name].effect, tools[name].access) for name in expected} == expected
        assert tools["die"].needs_approval is True
        assert tools["echo"].needs_approval is (tools["echo"].access != "read")


async def test_nothing_of_the_worker_is_in_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNALBOX_KEY", "sbw_secret")
    async with small(tmp_path) as one:
        names = (await one.call("env")).split()
    assert "GIVEN" in names and "PATH" in names and not [name for name in names if "SIGNALBOX" in name]


async def test_what_a_tool_says_of_its_failure_is_told(tmp_path: Path) -> None:
    async with small(tmp_path) as one:
        with pytest.raises(ToolError, match=r"^no such customer$"):
            await one.call("fails")
        with pytest.raises(ToolError, match="'small': not with me"):
            await one.call("refuses")
        assert await one.call("noise", x=2) == '{"x": 2}'
        assert len(one.starts) == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("die", "it ended with exit code 3 (out of order)"),
        ("garbage", "it wrote a line that is no message"),
        ("huge", "it wrote a line of more than 100000 bytes"),
        ("freeze", "it does not answer"),
    ],
)
async def test_a_broken_server_is_started_again_for_the_next_call(
    tmp_path: Path, name: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tools.mcp.ALIVE_S", 0.2)
    async with small(tmp_path, max_message_bytes=100_000, call_s=0.5 if name == "freeze" else 20) as one:
        with pytest.raises(ToolError) as raised:
            await one.call(name)
        assert says in str(raised.value) and "started again" in str(raised.value)
        one.server._call_s = 20
        assert await one.call("echo", x=1) == '{"x": 1}'
        first, second = one.starts
        await gone(first)
    await gone(second)


async def test_a_call_that_does_not_answer_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.tools.mcp.ALIVE_S", 15)  # it answers at once, on any machine
    async with small(tmp_path) as one:
        assert await one.call("echo", x=0) == '{"x": 0}'
        one.server._call_s = 0.3
        with pytest.raises(ToolError, match="did not answer in time"):
            await one.call("hang")
        one.server._call_s = 20
        assert await one.call("echo", x=1) == '{"x": 1}'
        assert len(one.starts) == 1


async def test_a_cancelled_call_leaves_the_server_usable(tmp_path: Path) -> None:
    async with small(tmp_path) as one:
        await one.server.tools()
        with anyio.move_on_after(0.2):
            await one.call("hang")
        assert await one.call("echo", x=1) == '{"x": 1}'
        assert len(one.starts) == 1


async def test_calls_at_once_share_one_server(tmp_path: Path) -> None:
    async with small(tmp_path) as one:
        told: list[str] = []

        async def ask(n: int) -> None:
            told.append(await one.call("echo", x=n))

        async with anyio.create_task_group() as tasks:
            for n in range(20):
                tasks.start_soon(ask, n)
        assert sorted(json.loads(text)["x"] for text in told) == list(range(20))
        assert len(one.starts) == 1


@pytest.mark.parametrize(
    ("mode", "more", "says"),
    [
        ("broken", {}, "SyntaxError: invalid syntax"),
        ("silent", {"start_s": 0.5}, "did not start within 0.5 s"),
    ],
)
async def test_a_server_that_does_not_start_can_be_asked_again(
    tmp_path: Path, mode: str, more: Any, says: str
) -> None:
    async with small(tmp_path, mode, **more) as one:
        for _ in range(2):
            with pytest.raises(ToolSourceError) as raised:
                await one.server.tools()
            assert says in str(raised.value) and raised.value.retryable
        for pid in one.starts:
            await gone(pid)


async def test_a_program_that_is_not_there_ends_in_one_line() -> None:
    missing = McpServer("x", Stdio(command=["no-such-program"]))
    with pytest.raises(ToolSourceError, match="there is no program 'no-such-program' in PATH"):
        await missing.tools()


# Over HTTP.


@asynccontextmanager
async def real(**more: Any) -> AsyncIterator[tuple[int, MCPServer]]:
    """A server of the MCP library, behind the small HTTP server."""
    made = MCPServer("real")

    @made.tool()
    def greet(name: str) -> str:
        """Greet somebody."""
        return f"Hello {name}"

    @made.tool()
    def long(chars: int) -> str:
        """Say much."""
        return "x" * chars

    app = made.streamable_http_app(**more)

    async def patient(scope: Any, receive: Any, send: Any) -> None:
        async def wait() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":  # said at once by a server that reads nothing meanwhile
                await anyio.sleep_forever()
            return message

        await app(scope, wait, send)

    listener, port = await listen("127.0.0.1", 0)
    async with app.router.lifespan_context(app), anyio.create_task_group() as tasks:
        tasks.start_soon(serve, patient, listener)
        yield port, made
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("json_response", [False, True], ids=["events", "json"])
async def test_a_server_over_http_is_called(json_response: bool) -> None:
    async with real(json_response=json_response) as (port, _):
        one = McpServer("web", Http(url=f"http://127.0.0.1:{port}/mcp"), max_message_bytes=100_000)
        try:
            greet, long = await one.tools()
            assert await greet.call({"name": "Ada"}, CONTEXT) == "Hello Ada"
            with pytest.raises(ToolError, match="name"):
                await greet.call({}, CONTEXT)
            with pytest.raises(ToolError, match="'web'"):
                await long.call({"chars": 200_000}, CONTEXT)
            assert await greet.call({"name": "Bob"}, CONTEXT) == "Hello Bob"
        finally:
            await one.aclose()


async def test_a_server_over_http_that_is_gone_and_comes_back() -> None:
    async with real() as (port, _):
        one = McpServer("web", Http(url=f"http://127.0.0.1:{port}/mcp"))
        greet = (await one.tools())[0]
        assert await greet.call({"name": "Ada"}, CONTEXT) == "Hello Ada"
    with pytest.raises(ToolError, match="'web'"):
        await greet.call({"name": "Ada"}, CONTEXT)
    await one.aclose()


@pytest.mark.parametrize(
    ("url", "answer", "says"),
    [
        ("http://pages.example.com/mcp", ["93.184.215.14"], "http is not allowed"),
        ("https://169.254.169.254/mcp", ["93.184.215.14"], "literal address"),
        ("https://pages.example.com/mcp", ["127.0.0.1"], "is at 127.0.0.1, which is the loopback"),
        ("https://pages.example.com/mcp", ["93.184.215.14", "10.0.0.1"], "is at 10.0.0.1, which is private"),
    ],
)
async def test_an_address_from_elsewhere_is_checked(url: str, answer: list[str], says: str) -> None:
    one = McpServer("web", Http(url=url, reach=Reach(), resolve=Resolver(answer)))
    with pytest.raises(ToolSourceError) as raised:
        await one.tools()
    assert says in str(raised.value)


async def test_a_redirect_to_elsewhere_is_not_followed() -> None:
    async with server(lambda _: page(b"", "location: http://10.0.0.1/mcp", status="307 Moved")) as (
        port,
        seen,
    ):
        one = McpServer("web", Http(url=f"http://127.0.0.1:{port}/mcp", reach=Reach(networks=LOOPBACK)))
        with pytest.raises(ToolSourceError, match="not followed"):
            await one.tools()
        assert seen


@pytest.mark.parametrize(
    "said",
    [
        page(b"not json", "content-type: application/json"),
        page(b"<html>", "content-type: text/html"),
        page(b"no", status="500 Oh"),
        page(b"{" + b"x" * 5_000_000, "content-type: application/json"),
        b"",
    ],
    ids=["no json", "html", "500", "5 MB", "nothing"],
)
async def test_garbage_over_http_ends_in_one_line(said: bytes) -> None:
    async with server(lambda _: said) as (port, _):
        one = McpServer("web", Http(url=f"http://127.0.0.1:{port}/mcp"))
        with pytest.raises(ToolSourceError, match="'web'") as raised:
            await one.tools()
        assert "\n" not in str(raised.value) and len(str(raised.value)) <= 1000
        await one.aclose()
