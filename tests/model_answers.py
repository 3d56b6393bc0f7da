"""What the server of a model sends, by its events: whole, refused, or broken off."""

from __future__ import annotations

import json
from typing import Any

import anyio

from tests.model_server import Exchange, Handler

DONE = b"data: [DONE]\n\n"


def text(content: str) -> bytes:
    return data({"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": None}]})


def finish(reason: str = "stop") -> bytes:
    return data({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


def usage(tokens: int) -> bytes:
    return data({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": tokens}})


def data(value: Any) -> bytes:
    """Return an event of the stream."""
    return f"data: {json.dumps(value)}\n\n".encode()


def sends(*pieces: bytes, ends: bool = True) -> Handler:
    """Send these pieces of a stream, and end it or leave it open until the client goes."""

    async def handler(exchange: Exchange) -> None:
        await exchange.start()
        for piece in pieces:
            await exchange.send(piece)
        await (exchange.end() if ends else exchange.client_gone())

    return handler


def chunk(**delta: str) -> bytes:
    return data({"choices": [{"index": 0, "delta": delta}]})


END = finish()
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}\n\ndata: [DONE]\n\n'
WORDS = ["One", " two", " three", " four."]
EVENTS = [chunk(role="assistant"), *(chunk(content=word) for word in WORDS), END, USAGE]


def refuses(
    status: int, headers: dict[str, str] | None = None, body: str = '{"error":{"message":"no"}}'
) -> Handler:
    async def answer(exchange: Exchange) -> None:
        await exchange.start(status, headers, content_type="application/json")
        await exchange.send(body.encode())
        await exchange.end()

    return answer


def breaks(events: list[bytes], how: str, after_s: float = 0.0) -> Handler:
    """Give these events and, a while later, fail: by a reset, an early end, silence, an error, or garbage."""

    async def answer(exchange: Exchange) -> None:
        await exchange.start(chunked=how != "reset")
        for event in events:
            await exchange.send(event)
        await anyio.sleep(after_s)
        if how == "reset":
            exchange.writer.transport.abort()
        elif how == "error":
            await exchange.send(b'data: {"error": {"code": 529, "message": "overloaded"}}\n\n')
            await exchange.end()
        elif how == "garbage":
            await exchange.send(b"data: {not json}\n\n")
            await exchange.end()
        elif how == "silence":
            await exchange.client_gone()
        else:
            await exchange.end()

    return answer


# Every place before the end of `EVENTS` at which a stream may break off, and every way to.
CUTS = [(cut, how) for cut in range(len(EVENTS) - 1) for how in ("reset", "early end", "error", "garbage")]
