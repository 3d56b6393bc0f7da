"""Starts the scripted model server as a process of its own, for tests that need a model over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from worker.local import MODEL, LocalProcess, node_command


@dataclass(frozen=True)
class ScriptedModel:
    """A running server.

    Attributes:
        url: Where its pages are.
        base_url: Where its API is.
    """

    url: str
    base_url: str

    def requests(self) -> list[dict[str, Any]]:
        """Return the last 1,000 requests that it saw, oldest first."""
        seen: list[dict[str, Any]] = httpx.get(f"{self.url}/requests").raise_for_status().json()["requests"]
        return seen


@contextmanager
def scripted_model() -> Iterator[ScriptedModel]:
    """Run the server on a free port."""
    with LocalProcess(node_command(MODEL, ["--port", "0"])) as server:
        yield ScriptedModel(server.ready["url"], server.ready["baseUrl"])
