"""Models of providers as the control plane knows them: how they do, their limits, every attempt."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from worker.backend import Json
from worker.models import CallReport, RunError, Wire
from worker.paging import pages

_Call = Callable[[str, dict[str, Any]], Awaitable[Json]]


class ModelCounts(Wire):
    """What workers have told of."""

    requests: int
    failures: int
    tokens: int


class ModelView(Wire):
    """A model as it stands.

    `requests` and `tokens` are limits of all workers together, in `per_ms`; None: there is none. `error` is
    the last failure, and for `cool_ms` nobody asks the model. `shares` counts workers that hold a share.
    """

    model: str
    requests: int | None
    tokens: int | None
    per_ms: float
    cool_ms: float
    error: RunError | None
    error_at: float | None
    minute: ModelCounts
    total: ModelCounts
    shares: int


class ModelPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    models: list[ModelView]
    cursor: str | None


class ModelCall(CallReport):
    """An attempt at a model call of a run of a task."""

    task: str


class CallsPage(Wire):
    """A page of attempts; `cursor` is None on the last."""

    calls: list[ModelCall]
    cursor: str | None


class Models:
    """`models:*` of one deployment. Changes need an operator key.

    Raises:
        FunctionFailed: The control plane refused; the message is one line.
        TransportError: It could not be reached in time.
    """

    def __init__(self, query: _Call, mutation: _Call) -> None:
        self._query = query
        self._mutation = mutation

    async def set(self, model: str, **limits: int | None) -> ModelView:
        """Set the limits that are given and leave the others; all workers keep to them together.

        Args:
            model: `provider/model`.
            limits: Any of `requests`, `tokens` (None takes one away), and `per_ms`, a minute by default.
        """
        change = {{"per_ms": "perMs"}.get(name, name): value for name, value in limits.items()}
        return ModelView.model_validate(await self._mutation("models:set", {"model": model, **change}))

    async def clear(self, model: str) -> ModelView:
        """Let a model be asked again at once, by all workers: what was wrong has been put right."""
        return ModelView.model_validate(await self._mutation("models:clear", {"model": model}))

    async def calls(self, task: str) -> list[ModelCall]:
        """Return every attempt of a task's model calls, in the order in which they were reported."""

        async def fetch(at: str | None) -> CallsPage:
            return CallsPage.model_validate(await self._query("models:calls", {"task": task, "cursor": at}))

        return [item for page in await pages(fetch) for item in page.calls]

    async def list(self) -> list[ModelView]:
        """Return every model that workers have asked lately or that has limits, by name."""

        async def fetch(at: str | None) -> ModelPage:
            return ModelPage.model_validate(await self._query("models:list", {"cursor": at}))

        return [item for page in await pages(fetch) for item in page.models]
