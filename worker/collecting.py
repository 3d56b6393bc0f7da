"""Submits that share a task: the last of them counts, or all of them do."""

from __future__ import annotations

from worker.models import Wire


class Debounce(Wire):
    """Until a task with this key begins, a later one replaces its input and puts it off."""

    key: str
    for_ms: float
    max_ms: float | None = None


class Batch(Wire):
    """What has this key becomes one task, whose input is the array of inputs: at so many or after so long."""

    key: str
    max_items: int
    max_ms: float
