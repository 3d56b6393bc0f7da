"""Agents that a model plays: what describes one, what it is given and what it returns."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic import BaseModel, ValidationError

from worker.errors import NonRetryable
from worker.models import FallbackOn, LlmSpec
from worker.runtime.loop import Call, Limits
from worker.runtime.schema import Schema, SchemaError
from worker.runtime.tools import Tool, explained

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})

Messages: TypeAlias = list[dict[str, Any]]


class InvalidInputError(NonRetryable):
    """The task's input is not one that this agent understands."""

    code = "invalid_input"


class InvalidSchemaError(NonRetryable):
    """The schema of an agent's output, or of a tool's parameters, cannot be kept to."""

    code = "invalid_schema"


class GuardrailError(NonRetryable):
    """Raised by a guardrail to end the run: what came in, was asked for or came out may not be."""

    code = "guardrail"


class LoopStoppedError(NonRetryable):
    """A model's loop may not go on; `code` says why, the history is kept in the task's steps.

    Args:
        code: `max_turns`, `max_tool_calls`, `repeated_call`, `max_tokens`, `max_cost`, `max_time`,
            `invalid_output`, `output_length`, `refusal`, `content_filter`.
        message: One line for people.
        redo: Keys of the steps for which it stopped, as the turn whose output is not what it must be; a retry
            by hand asks the model for them anew.
    """

    def __init__(self, code: str, message: str, redo: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.redo = tuple(redo)


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmAgent:
    """An agent that a model plays.

    Attributes:
        prompt: The system's message.
        models: Whom to ask, in order: the next when one fails. None: the worker's default.
        fallback_on: "content_filter" and "refusal": that the next model is asked after these too.
        temperature: The provider's default unless given.
        max_output_tokens: Of each turn; the provider's default unless given.
        tools: What the model may call: tools, or names of the worker's.
        output: What the output must be: a pydantic model or a JSON schema of an object. The model's text is
            checked, and corrected once. None: the text is the output.
        limits: Where the loop stops.
        parallel: How many tools of a turn are called at once.
        before_input: Called with the messages before the first turn; returns others, or None.
        before_tool: Called with each call before the tool; returns why it is refused, or None.
        after_output: Called with the output; returns another, or None. What it raises as a ValueError the
            model is told, to correct it.

    The three guardrails are functions, async or not; a `GuardrailError` ends the run. What the first and the
    last return must be JSON: it is kept, so that a later run does not ask again.
    """

    prompt: str = ""
    models: Sequence[str] = ()
    fallback_on: Sequence[FallbackOn] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None
    tools: Sequence[str | Tool] = ()
    output: type[BaseModel] | Mapping[str, Any] | None = None
    limits: Limits = field(default_factory=Limits)
    parallel: int = 8
    before_input: Callable[[Messages], Messages | Awaitable[Messages | None] | None] | None = None
    before_tool: Callable[[Call], str | Awaitable[str | None] | None] | None = None
    after_output: Callable[[Any], Any] | None = None

    @classmethod
    def of(cls, spec: LlmSpec) -> LlmAgent:
        """Return the agent that a row of the registry describes."""
        given = spec.limits
        limits = {} if given is None else given.model_dump(exclude_none=True)
        max_ms = limits.pop("max_ms", None)
        return cls(
            prompt=spec.prompt,
            models=spec.models or ([spec.model] if spec.model else ()),
            fallback_on=spec.fallback_on or (),
            temperature=spec.temperature,
            max_output_tokens=spec.max_output_tokens,
            tools=spec.tools or (),
            output=None if spec.output_schema is None else _schema(spec.output_schema),
            limits=Limits(**limits, max_s=None if max_ms is None else max_ms / 1000),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentUsage:
    """What a loop has used; None where nobody told."""

    input_tokens: int | None
    output_tokens: int | None
    cost_micros: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentResult:
    """What a loop brought.

    Attributes:
        output: What the agent's `output` says it is; else the text.
        text: Of the last turn.
        finish: How the last turn ended: "stop", or "length", "refusal", "content_filter".
        model: Who answered last.
        turns: How many there were.
        tool_calls: How many there were.
        usage: Of all turns, those of earlier runs of the task too.
        messages: The whole conversation, to go on from.
    """

    output: Any
    text: str
    finish: str
    model: str | None
    turns: int
    tool_calls: int
    usage: AgentUsage
    messages: Messages


def messages_of(prompt: str, value: Any) -> Messages:  # noqa: ANN401 - any JSON may arrive
    """Return the chat for an input: a text, `{"prompt": text}` or `{"messages": [...]}`.

    The agent's own prompt goes first, as the system's message.

    Raises:
        InvalidInputError: The input is none of the three.
    """
    system = [{"role": "system", "content": prompt}] if prompt else []
    if isinstance(value, str):
        return [*system, {"role": "user", "content": value}]
    if isinstance(value, dict) and isinstance(value.get("prompt"), str):
        return [*system, {"role": "user", "content": value["prompt"]}]
    if isinstance(value, dict) and isinstance(value.get("messages"), list) and value["messages"]:
        for number, message in enumerate(value["messages"]):
            if not isinstance(message, dict) or message.get("role") not in _ROLES:
                raise InvalidInputError(
                    f"messages[{number}] needs a `role` (user, assistant, ...) and `content`"
                )
        return [*system, *value["messages"]]
    raise InvalidInputError('The input must be a text, {"prompt": "..."} or {"messages": [...]}')


def checker(output: type[BaseModel] | Mapping[str, Any] | None) -> Callable[[str], Any] | None:
    """Return what makes an output of a text, or raises ValueError with a line for the model.

    Raises:
        InvalidSchemaError: It is a schema that cannot be kept to.
    """
    if output is None:
        return None
    if isinstance(output, type):
        return _by_model(output)
    schema = read_schema(output, "The output's schema")

    def check(text: str) -> Any:  # noqa: ANN401 - any JSON
        value = _parsed(text)
        schema.check(value)
        return value

    return check


def read_schema(schema: Mapping[str, Any], what: str) -> Schema:
    """Return a schema that can be kept to.

    Raises:
        InvalidSchemaError: It cannot; `what` begins the message.
    """
    try:
        return Schema(schema)
    except SchemaError as error:
        raise InvalidSchemaError(f"{what}: {error}"[:1000]) from None


def _by_model(model: type[BaseModel]) -> Callable[[str], Any]:
    def check(text: str) -> BaseModel:
        try:
            return model.model_validate(_parsed(text))
        except ValidationError as error:
            raise ValueError(explained(error)) from None

    return check


def _parsed(text: str) -> Any:  # noqa: ANN401 - any JSON
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise ValueError("it nests too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON alone: {error}") from None


def _schema(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidSchemaError("The output's schema is not the JSON text of an object")
    return value


def response_format(output: type[BaseModel] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return how a model is asked for an output, in the common form."""
    if output is None:
        return None
    schema = output.model_json_schema() if isinstance(output, type) else dict(output)
    return {"type": "json_schema", "json_schema": {"name": "output", "schema": schema}}
