"""What the router needs from others: models to ask, and somebody who shows the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from worker.llm.messages import ChatRequest, Event, Timeouts, TokenUsage
from worker.router.records import CallRecord


class Source(Protocol):
    """A provider's client, as `worker.llm.ChatClient`."""

    def stream(
        self, request: ChatRequest, timeouts: Timeouts | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Send a request and give its answer as events, the last of which is a `Completion`."""


def _no_price(usage: TokenUsage) -> int | None:  # noqa: ARG001 - a stand-in
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A model that can be asked.

    Attributes:
        name: `provider/model`.
        provider: The provider's name.
        model: The model's name as the provider knows it.
        source: Its client.
        context_tokens: Its window; None: not known.
        max_output_tokens: The longest answer; None: not known.
        capabilities: What it can do; None: not known.
        timeouts: Of one attempt.
        cost_micros: What tokens cost, in micro-dollars; None: no price is known.
    """

    name: str
    provider: str
    model: str
    source: Source
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    cost_micros: Callable[[TokenUsage], int | None] = _no_price


class Catalogue(Protocol):
    """Knows the models."""

    def target(self, name: str) -> Target:
        """Return a model by its name.

        Raises:
            ModelError: No such provider or model, or its key is not set; a line that says what to do.
        """


class Sink(Protocol):
    """Where the answer is shown; text of a later attempt supersedes that of earlier ones."""

    def calling(self, model: str, attempt: int) -> AbstractContextManager[None]:
        """Surround an attempt."""

    def listen(self, events: object) -> None:
        """Take note of an answer that knows when it last heard anything."""

    def text(self, kind: Literal["text", "reasoning"], text: str, attempt: int) -> None:
        """Show a piece of the answer."""

    def flush(self) -> None:
        """Show what has gathered."""

    def record(self, record: CallRecord) -> None:
        """Keep what became of an attempt."""
