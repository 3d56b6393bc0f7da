"""A small HTTP/1.1 server for one ASGI application, for where no other server runs it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

import anyio
import h11
from anyio.abc import Listener, SocketAttribute, SocketStream

logger = logging.getLogger(__name__)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

READ_S = 20.0  # for the next bytes of a request that has begun
IDLE_S = 75.0  # between two requests of a connection
MAX_CONNECTIONS = 512
_PIECE = 64 * 1024


async def listen(host: str, port: int) -> tuple[Listener[SocketStream], int]:
    """Return a listener and its port; 0 asks for a free one.

    Raises:
        OSError: The port is taken, or is not to be had.
    """
    listener = await anyio.create_tcp_listener(local_host=host, local_port=port)
    return listener.listeners[0], int(listener.extra(SocketAttribute.local_port))  # noqa: S610 - anyio's, not Django's


async def serve(app: App, listener: Listener[SocketStream]) -> None:
    """Serve requests until cancelled; a connection beyond the limit waits for one that ends."""
    room = anyio.CapacityLimiter(MAX_CONNECTIONS)

    async def one(stream: SocketStream) -> None:
        async with room, stream:
            await _connection(app, stream)

    async with listener:
        await listener.serve(one)


async def _connection(app: App, stream: SocketStream) -> None:
    connection = h11.Connection(h11.SERVER)
    try:
        while True:
            with anyio.fail_after(IDLE_S):
                request = await _next(connection, stream)
            if not isinstance(request, h11.Request):
                return
            await _Exchange(connection, stream, request).run(app)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return  # one side said that it ends here, or the body was not read
            connection.start_next_cycle()
    except h11.RemoteProtocolError as error:
        if connection.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            head = h11.Response(status_code=error.error_status_hint, headers=[("content-length", "0")])
            await _write(connection, stream, head, h11.EndOfMessage())
    except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError, TimeoutError):
        return  # the client went away, or stayed silent


async def _next(connection: h11.Connection, stream: SocketStream) -> h11.Event | type[h11.PAUSED]:
    while True:
        event = connection.next_event()
        if event is not h11.NEED_DATA:
            return event  # type: ignore[return-value]
        if connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            await stream.send(connection.send(go_on) or b"")
        try:
            connection.receive_data(await stream.receive(_PIECE))
        except anyio.EndOfStream:
            connection.receive_data(b"")


async def _write(connection: h11.Connection, stream: SocketStream, *events: h11.Event) -> None:
    await stream.send(b"".join(connection.send(event) or b"" for event in events))


class _Exchange:
    """One request and its answer."""

    def __init__(self, connection: h11.Connection, stream: SocketStream, request: h11.Request) -> None:
        self._connection = connection
        self._stream = stream
        self._request = request
        self._read = False

    async def run(self, app: App) -> None:
        try:
            await app(self._scope(), self._receive, self._send)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise
        except Exception:
            logger.exception("a request failed", extra={"action": "request_failed"})
            if self._connection.our_state is not h11.SEND_RESPONSE:
                raise
            head = h11.Response(status_code=500, headers=[("content-length", "0")])
            await _write(self._connection, self._stream, head, h11.EndOfMessage())

    def _scope(self) -> Message:
        target, _, query = self._request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._request.http_version.decode(),
            "method": self._request.method.decode(),
            "scheme": "http",
            "path": unquote(target.decode("latin-1")),
            "raw_path": target,
            "query_string": query,
            "root_path": "",
            "headers": list(self._request.headers),
            "client": self._stream.extra(SocketAttribute.remote_address)[:2],  # noqa: S610
            "server": self._stream.extra(SocketAttribute.local_address)[:2],  # noqa: S610
        }

    async def _receive(self) -> Message:
        if self._read:
            return {"type": "http.disconnect"}  # nothing more is read while an answer is made
        with anyio.fail_after(READ_S):
            event = await _next(self._connection, self._stream)
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        self._read = True
        if isinstance(event, h11.EndOfMessage):
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            head = h11.Response(status_code=message["status"], headers=list(message.get("headers", [])))
            await _write(self._connection, self._stream, head)
            return
        events: list[h11.Event] = [h11.Data(data=message.get("body", b""))]
        if not message.get("more_body", False):
            events.append(h11.EndOfMessage())
        await _write(self._connection, self._stream, *events)
