"""Tools for models that tests play: what has happened outside is a line in a file for each call."""

from __future__ import annotations

import os
from pathlib import Path

from worker.runtime import tool

FOLDER = "SIGNALBOX_TEST_FOLDER"


def happened(folder: Path) -> list[str]:
    """Return what has happened outside, in order."""
    file = folder / "happened"
    return file.read_text().splitlines() if file.exists() else []


def note(what: str) -> str:
    """Let something happen outside, and say so with its number."""
    folder = Path(os.environ[FOLDER])
    with (folder / "happened").open("a") as lines:
        lines.write(f"{what}\n")
    return f"{what}, number {len(happened(folder))}"


@tool(effect="pure")
async def glance(at: str) -> str:
    """Look at something."""
    return note(f"looked at {at}")


@tool(effect="unsafe")
async def charge(what: str) -> str:
    """Charge somebody for something."""
    return note(f"charged {what}")
