"""The model client against a server whose every byte a test chooses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from tests.model_server import Handler, ModelServer, serving
from worker.http import StreamTransport
from worker.llm import ChatClient, ChatRequest, Completion, Event, ModelError, Timeouts

REQUEST = ChatRequest(model="m", messages=[{"role": "user", "content": "hi"}])
PATIENT = Timeouts(total_s=15)


@asynccontextmanager
async def talking(
    handler: Handler, max_connections: int = 100
) -> AsyncIterator[tuple[ChatClient, ModelServer, StreamTransport]]:
    async with serving(handler) as server:
        transport = StreamTransport(httpx.URL(server.base_url))
        async with ChatClient(server.base_url, None, max_connections, transport=transport) as client:
            yield client, server, transport


async def asked(
    client: ChatClient, timeouts: Timeouts = PATIENT, request: ChatRequest = REQUEST
) -> Completion:
    async with client.stream(request, timeouts) as events:
        return await completed(events)


async def completed(events: AsyncIterator[Event]) -> Completion:
    last = [event async for event in events][-1]
    assert isinstance(last, Completion)
    return last


async def failure(client: ChatClient, timeouts: Timeouts = PATIENT) -> tuple[list[Event], ModelError]:
    events: list[Event] = []
    with pytest.raises(ModelError) as caught:
        async with client.stream(REQUEST, timeouts) as stream:
            async for event in stream:
                events.append(event)  # noqa: PERF401 - what came before the error counts
    return events, caught.value


async def until(condition: Any) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)
