"""Starts the scripted model server as a process of its own, for tests that need a model over real sockets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tests.host_process import REPOSITORY, find_node

STOP_S = 10.0


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
    process = subprocess.Popen(
        [find_node(), str(REPOSITORY / "scripted_model" / "server.mjs"), "--port", "0"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        ready = json.loads(process.stdout.readline())  # ends at once, with an empty line, if the server does
        yield ScriptedModel(ready["url"], ready["baseUrl"])
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
