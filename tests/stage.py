"""A deployment as tests drive it that are not coroutines themselves: those of stateful models."""

from __future__ import annotations

import functools
import json
import urllib.request
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import anyio.from_thread

from tests.deployment import Deployment
from worker.backend import Backend
from worker.errors import BackendOverloaded

T = TypeVar("T")


class Stage:
    """One host for all stories; each has a queue and a tenant of its own."""

    def __init__(
        self, at: Deployment, backend: Backend, audit: Backend, portal: anyio.from_thread.BlockingPortal
    ) -> None:
        self.at = at
        self.backend = backend
        self.audit = audit
        self._portal = portal

    def call(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any, **more: Any) -> T:
        for left in range(9, -1, -1):
            try:
                answer: T = self._portal.call(functools.partial(work, *args, **more))
                return answer
            except BackendOverloaded:  # it conflicted on purpose, five times in a row
                if left == 0:
                    raise
        raise AssertionError

    def clock(self, advance_ms: float | None = None) -> float:
        """Return the time, after letting it go on."""
        headers = {"authorization": f"Convex {self.at.host.admin_key}", "content-type": "application/json"}
        data = None if advance_ms is None else json.dumps({"advanceMs": round(advance_ms)}).encode()
        request = urllib.request.Request(self.at.host.url + "/api/host/clock", headers=headers, data=data)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return float(json.loads(answer.read())["now"])
