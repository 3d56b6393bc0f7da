"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The worker runs on asyncio alone: the official client's subscriptions know no other loop.

    Of the session, so that a module can share a deployment (`async` fixtures have it at the scope they need).
    """
    return "asyncio"
