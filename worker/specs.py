"""A task as it is submitted, and what becomes of that."""

from __future__ import annotations

from typing import Literal

from worker.budgets import TaskBudget
from worker.collecting import Batch, Debounce
from worker.groups import After, OnComplete
from worker.models import RetryPolicy, Wire


class TaskSpec(Wire):
    """A task to submit, for an agent or for any that has a capability. `input` is JSON text.

    Without a `dedup_key` each call makes a new task; with one it names the task that was submitted with it,
    as long as that is kept, or for its `dedup_for_ms`.

    It runs on a worker that carries all its `labels`, preferably on the one that ran a task with the same
    `sticky` text last, and counts against the limits of its queue, agent, tenant and `key`. It fails if it
    has not begun or ended within the times given, from its submission. It spends from the budgets of its
    tenant, `stack` and agent, of what has spawned it, and from its own.
    """

    agent: str | None = None
    capability: str | None = None
    input: str
    queue: str | None = None
    tenant: str | None = None
    priority: float | None = None
    dedup_key: str | None = None
    dedup_for_ms: float | None = None
    delay_ms: float | None = None
    run_at: float | None = None
    timeout_ms: float | None = None
    retry: RetryPolicy | None = None
    start_within_ms: float | None = None
    end_within_ms: float | None = None
    labels: list[str] | None = None
    key: str | None = None
    debounce: Debounce | None = None
    batch: Batch | None = None
    ref: str | None = None
    after: list[After] | None = None
    after_mode: Literal["all", "any"] | None = None
    group: str | None = None
    on_complete: OnComplete | None = None
    sticky: str | None = None
    traceparent: str | None = None
    stack: str | None = None
    budget: TaskBudget | None = None


class Submitted(Wire):
    """A task that is now durable; `duplicate` if its dedup key had been used before."""

    task: str
    duplicate: bool
