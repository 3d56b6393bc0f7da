"""What a run needs that is played alone, without a worker and a control plane."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from worker import errors
from worker.llm import (
    ChatRequest,
    Completion,
    Event,
    ModelError,
    Timeouts,
    TokenUsage,
)
from worker.models import (
    Assignment,
    CallReport,
    ChunkKind,
    Emitted,
    Outcome,
    Progress,
    Spawned,
    StepReport,
    StepsPage,
    Upstream,
)
from worker.runtime import Agent, Context, Environment, Registry, Run
from worker.runtime.executors import Executor


class Reporter:
    """Keeps what a run says."""

    keeps_steps = True

    def __init__(self) -> None:
        self.said: list[tuple[str, int, int, str]] = []
        self.hurried = anyio.Event()
        self.sent: list[str] = []
        self.refuses: errors.BackendError | None = None
        self.kept: list[StepReport] = []
        self.told: list[tuple[Progress | None, str | None]] = []
        self.calls: list[CallReport] = []

    def call(self, report: CallReport) -> None:
        self.calls.append(report)

    def text(self, run: str, text: str, *, kind: ChunkKind, call: int, attempt: int) -> None:
        self.said.append((kind, call, attempt, text))

    async def room(self) -> None:
        await anyio.lowlevel.checkpoint()

    def hurry(self) -> None:
        self.hurried.set()

    async def steps(self, run: str) -> StepsPage:
        return StepsPage(steps=[], cursor=None, signals=[])

    def step(self, report: StepReport) -> None:
        self.kept.append(report)

    def tell(self, run: str, progress: Progress | None, state: str | None) -> None:
        self.told.append((progress, state))

    async def spawn(self, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        raise NotImplementedError

    async def gathered(self, run: str, tasks: list[str]) -> list[Upstream]:
        raise NotImplementedError

    async def emit(self, run: str, step: str, name: str, data: str) -> Emitted:
        raise NotImplementedError

    async def upstream(self, run: str) -> list[Upstream]:
        raise NotImplementedError

    async def input(self, run: str) -> str:
        if run == "unreachable":
            raise errors.BackendUnreachable("down")
        return '"a large input"'

    async def output(self, run: str, text: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append(text)


class Model:
    """A provider that plays back what it was given: events, or an error to raise."""

    def __init__(self, *answers: list[Event | ModelError]) -> None:
        self.answers = list(answers)
        self.requests: list[ChatRequest] = []

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, timeouts: Timeouts | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        self.requests.append(request)
        yield self._play(self.answers.pop(0))

    async def _play(self, answer: list[Event | ModelError]) -> AsyncIterator[Event]:
        for event in answer:
            await anyio.lowlevel.checkpoint()
            if isinstance(event, ModelError):
                raise event
            yield event


def completion(text: str, tokens: TokenUsage | None = None) -> Completion:
    return Completion(
        text=text,
        reasoning="",
        refusal=None,
        tool_calls=(),
        finish="stop",
        raw_finish="stop",
        model="m-1",
        usage=tokens,
    )


# Where an agent that is played elsewhere, and its tools, are found.
MODULES = ("tests.crashing_agents", "tests.tools_under_test")
WORKER = f"test-{secrets.token_hex(4)}"  # others may run containers on this machine


async def not_here(ctx: Context, value: object) -> object:
    """Agents that are played elsewhere have this in the worker's own process."""
    raise errors.NonRetryable("played in the worker's own process")


def assigned(agent: str = "a", value: object = None, **more: Any) -> Assignment:
    """Return what a worker is given of a run: the second attempt of its task."""
    fields: dict[str, Any] = {
        **{"run": "run1", "task": "task1", "attempt": 2, "once": False},
        **{"agent": agent, "kind": "python", "llm": None, "input": json.dumps(value)},
        **{"timeout_ms": None, "isolate": False},
    }
    return Assignment(**{**fields, **more})


async def outcome_of(run: Run, limit_s: float = 15) -> Outcome:
    """Play a run to its end."""
    with anyio.fail_after(limit_s):
        report = await run.play()
    assert report is not None
    return report.outcome


def run_of(
    executor: Executor,
    *,
    agent: str = "x",
    value: object = None,
    reporter: Reporter | None = None,
    timeout_ms: float | None = None,
    **environment: Any,
) -> Run:
    """Return a run of an agent that this executor plays."""
    assignment = assigned(agent, value, timeout_ms=timeout_ms)
    made = Agent(agent, "", not_here, executor=executor)
    shared = Environment(
        Registry([made]), modules=MODULES, max_output_bytes=100_000, worker=WORKER, **environment
    )
    return Run(assignment, shared, reporter or Reporter())
