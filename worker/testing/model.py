"""A scripted model: it answers with what the test says, in order, and keeps what it was asked.

It speaks chat completions to the client of the worker, in this process: requests, streams, tool calls, usage
and errors take the way that they take with a provider, but no socket is opened and no model is behind it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx

from worker.llm import ChatClient
from worker.router import Router
from worker.runtime import ModelCaller, Sole

NAME = "scripted"
"""What it calls itself in every answer."""

_PIECE_CHARS = 8  # of a streamed text: long answers come in several pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Says:
    """One answer.

    Attributes:
        text: What it says.
        calls: Tool calls: name and arguments; arguments that are a text are sent as they are.
        finish: How it ends; by default "tool_calls" with calls, else "stop".
        input_tokens: Told as its usage; None tells none.
        output_tokens: The same.
        cut: End the stream without its end, as a provider that dies does.
    """

    text: str = ""
    calls: Sequence[tuple[str, Mapping[str, Any] | str]] = ()
    finish: str | None = None
    input_tokens: int | None = 10
    output_tokens: int | None = 5
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Fails:
    """A request that is refused, as a provider does: 429, 500, ...

    Attributes:
        status: Of the HTTP answer.
        message: What it says.
        code: The provider's code, such as "context_length_exceeded".
        headers: Such as `{"retry-after": "1"}`.
    """

    status: int
    message: str = "scripted failure"
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def call(name: str, /, **arguments: Any) -> Says:  # noqa: ANN401 - any JSON
    """Return an answer that asks for one tool call."""
    return Says(calls=[(name, arguments)])


Answer: TypeAlias = "str | Says | Fails | Callable[[dict[str, Any]], str | Says | Fails]"


class ScriptedModel:
    """A model that says what it is told to say.

    Args:
        answers: In the order of the requests: a text, `Says`, `Fails`, or a function of the request. A
            request beyond the last of them fails with a message that says so.

    Attributes:
        asked: The body of every request, in order.
    """

    def __init__(self, *answers: Answer) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = deque(answers)
        self._client = ChatClient("http://scripted.invalid/v1", transport=_Script(self))

    @property
    def left(self) -> int:
        """Return how many answers nobody has asked for."""
        return len(self._answers)

    def caller(self) -> ModelCaller:
        """Return what runs call it by, whatever model they name."""
        return ModelCaller(Router(Sole(self._client)), [NAME])

    def answer(self, body: dict[str, Any]) -> Says | Fails:
        """Take a request, and return what comes of it."""
        self.asked.append(body)
        if not self._answers:
            return Fails(400, f"The script has no answer for request {len(self.asked)}")
        given = self._answers.popleft()
        if callable(given):
            given = given(body)
        return Says(text=given) if isinstance(given, str) else given


class _Script(httpx.AsyncBaseTransport):
    """Stands in for the network."""

    def __init__(self, model: ScriptedModel) -> None:
        self._model = model

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(await request.aread())
        given = self._model.answer(body)
        if isinstance(given, Fails):
            error = {"message": given.message, "code": given.code, "type": None}
            return httpx.Response(given.status, json={"error": error}, headers=dict(given.headers))
        return httpx.Response(
            200, headers={"content-type": "text/event-stream"}, stream=_Stream(list(_chunks(given)))
        )


class _Stream(httpx.AsyncByteStream):
    def __init__(self, events: Sequence[object]) -> None:
        self._events = events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            yield b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"


def _chunks(said: Says) -> list[object]:
    """Return the events of an answer."""
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [
        {"content": said.text[at : at + _PIECE_CHARS]} for at in range(0, len(said.text), _PIECE_CHARS)
    ]
    for index, (name, arguments) in enumerate(said.calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        function = {"name": name, "arguments": text}
        deltas.append({"tool_calls": [{"index": index, "id": f"call_{index}", "function": function}]})
    chunks: list[object] = [_chunk([{"index": 0, "delta": delta}]) for delta in deltas]
    if said.cut:
        return chunks
    finish = said.finish or ("tool_calls" if said.calls else "stop")
    chunks.append(_chunk([{"index": 0, "delta": {}, "finish_reason": finish}]))
    if said.input_tokens is not None or said.output_tokens is not None:
        usage = {"prompt_tokens": said.input_tokens, "completion_tokens": said.output_tokens}
        chunks.append({**_chunk([]), "usage": usage})
    return [*chunks, b"[DONE]"]


def _chunk(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": NAME, "object": "chat.completion.chunk", "model": NAME, "choices": choices}
