"""Plays a run at the other end of two pipes: in a process of its own, or in a container (`executors`).

A Python agent goes there too once a run of its task has taken a worker's process down.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup
from pydantic import TypeAdapter, ValidationError

from worker.models import Assignment, Entry, Outcome, Progress
from worker.pipes import LineReader, LineTooLongError
from worker.processes import Child
from worker.processes import start as start_child
from worker.router import Answer
from worker.runtime import executors
from worker.runtime.durable import Until
from worker.runtime.executors import Executor, ExecutorError
from worker.runtime.model import Prompt
from worker.runtime.outcome import failed, raised, succeeded
from worker.runtime.stream import OWN_LOG, Label

if TYPE_CHECKING:
    from worker.runtime.run import Run

_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)
ANSWER = TypeAdapter(Answer)
UNTIL: TypeAdapter[Until] = TypeAdapter(Until)
_LINE_MARGIN = 64 * 1024  # around an output, for its envelope
_CLOSE_S = 2.0  # for a child that closed its pipe to be gone
MAX_REQUESTS = 64  # of a child at once
MAX_LOG_BYTES = 64 * 1024  # of a child's complaints, in the log of its run
_LAST_CHARS = 300  # of them, in the message of its failure
_KINDS = frozenset({"text", "reasoning", "log"})


async def play(
    assignment: Assignment,
    text: str,
    modules: Sequence[str],
    run: Run,
    max_output_bytes: int,
    *,
    code: str | None = None,
    executor: Executor | None = None,
    worker: str = "",
) -> Outcome:
    """Return the outcome of a run played by a child, of which nothing is left at the end.

    Args:
        assignment: The run.
        text: Its input.
        modules: Of agents, for a child that is one of this package.
        run: What the child talks to.
        max_output_bytes: Of its output.
        code: What this worker has told of the agent: a child that has other code plays nothing.
        executor: Where it is played; None: as in this process, in one of its own.
        worker: The name of this worker.
    """
    start = {
        "op": "start",
        "modules": list(modules),
        "agent": assignment.agent,
        "run": assignment.run,
        "task": assignment.task,
        "attempt": assignment.attempt,
        "input": text,
        "maxOutputBytes": max_output_bytes,
        "earlier": assignment.steps > 0 or assignment.signals > 0,
        "fork": None if assignment.fork is None else assignment.fork.model_dump(by_alias=True),
        "code": code,
        "pinned": None if assignment.pinned is None else assignment.pinned.code,
    }
    try:
        if executor is None:
            async with _twin() as child:
                return await _Conversation(child, run, max_output_bytes).hold(start)
        async with executors.started(executor, assignment.run, worker) as child:
            conversation = _Conversation(child, run, max_output_bytes, executor)
            return await conversation.hold(start)
    except ExecutorError as error:
        return failed(error.code, run.redact.line(str(error)), retryable=error.retryable)


@asynccontextmanager
async def _twin() -> AsyncIterator[Child]:
    """Hold a process like this one: its environment and its standard error are the worker's."""
    child = await start_child([sys.executable, *executors.RUNNER], env=os.environ, stderr=None)
    try:
        yield child
    finally:
        await child.end()


class _Conversation:
    """Serves a child's requests until it tells its outcome or is gone."""

    def __init__(
        self, child: Child, run: Run, max_output_bytes: int, executor: Executor | None = None
    ) -> None:
        self._child = child
        self._run = run
        self._max_output_bytes = max_output_bytes
        self._executor = executor
        self._sending = anyio.Lock()
        self._asked = 0  # requests under way
        self._said = ""  # what it complained of last
        self._silent = anyio.Event()  # it complains no more

    async def hold(self, start: dict[str, Any]) -> Outcome:
        outcome: Outcome | None = None
        async with anyio.create_task_group() as calls:
            calls.start_soon(self._complaints)
            try:
                await self._send(start)
                reader = LineReader(self._child.stdout, self._max_output_bytes * 2 + _LINE_MARGIN)
                while outcome is None and (line := await reader.read()) is not None:
                    outcome = await self._take(json.loads(line), calls)
            except (ValueError, KeyError, TypeError, ValidationError, LineTooLongError) as error:
                outcome = failed(
                    "process_protocol",
                    f"The agent's process wrote to the worker's pipe: {error}"[:500],
                    retryable=False,
                )
            if outcome is None:
                outcome = await self._ended()
            calls.cancel_scope.cancel()
        assert outcome is not None
        return outcome

    async def _ended(self) -> Outcome:
        with anyio.move_on_after(_CLOSE_S):  # how it died is worth a moment
            await self._child.wait()
            await self._silent.wait()
        said = self._run.redact.line(self._said, _LAST_CHARS)
        if self._executor is not None:
            why = executors.why_not_run(self._executor, self._child, said)
            if why is not None:
                return failed("container_failed", why, retryable=True)
        told = f"The agent's process {self._child.ending()}{f': {said}' if said else ''}"
        return failed("process_died", told, retryable=True)

    async def _complaints(self) -> None:
        """Put what the child writes to its standard error into the run's log, up to a bound."""
        if self._executor is None:
            self._silent.set()
            return
        left = MAX_LOG_BYTES
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                data = await self._child.stderr.receive()
                text = decoder.decode(data)
                self._said = (self._said + text)[-_LAST_CHARS:]
                if left >= 0:
                    more = "" if len(data) <= left else "\n[further complaints are left out]\n"
                    self._run.write(text[:left] + more, OWN_LOG)
                    left -= len(data)
                    await self._run.room()
        self._said = self._said.strip().rpartition("\n")[2]
        self._silent.set()

    async def _take(self, message: Any, calls: TaskGroup) -> Outcome | None:  # noqa: ANN401 - whatever it says
        """Serve one message; return the outcome once it is told."""
        match message["op"]:
            case "outcome":
                return _OUTCOME.validate_python(message["outcome"])
            case "result":
                return succeeded(message["value"], self._max_output_bytes)
            case "error":
                return failed(
                    self._run.redact.line(str(message.get("code", "agent_error")), 100),
                    self._run.redact.line(str(message["message"])),
                    retryable=message.get("retryable", True) is not False,
                )
            case "text":
                kind, text = message["kind"], message["text"]
                if kind not in _KINDS or not isinstance(text, str):
                    raise ValueError("a text has a kind (text, reasoning or log) and a text")
                self._run.write(text, Label(kind, 0, 1))
                await self._run.room()
            case "tell":
                told = message["progress"]
                self._run.tell(None if told is None else Progress.model_validate(told), message["state"])
            case "doing":
                self._run.doing(message["name"])
            case _:
                if "id" not in message:
                    raise ValueError("a request has an id")
                if self._asked >= MAX_REQUESTS:
                    raise ValueError(f"more than {MAX_REQUESTS} requests at once")
                self._asked += 1
                calls.start_soon(self._answer, message)
        return None

    async def _answer(self, message: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": message["id"]}
        try:
            if message["op"] == "confirmed":
                await self._run.confirmed()
            elif message["op"] == "answer":
                answer = await self._run.answer(Prompt(**message["prompt"]))
                reply["answer"] = ANSWER.dump_python(answer)
            elif message["op"] == "load":
                reply["page"] = (await self._run.load()).model_dump(by_alias=True)
            elif message["op"] == "spawn":
                spawned = await self._run.spawn(message["key"], message["tasks"], gather=message["gather"])
                reply["spawned"] = spawned.model_dump(by_alias=True)
            elif message["op"] == "gathered":
                ended = await self._run.gathered(message["tasks"])
                reply["items"] = [item.model_dump(by_alias=True) for item in ended]
            elif message["op"] == "emit":
                emitted = await self._run.emit(message["key"], message["name"], message["data"])
                reply["emitted"] = emitted.model_dump(by_alias=True)
            elif message["op"] == "upstream":
                before = await self._run.upstream()
                reply["items"] = [item.model_dump(by_alias=True) for item in before]
            elif message["op"] == "keep":
                await self._run.keep(Entry.model_validate(message["step"]))
            elif message["op"] == "suspend":
                await self._run.suspend(message["key"], UNTIL.validate_python(message["until"]))
            elif message["op"] == "signalled":
                signals = await self._run.signalled(wait=message["wait"])
                reply["signals"] = [signal.model_dump(by_alias=True) for signal in signals]
            else:
                raise ValueError(f"There is no request {str(message['op'])[:80]!r}")  # noqa: TRY301 - as any other
        except Exception as error:
            failure = raised(error, self._run.redact)
            reply["error"] = failure.model_dump(by_alias=True)
        self._asked -= 1
        await self._send(reply)

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            with contextlib.suppress(anyio.BrokenResourceError):
                await self._child.send(json.dumps(message).encode() + b"\n")
