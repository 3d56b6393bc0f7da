"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The worker runs on asyncio alone: the official client's subscriptions know no other loop."""
    return "asyncio"
