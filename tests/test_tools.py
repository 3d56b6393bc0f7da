"""Tools: what a function becomes, what is refused, how a call is told apart from another."""

from __future__ import annotations

import threading
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from worker.runtime.canonical import args_hash
from worker.runtime.tools import (
    InvalidToolError,
    NotFound,
    Tool,
    Toolbox,
    ToolContext,
    UnknownToolError,
    tool,
)


class Silent:
    def progress(self, done: float, total: float | None = None, message: str = "") -> None: ...

    def log(self, message: str, **facts: object) -> None: ...


CONTEXT = ToolContext(key="task:turn#1/0:x", task="task", run="run", facts=Silent())


class Place(BaseModel):
    city: str
    country: str = "DE"


async def test_a_function_becomes_a_tool_by_its_type_hints() -> None:
    box = Toolbox()

    @tool(effect="pure", access="read", into=box)
    async def weather(
        place: Place, unit: Literal["C", "F"], ctx: ToolContext, days: int = 1
    ) -> dict[str, Any]:
        """Tell the weather
        of a place.

        More for people.
        """
        return {"city": place.city, "unit": unit, "days": days, "key": ctx.key}

    assert box.get("weather") is weather
    described = weather.described()
    assert described["function"]["description"] == "Tell the weather of a place."
    schema = described["function"]["parameters"]
    assert schema["required"] == ["place", "unit"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"place", "unit", "days"}
    told = await weather.call({"place": {"city": "Bonn"}, "unit": "C"}, CONTEXT)
    assert told == {"city": "Bonn", "unit": "C", "days": 1, "key": CONTEXT.key}


async def test_a_tool_that_is_not_async_runs_in_a_thread_of_its_own() -> None:
    @tool(into=Toolbox())
    def where() -> str:
        return threading.current_thread().name

    assert await where.call({}, CONTEXT) != threading.current_thread().name
    assert where.effect == "unsafe"
    assert where.parameters["properties"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": "x"}, "n: Input should be a valid integer"),
        ({}, "n: Field required"),
        ({"n": 1, "m": 2}, "m: Extra inputs are not permitted"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    @tool(into=Toolbox())
    async def double(n: int) -> int:
        return 2 * n

    assert double.check is not None
    assert double.check({"n": 1}) == {"n": 1}
    with pytest.raises(ValueError, match=message):
        double.check(arguments)


async def noop(arguments: dict[str, Any], context: ToolContext) -> None: ...


async def absent(key: str, arguments: dict[str, Any]) -> NotFound:
    return NotFound()


OBJECT = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a b"}, "is no name for a tool"),
        ({"name": "x" * 65}, "is no name for a tool"),
        ({"parameters": {"type": "string"}}, "must be an object's schema"),
        ({"effect": "reconcilable"}, "or neither of the two"),
        ({"reconcile": absent}, "or neither of the two"),
        ({"timeout_s": 0}, "needs a positive timeout_s"),
    ],
)
def test_a_tool_that_is_described_wrongly_is_refused(fields: dict[str, Any], message: str) -> None:
    right: dict[str, Any] = {"name": "x" * 64, "description": "", "parameters": OBJECT, "call": noop}
    Tool(**right)
    Tool(**right, effect="reconcilable", reconcile=absent)
    with pytest.raises(InvalidToolError, match=message):
        Tool(**{**right, **fields})


def test_a_function_without_a_schema_is_refused() -> None:
    def bare(x):  # type: ignore[no-untyped-def]
        return x

    def rest(*x: int) -> None: ...

    def odd(x: threading.Thread) -> None: ...

    for function, message in ((bare, "needs a type hint"), (rest, "a name of its own"), (odd, "JSON schema")):
        with pytest.raises(InvalidToolError, match=message):
            tool(into=Toolbox())(function)


def test_a_toolbox_has_a_name_once_and_says_what_it_lacks() -> None:
    one = Tool(name="one", description="", parameters=OBJECT, call=noop)
    box = Toolbox([one, one])
    assert list(box.choose(["one"])) == [one]
    with pytest.raises(UnknownToolError, match="no tool named 'two'; it has: one"):
        box.choose(["one", "two"])

    async def other(arguments: dict[str, Any], context: ToolContext) -> None: ...

    with pytest.raises(InvalidToolError, match="Two tools are named 'one'"):
        box.add(Tool(name="one", description="", parameters=OBJECT, call=other))


def test_the_hash_of_arguments_is_that_of_their_canonical_json() -> None:
    assert args_hash({"b": 1, "a": [1.5, "é"]}) == args_hash({"a": [1.5, "é"], "b": 1})
    assert args_hash({"a": 1}) != args_hash({"a": "1"})
    assert args_hash({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
