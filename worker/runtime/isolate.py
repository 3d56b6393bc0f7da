"""Plays a Python agent in a process of its own, once a run of its task has taken a worker's process down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from pydantic import TypeAdapter, ValidationError

from worker.models import Assignment, Entry, Outcome, Progress
from worker.pipes import LineReader, LineTooLongError
from worker.router import Answer
from worker.runtime.durable import Until
from worker.runtime.model import Prompt
from worker.runtime.outcome import failed, raised
from worker.runtime.stream import Label

if TYPE_CHECKING:
    from worker.runtime.run import Run

_OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)
ANSWER = TypeAdapter(Answer)
UNTIL: TypeAdapter[Until] = TypeAdapter(Until)
_LINE_MARGIN = 64 * 1024  # around an output, for its envelope
_CLOSE_S = 2.0  # for a child that closed its pipe to be gone


async def play(
    assignment: Assignment, text: str, modules: Sequence[str], run: Run, max_output_bytes: int
) -> Outcome:
    """Return the outcome of a run played in a child process, which is killed with its children at the end."""
    process = await anyio.open_process(
        [sys.executable, "-m", "worker.runtime.isolated"],
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
        start_new_session=True,
    )
    try:
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
            "pinned": None if assignment.pinned is None else assignment.pinned.code,
        }
        if process.stdout is None:
            raise RuntimeError("a process was opened without the pipe that was asked for")
        conversation = _Conversation(process, run, max_output_bytes * 2 + _LINE_MARGIN)
        outcome = await conversation.hold(process.stdout, start)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process)
    return outcome


async def _end(process: Process) -> None:
    """Kill the process group, and do not leave before the child has been reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()


def _ending(process: Process) -> str:
    code = process.returncode
    if code is None:
        return "closed its pipe without a result"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


class _Conversation:
    """Serves a child's requests until it tells its outcome or is gone."""

    def __init__(self, process: Process, run: Run, max_line_bytes: int) -> None:
        self._process = process
        self._run = run
        self._max_line_bytes = max_line_bytes
        self._sending = anyio.Lock()

    async def hold(self, stdout: ByteReceiveStream, start: dict[str, Any]) -> Outcome:
        outcome: Outcome | None = None
        async with anyio.create_task_group() as calls:
            try:
                await self._send(start)
                reader = LineReader(stdout, self._max_line_bytes)
                while (line := await reader.read()) is not None:
                    message = json.loads(line)
                    if message["op"] == "outcome":
                        outcome = _OUTCOME.validate_python(message["outcome"])
                        break
                    if message["op"] == "text":
                        self._run.write(message["text"], Label(message["kind"], 0, 1))
                        await self._run.room()
                    elif message["op"] == "tell":
                        told = message["progress"]
                        self._run.tell(
                            None if told is None else Progress.model_validate(told), message["state"]
                        )
                    elif message["op"] == "doing":
                        self._run.doing(message["name"])
                    else:
                        calls.start_soon(self._answer, message)
            except (ValueError, KeyError, TypeError, ValidationError, LineTooLongError) as error:
                outcome = failed(
                    "process_protocol",
                    f"The agent's process wrote to the worker's pipe: {error}"[:500],
                    retryable=False,
                )
            calls.cancel_scope.cancel()
        if outcome is not None:
            return outcome
        with anyio.move_on_after(_CLOSE_S):  # how it died is worth a moment
            await self._process.wait()
        return failed("process_died", f"The agent's process {_ending(self._process)}", retryable=True)

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
        except Exception as error:
            failure = raised(error, self._run.redact)
            reply["error"] = failure.model_dump(by_alias=True)
        await self._send(reply)

    async def _send(self, message: dict[str, Any]) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            async with self._sending:
                with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await stdin.send(json.dumps(message).encode() + b"\n")
