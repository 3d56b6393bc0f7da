"""What an operator bounds at run time: runs at once, starts in a time, shares, and pauses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

from worker.backend import Json
from worker.models import Wire
from worker.paging import pages

ScopeKind = Literal["system", "queue", "agent", "tenant", "key", "lane"]
EACH = "*"  # the name of a kind's default, which holds for each name by itself

_Call = Callable[[str, dict[str, Any]], Awaitable[Json]]


class Rate(Wire):
    """At most `count` starts in `per_ms` milliseconds, and `burst` of them at once after a rest."""

    count: int
    per_ms: int
    burst: int


class Limit(Wire):
    """What bounds a scope; None where it sets no bound of its own."""

    kind: ScopeKind
    name: str
    limit: int | None
    rate: Rate | None
    weight: int | None
    paused: bool


class LimitPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    limits: list[Limit]
    cursor: str | None


class Limits:
    """`limits:*` of one deployment. Every change holds from the next start on; what runs goes on.

    A scope is the system (no name), a queue, an agent, a tenant, a limit key, or a lane, which `tasks why`
    names. The name "*" is the default of a kind, for each name by itself.

    Raises:
        FunctionFailed: The control plane refused; the message is one line.
        TransportError: It could not be reached in time.
    """

    def __init__(self, query: _Call, mutation: _Call) -> None:
        self._query = query
        self._mutation = mutation

    async def set(self, kind: ScopeKind, name: str, change: Mapping[str, int | Rate | None]) -> Limit:
        """Set the bounds that are given and leave the others.

        Args:
            kind: What the scope is.
            name: Its name; empty for the system.
            change: Any of `limit` (runs at once), `rate` and `weight` (tasks in one turn of a lane); None
                takes one away.
        """
        bounds = {
            field: value.model_dump(by_alias=True) if isinstance(value, Rate) else value
            for field, value in change.items()
        }
        return Limit.model_validate(
            await self._mutation("limits:set", {"kind": kind, "name": name, **bounds})
        )

    async def pause(self, kind: ScopeKind = "system", name: str = "") -> Limit:
        """Start nothing of the scope until it is resumed."""
        return Limit.model_validate(await self._mutation("limits:pause", {"kind": kind, "name": name}))

    async def resume(self, kind: ScopeKind = "system", name: str = "") -> Limit:
        """Let a paused scope go on under the bounds that it had."""
        return Limit.model_validate(await self._mutation("limits:resume", {"kind": kind, "name": name}))

    async def remove(self, kind: ScopeKind, name: str = "") -> bool:
        """Take all bounds of a scope away, its pause too; return whether there were any."""
        answer = await self._mutation("limits:remove", {"kind": kind, "name": name})
        return bool(answer["removed"])

    async def list(self) -> list[Limit]:
        """Return all limits by kind and name."""

        async def fetch(at: str | None) -> LimitPage:
            return LimitPage.model_validate(await self._query("limits:list", {"cursor": at}))

        return [item for page in await pages(fetch) for item in page.limits]
