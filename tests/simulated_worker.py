"""Workers without agents, for tests of the control plane: a test decides what becomes of their runs."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import SecretStr

from worker.api import Api
from worker.backend import Backend
from worker.errors import BackendOverloaded
from worker.models import (
    AgentOffer,
    Assignment,
    CallReport,
    Finished,
    ModelReport,
    Outcome,
    ProgressReport,
    RegisterRequest,
    Spending,
    StepReport,
    Succeeded,
    SyncReply,
    SyncRequest,
)

_CALL_S = 30.0
_TRIES = 10


@dataclass
class SimulatedWorker:
    """One session; it holds what it was assigned until it is told to finish it.

    Attributes:
        held: The runs it has accepted, by id.
        waiting: The runs that it accepts with its next sync.
        live: Whether its last sync found its session alive.
    """

    api: Api
    name: str
    session: str = ""
    seq: int = 0
    live: bool = True
    held: dict[str, Assignment] = field(default_factory=dict)
    waiting: dict[str, Assignment] = field(default_factory=dict)
    _controls: list[str] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    _last: SyncRequest | None = None

    @classmethod
    async def register(
        cls,
        backend: Backend,
        key: str,
        name: str,
        *,
        capacity: int = 10,
        queues: Iterable[str] = ("default",),
        agents: Iterable[str] = ("noop",),
        labels: Iterable[str] = (),
        replaces: bool = False,
    ) -> SimulatedWorker:
        """Begin a session. `replaces`: take the worker over from the one that holds it, with a first word."""
        worker = cls(Api(backend, SecretStr(key)), name)
        request = RegisterRequest(
            worker=name,
            incarnation=uuid.uuid4().hex,
            queues=list(queues),
            agents=[AgentOffer(name=agent, description="") for agent in agents],
            labels=list(labels),
            llm=False,
            capacity=capacity,
            version="simulated",
        )
        worker.session = (await worker.api.register(request, timeout=_CALL_S)).session
        if replaces:
            word = SyncRequest(
                session=worker.session, seq=0, accepted=[], chunks=[], finished=[], acknowledged=[]
            )
            await worker.api.sync(word, timeout=_CALL_S)
        return worker

    async def sync(
        self,
        finished: Iterable[tuple[str, Outcome]] = (),
        *,
        steps: Iterable[StepReport] | None = None,
        progress: Iterable[ProgressReport] | None = None,
        spending: Iterable[Spending] | None = None,
        calls: Iterable[CallReport] | None = None,
        models: Iterable[ModelReport] | None = None,
        last: Mapping[str, Spending] | None = None,
    ) -> SyncReply:
        """Accept what was assigned, report what is done and finished, and take in what is new.

        `last` is what runs that are finished have spent.
        """
        self.seq += 1
        accepted, self.waiting = self.waiting, {}
        controls, self._controls = self._controls, []
        final = last or {}
        done = [
            Finished(run=run, outcome=outcome, usage=None, spending=final.get(run))
            for run, outcome in finished
        ]
        body = SyncRequest(
            session=self.session,
            seq=self.seq,
            accepted=list(accepted),
            chunks=[],
            finished=done,
            acknowledged=controls,
            steps=None if steps is None else list(steps),
            progress=None if progress is None else list(progress),
            spending=None if spending is None else list(spending),
            calls=None if calls is None else list(calls),
            models=None if models is None else list(models),
        )
        reply = await self._send(body)
        self.live = reply.live
        self.held.update(accepted)
        for item in done:
            self.held.pop(item.run, None)
        for run in reply.lost:
            self.held.pop(run, None)
        self.waiting = {a.run: a for a in reply.assigned if a.run not in self.held}
        self._controls = [control.control for control in reply.controls]
        self.cancelled |= {c.run for c in reply.controls if c.kind == "cancel" and c.run is not None}
        return reply

    async def repeat(self) -> SyncReply:
        """Send the last request once more, as a network may."""
        assert self._last is not None
        return await self._send(self._last)

    async def _send(self, body: SyncRequest) -> SyncReply:
        self._last = body
        for _ in range(_TRIES - 1):
            try:
                return await self.api.sync(body, timeout=_CALL_S)
            except BackendOverloaded:  # a host that conflicts on purpose
                continue
        return await self.api.sync(body, timeout=_CALL_S)

    async def finish_all(self) -> SyncReply:
        """Report success for every run it holds."""
        return await self.succeed(list(self.held))

    async def succeed(self, runs: Iterable[str]) -> SyncReply:
        """Report success for these runs."""
        return await self.sync([(run, Succeeded(output=None)) for run in runs])


def called(run: str, call: int) -> CallReport:
    """Return what a worker tells of a call that was cancelled and had cost 7 micro-dollars."""
    return CallReport(
        run=run,
        call=call,
        attempt=1,
        model="m",
        provider="p",
        started_ms=0,
        ms=1,
        state="cancelled",
        error=None,
        usage=None,
        cost_micros=7,
        estimated=True,
    )
