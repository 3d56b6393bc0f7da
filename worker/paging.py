"""Lists that come in pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar


class Page(Protocol):
    """A page of a list; `cursor` is None on the last."""

    @property
    def cursor(self) -> str | None:
        """Where the next page begins."""


P = TypeVar("P", bound=Page)


async def pages(fetch: Callable[[str | None], Awaitable[P]]) -> list[P]:
    """Return all pages of a list, the first of them for the cursor None."""
    found = [await fetch(None)]
    while (cursor := found[-1].cursor) is not None:
        found.append(await fetch(cursor))
    return found
