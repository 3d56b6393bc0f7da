"""A model that answers what a test tells it to, turn by turn, and keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio.lowlevel

from worker.llm import ChatRequest, Completion, Event, ModelError, TokenUsage, ToolCall
from worker.llm.messages import Finish
from worker.router import Router
from worker.runtime import ModelCaller
from worker.runtime.model import Sole

Said: TypeAlias = Completion | ModelError | Callable[[ChatRequest], Completion]


def says(text: str, finish: Finish = "stop", **more: Any) -> Completion:
    """Return a turn that says something."""
    usage = TokenUsage(input_tokens=10, output_tokens=5)
    fields = {"reasoning": "", "refusal": None, "tool_calls": (), "usage": usage, **more}
    return Completion(text=text, finish=finish, raw_finish=finish, model="m-1", **fields)


def asks(*calls: tuple[str, Any], text: str = "") -> Completion:
    """Return a turn that asks for tools: name and arguments, which are raw text if they are a string."""
    return says(text, "tool_calls", tool_calls=tuple(_call(n, *call) for n, call in enumerate(calls)))


def _call(number: int, name: str, arguments: Any) -> ToolCall:
    if isinstance(arguments, str):
        return ToolCall(f"call_{number}", name, None, arguments)
    return ToolCall(f"call_{number}", name, arguments, None)


class Turns:
    """Gives one answer after the other; a function makes its answer of the request."""

    def __init__(self, *answers: Said) -> None:
        self.answers = list(answers)
        self.requests: list[ChatRequest] = []

    @asynccontextmanager
    async def stream(self, request: ChatRequest, *_: Any) -> AsyncIterator[AsyncIterator[Event]]:
        self.requests.append(request)
        yield self._play(self.answers.pop(0), request)

    async def _play(self, answer: Said, request: ChatRequest) -> AsyncIterator[Event]:
        await anyio.lowlevel.checkpoint()
        if isinstance(answer, ModelError):
            raise answer
        yield answer if isinstance(answer, Completion) else answer(request)

    def caller(self) -> ModelCaller:
        """Return what a worker calls it by."""
        return ModelCaller(Router(Sole(self), draw=lambda: 0.0), ["default-model"])

    def told(self, turn: int) -> list[str]:
        """Return the results that a turn was given, those of all turns before it."""
        messages = self.requests[turn - 1].messages
        return [message["content"] for message in messages if message["role"] == "tool"]


def by_length(*answers: Completion) -> Callable[[ChatRequest], Completion]:
    """Return the answer for as many turns as the conversation has had: the same to whoever asks again."""

    def answer(request: ChatRequest) -> Completion:
        turns = [message for message in request.messages if message["role"] == "assistant"]
        return answers[len(turns)]

    return answer


def parsed(text: str | None) -> Any:
    """Return what JSON text holds."""
    return json.loads(text or "null")
