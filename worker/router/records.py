"""What is kept of every attempt at a model call, whatever became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from worker.llm.messages import TokenUsage

# superseded: it had shown text when it failed, and a later attempt took its place.
CallState = Literal["succeeded", "failed", "superseded", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One attempt.

    Attributes:
        attempt: Counts the attempts of the call from 1, over all models.
        model: `provider/model`.
        provider: Who was asked.
        started_s: When, by the router's monotonic clock.
        ms: How long it took.
        state: What became of it.
        code: The class of its failure; None when it succeeded.
        message: One line for people; None when it succeeded.
        usage: None when nothing is known: the provider told nothing, or never got to work.
        cost_micros: Micro-dollars; None when it is not known: no price, or no usage.
        estimated: `usage` and `cost_micros` are this worker's own estimate.
    """

    attempt: int
    model: str
    provider: str
    started_s: float
    ms: float
    state: CallState
    code: str | None
    message: str | None
    usage: TokenUsage | None
    cost_micros: int | None
    estimated: bool
