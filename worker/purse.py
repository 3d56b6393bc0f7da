"""What a run may spend: asked before each attempt of a model call, told after it.

    hold = await purse.reserve(micros, tokens)      # the most that the attempt can cost
    try:
        ...                                         # the attempt
        hold.settle(cost_micros, used_tokens)
    finally:
        hold.close()                                # nothing was settled: what was reserved counts as spent

It depends on nothing but the errors, so that the router, which asks, and the runtime, which answers, share
it.
"""

from __future__ import annotations

from typing import Protocol

from worker.errors import NonRetryable


class BudgetExceeded(NonRetryable):
    """A budget that stops runs has been spent; the message names it."""

    code = "budget_exceeded"


class UnpricedModel(NonRetryable):
    """A budget in money applies, and the model has no price."""

    code = "unpriced_model"


class Hold(Protocol):
    """What is reserved for one attempt. Neither method waits, so both may be called while cancelled."""

    def settle(self, micros: int | None, tokens: int | None) -> None:
        """Count what the attempt has cost, also beyond what was reserved; None: as much as was reserved.

        An attempt that never reached its provider is settled with 0 and 0, and still counts as a call. Only
        the first settlement counts.
        """

    def close(self) -> None:
        """Settle with what was reserved, unless it is settled."""


class Purse(Protocol):
    """What one run may spend. Amounts are integers: micro-dollars and tokens."""

    @property
    def degraded(self) -> bool:
        """Whether the cheapest model of a chain is to be taken. Asked before each attempt."""

    async def reserve(self, micros: int | None, tokens: int) -> Hold:
        """Reserve the most that one attempt can cost, waiting for more to be allotted where it has to.

        The most is: the request's tokens, estimated, and as many output tokens as may come, at the model's
        prices.

        Args:
            micros: None when the model has no price.
            tokens: Input and output.

        Raises:
            UnpricedModel: `micros` is None and money is limited. Another model of the chain may do.
            BudgetExceeded: A budget is spent. No model will do; the run fails with it.
        """


class Unlimited:
    """The purse of a run without budgets: it allows all and counts nothing."""

    degraded = False

    async def reserve(self, micros: int | None, tokens: int) -> Hold:
        """Return at once."""
        del micros, tokens
        return _NOTHING


class _Nothing:
    def settle(self, micros: int | None, tokens: int | None) -> None:
        del micros, tokens

    def close(self) -> None:
        pass


_NOTHING = _Nothing()
UNLIMITED: Purse = Unlimited()
