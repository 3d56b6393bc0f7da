"""What one run may spend: it decides by itself within what it was allotted, and asks for more."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import anyio

from worker.errors import AgentError
from worker.models import Allotment, Amounts, Spending, Want
from worker.purse import BudgetExceeded, Hold, UnpricedModel

UNITS = ("micros", "tokens", "calls", "ms")
_EARLY = 0.2  # time is asked for anew when so much of the last piece of it is left
_SHORTEST_MS = 1_000  # and a piece that is shorter is used up first: it is the last


class Halted(AgentError):  # noqa: N818 - the name says what happened
    """A budget halts the run, which ends with what `halt` was told."""


class RunPurse:
    """The purse of a run under budgets: implements the router's `Purse`.

    What is reserved and spent is told with the syncs. A wish for more gives back what is not reserved: until
    it is answered nothing else is reserved, so a run that waits holds nothing but its calls under way.

    Args:
        run: Whose purse it is.
        allotment: What the run was given at its start.
        tell: Has what changed told soon.
        halt: Ends the run when a budget pauses it, or asks people about it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        run: str,
        allotment: Allotment,
        *,
        tell: Callable[[], None],
        halt: Callable[[Allotment], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._tell = tell
        self._halt = halt
        self._clock = clock
        self._began = clock()
        self._allotment = allotment
        self._spent = Amounts()
        self._reserved = Amounts()
        self._line = anyio.Lock()  # first come, first served
        self._want: Want | None = None
        self._number = allotment.want
        self._answered = anyio.Event()
        self._told: Spending | None = None
        self._piece_ms = allotment.granted.ms or 0

    @property
    def degraded(self) -> bool:
        """Whether the cheapest model of a chain is to be taken."""
        return self._allotment.degraded

    @property
    def limits_time(self) -> bool:
        """Whether `keep_time` has something to do."""
        return self._allotment.granted.ms is not None

    async def reserve(self, micros: int | None, tokens: int) -> Hold:
        """Reserve one attempt, once there is enough.

        Raises:
            UnpricedModel: The model has no price, and money is limited without a price for such models.
            BudgetExceeded: A budget is spent.
            Halted: A budget pauses the run, or asks for an approval.
        """
        async with self._line:
            while True:
                need = Amounts(micros=self._priced(micros, tokens), tokens=max(0, tokens), calls=1)
                if self._fits(need):
                    self._reserved = _sum(self._reserved, need)
                    self._tell()
                    return _Hold(self, need, priced=micros is not None)
                await self._ask(need)

    async def keep_time(self) -> None:
        """Ask for more time before it runs out, for as long as the run lasts.

        Raises:
            BudgetExceeded: There is no more.
            Halted: See `reserve`.
        """
        while (most := self._allotment.granted.ms) is not None:
            left = most - self._elapsed_ms()
            early = self._piece_ms * _EARLY if self._piece_ms >= _SHORTEST_MS else 0
            if left > early:
                await anyio.sleep((left - early) / 1000)
                continue
            async with self._line:
                if self._allotment.granted.ms == most:
                    await self._ask(Amounts(ms=1))

    def answered(self, allotment: Allotment) -> None:
        """Take what the control plane says to a wish; an answer to an older one is passed over."""
        if self._want is None or allotment.want != self._want.number:
            return
        self._want = None
        self._allotment = allotment
        self._piece_ms = (allotment.granted.ms or 0) - self._elapsed_ms()
        self._answered.set()

    def changed(self) -> Spending | None:
        """Return how the purse stands if that is news since it was last asked, or a wish is open."""
        now = self.spending()
        if self._want is None and (now == self._told or (self._told is None and self._idle())):
            return None
        self._told = now
        return now

    def spending(self) -> Spending:
        """Return how the purse stands."""
        spent = self._spent.model_copy(update={"ms": self._elapsed_ms()}) if self.limits_time else self._spent
        return Spending(run=self._run, spent=spent, reserved=self._reserved, want=self._want)

    def settle(self, reserved: Amounts, spent: Amounts) -> None:
        """Count an attempt that is over."""
        self._reserved = _minus(self._reserved, reserved)
        self._spent = _sum(self._spent, spent)
        if self._want is not None:  # more may be free for it by now
            self._wish(self._want.need)
        self._tell()

    def price_of(self, tokens: int) -> int:
        """Return what tokens of a model without a price count."""
        return math.ceil(tokens * (self._allotment.unpriced or 0))

    def _idle(self) -> bool:
        return not self._spent.calls and not self._reserved.calls

    def _elapsed_ms(self) -> int:
        return round((self._clock() - self._began) * 1000)

    def _priced(self, micros: int | None, tokens: int) -> int:
        if micros is not None:
            return max(0, micros)
        if self._allotment.granted.micros is None:
            return 0
        if self._allotment.unpriced is None:
            raise UnpricedModel(
                "A budget in money applies and the model has no price: state one in the table of models "
                "(SIGNALBOX_MODELS), or set one for such models with `signalbox budgets set --unpriced`"
            )
        return self.price_of(tokens)

    def _fits(self, need: Amounts) -> bool:
        granted, spent = self._allotment.granted, self.spending().spent
        for unit in UNITS:
            cap: int | None = getattr(granted, unit)
            used = getattr(spent, unit) + getattr(self._reserved, unit) + getattr(need, unit)
            if cap is not None and used > cap:
                return False
        return True

    def _wish(self, need: Amounts) -> None:
        self._number += 1
        self._want = Want(number=self._number, need=need)

    async def _ask(self, need: Amounts) -> None:
        """Return once more was granted."""
        self._answered = anyio.Event()
        self._wish(need)
        self._tell()
        try:
            await self._answered.wait()
        finally:
            self._want = None
        verdict, why = self._allotment.verdict, self._allotment.why or "A budget is spent"
        if verdict == "exceeded":
            raise BudgetExceeded(why)
        if verdict != "granted":
            self._halt(self._allotment)
            raise Halted(why)


class _Hold:
    def __init__(self, purse: RunPurse, reserved: Amounts, *, priced: bool) -> None:
        self._purse = purse
        self._reserved = reserved
        self._priced = priced
        self._open = True

    def settle(self, micros: int | None, tokens: int | None) -> None:
        if not self._open:
            return
        self._open = False
        used = self._reserved.tokens if tokens is None else max(0, tokens)
        if micros is None:
            micros = self._reserved.micros if self._priced else self._purse.price_of(used)
        self._purse.settle(self._reserved, Amounts(micros=max(0, micros), tokens=used, calls=1))

    def close(self) -> None:
        self.settle(None, None)


def _sum(a: Amounts, b: Amounts) -> Amounts:
    return Amounts(**{unit: getattr(a, unit) + getattr(b, unit) for unit in UNITS})


def _minus(a: Amounts, b: Amounts) -> Amounts:
    return Amounts(**{unit: getattr(a, unit) - getattr(b, unit) for unit in UNITS})
