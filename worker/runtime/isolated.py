"""The child process of an isolated run: plays one agent, whose host is at the other end of two pipes.

Run as `python -m worker.runtime.isolated` by `worker.runtime.isolate`. It ends when its parent does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
import threading
from dataclasses import asdict
from typing import Any, BinaryIO, NoReturn

from worker.errors import AgentError, AgentImportError
from worker.llm import Completion
from worker.logs import Redactor
from worker.models import Emitted, Entry, Fork, Outcome, Progress, Signal, Spawned, StepsPage, Upstream
from worker.router import Answer
from worker.runtime.agents import load
from worker.runtime.context import Context, concluded
from worker.runtime.durable import Until
from worker.runtime.hooks import ErrorContext, told
from worker.runtime.isolate import ANSWER
from worker.runtime.model import Prompt
from worker.runtime.outcome import failed, raised, succeeded
from worker.runtime.stream import Label

_PIECE_CHARS = 16 * 1024  # of streamed text in one line


class HostRefusedError(AgentError):
    """The host refused a request; it carries the code and retryability of the host's own error."""

    def __init__(self, failure: dict[str, Any]) -> None:
        super().__init__(failure["error"]["message"])
        self.code: str = failure["error"]["code"]
        self.retryable: bool = failure["retryable"]
        before = failure["notBeforeMs"]
        self.retry_after_s: float | None = None if before is None else before / 1000


class PipeHost:
    """The host of the agent's context, at the other end of two pipes."""

    def __init__(self, out: BinaryIO, loop: asyncio.AbstractEventLoop) -> None:
        self._out = out
        self._loop = loop
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}

    def listen(self, source: BinaryIO) -> None:
        """Hand on replies until the parent is gone, then end this process; for a thread of its own."""
        for line in source:
            self._loop.call_soon_threadsafe(self._resolve, json.loads(line))
        os._exit(1)  # nobody is left who could use the result

    def _resolve(self, reply: dict[str, Any]) -> None:
        future = self._waiting.pop(reply["id"], None)
        if future is not None and not future.done():
            future.set_result(reply)

    def send(self, message: dict[str, Any]) -> None:
        """Write one line; a full pipe makes the agent wait."""
        self._out.write(json.dumps(message).encode("ascii") + b"\n")
        self._out.flush()

    async def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        number = next(self._ids)
        future = self._waiting[number] = self._loop.create_future()
        self.send({**message, "id": number})
        reply: dict[str, Any] = await future
        if "error" in reply:
            raise HostRefusedError(reply["error"])
        return reply

    def write(self, text: str, label: Label) -> None:
        """Add text to the run's stream."""
        for start in range(0, len(text), _PIECE_CHARS):
            self.send({"op": "text", "kind": label.kind, "text": text[start : start + _PIECE_CHARS]})

    async def room(self) -> None:
        """Return at once: a full pipe has already made the writer wait."""

    async def confirmed(self) -> None:
        """Wait until the control plane has acknowledged a write of this run."""
        await self._ask({"op": "confirmed"})

    async def complete(self, prompt: Prompt) -> Completion:
        """Call the model, streaming what it says."""
        return (await self.answer(prompt)).completion

    async def answer(self, prompt: Prompt) -> Answer:
        """The same, with who answered."""
        reply = await self._ask({"op": "answer", "prompt": asdict(prompt)})
        return ANSWER.validate_python(reply["answer"])

    async def load(self) -> StepsPage:
        """Return what earlier runs of the task have done."""
        return StepsPage.model_validate((await self._ask({"op": "load"}))["page"])

    async def keep(self, entry: Entry) -> None:
        """Return once a step has been acknowledged."""
        await self._ask({"op": "keep", "step": entry.model_dump(by_alias=True)})

    async def spawn(self, key: str, tasks: list[dict[str, Any]], *, gather: bool) -> Spawned:
        """Submit tasks as children of this run's."""
        reply = await self._ask({"op": "spawn", "key": key, "tasks": tasks, "gather": gather})
        return Spawned.model_validate(reply["spawned"])

    async def gathered(self, tasks: list[str]) -> list[Upstream]:
        """Return how children have ended."""
        reply = await self._ask({"op": "gathered", "tasks": tasks})
        return [Upstream.model_validate(item) for item in reply["items"]]

    async def emit(self, key: str, name: str, data: str) -> Emitted:
        """Tell the tenant of an event."""
        reply = await self._ask({"op": "emit", "key": key, "name": name, "data": data})
        return Emitted.model_validate(reply["emitted"])

    async def upstream(self) -> list[Upstream]:
        """Return how the tasks have ended that this run's comes after."""
        reply = await self._ask({"op": "upstream"})
        return [Upstream.model_validate(item) for item in reply["items"]]

    async def suspend(self, key: str, until: Until) -> NoReturn:
        """End the run; this process is killed."""
        await self._ask({"op": "suspend", "key": key, "until": until.model_dump(by_alias=True)})
        raise AssertionError("a suspended run went on")

    async def signalled(self, *, wait: bool) -> list[Signal]:
        """Return the signals that have come since the last call."""
        reply = await self._ask({"op": "signalled", "wait": wait})
        return [Signal.model_validate(signal) for signal in reply["signals"]]

    def tell(self, progress: Progress | None, state: str | None) -> None:
        """Report how the run stands."""
        told = None if progress is None else progress.model_dump(by_alias=True)
        self.send({"op": "tell", "progress": told, "state": state})

    def clean(self, text: str) -> str:
        """Return the text as it is: the worker, which knows the secrets, takes them out on its way."""
        return text

    def doing(self, name: str | None) -> None:
        """Note which step is under way."""
        self.send({"op": "doing", "name": name})


async def _play(start: dict[str, Any], host: PipeHost) -> Outcome:
    agent = load(start["modules"]).get(start["agent"])
    if agent is None:
        return failed("unknown_agent", f"No agent named {start['agent']!r}", retryable=True)
    if start["code"] not in (None, agent.code):
        # Its steps would count as those of the version that the worker has told of.
        return failed(
            "code_changed",
            f"The code of the agent {agent.name!r} is another one here than its worker began with: "
            "start the worker again",
            retryable=True,
        )
    context = Context(
        run=start["run"],
        task=start["task"],
        attempt=start["attempt"],
        agent=start["agent"],
        host=host,
        earlier=start["earlier"],
        changed=start["pinned"] not in (None, agent.code),
        fork=None if start["fork"] is None else Fork.model_validate(start["fork"]),
    )
    value = await agent.play(context, json.loads(start["input"]))
    return succeeded(await concluded(context, value), start["maxOutputBytes"])


async def _main(out: BinaryIO, source: BinaryIO) -> None:
    start = json.loads(source.readline())
    host = PipeHost(out, asyncio.get_running_loop())
    threading.Thread(target=host.listen, args=(source,), daemon=True).start()
    try:
        outcome = await _play(start, host)
    except AgentImportError as error:
        outcome = failed("agent_import_error", str(error), retryable=True)
    except BaseException as error:
        outcome = raised(error, Redactor())
        context = ErrorContext(
            start["run"], start["task"], start["agent"], start["attempt"], outcome.error.code
        )
        told(error, context)
    host.send({"op": "outcome", "outcome": outcome.model_dump(by_alias=True)})


def main() -> None:
    """Play the run that the first line of stdin describes."""
    # The agent may print: its standard output becomes the worker's standard error, and the pipe stays ours.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        asyncio.run(_main(out, sys.stdin.buffer))
    except BrokenPipeError:
        os._exit(1)  # the parent is gone, and the thread that listens to it would not let go of stdin


if __name__ == "__main__":
    main()
