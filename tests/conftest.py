"""What all tests share."""

from __future__ import annotations

import compileall
import os
from pathlib import Path

import pytest


def pytest_sessionstart() -> None:
    """Compile the package once: where Python is told to keep no bytecode, every process would do it again."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        compileall.compile_dir(Path(__file__).parent.parent / "worker", quiet=2)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The worker runs on asyncio alone: the official client's subscriptions know no other loop.

    Of the session, so that a module can share a deployment (`async` fixtures have it at the scope they need).
    """
    return "asyncio"
