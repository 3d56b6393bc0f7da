"""One attempt: a model asked, its answer shown as it comes, and what that has cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from worker.llm.errors import ConnectionFailed, ModelError, StreamTruncated
from worker.llm.messages import (
    ChatRequest,
    Completion,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenUsage,
)
from worker.purse import Hold
from worker.router.decide import Need
from worker.router.ports import Sink, Target
from worker.router.records import CallRecord, CallState
from worker.router.standing import Ticket
from worker.router.tokens import tokens_in

_NOTHING = TokenUsage(0, 0)


class Attempt:
    """What is known of an attempt, while it lasts and afterwards.

    Args:
        target: Who is asked.
        number: Counts the attempts of the call from 1.
        need: The size of the prompt.
        ticket: Its room under the limits of its model.
        hold: What is reserved for it of the run's budgets.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        target: Target,
        number: int,
        need: Need,
        *,
        ticket: Ticket,
        hold: Hold,
        clock: Callable[[], float],
    ) -> None:
        self.target = target
        self.number = number
        self.ticket = ticket
        self._hold = hold
        self.chars = 0  # of the answer so far
        self.answered = False  # the provider has begun to answer
        self.usage: TokenUsage | None = None  # as the provider tells it
        self._need = need
        self._clock = clock
        self._started = clock()
        self._free = False  # the provider has turned it away, or never heard of it

    @property
    def spent(self) -> TokenUsage:
        """What it used: as told, else estimated from what was sent and what came."""
        if self.usage is not None:
            return self.usage
        return _NOTHING if self._free else TokenUsage(self._need.likely, tokens_in(self.chars))

    @property
    def tokens(self) -> int:
        """What it used in all."""
        return (self.spent.input_tokens or 0) + (self.spent.output_tokens or 0)

    @property
    def cost_micros(self) -> int | None:
        """What it cost; None: no price is known."""
        return 0 if self._free and self.usage is None else self.target.cost_micros(self.spent)

    def over(self, error: ModelError | None) -> None:
        """Settle what it used; without an error it was answered, or cancelled."""
        if error is not None and self.usage is None and not self.answered:
            self._free = error.status is not None or isinstance(error, ConnectionFailed)
        self.ticket.settle(self.tokens)
        self._hold.settle(self.cost_micros, self.tokens)

    def record(self, state: CallState, error: ModelError | None) -> CallRecord:
        """Return what is kept of it, once it is over."""
        return CallRecord(
            attempt=self.number,
            model=self.target.name,
            provider=self.target.provider,
            started_s=self._started,
            ms=(self._clock() - self._started) * 1000,
            state=state,
            code=None if error is None else error.code,
            message=None if error is None else str(error),
            usage=None if self._free else self.spent,
            cost_micros=self.cost_micros,
            estimated=self.usage is None and not self._free,
        )


async def ask(request: ChatRequest, attempt: Attempt, sink: Sink, left_s: float | None) -> Completion:
    """Ask a model and show what it says.

    Raises:
        ModelError: It has not given a whole answer.
    """
    target, number = attempt.target, attempt.number
    timeouts = target.timeouts
    if left_s is not None:
        timeouts = replace(timeouts, total_s=min(timeouts.total_s, max(0.0, left_s)))
    completion: Completion | None = None
    with sink.calling(target.name, number):
        try:
            async with target.source.stream(replace(request, model=target.model), timeouts) as events:
                attempt.ticket.answered()
                attempt.answered = True
                sink.listen(events)
                async for event in events:
                    if isinstance(event, Completion):
                        completion = event
                    elif isinstance(event, TextDelta | RefusalDelta | ReasoningDelta):
                        attempt.chars += len(event.text)
                        sink.text(
                            "reasoning" if isinstance(event, ReasoningDelta) else "text", event.text, number
                        )
                    else:
                        attempt.chars += len(event.arguments)
        finally:
            sink.flush()
    if completion is None:
        raise StreamTruncated("The model's answer ended without a completion")
    attempt.usage = completion.usage
    return completion
