"""What a control plane in memory keeps: tasks, runs and sessions, and how they look on the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import anyio

from worker.models import (
    AgentOffer,
    AgentVersion,
    Ask,
    Assignment,
    Chunk,
    Fork,
    LlmSpec,
    Outcome,
    ProgressReport,
    Signal,
    Step,
    Upstream,
    Usage,
)

INLINE_BYTES = 8 * 1024
TaskStatus = Literal["pending", "waiting", "running", "succeeded", "failed", "cancelled"]
ENDED = frozenset({"succeeded", "failed", "cancelled"})
RunState = Literal["assigned", "running", "succeeded", "failed", "cancelled", "released", "suspended", "lost"]


@dataclass(slots=True)
class FakeTask:
    """A task and all that became of it."""

    id: str
    agent: str
    input: str
    llm: LlmSpec | None = None
    timeout_ms: float | None = None
    max_attempts: int = 3
    status: TaskStatus = "pending"
    attempt: int = 0
    isolate: bool = False
    run: str | None = None
    runs: list[FakeRun] = field(default_factory=list)
    outcome: Outcome | None = None
    usage: Usage | None = None
    steps: dict[str, Step] = field(default_factory=dict)
    over_at: dict[str, float] = field(default_factory=dict)  # of its waits, by the step's key
    pinned: AgentVersion | None = None  # what took its first steps
    fork: Fork | None = None
    recorded: int = 0  # calls that its origins have made
    signals: list[Signal] = field(default_factory=list)  # that nobody has taken
    asked: dict[str, Ask] = field(default_factory=dict)  # open questions, by step
    waits: tuple[str, str | None] | None = None  # step and event; no event: it sleeps
    progress: ProgressReport | None = None
    upstream: list[Upstream] = field(default_factory=list)


@dataclass(slots=True)
class FakeRun:
    """One attempt at a task."""

    id: str
    task: FakeTask
    session: str
    attempt: int
    state: RunState = "assigned"
    chunks: list[Chunk] = field(default_factory=list)
    uploaded: str | None = None
    version: AgentVersion | None = None

    def text(self) -> str:
        """Return the run's text as a reader sees it: of each call, the latest attempt."""
        latest: dict[int, int] = {}
        for chunk in self.chunks:
            latest[chunk.call] = max(latest.get(chunk.call, 0), chunk.attempt)
        return "".join(c.text for c in self.chunks if c.kind == "text" and c.attempt == latest[c.call])


@dataclass(slots=True)
class Session:
    """One incarnation of a worker."""

    id: str
    worker: str
    incarnation: str
    capacity: int
    agents: list[AgentOffer]
    llm: bool
    expires_at: float
    seq: int = 0
    ended: str | None = None
    draining: bool = False
    changed: anyio.Event = field(default_factory=anyio.Event)
    given: list[FakeRun] = field(default_factory=list)  # what it plays, and some that it has played

    @property
    def live(self) -> bool:
        """Return whether it has not ended."""
        return self.ended is None


def fits(task: FakeTask, offers: dict[str, AgentOffer], llm: bool) -> bool:
    """Return whether a worker may play a task: pinned ones in their version alone."""
    if task.llm is not None:
        return llm
    offer = offers.get(task.agent)
    version = version_of(offer)
    return offer is not None and (
        task.pinned is None or (version is not None and version.version == task.pinned.version)
    )


def version_of(offer: AgentOffer | None) -> AgentVersion | None:
    """Return what an offer says of its code; None when it says nothing."""
    if offer is None or offer.code is None:
        return None
    return AgentVersion(version=offer.version or offer.code, code=offer.code)


def assignment_of(run: FakeRun) -> Assignment:
    """Return what a worker is told of a run."""
    task = run.task
    return Assignment(
        run=run.id,
        task=task.id,
        attempt=run.attempt,
        agent=task.agent,
        kind="llm" if task.llm else "python",
        input=task.input if len(task.input.encode()) <= INLINE_BYTES else None,
        llm=task.llm,
        timeout_ms=task.timeout_ms,
        isolate=task.isolate,
        once=task.max_attempts == 1,
        steps=len(task.steps),
        signals=len(task.signals),
        pinned=task.pinned,
        fork=task.fork,
    )
