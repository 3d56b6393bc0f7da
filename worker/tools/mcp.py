"""MCP servers as sources of tools; needs the extra `mcp`.

A server is started, or called, when an agent first needs one of its tools. Whatever it does then, a call
ends in a result or in one line: one that died, hangs, writes no messages or too large ones is ended, and the
next call starts it anew.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from worker import __version__
from worker.errors import SettingsError
from worker.models import Effect
from worker.pipes import LineReader, LineTooLongError
from worker.processes import NO_LIMITS, Child, Limits, plain_environment, start
from worker.runtime.tools import Access, InvalidToolError, Tool, ToolContext, ToolError, ToolSourceError
from worker.tools.addresses import Reach, check_url
from worker.tools.network import Resolve, resolve

try:
    import mcp_types
    from mcp import Client, MCPError
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.message import SessionMessage

    from worker.tools.mcp_http import checked_client
except ImportError as error:  # pragma: no cover - tests have the extra
    raise SettingsError("MCP servers need an extra: pip install 'signalbox[mcp]'") from error

logger = logging.getLogger(__name__)

START_S = 30.0  # for a server to introduce itself: the first start of a packaged one may install it
CALL_S = 60.0
ALIVE_S = 2.0  # in which a server that has not answered a call must answer something else
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_TOOLS = 256
MAX_DESCRIPTION_CHARS = 4_096
MAX_SCHEMA_CHARS = 64 * 1024
_PAGES = 20  # of a list of tools
_LAST_WORDS = 500  # characters of what a server complained of last
_NOISE = 200  # lines of output that are no messages, before a server counts as broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """A server that is a program.

    Attributes:
        command: The program and its arguments.
        env: Beside PATH, HOME, the language and the time zone; never the worker's own.
        cwd: Where it begins.
        limits: What it may take.
    """

    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | str | None = None
    limits: Limits = NO_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """A server that is called over streamable HTTP.

    Attributes:
        url: Its endpoint.
        headers: Sent with each request, to its origin alone.
        reach: What may be called; None for a URL that the operator has written. One that comes from
            elsewhere needs `Reach()`: then it is checked as the tool `fetch` checks.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    reach: Reach | None = None
    resolve: Resolve = resolve


@dataclass(slots=True)
class _Live:
    """A connection; `broken` says why it cannot be used any more."""

    client: Client
    stop: asyncio.Event
    broken: str | None = None


class McpServer:
    """The tools of an MCP server, each named by a prefix and the server's own name for it.

    Args:
        name: The prefix without its underscore.
        at: Where it is.
        trusted: Whether to believe what the server says of its tools: that one only reads, or may be called
            twice.
        effects: The effect of single tools, by the server's name for them; wins over what it says.
        needs_approval: Whether a person decides on each call of a tool that does not only read.
        call_s: For one call.
        start_s: For its start.
        max_message_bytes: Of what it writes at once; beyond, it is ended.
    """

    def __init__(
        self,
        name: str,
        at: Stdio | Http,
        *,
        trusted: bool = False,
        effects: Mapping[str, Effect] | None = None,
        needs_approval: bool = False,
        call_s: float = CALL_S,
        start_s: float = START_S,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.name = name
        self._at = at
        self._trusted = trusted
        self._effects = dict(effects or {})
        self._needs_approval = needs_approval
        self._call_s = call_s
        self._start_s = start_s
        self._max_message_bytes = max_message_bytes
        self._live: _Live | None = None
        self._keeping: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._listed: list[Tool] | None = None

    @property
    def prefix(self) -> str:
        """What the names of its tools begin with."""
        return f"{self.name}_"

    async def tools(self) -> list[Tool]:
        """Return its tools, as it listed them first: what a server says of a tool later does not count.

        Raises:
            ToolSourceError: It cannot be started, or does not list them.
        """
        if self._listed is None:
            try:
                live = await self._connected()
                try:
                    async with asyncio.timeout(self._start_s):
                        listed = await self._list(live.client)
                except (MCPError, TimeoutError, ValueError) as error:
                    raise ToolError(await self._blame(live, error, "list its tools")) from error
            except ToolError as error:
                raise ToolSourceError(str(error)) from error
            self._listed = listed
        return self._listed

    async def aclose(self) -> None:
        """End the server or the connection to it."""
        if self._live is not None:
            self._drop(self._live, "it was closed")
        if self._keeping:
            await asyncio.wait(self._keeping)

    # Connections.

    async def _connected(self) -> _Live:
        async with self._starting:
            if self._live is None or self._live.broken is not None:
                self._live = await self._start()
            return self._live

    async def _start(self) -> _Live:
        ready: asyncio.Future[_Live] = asyncio.get_running_loop().create_future()
        keeping = asyncio.create_task(self._keep(ready))  # a connection begins and ends in one task
        self._keeping.add(keeping)
        keeping.add_done_callback(self._keeping.discard)
        try:
            async with asyncio.timeout(self._start_s):
                return await asyncio.shield(ready)
        except TimeoutError:
            raise ToolError(
                f"The MCP server {self.name!r} did not start within {self._start_s:g} s."
            ) from None
        finally:
            if not ready.done():
                ready.cancel()
                keeping.cancel()

    async def _keep(self, ready: asyncio.Future[_Live]) -> None:
        """Hold a connection until it is dropped or ends."""
        stop = asyncio.Event()
        notes = _Notes(self.name)
        live: _Live | None = None
        try:
            client = Client(
                self._transport(notes),
                client_info=mcp_types.Implementation(name="signalbox", version=__version__),
                cache=None,
            )
            async with client:
                live = _Live(client, stop)
                notes.live = live
                if notes.broken is not None:
                    live.broken = notes.broken
                if ready.done():
                    return
                ready.set_result(live)
                await stop.wait()
        except Exception as error:
            why = notes.broken or _first_of(error)
            if not ready.done():
                ready.set_exception(ToolError(f"The MCP server {self.name!r} did not start: {why}"[:1000]))
            elif live is not None:
                live.broken = live.broken or why
            logger.debug("an MCP connection ended", exc_info=error, extra={"action": "mcp_ended"})
        finally:
            if live is not None:
                live.broken = live.broken or "it has ended"

    def _transport(self, notes: _Notes) -> AbstractAsyncContextManager[Any]:
        if isinstance(self._at, Stdio):
            return _stdio(self._at, notes, self._max_message_bytes)
        return _http(self._at, self._max_message_bytes)

    def _drop(self, live: _Live, why: str) -> None:
        live.broken = live.broken or why
        live.stop.set()

    async def _blame(self, live: _Live, error: Exception, what: str) -> str:
        """Return what to say of a call that failed, and end a connection that cannot be used any more."""
        if live.broken is None and not isinstance(error, TimeoutError) and not _closed(error):
            return f"The MCP server {self.name!r}: {_first_of(error)}"[:1000]
        if live.broken is None and isinstance(error, TimeoutError) and await _answers(live.client):
            return f"The MCP server {self.name!r} did not {what} in time."
        self._drop(
            live, "it does not answer" if isinstance(error, TimeoutError) else "the connection was closed"
        )
        why = f"did not {what}: {live.broken}. It is started again for the next call."
        return f"The MCP server {self.name!r} {why}"[:1000]

    # Tools.

    async def _list(self, client: Client) -> list[Tool]:
        tools: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(_PAGES):
            page = await client.list_tools(cursor=cursor)
            for found in page.tools:
                tool = self._tool(found)
                if tool is not None and tool.name not in tools and len(tools) < MAX_TOOLS:
                    tools[tool.name] = tool
            cursor = page.next_cursor
            if cursor is None:
                break
        return list(tools.values())

    def _tool(self, found: mcp_types.Tool) -> Tool | None:
        effect, access = self._judged(found)
        reads = access == "read"
        own_name = found.name

        async def call(arguments: dict[str, Any], context: ToolContext) -> Any:  # noqa: ANN401, ARG001
            return await self._call(own_name, arguments)

        try:
            _check_size(found)
            return Tool(
                name=self.prefix + re.sub(r"[^A-Za-z0-9_-]", "_", own_name),
                description=(found.description or found.title or own_name)[:MAX_DESCRIPTION_CHARS],
                parameters=found.input_schema,
                call=call,
                effect=effect,
                access=access,
                needs_approval=self._needs_approval and not reads,
                timeout_s=self._start_s + self._call_s + ALIVE_S + 3,  # its own limits are told more exactly
            )
        except InvalidToolError as error:
            logger.warning(
                "a tool of an MCP server is left out",
                extra={"action": "mcp_tool_refused", "server": self.name, "reason": str(error)[:300]},
            )
            return None

    def _judged(self, found: mcp_types.Tool) -> tuple[Effect, Access]:
        """Return what a tool does: the most that it may do, unless the operator knows or believes better."""
        said = found.annotations
        effect: Effect = "unsafe"
        access: Access = "outward"
        if self._trusted and said is not None:
            if said.read_only_hint:
                effect, access = "pure", "read"
            elif said.destructive_hint is False:
                access = "write"
            else:
                access = "destructive"
            if said.idempotent_hint and effect == "unsafe":
                effect = "idempotent"
        return self._effects.get(found.name, effect), access

    async def _call(self, name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - what it answers
        live = await self._connected()
        try:
            async with asyncio.timeout(self._call_s):
                result = await live.client.call_tool(name, arguments)
        except (MCPError, TimeoutError, ValueError, RuntimeError) as error:
            raise ToolError(await self._blame(live, error, "answer")) from error
        told = _told(result)
        if result.is_error:
            raise ToolError(told if isinstance(told, str) and told else "The tool failed.")
        return told


def _check_size(found: mcp_types.Tool) -> None:
    if len(str(found.input_schema)) > MAX_SCHEMA_CHARS:
        raise InvalidToolError(f"{found.name[:80]}: its schema has more than {MAX_SCHEMA_CHARS} characters")


def _told(result: mcp_types.CallToolResult) -> Any:  # noqa: ANN401 - what it answers
    """Return a result as a model reads it: its texts, and what else there is by its kind."""
    parts: list[str] = []
    for block in result.content:
        match block:
            case mcp_types.TextContent():
                parts.append(block.text)
            case mcp_types.EmbeddedResource(resource=mcp_types.TextResourceContents() as resource):
                parts.append(resource.text)
            case mcp_types.ResourceLink():
                parts.append(f"[{block.name}: {block.uri}]")
            case mcp_types.ImageContent() | mcp_types.AudioContent():
                parts.append(f"[{block.mime_type}, {len(block.data) * 3 // 4} bytes]")
            case _:
                parts.append(f"[{block.type}]")
    if parts or result.structured_content is None:
        return "\n".join(parts)
    return result.structured_content


def _closed(error: Exception) -> bool:
    return isinstance(error, RuntimeError) or (
        isinstance(error, MCPError) and error.code == mcp_types.CONNECTION_CLOSED
    )


async def _answers(client: Client) -> bool:
    """Return whether a server says anything: also that it does not know the question."""
    try:
        async with asyncio.timeout(ALIVE_S):
            await client.list_tools()
    except MCPError as error:
        return not _closed(error)
    except Exception:
        return False
    return True


def _first_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return " ".join(str(error).split()) or type(error).__name__


class _Notes:
    """What a transport knows of its end, for those who wait at the other side."""

    def __init__(self, server: str) -> None:
        self.server = server
        self.live: _Live | None = None
        self.broken: str | None = None

    def end(self, why: str) -> None:
        """Note why it ended, once."""
        self.broken = self.broken or why
        if self.live is not None:
            self.live.broken = self.live.broken or self.broken
            self.live.stop.set()


@asynccontextmanager
async def _http(at: Http, max_message_bytes: int) -> AsyncIterator[Any]:
    if at.reach is not None:
        check_url(at.url, at.reach)
    async with (
        checked_client(at.reach, at.resolve, at.headers, max_message_bytes) as client,
        streamable_http_client(at.url, http_client=client, max_sse_event_size=max_message_bytes) as streams,
    ):
        yield streams


@asynccontextmanager
async def _stdio(at: Stdio, notes: _Notes, max_message_bytes: int) -> AsyncIterator[Any]:
    """Hold a program whose lines are messages."""
    program, *arguments = at.command
    path = _program(program)
    child = await start(
        [path, *arguments], env=plain_environment(at.env), cwd=at.cwd, limits=at.limits or NO_LIMITS
    )
    inward, to_session = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    from_session, outward = anyio.create_memory_object_stream[SessionMessage](0)
    said = bytearray()

    async def complaints() -> None:
        with suppress(anyio.EndOfStream):
            while True:
                said.extend(await child.stderr.receive())
                del said[:-_LAST_WORDS]

    async def read() -> None:
        why = ""
        try:
            await _read(child, inward, max_message_bytes)
            with anyio.move_on_after(1):
                await child.wait()
            why = child.ending()
        except LineTooLongError as error:
            why = f"wrote {error}"
        except ValueError as error:
            why = str(error)
        last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
        notes.end(f"it {why}{f' ({last})' if last else ''}")
        child.kill()
        await inward.aclose()

    async def write() -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with outward:
                async for message in outward:
                    line = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    await child.send(line.encode() + b"\n")

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(complaints)
            tasks.start_soon(read)
            tasks.start_soon(write)
            try:
                yield to_session, from_session
            finally:
                tasks.cancel_scope.cancel()
    finally:
        await child.end()
        for stream in (inward, to_session, from_session, outward):
            stream.close()


async def _read(child: Child, inward: Any, max_message_bytes: int) -> None:  # noqa: ANN401
    """Hand on the messages of a program until it ends; other lines are passed over, so many of them.

    Raises:
        LineTooLongError: A line is too long.
        ValueError: What it writes are no messages.
    """
    lines = LineReader(child.stdout, max_message_bytes)
    noise = 0
    while (line := await lines.read()) is not None:
        if not line.lstrip().startswith(b"{"):
            noise += bool(line.strip())
            if noise > _NOISE:
                raise ValueError(f"wrote {noise} lines that are no messages")
            continue
        try:
            message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            raise ValueError("wrote a line that is no message") from None
        try:
            await inward.send(SessionMessage(message))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ToolError(f"there is no program {name!r} in PATH")
    return path
