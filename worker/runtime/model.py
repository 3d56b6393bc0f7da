"""Model calls on behalf of runs: routed, streamed into the run, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

from worker import tracing
from worker.errors import NonRetryable
from worker.llm import ChatRequest, Timeouts
from worker.models import Usage
from worker.purse import UNLIMITED, Purse
from worker.router import Answer, CallRecord, Catalogue, Chain, Router, Source, Target
from worker.runtime.pulse import Pulse
from worker.runtime.stream import Label, StreamWriter


class NoModelError(NonRetryable):
    """A model is needed and none is configured."""

    code = "no_model"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to ask a model; None and empty leave a choice to the worker or the provider.

    Attributes:
        messages: The conversation.
        model: The one model to ask; passed over when there are `models`.
        temperature: Of the answer.
        max_output_tokens: Its longest.
        models: The models to ask, in order.
        fallback_on: "content_filter" and "refusal": that the next model is asked after these too.
        tools, tool_choice, response_format, stop, cache_key, extra: As in `ChatRequest`.
    """

    messages: list[dict[str, Any]]
    model: str | None = None
    temperature: float | None = None
    max_output_tokens: int | None = None
    models: Sequence[str] = ()
    fallback_on: Iterable[str] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    stop: Sequence[str] = ()
    cache_key: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Tally:
    """What one run's model calls used, and who answered last.

    Args:
        keep: Takes the record of each attempt, with the number of its call.
    """

    def __init__(self, keep: Callable[[int, CallRecord], None] | None = None) -> None:
        self.calls = 0
        self.stay: str | None = None  # the model that has the beginning of the conversation in its cache
        self.keep = keep
        self._model: str | None = None
        self._input: int | None = None
        self._output: int | None = None
        self._cost: int | None = None
        self._asked: set[int] = set()  # calls that came to a provider: not those that a budget refused

    def attempted(self, call: int, record: CallRecord) -> None:
        """Count an attempt, whatever became of it: what failed and what was cancelled has its price too.

        Tokens that the provider did not tell stay unknown; the cost counts the worker's estimate of them.
        """
        self._asked.add(call)
        self._cost = _sum(self._cost, record.cost_micros)
        if record.usage is not None and not record.estimated:
            self._input = _sum(self._input, record.usage.input_tokens)
            self._output = _sum(self._output, record.usage.output_tokens)
        if self.keep is not None:
            self.keep(call, record)

    def add(self, answer: Answer) -> None:
        """Note who answered a call."""
        completion = answer.completion
        # JSON can escape a lone surrogate, and UTF-8, in which the usage is reported, cannot hold it.
        self._model = completion.model and completion.model.encode("utf-8", "replace").decode()
        self.stay = answer.model

    def usage(self) -> Usage | None:
        """Return what the run used, None if it called no model."""
        if not self._asked:
            return None
        return Usage(
            model=self._model,
            calls=len(self._asked),
            input_tokens=self._input,
            output_tokens=self._output,
            cost_micros=self._cost,
        )


def _sum(known: int | None, more: int | None) -> int | None:
    return known if more is None else (known or 0) + more


class ModelCaller:
    """Calls models for the runs of a worker.

    Args:
        router: Decides which, and asks them.
        default_models: For prompts that name none.
    """

    def __init__(self, router: Router, default_models: Sequence[str] = ()) -> None:
        self.router = router
        self._default_models = tuple(default_models)

    async def answer(
        self,
        prompt: Prompt,
        writer: StreamWriter,
        tally: Tally,
        pulse: Pulse | None = None,
        purse: Purse = UNLIMITED,
    ) -> Answer:
        """Return the whole answer and who gave it, having streamed it into the run.

        Raises:
            ModelError: No model has answered.
            NoModelError: Neither the prompt nor the settings name a model.
            BudgetExceeded: The purse is empty.
        """
        models = tuple(prompt.models) or ((prompt.model,) if prompt.model else self._default_models)
        if not models:
            raise NoModelError("No model is named: set SIGNALBOX_MODEL, or the agent's `model`")
        request = ChatRequest(
            model="",
            messages=prompt.messages,
            temperature=prompt.temperature,
            max_output_tokens=prompt.max_output_tokens,
            tools=prompt.tools,
            tool_choice=prompt.tool_choice,
            response_format=prompt.response_format,
            stop=prompt.stop,
            cache_key=prompt.cache_key,
            extra=prompt.extra,
        )
        tally.calls += 1
        answer = await self.router.complete(
            request,
            Chain(models, frozenset(prompt.fallback_on)),
            sink=_RunSink(writer, pulse or Pulse(), tally),
            purse=purse,
            stay=tally.stay,
        )
        tally.add(answer)
        return answer


class _RunSink:
    """Shows a call's text in its run's stream, and keeps what became of its attempts."""

    def __init__(self, writer: StreamWriter, pulse: Pulse, tally: Tally) -> None:
        self._writer = writer
        self._pulse = pulse
        self._tally = tally
        self._call = tally.calls

    def calling(self, model: str, attempt: int) -> AbstractContextManager[None]:
        return self._pulse.calling(model, attempt)

    def listen(self, events: object) -> None:
        self._pulse.listen(events)

    def text(self, kind: Literal["text", "reasoning"], text: str, attempt: int) -> None:
        self._pulse.moved()
        self._writer.push(text, Label(kind, self._call, attempt))

    def flush(self) -> None:
        self._writer.flush(self._call)

    def record(self, record: CallRecord) -> None:
        tracing.current.get().attempt(self._call, record)
        self._tally.attempted(self._call, record)


class Sole(Catalogue):
    """The catalogue of a worker that has one provider and knows nothing of its models.

    Args:
        source: The provider's client.
        timeouts: Of one attempt.
    """

    def __init__(self, source: Source, timeouts: Timeouts | None = None) -> None:
        self._source = source
        self._timeouts = timeouts if timeouts is not None else Timeouts()

    def target(self, name: str) -> Target:
        """Return a model, whatever its name."""
        return Target(name=name, provider="default", model=name, source=self._source, timeouts=self._timeouts)
