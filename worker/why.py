"""Why tasks wait, as the control plane tells it."""

from __future__ import annotations

from worker.models import TaskStatus, Wire


class Reason(Wire):
    """One true reason why a task does not run now, and what would clear it.

    `at` is when time alone clears it, in milliseconds since the epoch; of a task that has ended, when it did.
    """

    code: str
    message: str
    clears: str
    at: float | None


class Why(Wire):
    """All reasons in the order in which they stand in a task's way; `lane` is what can be paused for it."""

    task: str
    status: TaskStatus
    lane: str
    reasons: list[Reason]


class Waiting(Wire):
    """What waits in a queue; with `more` at least that many. `oldest_ms` of those that were counted."""

    queue: str
    waiting: int
    more: bool
    oldest_ms: float


class StartLag(Wire):
    """From when a task was due to its assignment, over the last `runs`."""

    runs: int
    p50_ms: float
    p95_ms: float
    max_ms: float


class Backlog(Wire):
    """What waits in each queue; with `more` there are queues that were not counted."""

    queues: list[Waiting]
    more: bool
    start_lag: StartLag | None
