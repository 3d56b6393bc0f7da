"""Plays one run from its assignment to its outcome, whatever the agent does."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Protocol

import anyio

from worker.blame import Board, marked
from worker.errors import BackendError, FunctionFailed, TransportError
from worker.llm import Completion
from worker.logs import Redactor
from worker.models import (
    Allotment,
    Ask,
    Assignment,
    CallReport,
    Cancelled,
    ChunkKind,
    Emitted,
    Entry,
    LlmSpec,
    Outcome,
    Progress,
    Released,
    RunError,
    Signal,
    Silence,
    Spawned,
    Spending,
    StepReport,
    StepsPage,
    Succeeded,
    Suspended,
    UntilApprovals,
    Upstream,
    Usage,
)
from worker.purse import UNLIMITED, BudgetExceeded, Purse
from worker.router import Answer, CallRecord, NoModelFree
from worker.runtime import hooks, isolate, llm_run
from worker.runtime.agents import Agent, Registry
from worker.runtime.allotment import Halted, RunPurse
from worker.runtime.called import call_of
from worker.runtime.context import Context, concluded
from worker.runtime.durable import InvalidStepError, Until
from worker.runtime.llm_agent import LlmAgent
from worker.runtime.model import ModelCaller, NoModelError, Prompt, Tally
from worker.runtime.outcome import failed, raised, succeeded
from worker.runtime.pulse import Pulse
from worker.runtime.stream import OWN_LOG, Label, StreamWriter
from worker.runtime.tools import Toolbox, toolbox
from worker.tracing import Tracer

logger = logging.getLogger(__name__)

SYNC_OUTPUT_CHARS = 250_000  # a megabyte at most, a quarter of a sync; beyond, an output is sent on its own

StopReason = Literal["cancelled", "released", "lost"]


class Reporter(Protocol):
    """Where a run's text goes, and where it learns that it is the owner.

    Attributes:
        keeps_steps: Whether it takes steps; else a run that needs any fails.
    """

    keeps_steps: bool

    def text(self, run: str, text: str, *, kind: ChunkKind, call: int, attempt: int) -> None:
        """Add text to a run's stream."""

    async def room(self) -> None:
        """Wait while too much text has gathered."""

    def hurry(self) -> None:
        """Report soon: a run waits to be confirmed."""

    async def input(self, run: str) -> str:
        """Return the JSON text of a large input."""

    async def output(self, run: str, text: str) -> None:
        """Send the JSON text of a large output, ahead of the run's result."""

    async def steps(self, run: str) -> StepsPage:
        """Return what earlier runs of the task have done, and the signals that wait for it."""

    async def spawn(self, run: str, step: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        """Submit the children of a run."""

    async def gathered(self, run: str, tasks: list[str]) -> list[Upstream]:
        """Return how children have ended."""

    async def emit(self, run: str, step: str, name: str, data: str) -> Emitted:
        """Tell the tenant of the run's task of an event."""

    async def upstream(self, run: str) -> list[Upstream]:
        """Return how the tasks have ended that the run's task comes after."""

    def step(self, report: StepReport) -> None:
        """Report something that the run has done for good; `Run.stepped` tells when that is acknowledged."""

    def tell(self, run: str, progress: Progress | None, state: str | None) -> None:
        """Report how the run stands."""

    def call(self, report: CallReport) -> None:
        """Report an attempt at a model call."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the runs of a worker share.

    Attributes:
        agents: The Python agents.
        modules: Where they were imported from, for runs in a process of their own.
        model: Calls models; None when no provider is configured.
        redact: Takes secrets out of texts.
        board: Where the executing run is noted; None notes nothing.
        max_output_bytes: Largest output that the control plane keeps.
        tools: What models may call.
        tracer: Makes the traces of runs.
        worker: This worker's name, on what it starts.
    """

    agents: Registry
    modules: tuple[str, ...] = ()
    model: ModelCaller | None = None
    redact: Redactor = Redactor()  # noqa: RUF009 - it never changes
    board: Board | None = None
    max_output_bytes: int = 8 * 1024 * 1024
    tools: Toolbox = toolbox
    tracer: Tracer = Tracer()  # noqa: RUF009 - it never changes
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended and what it used."""

    outcome: Outcome
    usage: Usage | None
    spending: Spending | None = None


class Run:
    """One run. It is the `Host` of its agent's context.

    Args:
        assignment: What to play.
        environment: What it shares with the other runs.
        reporter: Where its text goes.
    """

    def __init__(self, assignment: Assignment, environment: Environment, reporter: Reporter) -> None:
        self.assignment = assignment
        self.id = assignment.run
        self._environment = environment
        self._reporter = reporter
        self._tally = Tally(self._called)
        self._began_s = time.monotonic()
        self._scope: anyio.CancelScope | None = None
        self._stopped: StopReason | None = None
        self._confirmed: anyio.Event | None = None
        self._is_confirmed = False
        self._writer: StreamWriter | None = None
        self._suspended: Suspended | None = None
        self._kept: dict[str, asyncio.Future[None]] = {}  # steps on their way, by key
        self._signals: list[Signal] = []  # that the agent has not asked for yet
        self._signalled = anyio.Event()
        self._pulse = Pulse()
        self._broke: Outcome | None = None  # a budget has ended the run
        self._budget: RunPurse | None = None
        if assignment.allotment is not None:
            self._budget = RunPurse(self.id, assignment.allotment, tell=reporter.hurry, halt=self._halted)
        self.purse: Purse = self._budget or UNLIMITED

        self.redact = environment.redact

    # Steered from outside.

    def stop(self, reason: StopReason) -> None:
        """Cancel the run, once; a run that was lost stays lost."""
        if self._stopped is None or reason == "lost":
            self._stopped = reason
        if self._scope is not None and not self._scope.cancel_called:
            self._scope.cancel()

    def confirm(self) -> None:
        """Tell the run that a write of it was acknowledged."""
        self._is_confirmed = True
        if self._confirmed is not None:
            self._confirmed.set()

    def stepped(self, key: str, refusal: str | None) -> None:
        """Tell the run that a step was acknowledged, or that it cannot be kept."""
        future = self._kept.pop(key, None)
        if future is None or future.done():
            return
        if refusal is None:
            future.set_result(None)
        else:
            future.set_exception(InvalidStepError(f"Step {key!r} was refused: {refusal}"[:1000]))

    def signal(self, signal: Signal) -> None:
        """Tell the run something."""
        self._signals.append(signal)
        self._signalled.set()

    def allotted(self, allotment: Allotment) -> None:
        """Tell the run what it may spend."""
        if self._budget is not None:
            self._budget.answered(allotment)

    def spending(self) -> Spending | None:
        """Return what the run has spent and reserved, if that is news."""
        return None if self._budget is None else self._budget.changed()

    def _halted(self, allotment: Allotment) -> None:
        """A budget does not let the run go on: its task waits, for people or for room."""
        if allotment.ask is None:
            self.stop("released")
            return
        step = f"budget#{self.assignment.attempt}"
        ask = Ask(step=step, tool="budget", args=allotment.ask, why="spend", about=None, timeout_ms=None)
        self._suspended = Suspended(step=step, until=UntilApprovals(approvals=[ask]))
        if self._scope is not None:
            self._scope.cancel()

    def silence(self) -> Silence | None:
        """Return for how long nothing came from the run, once that is long."""
        return self._pulse.silence(self.id)

    async def play(self) -> Report | None:
        """Play the run to its end and return what to report: None when it was lost, as nobody would listen.

        Raises nothing but the cancellation of the worker itself.
        """
        limit_ms = self.assignment.timeout_ms
        outcome: Outcome | None = None
        if self._stopped is None:
            deadline = math.inf if limit_ms is None else anyio.current_time() + limit_ms / 1000
            trace = self._environment.tracer.run(self.assignment)
            with trace.playing():
                with anyio.CancelScope(deadline=deadline) as self._scope:
                    outcome = await self._timed()
                if self._writer is not None:
                    self._writer.flush()
                if outcome is None or self._suspended is not None:  # whatever an agent makes of that
                    outcome = self._stopped_outcome()
                trace.ended(*_told(outcome))
        else:
            outcome = self._stopped_outcome()
        spending = None if self._budget is None else self._budget.spending()
        return None if outcome is None else Report(outcome, self._tally.usage(), spending)

    async def _timed(self) -> Outcome | None:
        """Return the agent's outcome; under a budget of time, see to it that there is some left meanwhile."""
        if self._budget is None or not self._budget.limits_time:
            return await self._outcome()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_time, self._budget)
            outcome = await self._outcome()
            tasks.cancel_scope.cancel()
        return outcome

    async def _keep_time(self, budget: RunPurse) -> None:
        try:
            await budget.keep_time()
        except BudgetExceeded as error:
            self._broke = failed(error.code, self.redact.line(str(error)), retryable=False)
            if self._scope is not None:
                self._scope.cancel()
        except Halted:
            pass  # the run has been stopped

    def _stopped_outcome(self) -> Outcome | None:
        match self._stopped:
            case "lost":
                return None
            case "cancelled":
                return Cancelled()
            case "released":
                return Released()
            case None if self._suspended is not None:
                return self._suspended
            case None if self._broke is not None:
                return self._broke
            case None:
                limit_s = (self.assignment.timeout_ms or 0) / 1000
                return failed(
                    "timeout",
                    f"The run's time limit ran out ({limit_s:.3g} s left at its start)",
                    retryable=True,
                )

    async def _outcome(self) -> Outcome | None:
        """Return the agent's outcome, or None if an exception is what a cancelled agent left behind."""
        try:
            return _given_back(await self._sent(self._cleaned(await self._play())))
        except anyio.get_cancelled_exc_class() as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return raised(error, self.redact)  # the agent raised it by itself
        except GeneratorExit:
            raise
        except BaseException as error:  # an agent that calls exit() must not take the worker with it
            if self._scope is not None and self._scope.cancel_called:
                return None
            outcome = raised(error, self.redact)
            if outcome.error.code == NoModelFree.code:
                logger.info("no model is free", extra={"action": "run_returned", "run": self.id})
                return _given_back(outcome)
            hooks.told(error, self._error_context(outcome.error.code))
            logger.info(
                "the agent raised",
                exc_info=error if logger.isEnabledFor(logging.DEBUG) else None,
                extra={
                    "action": "agent_raised",
                    "run": self.id,
                    "agent": self.assignment.agent,
                    "code": outcome.error.code,
                    "reason": outcome.error.message,
                },
            )
            return outcome

    def _error_context(self, code: str) -> hooks.ErrorContext:
        run = self.assignment
        return hooks.ErrorContext(run.run, run.task, run.agent, run.attempt, code)

    async def _play(self) -> Outcome:
        assignment, environment = self.assignment, self._environment
        if assignment.once:
            await self.confirmed()  # until then it may be given to another worker
        text = assignment.input
        if text is None:
            try:
                text = await self._reporter.input(self.id)
            except BackendError as error:
                return failed("input_unavailable", self.redact.line(str(error)), retryable=True)
        agent: Agent | None = None
        if assignment.kind == "python":
            agent = environment.agents.get(assignment.agent)
            if agent is None:
                return failed(
                    "unknown_agent", f"This worker has no agent named {assignment.agent!r}", retryable=True
                )
            if assignment.isolate or agent.executor is not None:
                return await isolate.play(
                    assignment,
                    text,
                    environment.modules,
                    self,
                    environment.max_output_bytes,
                    code=agent.code,
                    executor=agent.executor,
                    worker=environment.worker,
                )
        context = Context(
            run=self.id,
            task=assignment.task,
            attempt=assignment.attempt,
            agent=assignment.agent,
            host=self,
            earlier=assignment.steps > 0 or assignment.signals > 0,
            changed=agent is not None and _has_changed(agent, assignment),
            tools=environment.tools,
            fork=assignment.fork,
        )
        value = json.loads(text)
        if agent is not None:
            result = await self._marked(agent, context, value)
            result = await concluded(context, result)
        elif assignment.llm is not None:
            result = await self._play_llm(assignment.llm, context, value)
        else:
            return failed("unknown_agent", f"{assignment.agent!r} is described by no prompt", retryable=False)
        return succeeded(result, environment.max_output_bytes)

    async def _play_llm(self, spec: LlmSpec, context: Context, value: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return the output of an agent of the registry: what its schema says, else what the model said."""
        result = await llm_run.play(LlmAgent.of(spec), value, context.place(self.post))
        if spec.output_schema is not None:
            return result.output
        return {"text": result.text, "finish": result.finish, "model": result.model}

    def _cleaned(self, outcome: Outcome) -> Outcome:
        """Return the outcome without secrets."""
        if outcome.kind == "succeeded":
            texts = {"output": outcome.output, "next": outcome.next}
            given = {name: self.clean(text) for name, text in texts.items() if isinstance(text, str)}
            return outcome.model_copy(update=given)
        if outcome.kind == "failed":
            error = RunError.model_construct(
                code=self.clean(outcome.error.code), message=self.clean(outcome.error.message)
            )
            return outcome.model_copy(update={"error": error})
        return outcome

    async def _sent(self, outcome: Outcome) -> Outcome:
        """Return the outcome to report, once an output that no sync could carry has been sent."""
        if outcome.kind != "succeeded" or outcome.output is None or len(outcome.output) <= SYNC_OUTPUT_CHARS:
            return outcome
        try:
            await self._reporter.output(self.id, outcome.output)
        except TransportError as error:
            return failed("output_not_sent", self.redact.line(str(error)), retryable=True)
        except BackendError as error:
            surely = not isinstance(error, FunctionFailed) or error.code is not None
            return failed("output_refused", self.redact.line(str(error)), retryable=not surely)
        return Succeeded(output=None)

    async def _marked(self, agent: Agent, context: Context, value: Any) -> Any:  # noqa: ANN401 - the agent's affair
        board = self._environment.board
        if board is None:
            return await agent.play(context, value)
        slot = board.take(self.id)
        try:
            return await marked(agent.play(context, value), board.cell, slot)
        finally:
            board.give_back(slot)

    # The host of the agent's context. What goes from a run to the control plane passes here, without secrets.

    def clean(self, text: str) -> str:
        """Return a text without the secrets of this worker."""
        return self.redact.known(text)

    def write(self, text: str, label: Label) -> None:
        """Add text to the run's stream, without secrets."""
        self._pulse.moved()
        self._stream().push(text, label)

    def _stream(self) -> StreamWriter:
        if self._writer is None:
            later = asyncio.get_running_loop().call_later
            self._writer = StreamWriter(self._emit, later, self.redact.split)
        return self._writer

    def _emit(self, label: Label, text: str) -> None:
        clean = self.redact(text) if label.kind == OWN_LOG.kind else self.clean(text)
        self._reporter.text(self.id, clean, kind=label.kind, call=label.call, attempt=label.attempt)

    async def room(self) -> None:
        """Wait while too much text has gathered."""
        await self._reporter.room()

    async def confirmed(self) -> None:
        """Wait until a write of this run has been acknowledged."""
        if not self._is_confirmed:
            self._confirmed = self._confirmed or anyio.Event()
            self._reporter.hurry()
            await self._confirmed.wait()

    async def complete(self, prompt: Prompt) -> Completion:
        """Call the model, streaming what it says."""
        return (await self.answer(prompt)).completion

    def _called(self, call: int, record: CallRecord) -> None:
        self._reporter.call(call_of(self.id, self._began_s, call, record, self.redact))

    async def answer(self, prompt: Prompt) -> Answer:
        """Call a model of the chain, streaming what it says; also tell who answered."""
        model = self._environment.model
        if model is None:
            raise NoModelError("This worker has no model provider: set SIGNALBOX_MODEL_BASE_URL")
        return await model.answer(prompt, self._stream(), self._tally, self._pulse, self.purse)

    async def load(self) -> StepsPage:
        """Return what earlier runs of the task have done."""
        return await self._reporter.steps(self.id)

    def post(self, entry: Entry) -> None:
        """Report a step that nothing waits for: it is kept before the run's end, in the same sync."""
        if self._reporter.keeps_steps:
            self._reporter.step(self._report(entry))

    def _report(self, entry: Entry) -> StepReport:
        told = dict(entry)
        if entry.result is not None:
            told["result"] = self.clean(entry.result)
        return StepReport(run=self.id, **told)

    async def keep(self, entry: Entry) -> None:
        """Return once the control plane has acknowledged a step."""
        if entry.kind == "turn" and not self._reporter.keeps_steps:
            return  # a later attempt asks for it again
        future = self._kept[entry.key] = asyncio.get_running_loop().create_future()
        self._reporter.step(self._report(entry))
        await future
        self._pulse.moved()

    async def spawn(self, key: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        """Submit tasks as children of this run's."""
        clean = json.loads(self.clean(json.dumps(tasks)))
        return await self._reporter.spawn(self.id, key, clean, gather=gather)

    async def gathered(self, tasks: list[str]) -> list[Upstream]:
        """Return how children have ended."""
        return await self._reporter.gathered(self.id, tasks)

    async def emit(self, key: str, name: str, data: str) -> Emitted:
        """Tell the tenant of an event."""
        return await self._reporter.emit(self.id, key, name, self.clean(data))

    async def upstream(self) -> list[Upstream]:
        """Return how the tasks have ended that this run's comes after."""
        return await self._reporter.upstream(self.id)

    async def suspend(self, key: str, until: Until) -> NoReturn:
        """End the run: whatever the agent does with the cancellation, its task waits."""
        if isinstance(until, UntilApprovals):
            until = UntilApprovals.model_validate_json(self.clean(until.model_dump_json(by_alias=True)))
        self._suspended = Suspended(step=key, until=until)
        if self._scope is not None:
            self._scope.cancel()
        while True:
            await anyio.sleep_forever()

    async def signalled(self, *, wait: bool) -> list[Signal]:
        """Return the signals that have come since the last call."""
        while wait and not self._signals:
            self._signalled = anyio.Event()
            await self._signalled.wait()
        signals, self._signals = self._signals, []
        return signals

    def tell(self, progress: Progress | None, state: str | None) -> None:
        """Report how the run stands, without secrets."""
        self._pulse.moved()
        if progress is not None:
            progress = progress.model_copy(update={"message": self.redact(progress.message)})
        self._reporter.tell(self.id, progress, None if state is None else self.clean(state))

    def doing(self, name: str | None) -> None:
        """Note which step is under way."""
        self._pulse.doing(name)


def _told(outcome: Outcome | None) -> tuple[str, str | None]:
    """Return how a run has ended, and the code of its failure."""
    if outcome is None:
        return "lost", None
    return outcome.kind, outcome.error.code if outcome.kind == "failed" else None


def _has_changed(agent: Agent, assignment: Assignment) -> bool:
    """Return whether other code has taken the steps of the task; of the built-in agent that tells nothing."""
    return assignment.pinned is not None and agent.code != assignment.pinned.code


def _given_back(outcome: Outcome) -> Outcome:
    """Return the outcome of a run that could ask no model: it waits in the queue, and has burnt nothing."""
    if outcome.kind != "failed" or outcome.error.code != NoModelFree.code:
        return outcome
    return Released(not_before_ms=outcome.not_before_ms)
