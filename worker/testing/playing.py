"""Plays agents in this process, as a worker does, against a control plane in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import anyio

from worker.errors import SignalboxError
from worker.models import Failed, Inbox, Succeeded, Usage
from worker.runtime import Agent, Context, Environment, LlmAgent, Registry, Tool, Toolbox
from worker.runtime.agents import AgentFunction, registry
from worker.runtime.source import code_of
from worker.service import Identity, Worker
from worker.testing.control import FakeControlPlane
from worker.testing.model import ScriptedModel
from worker.testing.rows import FakeTask, TaskStatus
from worker.tracing import Tracer

TIMEOUT_S = 10.0
Playable: TypeAlias = "Agent | AgentFunction | LlmAgent"


@dataclass(frozen=True, slots=True)
class Played:
    """What became of a task.

    Attributes:
        status: "succeeded", "failed", "cancelled", or "waiting" for an event that the test did not send.
        output: What the agent returned, as JSON has it.
        error: Code and message of a failure.
        steps: The keys of its steps in the order in which they were first kept, with their results.
        text: What a viewer has of its last run.
        runs: How many it took.
        usage: What its last run's model calls used.
        task: All that the control plane knows of it.
    """

    status: TaskStatus
    output: Any
    error: tuple[str, str] | None
    steps: dict[str, Any]
    text: str
    runs: int
    usage: Usage | None
    task: FakeTask


class AtWork:
    """A worker at work in this process, and its control plane.

    Attributes:
        control: What people and programs do: submit, signal, emit, cancel, pause.
        worker: The worker.
    """

    def __init__(self, control: FakeControlPlane, worker: Worker) -> None:
        self.control = control
        self.worker = worker

    async def settled(self, task: FakeTask) -> Played:
        """Return what became of a task once it has ended, or waits for an event that nobody has sent.

        Time that it sleeps does not pass: it goes on at once.
        """
        while task.status in {"pending", "running"} or task.waits is not None:
            if task.waits is not None and task.waits[1] is not None and task.waits[0] not in task.over_at:
                break
            self.control.skip_sleep(task)
            await self.control.changed()
        return self.played(task)

    def played(self, task: FakeTask) -> Played:
        """Return how a task stands."""
        outcome = task.outcome
        return Played(
            status=task.status,
            output=json.loads(outcome.output or "null") if isinstance(outcome, Succeeded) else None,
            error=(outcome.error.code, outcome.error.message) if isinstance(outcome, Failed) else None,
            steps={
                key: None if step.result is None else json.loads(step.result)
                for key, step in task.steps.items()
            },
            text=task.runs[-1].text() if task.runs else "",
            runs=len(task.runs),
            usage=task.usage,
            task=task,
        )


@asynccontextmanager
async def working(
    *agents: Playable,
    model: ScriptedModel | None = None,
    tools: Iterable[Tool] = (),
    control: FakeControlPlane | None = None,
    name: str = "w",
    tracer: Tracer | None = None,
    timeout_s: float = TIMEOUT_S,
) -> AsyncIterator[AtWork]:
    """Run a worker in this process while the block lasts.

    Args:
        agents: What it plays: functions, with their names for names unless `@agent` has given others, and
            an `LlmAgent` under the name "llm".
        model: What answers its model calls; without one they fail.
        tools: What models may call, beside the tools that `@tool` has made in this process.
        control: Another control plane, such as that of an earlier block whose tasks are to go on.
        name: Of the worker.
        tracer: Makes traces, as `worker.tracing.tracer()` does.
        timeout_s: For the whole block.
    """
    control = control if control is not None else FakeControlPlane(next_sync_ms=20.0)
    environment = Environment(
        Registry(_agent(each) for each in agents),
        model=None if model is None else model.caller(),
        tracer=tracer or Tracer(),
        **_tools(tools),
    )
    worker = Worker(
        control,
        Identity(name, concurrency=10),
        environment,
        subscribe=lambda session, deliver: Push(control, session, deliver),
        grace_s=0.0,
        exit_now=_resisted,
        draw=lambda: 0.01,
    )
    with anyio.fail_after(timeout_s):
        async with anyio.create_task_group() as group:
            group.start_soon(worker.run)
            yield AtWork(control, worker)
            worker.leave("the block has ended")  # what it still plays goes back


async def play(
    agent: Playable,
    value: Any = None,  # noqa: ANN401 - any JSON
    *,
    model: ScriptedModel | None = None,
    tools: Iterable[Tool] = (),
    signals: Sequence[tuple[str, Any]] = (),
    attempts: int = 1,
    tracer: Tracer | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Played:
    """Play one task to its end, or until it waits for an event that nobody has sent.

    Args:
        agent: What plays it: an `async def play(ctx, input)`, or an `LlmAgent`.
        value: The task's input, any JSON.
        model: What answers its model calls.
        tools: What models may call.
        signals: Name and data of what the task is told, in this order; each waits until it is asked for.
        attempts: How often it is tried at most.
        tracer: Makes traces, as `worker.tracing.tracer()` does.
        timeout_s: For all of it.

    Raises:
        TimeoutError: It did not end in time.
    """
    async with working(agent, model=model, tools=tools, tracer=tracer, timeout_s=timeout_s) as at:
        task = at.control.submit(_agent(agent).name, value, max_attempts=attempts)
        for name, data in signals:
            at.control.signal(task, name, data)
        return await at.settled(task)


def _agent(given: Playable) -> Agent:
    if isinstance(given, Agent):
        return given
    if isinstance(given, LlmAgent):
        return Agent("llm", "", _loop(given))
    known = next((each for each in registry if each.play is given), None)
    if known is not None:
        return known
    name = getattr(given, "__name__", "agent").strip("<>_") or "agent"
    return Agent(name, "", given, code=code_of(given))


def _loop(given: LlmAgent) -> AgentFunction:
    async def play_loop(ctx: Context, value: Any) -> Any:  # noqa: ANN401 - any JSON
        return (await ctx.play(given, value)).output

    return play_loop


def _tools(tools: Iterable[Tool]) -> dict[str, Any]:
    given = list(tools)
    return {"tools": Toolbox(given)} if given else {}


def _resisted(code: int) -> NoReturn:
    raise SignalboxError(f"A run resists its cancellation: a worker would end its process now (exit {code})")


class Push:
    """The subscription of a control plane in memory."""

    live = True

    def __init__(self, control: FakeControlPlane, session: str, deliver: Callable[[Inbox], None]) -> None:
        self._control = control
        self._session = session
        self._deliver = deliver

    def overtaken(self) -> None:
        """Nothing was expected."""

    def age_s(self) -> float:
        """Return 0: it never rests."""
        return 0.0

    async def run(self) -> None:
        """Bring each state of the inbox."""
        self._deliver(await self._control.inbox(self._session, timeout=1))
        while True:
            self._deliver(await self._control.pushed(self._session))
