"""Agents and tools that installed packages bring, found by their entry points.

A package names modules, or objects in them, under `signalbox.agents` and `signalbox.tools`. Importing a
module registers what it defines with `@agent` and `@tool`, as with a module that `--agents` names.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points

logger = logging.getLogger(__name__)

GROUPS = ("signalbox.tools", "signalbox.agents")  # agents name tools, so those come first


def load_plugins(take: Callable[[object], None]) -> None:
    """Import every plug-in that is installed; the log tells of those that do not import.

    Args:
        take: Registers what an entry point names, if that is more than a module.
    """
    for group in GROUPS:
        for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
            try:
                take(entry.load())
            except (Exception, SystemExit) as error:
                what = " ".join(f"{type(error).__name__}: {error}".split())[:500]
                line = (
                    f"The plug-in {entry.name!r} of {_package(entry)} does not load ({entry.value}): {what}"
                )
                logger.error("%s", line, extra={"action": "plugin_failed", "plugin": entry.name})  # noqa: TRY400


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown package"
