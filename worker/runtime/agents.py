"""Python agents by name: what `@agent` registers and how modules of agents are imported."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from worker.errors import AgentImportError, SignalboxError
from worker.runtime import tools
from worker.runtime.executors import Executor
from worker.runtime.plugins import load_plugins
from worker.runtime.source import code_of

if TYPE_CHECKING:
    from worker.runtime.context import Context

AgentFunction: TypeAlias = "Callable[[Context, Any], Coroutine[Any, Any, Any]]"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")  # as convex/model/text.ts has it


@dataclass(frozen=True, slots=True)
class Agent:
    """A Python agent: `play(ctx, input)` is awaited for each run and its value is the run's output.

    `code` is a hash of its source, and `version` what its author calls that; both None: not told.
    """

    name: str
    description: str
    play: AgentFunction
    capabilities: tuple[str, ...] = ()
    version: str | None = None
    code: str | None = None
    executor: Executor | None = None  # where its runs are played; None: in the worker's own process


class Registry:
    """The agents that this process can play."""

    def __init__(self, agents: Iterable[Agent] = ()) -> None:
        self._agents: dict[str, Agent] = {}
        for each in agents:
            self.add(each)

    def add(self, new: Agent) -> None:
        """Add an agent; defining the same function again replaces it.

        Raises:
            SignalboxError: Another function has the name, or it is not a name.
        """
        if not _NAME.fullmatch(new.name):
            raise SignalboxError(f"{new.name!r} is no name for an agent: 1 to 64 letters, digits and . _ : -")
        old = self._agents.get(new.name)
        if old is not None and _place(old.play) != _place(new.play):
            raise SignalboxError(
                f"Two agents are named {new.name!r}: {_place(old.play)} and {_place(new.play)}"
            )
        self._agents[new.name] = new

    def get(self, name: str) -> Agent | None:
        """Return the agent of this name."""
        return self._agents.get(name)

    def __iter__(self) -> Iterator[Agent]:
        """Return every agent."""
        return iter(self._agents.values())

    def __len__(self) -> int:
        return len(self._agents)


registry = Registry()


def agent(
    name: str,
    *,
    description: str = "",
    capabilities: Iterable[str] = (),
    version: str | None = None,
    executor: Executor | None = None,
) -> Callable[[AgentFunction], AgentFunction]:
    """Register the decorated `async def play(ctx, input)` as the agent `name`.

    `input` is the task's input, parsed from JSON; what the function returns becomes the task's output and
    must be JSON. A task can ask for one of its `capabilities` instead of its name. An `executor` plays each
    run in a process or container of its own. The function itself stays as it is and can be called by a test.

    A task that has taken steps goes on with the `version` that took them: by default a hash of the function
    and of what it uses of its own file. Give it a name of your own when the agent lies in several files, or
    to say that a change fits the tasks that are under way.
    """
    if version is not None and not _NAME.fullmatch(version):
        raise SignalboxError(
            f"{version!r} is no version of the agent {name!r}: 1 to 64 letters, digits and . _ : -"
        )

    def register(play: AgentFunction) -> AgentFunction:
        if not inspect.iscoroutinefunction(play):
            raise SignalboxError(f"The agent {name!r} must be an `async def` function: {_place(play)}")
        first_line = (inspect.getdoc(play) or "").partition("\n")[0]
        code = code_of(play)
        called = version if code is not None else None
        registry.add(
            Agent(name, description or first_line, play, tuple(capabilities), called, code, executor)
        )
        return play

    return register


def external(
    name: str, executor: Executor, *, description: str = "", capabilities: Iterable[str] = ()
) -> Agent:
    """Register an agent that is a program in any language, which `executor` names.

    It reads and writes lines of JSON: docs/tools.md.

    Raises:
        SignalboxError: The executor names no program.
    """
    if executor.command is None:
        raise SignalboxError(f"The agent {name!r} needs a command: there is no function to play")

    async def play(ctx: Context, input: Any) -> Any:  # noqa: ANN401, ARG001 - it is never called
        raise SignalboxError(f"The agent {name!r} is a program and has no function to call")

    made = Agent(name, description, play, tuple(capabilities), executor=executor)
    registry.add(made)
    return made


def load(modules: Iterable[str]) -> Registry:
    """Import the plug-ins that are installed and modules of agents, and return the registry.

    A module is found as `python -m` finds it: in the working directory first. A plug-in that does not import
    is told in the log and left out.

    Raises:
        AgentImportError: With one line that says what is wrong, and in which file and line.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    load_plugins(_take)
    for module in modules:
        if not all(part.isidentifier() for part in module.split(".")):
            raise AgentImportError(
                f"{module!r} is not a module's name: write `my_agents` or `package.module`, without .py"
            )
        try:
            importlib.import_module(module)
        except Exception as error:
            raise AgentImportError(_explained(module, error)) from error
        except SystemExit as error:
            raise AgentImportError(f"The agents in {module!r} called exit({error.code}) on import") from error
    return registry


def _take(found: object) -> None:
    """Register an agent, a tool or several of them; whatever else it is, its module has been imported."""
    if isinstance(found, Agent):
        registry.add(found)
    elif isinstance(found, tools.Tool):
        tools.toolbox.add(found)
    elif isinstance(found, list | tuple):
        for each in found:
            _take(each)


def _explained(module: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return f"No module named {module!r} in {Path.cwd()} or among the installed packages"
    what = f"{type(error).__name__}: {' '.join(str(error).split())}" if str(error) else type(error).__name__
    return f"The agents in {module!r} do not import: {what}{_where(error)}"


def _where(error: Exception) -> str:
    if isinstance(error, SyntaxError):  # its message already ends in the file and line
        return "" if error.lineno is None or "line" in str(error) else f" ({error.filename}:{error.lineno})"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    # The deepest frame outside this package and importlib is the user's.
    theirs = [f for f in frames if "importlib" not in f.filename and Path(f.filename) != Path(__file__)]
    return f" ({theirs[-1].filename}:{theirs[-1].lineno})" if theirs else ""


def _place(play: AgentFunction) -> str:
    code = inspect.unwrap(play).__code__ if hasattr(inspect.unwrap(play), "__code__") else None
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(play)
