"""What may be spent: money, tokens, calls and time, of everything, a tenant, a stack, an agent or a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from worker.backend import Json
from worker.models import Amounts, Caps, Wire
from worker.paging import pages

BudgetKind = Literal["all", "tenant", "stack", "agent", "task"]
Period = Literal["total", "day", "month", "run"]
OnBreach = Literal["warn", "degrade", "pause", "ask", "stop"]
EACH = "*"  # the name of a budget that each of its kind has for itself

_Call = Callable[[str, dict[str, Any]], Awaitable[Json]]
_PAGE = 100


class TaskBudget(Wire):
    """What a task may spend over all of its runs, with what it spawns: micro-dollars, tokens, calls, ms."""

    micros: int | None = None
    tokens: int | None = None
    calls: int | None = None
    ms: int | None = None
    on_breach: OnBreach | None = None
    children: bool | None = None
    unpriced: float | None = None


class BudgetSpec(Wire):
    """Which budget is meant, and what is to be changed of it; None leaves it as it is.

    Attributes:
        name: Of the tenant, stack or agent, the task's id, or "*" for each by itself; None for everything.
        caps: The limits that are given; a value of None takes one away.
        zone: Where its days and months begin, an IANA name; a new one has UTC.
        unpriced: Micro-dollars for each token of a model without a price; None: such a model is refused.
    """

    kind: BudgetKind
    name: str | None = None
    period: Period | None = None
    on_breach: OnBreach | None = None
    zone: str | None = None
    caps: dict[str, int | None]
    children: bool | None = None
    unpriced: float | None = None


class Budget(Wire):
    """A budget as it was set."""

    budget: str
    kind: BudgetKind
    name: str
    period: Period
    on_breach: OnBreach
    zone: str
    caps: Caps
    children: bool
    unpriced: float | None
    task: str | None


class Balance(Wire):
    """How a budget stands for one who spends from it. Instants in milliseconds since the epoch.

    `since` is 0 where there is no period. `held` is what live runs may spend without asking.
    """

    scope: str
    since: float
    until: float | None
    spent: Amounts
    held: Amounts
    paused: bool


class Listed(Wire):
    """A budget, and its balance unless each who spends from it has one."""

    budget: Budget
    balance: Balance | None


class BudgetPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    budgets: list[Listed]
    cursor: str | None


class Statement(Wire):
    """A budget with a page of its balances."""

    budget: Budget
    balances: list[Balance]
    cursor: str | None


class Budgets:
    """`budgets:*` of one deployment. A change holds for what is allotted from then on.

    A scope has one budget for each period and policy: so it can have one that warns below one that stops.

    Raises:
        FunctionFailed: The control plane refused; the message is one line.
        TransportError: It could not be reached in time.
    """

    def __init__(self, query: _Call, mutation: _Call) -> None:
        self._query = query
        self._mutation = mutation

    async def set(self, spec: BudgetSpec) -> Budget:
        """Set a budget or change one; what was spent of it stays spent."""
        args = spec.model_dump(by_alias=True, exclude={"caps"}, exclude_none=True)
        return Budget.model_validate(await self._mutation("budgets:set", {**args, "caps": spec.caps}))

    async def clear(
        self,
        kind: BudgetKind,
        name: str | None = None,
        *,
        period: Period = "total",
        on_breach: OnBreach = "stop",
        scope: str | None = None,
    ) -> None:
        """Count from nothing again and lift a pause, for one who spends from it (`scope`) or for all."""
        args = _place(kind, name, period, on_breach)
        await self._mutation("budgets:clear", args if scope is None else {**args, "scope": scope})

    async def remove(
        self,
        kind: BudgetKind,
        name: str | None = None,
        *,
        period: Period = "total",
        on_breach: OnBreach = "stop",
    ) -> bool:
        """Take a budget away; return whether there was one."""
        answer = await self._mutation("budgets:remove", _place(kind, name, period, on_breach))
        return bool(answer["removed"])

    async def list(self) -> list[Listed]:
        """Return all budgets but those of single tasks, by kind and name."""

        async def fetch(at: str | None) -> BudgetPage:
            return BudgetPage.model_validate(await self._query("budgets:list", {"cursor": at}))

        return [item for page in await pages(fetch) for item in page.budgets]

    async def get(
        self,
        kind: BudgetKind,
        name: str | None = None,
        *,
        period: Period = "total",
        on_breach: OnBreach = "stop",
        limit: int = _PAGE,
        cursor: str | None = None,
    ) -> Statement:
        """Return a budget with the balances of those who spend from it, the newest of each first."""
        args = {**_place(kind, name, period, on_breach), "limit": limit, "cursor": cursor}
        return Statement.model_validate(await self._query("budgets:get", args))


def _place(kind: BudgetKind, name: str | None, period: Period, on_breach: OnBreach) -> dict[str, Any]:
    return {
        "kind": kind,
        **({} if name is None else {"name": name}),
        "period": period,
        "onBreach": on_breach,
    }
