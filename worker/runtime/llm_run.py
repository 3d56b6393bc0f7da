"""Plays the loop of an agent that a model plays: asks, calls tools, and keeps each turn and result as a step.

What a loop has done is told by its steps alone: a run that comes after a crash reads them, rebuilds the
conversation and goes on behind the last one. No turn that is kept is asked for again, and each message is
kept once.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import anyio

from worker import tracing
from worker.models import Entry, StepUsage
from worker.router import Answer
from worker.runtime import ledger
from worker.runtime.calling import perform, refused, unfit
from worker.runtime.durable import Durable
from worker.runtime.forked import changed, stand_in
from worker.runtime.llm_agent import (
    AgentResult,
    AgentUsage,
    LlmAgent,
    LoopStoppedError,
    checker,
    messages_of,
    read_schema,
    response_format,
)
from worker.runtime.loop import ANSWERS, Ask, Call, Decision, Done, Loop, Perform, Stop, Turn, out_of_time
from worker.runtime.model import Prompt
from worker.runtime.tools import Facts, Tool, Toolbox, ToolContext, ToolResult, UnknownToolError

_KEY_NAME_CHARS = 64  # of a tool's name within a key: a model may write any name


class Asked(Protocol):
    """What answers a turn: the run, or the other end of the pipes of a run that plays in another process."""

    async def answer(self, prompt: Prompt) -> Answer:
        """Call a model, streaming what it says."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a loop plays.

    Attributes:
        host: Answers its turns.
        durable: Keeps its steps.
        facts: Takes what its tools tell.
        task: Id of the task.
        run: Id of the run.
        toolbox: The worker's tools.
        post: Keeps a last turn without waiting, since the end of the run comes with it; None: everything is
            waited for.
    """

    host: Asked
    durable: Durable
    facts: Facts
    task: str
    run: str
    toolbox: Toolbox
    post: Callable[[Entry], None] | None = None


async def play(agent: LlmAgent, value: Any, place: Place, name: str | None = None) -> AgentResult:  # noqa: ANN401
    """Return what a loop brings.

    Args:
        agent: What plays.
        value: A text, `{"prompt": text}` or `{"messages": [...]}`.
        place: Where.
        name: Tells its steps from those of another loop of the task at the same time.

    Raises:
        LoopStoppedError: A limit is reached, or the output is not what it must be.
        InvalidInputError: The input is none of these.
        InvalidSchemaError: The output's schema cannot be kept to.
        UnknownToolError: The worker lacks a tool of the agent's.
        ModelError: No model has answered.
    """
    tools = await _chosen(agent, place.toolbox)
    agent = changed(agent, place.durable)
    run = _LlmRun(agent, place, "" if name is None else f"{name}.", tools)
    return await run.play(value)


async def _chosen(agent: LlmAgent, toolbox: Toolbox) -> Toolbox:
    chosen = await toolbox.chosen([each for each in agent.tools if isinstance(each, str)])
    for each in agent.tools:
        if isinstance(each, Tool):
            chosen.add(each)
    for each in chosen:
        if each.check is None:
            read_schema(each.parameters, f"The parameters of the tool {each.name!r}")
    return chosen


class _LlmRun:
    def __init__(self, agent: LlmAgent, place: Place, prefix: str, tools: Toolbox) -> None:
        self._agent = agent
        self._place = place
        self._durable = place.durable
        self._prefix = prefix
        self._tools = tools
        self._described = [tool.described() for tool in tools]
        self._check = checker(agent.output)
        self._format = response_format(agent.output)
        self._key = ""  # of the turn under way
        self._judged: str | None = None  # the step that keeps what a guardrail has said of it
        self._slots = anyio.Semaphore(max(1, agent.parallel))

    async def play(self, value: Any) -> AgentResult:  # noqa: ANN401 - any JSON may arrive
        messages = await self._admitted(messages_of(self._agent.prompt, value))
        loop = Loop(list(messages), self._agent.limits, self._check)
        decision = loop.begin()
        while True:
            match decision:
                case Ask():
                    async with self._in_time(loop):
                        decision = await self._turn(loop)
                case Perform(calls):
                    async with self._in_time(loop):
                        results = await self._performed(calls)
                    decision = loop.performed(results)
                case Done(output, turn):
                    found = await self._passed(output)
                    if isinstance(found, _Wrong):
                        decision = loop.corrected(found.fault)
                    else:
                        return _result(loop, turn, found)
                case Stop(code, message):
                    raise LoopStoppedError(code, message, self._refused(code))

    def _refused(self, code: str) -> list[str]:
        """Return the steps to which a loop would stop again, unless they are made anew."""
        if code not in ANSWERS:
            return []
        return [self._key] if self._judged is None else [self._key, self._judged]

    @asynccontextmanager
    async def _in_time(self, loop: Loop) -> AsyncIterator[None]:
        """Stop what takes longer than the loop may take."""
        max_s = self._agent.limits.max_s
        left_s = None if max_s is None else max(0.0, max_s - loop.spent.ms / 1000)
        with anyio.move_on_after(left_s) as scope:
            yield
        if scope.cancelled_caught and max_s is not None:
            raise LoopStoppedError(*out_of_time(max_s))

    # Turns.

    async def _turn(self, loop: Loop) -> Decision:
        """Return what comes after the next turn: the one that is kept, else one that is asked for now."""
        self._key, self._judged = self._durable.numbered(f"{self._prefix}turn"), None
        known = await self._durable.find(self._key, "turn")
        if known is not None and known.result is not None:
            return loop.turned(Turn.load(known.result, known.usage))
        with self._durable.busy(self._key):
            turn = (await self._asked(loop)).without(self._durable.clean)
            decision = loop.turned(turn)
            entry = Entry(key=self._key, kind="turn", result=turn.dump(), usage=turn.usage)
            if (
                isinstance(decision, Done)
                and self._agent.after_output is None
                and self._place.post is not None
            ):
                self._place.post(entry)
            else:
                await self._durable.keep(entry)
        return decision

    async def _asked(self, loop: Loop) -> Turn:
        began = time.monotonic()
        agent = self._agent
        answer = await self._place.host.answer(
            Prompt(
                messages=list(loop.messages),
                models=tuple(agent.models),
                fallback_on=tuple(agent.fallback_on),
                temperature=agent.temperature,
                max_output_tokens=agent.max_output_tokens,
                tools=self._described,
                response_format=self._format,
                # Without tools there is one turn: nothing would be read from what it wrote to a cache.
                cache_key=self._place.task if self._described else None,
            )
        )
        completion = answer.completion
        return Turn(
            message=completion.message(),
            finish=completion.finish,
            model=completion.model,
            reasoning=completion.reasoning,
            ms=round((time.monotonic() - began) * 1000, 1),
            usage=usage_of(answer),
        )

    # Tools.

    async def _performed(self, calls: tuple[Call, ...]) -> list[ToolResult]:
        """Return a result for each call, in order. What ends the run waits until all have ended."""
        results: dict[int, ToolResult] = {}
        failures: dict[int, Exception] = {}

        async def one(call: Call) -> None:
            async with self._slots:
                try:
                    results[call.position] = await self._call(call)
                except Exception as error:
                    failures[call.position] = error

        async with anyio.create_task_group() as group:
            for call in calls:
                group.start_soon(one, call)
        if failures:
            raise failures[min(failures)]
        return [results[call.position] for call in calls]

    async def _call(self, call: Call) -> ToolResult:
        """Return the result of a call: the one that is kept, else what becomes of it now."""
        shown = _shown(call.name)
        key = f"{self._key}/{call.position}:{shown}"
        known = await self._durable.find(key, "tool")
        tool = self._tools.get(call.name)
        if known is None:
            result = unfit(call, self._tools) or await self._forbidden(call)
            if result is not None:  # no tool saw these arguments, so no hash of them is kept
                await self._durable.keep(Entry(key=key, kind="tool", result=result.dump(), tool=shown))
                return result
        elif known.result is not None and (tool is None or known.args_hash is None):
            return ToolResult.load(known.result)
        if tool is None:
            raise UnknownToolError(f"The call {key!r} has begun, and its tool is not here any more")
        arguments = call.arguments or {}
        if known is None:
            result = await stand_in(self._durable, tool, key, arguments)
            if result is not None:
                return result
        place = self._place
        context = ToolContext(f"{place.task}:{key}", place.task, place.run, place.facts)

        async def now() -> ToolResult:
            with tracing.current.get().tool(tool.name, context.key):
                return (await perform(tool, arguments, context)).without(self._durable.clean)

        return await ledger.perform(self._durable, tool, key, arguments, context, now)

    async def _forbidden(self, call: Call) -> ToolResult | None:
        hook = self._agent.before_tool
        reason = None if hook is None else await _value_of(hook(call))
        return None if reason is None else refused("refused", f"The call was refused: {reason}"[:2000])

    # Guardrails.

    async def _admitted(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        hook = self._agent.before_input
        if hook is None:
            return messages
        return await self._durable.step(f"{self._prefix}before_input", hook, messages) or messages

    async def _passed(self, output: Any) -> Any:  # noqa: ANN401 - the agent's affair
        hook = self._agent.after_output
        if hook is None:
            return output

        async def judged() -> dict[str, Any]:
            try:
                found = await _value_of(hook(output))
            except ValueError as error:
                return {"wrong": str(error)[:1000]}
            return {} if found is None else {"output": found}

        name = f"{self._prefix}after_output"
        verdict = await self._durable.step(name, judged)
        self._judged = self._durable.last_key(name)
        if "wrong" in verdict:
            return _Wrong(verdict["wrong"])
        return verdict.get("output", output)


@dataclass(frozen=True, slots=True)
class _Wrong:
    fault: str


async def _value_of(value: Any) -> Any:  # noqa: ANN401 - whatever a hook returns
    return await value if inspect.isawaitable(value) else value


def _shown(name: str) -> str:
    return "".join(each if each.isalnum() or each in "_-." else "?" for each in name)[:_KEY_NAME_CHARS] or "?"


def usage_of(answer: Answer) -> StepUsage:
    """Return what a turn has cost, with the attempts that failed: unknown unless each is known."""
    used = answer.completion.usage
    costs = [call.cost_micros for call in answer.calls]
    return StepUsage(
        model=answer.model,
        input_tokens=_total(None if call.usage is None else call.usage.input_tokens for call in answer.calls),
        output_tokens=_total(
            None if call.usage is None else call.usage.output_tokens for call in answer.calls
        ),
        cached_input_tokens=None if used is None else used.cached_input_tokens,
        cost_micros=None if None in costs else sum(cost for cost in costs if cost is not None),
    )


def _total(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _result(loop: Loop, turn: Turn, output: Any) -> AgentResult:  # noqa: ANN401 - the agent's affair
    spent = loop.spent
    return AgentResult(
        output=output,
        text=turn.text,
        finish=turn.finish,
        model=turn.model,
        turns=loop.turns,
        tool_calls=loop.tool_calls,
        usage=AgentUsage(
            input_tokens=spent.input_tokens,
            output_tokens=spent.output_tokens,
            cost_micros=spent.cost_micros,
        ),
        messages=loop.messages,
    )
