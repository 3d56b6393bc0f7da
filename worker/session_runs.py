"""The runs of one session: started, steered and reported as the coordinator is told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice

import anyio
from anyio.abc import TaskGroup

from worker.coordinator import Session
from worker.models import (
    Allotment,
    Assignment,
    ModelReport,
    ModelState,
    Released,
    RunResult,
    Signal,
    Silence,
    Spending,
)
from worker.router import Standing
from worker.routing import report_of, state_of
from worker.runtime import Environment, Run
from worker.runtime.outcome import failed

logger = logging.getLogger(__name__)

MAX_SPENDINGS = 256  # runs of which one sync tells what they have spent; the others wait for the next


class SessionRuns:
    """The runs of one session: implements the coordinator's `Runs`.

    Args:
        tasks: Where runs are played; it outlives the session, so a run that resists its end delays nobody.
        environment: What the runs share.
        on_drain: Called when the control plane asks the worker to leave.
    """

    def __init__(self, tasks: TaskGroup, environment: Environment, on_drain: Callable[[str], None]) -> None:
        self.session: Session | None = None
        self.draining = False
        self._tasks = tasks
        self._environment = environment
        self._on_drain = on_drain
        self._active: dict[str, Run] = {}
        self._standing: Standing | None = None  # that of the worker, once it was told of models
        self._none_left = anyio.Event()

    def assigned(self, assignment: Assignment) -> None:
        """Start a run, or hand it back when the worker is leaving."""
        session = self.session
        if session is None:
            return
        if self.draining:
            session.finish(assignment.run, Released(), None)
            return
        run = Run(assignment, self._environment, session)
        self._active[run.id] = run
        self._tasks.start_soon(self._play, run, session)

    async def _play(self, run: Run, session: Session) -> None:
        try:
            session.accept(run.id)
            report = await run.play()
            if report is not None:
                session.finish(run.id, report.outcome, report.usage, report.spending)
        except Exception as error:
            logger.exception("a run could not be played", extra={"action": "run_crashed", "run": run.id})
            # Never released: without a burnt attempt it would come back for ever.
            why = self._environment.redact.line(f"The worker could not play the run: {error!r}")
            session.finish(run.id, failed("worker_error", why, retryable=True), None)
        finally:
            self._active.pop(run.id, None)
            if not self._active:
                self._none_left.set()

    def cancel(self, run: str, reason: str) -> None:
        """Cancel a run on request."""
        if (active := self._active.get(run)) is not None:
            logger.info("run cancelled", extra={"action": "run_cancelled", "run": run, "reason": reason})
            active.stop("cancelled")

    def pause(self, run: str, reason: str) -> None:
        """Hand a run back on request."""
        if (active := self._active.get(run)) is not None:
            logger.info("run paused", extra={"action": "run_paused", "run": run, "reason": reason})
            active.stop("released")

    def signal(self, run: str, signal: Signal) -> None:
        """Tell a run something."""
        if (active := self._active.get(run)) is not None:
            active.signal(signal)

    def stepped(self, run: str, key: str, refusal: str | None) -> None:
        """Tell a run that a step of it was acknowledged, or cannot be kept."""
        if (active := self._active.get(run)) is not None:
            active.stepped(key, refusal)

    def models(self, states: list[ModelState]) -> None:
        """Take in how models stand; what a session before this one was told holds no more."""
        if (model := self._environment.model) is None:
            return
        standing = model.router.standing
        if self._standing is None:
            self._standing = standing
            standing.begin()
            standing.on_news = self._hurry
        standing.learn(state_of(state) for state in states)

    def _hurry(self) -> None:
        if self.session is not None:
            self.session.hurry()

    def model_reports(self) -> list[ModelReport]:
        """Return what has happened with models since the last call."""
        standing, redact = self._standing, self._environment.redact
        return [] if standing is None else [report_of(report, redact) for report in standing.reports()]

    def allotted(self, run: str, allotment: Allotment) -> None:
        """Tell a run what it may spend."""
        if (active := self._active.get(run)) is not None:
            active.allotted(allotment)

    def spending(self) -> list[Spending]:
        """Return what runs have spent since this was last asked."""
        told = (run.spending() for run in self._active.values())
        return list(islice((news for news in told if news is not None), MAX_SPENDINGS))

    def silent(self) -> list[Silence]:
        """Return the runs that have not moved for long, the longest silent first."""
        found = [silence for run in self._active.values() if (silence := run.silence()) is not None]
        return sorted(found, key=lambda silence: -silence.ms)

    def confirmed(self, run: str) -> None:
        """Tell a run that it is this session's."""
        if (active := self._active.get(run)) is not None:
            active.confirm()

    def lost(self, run: str) -> None:
        """Stop a run that is no longer this session's."""
        if (active := self._active.get(run)) is not None:
            logger.warning("run lost", extra={"action": "run_lost", "run": run})
            active.stop("lost")

    def settled(self, result: RunResult) -> None:
        """Note a result that was refused."""
        if not result.accepted:
            logger.warning(
                "result refused",
                extra={"action": "result_refused", "run": result.run, "reason": result.reason},
            )

    def drain(self, reason: str) -> None:
        """Let the worker leave."""
        self._on_drain(reason)

    def release(self) -> None:
        """Cancel every run and hand it back."""
        for run in list(self._active.values()):
            run.stop("released")

    def names(self) -> list[str]:
        """Return the runs that have not ended."""
        return list(self._active)

    async def ended(self) -> None:
        """Wait until no run is left."""
        while self._active:
            self._none_left = anyio.Event()
            await self._none_left.wait()
