"""What the model client costs in CPU beside plain httpx, the two of them in turns."""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.connection
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

import anyio
import anyio.abc
import httpx

from bench.stage import Figure
from worker.llm import ChatClient, ChatRequest, Completion

STREAMS = 1_000
CHUNKS = 200
AT_ONCE = (
    50  # more would make httpx's pool the slower one: its work grows with the square of the open streams
)
PAUSE_S = 0.002  # between chunks, so that each comes in a read of its own, as tokens do
ROUNDS = 4  # the two take turns, so that a busy moment of the machine meets both
REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "go"}])


def _chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1790000000,
        "model": "m",
        "choices": [choice],
    }
    data = b"data: " + json.dumps(value).encode() + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(data), data)


def _serve(pipe: multiprocessing.connection.Connection) -> None:
    """Answer each request with as many chunks as its path says, `PAUSE_S` apart; in a process of its own."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    word, last = _chunk(" word"), _chunk("", "stop") + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            received = b""
            while True:
                try:
                    while b'"stream"' not in received or not received.endswith(b"}"):
                        received += await stream.receive()
                    chunks = int(received.split(b"/", 2)[1])
                    await stream.send(head)
                    for _ in range(chunks):
                        await stream.send(word)
                        await anyio.sleep(PAUSE_S)
                    await stream.send(last)
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return
                received = b""

    async def main() -> None:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1", backlog=1024) as listener:
            pipe.send(listener.extra(anyio.abc.SocketAttribute.local_port))
            await listener.serve(answer)

    anyio.run(main)


@contextmanager
def _server() -> Iterator[str]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


async def _burn(streams: int, one: Callable[[], Awaitable[None]]) -> float:
    """Return the CPU seconds of this process for so many streams."""
    slots = anyio.Semaphore(AT_ONCE)

    async def next_one() -> None:
        async with slots:
            await one()

    begun = time.process_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(streams):
            tasks.start_soon(next_one)
    return time.process_time() - begun


async def cpu(streams: int = STREAMS, chunks: int = CHUNKS) -> AsyncIterator[Figure]:
    """Streams through plain httpx with json.loads, and through our client, in turns."""
    with _server() as address:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE)
        async with (
            httpx.AsyncClient(limits=limits, timeout=60, trust_env=False) as plain,
            ChatClient(f"{address}/{chunks}") as client,
        ):
            body = {"model": "m", "stream": True}

            async def by_httpx() -> None:
                pieces = 0
                url = f"{address}/{chunks}/chat/completions"
                async with plain.stream("POST", url, content=json.dumps(body)) as response:
                    async for line in response.aiter_lines():
                        if line.startswith("data: ") and line != "data: [DONE]":
                            pieces += "content" in json.loads(line[6:])["choices"][0]["delta"]
                assert pieces == chunks + 1

            async def by_us() -> None:
                async with client.stream(REQUEST) as events:
                    async for event in events:
                        if isinstance(event, Completion):
                            assert len(event.text) == 5 * chunks

            await by_httpx()
            await by_us()
            theirs = ours = 0.0
            for _ in range(ROUNDS):
                theirs += await _burn(streams // ROUNDS, by_httpx)
                ours += await _burn(streams // ROUNDS, by_us)
    note = f"{streams} streams of {chunks} chunks, {AT_ONCE} at once"
    yield Figure("model streams, CPU of plain httpx", round(theirs, 2), "s", note)
    yield Figure("model streams, CPU", round(ours, 2), "s", note)
    yield Figure("model streams, CPU against plain httpx", round(ours / theirs, 2), "times", "aim: at most 2")
