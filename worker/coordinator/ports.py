"""What the coordinator needs from both its sides: a control plane to talk to and runs to steer."""

from __future__ import annotations

from typing import Any, Protocol

from worker.models import (
    Allotment,
    Assignment,
    DrainReply,
    Emitted,
    GatheredPage,
    Inbox,
    ModelReport,
    ModelState,
    Registered,
    RegisterRequest,
    RunResult,
    Signal,
    Silence,
    Spawned,
    Spending,
    StepsPage,
    SyncReply,
    SyncRequest,
    UpstreamPage,
)


class ControlPlane(Protocol):
    """The functions of docs/architecture.md; each makes one attempt or raises a `BackendError`."""

    async def register(self, request: RegisterRequest, *, timeout: float) -> Registered:
        """Begin a session."""

    async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
        """Deliver what a session has to say."""

    async def inbox(self, session: str, *, timeout: float) -> Inbox:
        """Return what waits for a session."""

    async def input(self, session: str, run: str, *, timeout: float) -> str:
        """Return the JSON text of a large input."""

    async def output(self, session: str, run: str, text: str, *, timeout: float) -> None:
        """Keep the JSON text of a large output, ahead of its run's result."""

    async def spawn(
        self, session: str, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool, timeout: float
    ) -> Spawned:
        """Submit the children of a run."""

    async def emit(
        self, session: str, run: str, step: str, name: str, data: str, *, timeout: float
    ) -> Emitted:
        """Tell the tenant of a run's task of an event, once for the step."""

    async def upstream(self, session: str, run: str, after: int, *, timeout: float) -> UpstreamPage:
        """Return how the tasks have ended that a run's task comes after, behind the first `after`."""

    async def gathered(self, session: str, run: str, tasks: list[str], *, timeout: float) -> GatheredPage:
        """Return how children have ended."""

    async def steps(self, session: str, run: str, cursor: str | None, *, timeout: float) -> StepsPage:
        """Return a page of what earlier runs of the task have done."""

    async def drain(self, session: str, *, final: bool, timeout: float) -> DrainReply:
        """Stop new runs for a session, or sign it off."""


class Runs(Protocol):
    """The runs of one session, steered by the coordinator. No method waits, and none raises."""

    def assigned(self, assignment: Assignment) -> None:
        """Start a run; called once for each."""

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run on request; it reports that it was cancelled."""

    def pause(self, run: str, reason: str) -> None:
        """Hand a run back on request; its steps stand."""

    def signal(self, run: str, signal: Signal) -> None:
        """Tell a run something; the same signal may come again."""

    def stepped(self, run: str, key: str, refusal: str | None) -> None:
        """A step of this run was acknowledged, or it cannot be kept: `refusal` says why."""

    def allotted(self, run: str, allotment: Allotment) -> None:
        """Tell a run what it may spend."""

    def spending(self) -> list[Spending]:
        """Return what runs have spent since this was last asked."""

    def silent(self) -> list[Silence]:
        """Return the runs that have not moved for long."""

    def models(self, states: list[ModelState]) -> None:
        """What the control plane says of models: all of which it has anything to say."""

    def model_reports(self) -> list[ModelReport]:
        """Return what has happened with models since the last call; it is told once."""

    def confirmed(self, run: str) -> None:
        """A fenced write of this run was acknowledged: until then it may have had another owner."""

    def lost(self, run: str) -> None:
        """The run is no longer this session's: stop it, nothing of it is reported."""

    def settled(self, result: RunResult) -> None:
        """A result was taken or refused."""

    def drain(self, reason: str) -> None:
        """The control plane asks this worker to take no more runs and to leave."""
