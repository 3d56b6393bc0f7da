"""Processes that a test looks at from outside: whether they run, and when they have ended."""

from __future__ import annotations

from pathlib import Path

import anyio


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    """Wait until a process has ended; one that nobody has waited for yet counts as ended."""
    with anyio.fail_after(10):
        while is_running(pid):
            await anyio.sleep(0.01)
