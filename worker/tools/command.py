"""The tool `run_command`: one of the programs that the operator has named, without a shell, with limits."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

from worker.errors import SettingsError
from worker.processes import Child, Limits, plain_environment, start
from worker.runtime.tools import Tool, ToolContext, ToolError

TIMEOUT_S = 60.0
MAX_OUTPUT_BYTES = 16 * 1024  # of each of the two outputs that are told: the first half and the last
FLOOD_BYTES = 64 * 1024 * 1024  # of both outputs; a program that writes on is ended
MAX_ARGUMENTS = 100
MAX_ARGUMENT_CHARS = 32 * 1024
MAX_STDIN_BYTES = 1024 * 1024
_LAST_WORDS_S = 0.5  # for what is still in the pipes when the program has ended


class Kept:
    """The first half and the last of what a program writes."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._head = bytearray()
        self._tail = bytearray()
        self.seen = 0

    def add(self, data: bytes) -> None:
        """Keep a part, or what fits of it."""
        self.seen += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        if len(self._tail) > self._half:
            del self._tail[: -self._half]

    def text(self) -> str:
        """Return it, with a line that says how much is left out."""
        dropped = self.seen - len(self._head) - len(self._tail)
        mark = f"\n[... {dropped} bytes left out ...]\n".encode() if dropped else b""
        return bytes(self._head + mark + self._tail).decode("utf-8", "replace")


@dataclass(slots=True)
class Ended:
    """How a program ended and what it wrote."""

    exit: int | None = None
    signal: str | None = None
    why: str | None = None  # it was ended by us: "timeout" or "flood"
    stdout: Kept = field(default_factory=lambda: Kept(MAX_OUTPUT_BYTES))
    stderr: Kept = field(default_factory=lambda: Kept(MAX_OUTPUT_BYTES))


async def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    limits: Limits | None = None,
    stdin: bytes = b"",
    timeout_s: float = TIMEOUT_S,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
) -> Ended:
    """Run a program to its end, or to that of its time; none of its group is left then.

    Raises:
        OSError: It cannot be started.
    """
    ended = Ended(stdout=Kept(max_output_bytes), stderr=Kept(max_output_bytes))
    child = await start(command, env=env, cwd=cwd, limits=limits or Limits())
    try:
        async with anyio.create_task_group() as tasks:

            async def read(pipe: Any, kept: Kept) -> None:  # noqa: ANN401
                try:
                    while True:
                        kept.add(await pipe.receive())
                        if ended.stdout.seen + ended.stderr.seen > FLOOD_BYTES and ended.why is None:
                            ended.why = "flood"
                            child.kill()
                except anyio.EndOfStream:
                    return

            tasks.start_soon(read, child.stdout, ended.stdout)
            tasks.start_soon(read, child.stderr, ended.stderr)
            tasks.start_soon(_feed, child, stdin)
            with anyio.move_on_after(timeout_s) as scope:
                await child.wait()
            if scope.cancelled_caught:
                ended.why = "timeout"
            child.kill()  # what it has left behind
            tasks.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_S
    finally:
        await child.end()
    code = child.returncode
    if code is not None and code >= 0:
        ended.exit = code
    elif code is not None:
        ended.signal = signal.Signals(-code).name if -code in {*signal.Signals} else str(-code)
    return ended


async def _feed(child: Child, data: bytes) -> None:
    try:
        if data:
            await child.send(data)
    except anyio.BrokenResourceError:
        return  # it did not want it
    child.close_stdin()


def command(
    programs: Sequence[str],
    *,
    cwd: Path | str,
    env: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    timeout_s: float = TIMEOUT_S,
    max_output_bytes: int = MAX_OUTPUT_BYTES,
    name: str = "run_command",
    needs_approval: bool = False,
) -> Tool:
    """Return the tool `run_command(argv, stdin)`.

    A program has the rights of the worker's user, on its files and its network: what is not trusted belongs
    in a container. A program that starts others (`env`, `find`, `git`, every interpreter) can run all that
    there is.

    Args:
        programs: Their names, as found in PATH now, or whole paths; `argv` begins with one of them.
        cwd: Where they run.
        env: Variables that they are given beside PATH, HOME, the language and the time zone; never the
            worker's own.
        limits: What each may take.
        timeout_s: Then it and all that it has started is killed.
        max_output_bytes: Told of each output.
        name: The tool's.
        needs_approval: Whether a person decides on each call.

    Raises:
        SettingsError: A program is not there, or `cwd` is no folder.
    """
    paths = {program: _found(program) for program in programs}
    folder = Path(cwd).resolve()
    if not folder.is_dir():
        raise SettingsError(f"The working folder of the tool {name!r} is no folder: {cwd}")
    environment = plain_environment(env)
    bounds = limits or Limits()

    async def call(arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:  # noqa: ARG001
        argv = arguments["argv"]
        stdin = arguments.get("stdin", "").encode("utf-8", "replace")
        if not argv or argv[0] not in paths:
            raise ToolError(f"argv must begin with one of: {', '.join(paths)}")
        if any("\0" in argument for argument in argv):
            raise ToolError("argv holds a zero byte.")
        if len(stdin) > MAX_STDIN_BYTES:
            raise ToolError(f"stdin has {len(stdin)} bytes; at most {MAX_STDIN_BYTES}.")
        try:
            ended = await run(
                [paths[argv[0]], *argv[1:]],
                env=environment,
                cwd=folder,
                limits=bounds,
                stdin=stdin,
                timeout_s=timeout_s,
                max_output_bytes=max_output_bytes,
            )
        except OSError as error:
            raise ToolError(f"{argv[0]} cannot be started: {error.strerror or error}") from error
        return {
            "exit": ended.exit,
            "signal": ended.signal,
            "ended": {
                "timeout": f"It ran for {timeout_s:g} s and was killed.",
                "flood": f"It wrote more than {FLOOD_BYTES} bytes and was killed.",
                None: None,
            }[ended.why],
            "stdout": ended.stdout.text(),
            "stderr": ended.stderr.text(),
        }

    return Tool(
        name=name,
        description=f"Run a program without a shell. Programs: {', '.join(paths)}.",
        parameters={
            "type": "object",
            "properties": {
                "argv": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": MAX_ARGUMENT_CHARS},
                    "minItems": 1,
                    "maxItems": MAX_ARGUMENTS,
                    "description": "The program and its arguments",
                },
                "stdin": {"type": "string"},
            },
            "required": ["argv"],
            "additionalProperties": False,
        },
        call=call,
        effect="unsafe",
        access="destructive",
        needs_approval=needs_approval,
        timeout_s=timeout_s + 10,
        max_result_bytes=4 * max_output_bytes + 4096,
    )


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SettingsError(f"There is no program {program!r} in PATH")
    return str(Path(path).absolute())
