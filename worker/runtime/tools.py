"""Tools that models call: what one is, how a function becomes one, and where a worker keeps them by name."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, get_type_hints

import anyio
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, create_model

from worker.errors import NonRetryable, SignalboxError
from worker.models import Effect
from worker.runtime.canonical import dumped

Access: TypeAlias = Literal["read", "write", "outward", "destructive"]
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every provider takes as a function's name
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,30}_")
MAX_RESULT_BYTES = 64 * 1024  # a model reads all of it again in each later turn
TIMEOUT_S = 60.0


class InvalidToolError(SignalboxError):
    """A tool is described wrongly; the message names it and says what to change."""


class ToolError(SignalboxError):
    """Raised by a tool to tell the model in one line what went wrong; the run goes on."""


class UnknownToolError(NonRetryable):
    """An agent names a tool that its worker does not have."""

    code = "unknown_tool"


class ToolSourceError(SignalboxError):
    """A source of tools could not list them; another attempt may find it well."""

    code = "tool_source_unavailable"
    retryable = True


@dataclass(frozen=True, slots=True)
class Found:
    """`Tool.reconcile` has found the effect; `value` is what the call would have returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class NotFound:
    """`Tool.reconcile` knows that the effect has not happened."""


class Facts(Protocol):
    """What a tool may tell of its run; the context of the run fits."""

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far it has come."""

    def log(self, message: str, **facts: object) -> None:
        """Add a line to the run's log."""


@dataclass(frozen=True, slots=True)
class ToolContext:
    """What a tool holds while it is called.

    Attributes:
        key: The idempotency key, made of the task and the step: the same whenever this call comes again.
        task: Id of the task.
        run: Id of this attempt.
        facts: Where progress and log lines go.
    """

    key: str
    task: str
    run: str
    facts: Facts

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Tell how far the run has come, as `Context.progress`."""
        self.facts.progress(done, total, message)

    def log(self, message: str, **facts: object) -> None:
        """Add a line to the run's log, as `Context.log`."""
        self.facts.log(message, **facts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """Something that a model may ask for.

    Attributes:
        name: 1 to 64 letters, digits, `_` and `-`.
        description: For the model: what it does, and when it is of use.
        parameters: JSON schema of an object.
        call: `await call(arguments, context)` returns any JSON. What it raises is told to the model, except
            `AgentError`s, which end the run as they would if the agent had raised them.
        effect: What a second call with the same arguments does; a tool that says nothing is unsafe.
        reconcile: `await reconcile(key, arguments)` reads back whether the call has happened; for
            "reconcilable".
        needs_approval: Whether a person decides on each call, or on which arguments.
        timeout_s: For one call; a tool that does not return by then is cancelled and the model is told.
        max_result_bytes: Of the JSON text; what is beyond is cut, with a mark.
        access: What it touches, for rules about who may use it.
        check: Returns the arguments that `call` takes, or raises ValueError with one line for the model. The
            decorator makes one from the type hints; without one the schema is checked.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]
    call: Callable[[dict[str, Any], ToolContext], Awaitable[Any]]
    effect: Effect = "unsafe"
    reconcile: Callable[[str, dict[str, Any]], Awaitable[Found | NotFound]] | None = None
    needs_approval: bool | Callable[[dict[str, Any]], bool] = False
    timeout_s: float = TIMEOUT_S
    max_result_bytes: int = MAX_RESULT_BYTES
    access: Access = "write"
    check: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidToolError(f"{self.name!r} is no name for a tool: 1 to 64 letters, digits, _ and -")
        if self.parameters.get("type") != "object":
            raise InvalidToolError(f"The parameters of the tool {self.name!r} must be an object's schema")
        if (self.effect == "reconcilable") != (self.reconcile is not None):
            raise InvalidToolError(
                f"The tool {self.name!r} must be reconcilable and have `reconcile`, or neither of the two"
            )
        if not self.timeout_s > 0 or self.max_result_bytes < 1:
            raise InvalidToolError(f"The tool {self.name!r} needs a positive timeout_s and max_result_bytes")

    def described(self) -> dict[str, Any]:
        """Return what a model is told of it, in the form of chat completions."""
        function = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a model is given for a call.

    Attributes:
        content: The text: JSON, unless the tool returned a text.
        ok: False when the call was refused or failed; `content` then says why.
        code: Why, for programs: "failed", "timeout", "unknown_tool", "invalid_arguments", "refused", ...
        cut: How many bytes of the result were left out.
        ms: How long the call took.
    """

    content: str
    ok: bool = True
    code: str | None = None
    cut: int = 0
    ms: float = 0.0

    def dump(self) -> str:
        """Return the JSON text that the call's step keeps."""
        return dumped(asdict(self))

    def without(self, clean: Callable[[str], str]) -> ToolResult:
        """Return it with its text as `clean` leaves it."""
        content = clean(self.content)
        return self if content == self.content else replace(self, content=content)

    @classmethod
    def load(cls, text: str) -> ToolResult:
        """Return the result that a step has kept."""
        kept = json.loads(text)  # of another version, perhaps: what is not known here is passed over
        return cls(**{name: kept[name] for name in kept.keys() & cls.__dataclass_fields__})


class ToolSource(Protocol):
    """Something that lists its tools itself, once an agent asks for one: a server, for example."""

    @property
    def prefix(self) -> str:
        """What the names of its tools begin with; it ends in an underscore."""

    async def tools(self) -> list[Tool]:
        """Return all of its tools.

        Raises:
            ToolSourceError: It cannot tell now.
        """

    async def aclose(self) -> None:
        """End what it holds."""


class Toolbox:
    """A worker's tools by name."""

    def __init__(self, tools: Iterable[Tool] = ()) -> None:
        self._tools: dict[str, Tool] = {}
        self._sources: dict[str, ToolSource] = {}
        for each in tools:
            self.add(each)

    def add(self, new: Tool) -> None:
        """Add a tool; adding an equal one again changes nothing.

        Raises:
            InvalidToolError: Another one has the name.
        """
        old = self._tools.get(new.name)
        if old is not None and _place(old.call) != _place(new.call):
            raise InvalidToolError(f"Two tools are named {new.name!r}")
        self._tools[new.name] = new

    def add_source(self, source: ToolSource) -> None:
        """Add what lists tools itself; one under the same prefix takes the place of the older one.

        Raises:
            InvalidToolError: Its prefix is none, or begins as another one does.
        """
        prefix = source.prefix
        if not _PREFIX.fullmatch(prefix):
            raise InvalidToolError(
                f"{prefix!r} is no prefix for tools: letters, digits, _ and -, an underscore at its end"
            )
        for other in self._sources:
            if other != prefix and (other.startswith(prefix) or prefix.startswith(other)):
                raise InvalidToolError(f"The prefixes {other!r} and {prefix!r} of two sources overlap")
        self._sources[prefix] = source

    async def chosen(self, names: Iterable[str]) -> Toolbox:
        """Return a toolbox with only these tools, from their sources too; `github_*` is all of a source.

        Raises:
            UnknownToolError: There is no such tool here.
            ToolSourceError: A source cannot tell now.
        """
        chosen = Toolbox()
        for name in names:
            prefix = next((each for each in self._sources if name.startswith(each)), None)
            if name in self._tools or prefix is None:
                listed = list(self.choose([name]))
            else:
                listed = await self._sources[prefix].tools()
                if name != f"{prefix}*":
                    known = sorted(each.name for each in listed)
                    listed = [each for each in listed if each.name == name]
                    if not listed:
                        raise UnknownToolError(f"{name!r} is none of: {', '.join(known) or 'none'}"[:1000])
            for each in listed:
                chosen.add(each)
        return chosen

    async def aclose(self) -> None:
        """End what the sources hold."""
        for source in self._sources.values():
            await source.aclose()

    def get(self, name: str) -> Tool | None:
        """Return the tool of this name."""
        return self._tools.get(name)

    def choose(self, names: Iterable[str]) -> Toolbox:
        """Return a toolbox with only these tools.

        Raises:
            UnknownToolError: There is no such tool here.
        """
        chosen = Toolbox()
        for name in names:
            found = self._tools.get(name)
            if found is None:
                known = ", ".join(sorted(self._tools)) or "none"
                raise UnknownToolError(f"This worker has no tool named {name!r}; it has: {known}"[:1000])
            chosen.add(found)
        return chosen

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)


toolbox = Toolbox()
"""The tools of this process: `@tool` and the modules of agents add to it."""


def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    effect: Effect = "unsafe",
    reconcile: Callable[[str, dict[str, Any]], Awaitable[Found | NotFound]] | None = None,
    needs_approval: bool | Callable[[dict[str, Any]], bool] = False,
    timeout_s: float = TIMEOUT_S,
    max_result_bytes: int = MAX_RESULT_BYTES,
    access: Access = "write",
    into: Toolbox | None = None,
) -> Callable[[Callable[..., Any]], Tool]:
    """Make a tool of the decorated function, and add it to the worker's tools.

    Its parameters are the function's, by their type hints; one hinted `ToolContext` is given the context. A
    function that is not `async` runs in a thread of its own; at the time limit it is left behind there.

    Args:
        name: The function's unless given.
        description: The first paragraph of its docstring unless given.
        into: Where it is added; by default to the tools of this process.
        effect: And what follows: as in `Tool`.
        reconcile: See `Tool`.
        needs_approval: See `Tool`.
        timeout_s: See `Tool`.
        max_result_bytes: See `Tool`.
        access: See `Tool`.
    """

    def register(function: Callable[..., Any]) -> Tool:
        model, takes_context = _parameters_of(function)
        adapter: TypeAdapter[BaseModel] = TypeAdapter(model)
        schema = adapter.json_schema()
        schema.pop("title", None)
        for each in schema.get("properties", {}).values():
            each.pop("title", None)
        first = (inspect.getdoc(function) or "").split("\n\n")[0]
        new = Tool(
            name=name or function.__name__,
            description=description if description is not None else " ".join(first.split()),
            parameters={"type": "object", "properties": {}, **schema},
            call=_caller(function, model, takes_context),
            effect=effect,
            reconcile=reconcile,
            needs_approval=needs_approval,
            timeout_s=timeout_s,
            max_result_bytes=max_result_bytes,
            access=access,
            check=_checker(model),
        )
        (toolbox if into is None else into).add(new)
        return new

    return register


def _parameters_of(function: Callable[..., Any]) -> tuple[type[BaseModel], str | None]:
    """Return a model of a function's parameters, and the name of the one that takes the context."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        named = f"{parameter.name!r} of the tool {function.__name__!r}"
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise InvalidToolError(f"{named} must be a parameter with a name of its own")
        if parameter.name not in hints:
            raise InvalidToolError(f"{named} needs a type hint: the model is told its schema")
        hint = hints[parameter.name]
        if hint is ToolContext:
            context = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hint, default)
    try:
        model = create_model(function.__name__, __config__=ConfigDict(extra="forbid"), **fields)
        TypeAdapter(model).json_schema()
    except Exception as error:
        why = " ".join(str(error).split())[:300]
        raise InvalidToolError(
            f"The tool {function.__name__!r} has parameters without a JSON schema: {why}"
        ) from error
    return model, context


def _checker(model: type[BaseModel]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def check(arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            model.model_validate(arguments)
        except ValidationError as error:
            raise ValueError(explained(error)) from None
        return arguments

    return check


def explained(error: ValidationError) -> str:
    """Return what is wrong with a value, each fault with its place, in a line that tells no values."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'the value'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    more = f" (and {len(faults) - 5} more)" if len(faults) > 5 else ""
    return "; ".join(faults[:5])[:1000] + more


def _caller(
    function: Callable[..., Any], model: type[BaseModel], context_name: str | None
) -> Callable[[dict[str, Any], ToolContext], Awaitable[Any]]:
    async def call(arguments: dict[str, Any], context: ToolContext) -> Any:  # noqa: ANN401 - any JSON
        checked = model.model_validate(arguments)
        given = {name: getattr(checked, name) for name in type(checked).model_fields}
        if context_name is not None:
            given[context_name] = context
        if inspect.iscoroutinefunction(function):
            return await function(**given)
        return await anyio.to_thread.run_sync(lambda: function(**given), abandon_on_cancel=True)

    return functools.wraps(function)(call)


def _place(call: Callable[..., Any]) -> object:
    code = getattr(inspect.unwrap(call), "__code__", None)
    return call if code is None else (code.co_filename, code.co_firstlineno)
