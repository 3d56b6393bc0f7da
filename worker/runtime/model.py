"""Model calls on behalf of runs: streamed into the run, tried again while that can help, and counted."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio

from worker.errors import NonRetryable
from worker.llm import (
    ChatClient,
    ChatRequest,
    Completion,
    ModelError,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from worker.llm.errors import StreamTruncated
from worker.models import Usage
from worker.runtime.pulse import Pulse
from worker.runtime.stream import Label, StreamWriter

TRIES = 2  # of one call; after that the queue waits and the worker is free for other runs
LONGEST_WAIT_S = 5.0  # a provider that asks for more is waited for in the queue


class NoModelError(NonRetryable):
    """A model is needed and none is configured."""

    code = "no_model"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to ask a model; None leaves a choice to the worker or the provider."""

    messages: list[dict[str, Any]]
    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None


class Tally:
    """The usage of one run's model calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._model: str | None = None
        self._input: int | None = None
        self._output: int | None = None

    def add(self, completion: Completion) -> None:
        """Count an answered call; tokens that the provider did not tell stay unknown."""
        # JSON can escape a lone surrogate, and UTF-8, in which the usage is reported, cannot hold it.
        self._model = completion.model and completion.model.encode("utf-8", "replace").decode()
        if completion.usage is not None:
            self._input = _sum(self._input, completion.usage.input_tokens)
            self._output = _sum(self._output, completion.usage.output_tokens)

    def usage(self) -> Usage | None:
        """Return what the run used, None if it called no model."""
        if not self.calls:
            return None
        return Usage(
            model=self._model, calls=self.calls, input_tokens=self._input, output_tokens=self._output
        )


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more


class ModelCaller:
    """Calls one provider.

    Args:
        client: The provider.
        default_model: For prompts that name none.
        draw: Draws evenly from [0, 1).
    """

    def __init__(
        self,
        client: ChatClient,
        default_model: str | None,
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._client = client
        self._default_model = default_model
        self._draw = draw

    async def complete(
        self, prompt: Prompt, writer: StreamWriter, tally: Tally, pulse: Pulse | None = None
    ) -> Completion:
        """Return the whole answer, having streamed it into the run.

        Raises:
            ModelError: The last failure.
            NoModelError: Neither the prompt nor the settings name a model.
        """
        model = prompt.model or self._default_model
        if model is None:
            raise NoModelError("No model is named: set SIGNALBOX_MODEL, or the agent's `model`")
        request = ChatRequest(
            model=model,
            messages=prompt.messages,
            temperature=prompt.temperature,
            max_output_tokens=prompt.max_output_tokens,
        )
        tally.calls += 1
        call, attempt = tally.calls, 1
        pulse = pulse or Pulse()
        while True:
            try:
                with pulse.calling(model, attempt):
                    completion = await self._once(request, writer, pulse, call, attempt)
            except ModelError as error:
                wait = error.retry_after_s
                if wait is None:
                    wait = self._draw()
                if not error.retryable or attempt >= TRIES or wait > LONGEST_WAIT_S:
                    raise
                attempt += 1
                await anyio.sleep(wait)
            else:
                tally.add(completion)
                return completion

    async def _once(
        self, request: ChatRequest, writer: StreamWriter, pulse: Pulse, call: int, attempt: int
    ) -> Completion:
        text, reasoning = Label("text", call, attempt), Label("reasoning", call, attempt)
        completion: Completion | None = None
        try:
            async with self._client.stream(request) as events:
                pulse.listen(events)
                async for event in events:
                    pulse.moved()
                    if isinstance(event, TextDelta | RefusalDelta):
                        writer.push(event.text, text)
                    elif isinstance(event, ReasoningDelta):
                        writer.push(event.text, reasoning)
                    elif isinstance(event, Completion):
                        completion = event
        finally:
            writer.flush()
        if completion is None:
            raise StreamTruncated("The model's answer ended without a completion")
        return completion
