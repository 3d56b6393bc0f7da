"""A session with a control plane in memory, whose runs do nothing but remember what they were told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from worker.coordinator import ControlPlane, Session, register
from worker.models import (
    AgentOffer,
    Allotment,
    Assignment,
    ModelReport,
    ModelState,
    RegisterRequest,
    RunResult,
    Signal,
    Silence,
    Spending,
)

LEASE_S = 0.6  # short enough to see one run out, long enough for a busy machine to renew it


class Recorder:
    """Runs that do nothing but remember what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []
        self.changed = anyio.Event()

    def _note(self, *what: str) -> None:
        self.told.append(what)
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    def assigned(self, assignment: Assignment) -> None:
        self._note("assigned", assignment.run)

    def cancel(self, run: str, reason: str) -> None:
        self._note("cancel", run)

    def pause(self, run: str, reason: str) -> None:
        self._note("pause", run)

    def signal(self, run: str, signal: Signal) -> None:
        self._note("signal", run, signal.name)

    def stepped(self, run: str, key: str, refusal: str | None) -> None:
        self._note("stepped", run, key, *([] if refusal is None else [refusal]))

    def models(self, states: list[ModelState]) -> None:
        """None of these runs calls a model."""

    def model_reports(self) -> list[ModelReport]:
        return []

    def allotted(self, run: str, allotment: Allotment) -> None:
        self._note("allotted", run, allotment.verdict)

    def spending(self) -> list[Spending]:
        return []

    def silent(self) -> list[Silence]:
        return []

    def confirmed(self, run: str) -> None:
        self._note("confirmed", run)

    def lost(self, run: str) -> None:
        self._note("lost", run)

    def settled(self, result: RunResult) -> None:
        self._note("settled", result.run, str(result.accepted))

    def drain(self, reason: str) -> None:
        self._note("drain")

    async def until_any(self, what: str) -> tuple[str, ...]:
        """Return the first that it is told of this kind, once it is."""
        while not (found := [told for told in self.told if told[0] == what]):
            await self.changed.wait()
        return found[0]

    async def until(self, *what: str) -> None:
        while what not in self.told:
            await self.changed.wait()


def introduction(worker: str = "w", incarnation: str = "1", capacity: int = 10) -> RegisterRequest:
    return RegisterRequest(
        worker=worker,
        incarnation=incarnation,
        queues=["default"],
        agents=[AgentOffer(name="echo", description="")],
        labels=[],
        llm=True,
        capacity=capacity,
        version="0",
    )


class Endings:
    """How a session ended, once it has."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.ending: str | None = None


@asynccontextmanager
async def session(
    control: ControlPlane, runs: Recorder, **options: Any
) -> AsyncIterator[tuple[Session, Endings]]:
    opened = await register(control, introduction(), deadline_s=5)
    made, ended = Session(control, opened, runs, draw=lambda: 0.5, **options), Endings()

    async def keep() -> None:
        await made.run()
        ended.ending = None if made.ending is None else made.ending.code
        ended.over.set()

    with anyio.fail_after(15):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep)
            yield made, ended
            tasks.cancel_scope.cancel()
