"""JSON schemas: what fits, what does not and why, and which schemas are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from worker.runtime.schema import Schema, SchemaError, same

TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["v"]}
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "fits", "fits_not"),
    [
        ({}, [None, 1, []], []),
        (True, [1], []),
        (False, [], [1]),
        ({"type": "integer"}, [1, 1.0, -5], [1.5, True, "1", None]),
        ({"type": "number"}, [1, 1.5], [False, "1"]),
        ({"type": ["string", "null"]}, ["", None], [0, {}]),
        ({"enum": [1, "a", {"x": []}]}, [1.0, "a", {"x": []}], [True, "b", {"x": [1]}]),
        ({"const": [1, None]}, [[1, None]], [[1], [1, 0]]),
        ({"minLength": 2, "maxLength": 3}, ["ab", "abc", 1], ["a", "abcd"]),
        ({"pattern": "^a.c"}, ["abcd", 5], ["xabc"]),
        ({"minimum": 1, "maximum": 2}, [1, 2, "x"], [0.9, 2.1]),
        ({"exclusiveMinimum": 1, "exclusiveMaximum": 2}, [1.5], [1, 2]),
        ({"multipleOf": 0.1}, [0.3, 1], [0.25]),
        ({"minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3]]),
        ({"uniqueItems": True}, [[1, True, "1"]], [[1, 1.0], [{}, {}]]),
        ({"items": {"type": "string"}}, [[], ["a"], "x"], [["a", 1]]),
        (
            {"prefixItems": [{"type": "string"}], "items": {"type": "null"}},
            [["a", None], []],
            [["a", 1], [1]],
        ),
        ({"items": [{"type": "string"}], "additionalItems": False}, [["a"]], [["a", 1], [1]]),
        ({"contains": {"const": 1}, "maxContains": 2}, [[1], [0, 1, 1]], [[], [1, 1, 1]]),
        ({"required": ["a"]}, [{"a": None}, 1], [{}]),
        ({"properties": {"a": {"type": "null"}}}, [{"b": 1}, {"a": None}], [{"a": 1}]),
        ({"properties": {"a": {}}, "additionalProperties": False}, [{"a": 1}, {}], [{"b": 1}]),
        (
            {"patternProperties": {"^x": {"type": "null"}}, "additionalProperties": {"type": "integer"}},
            [{"xa": None, "b": 1}],
            [{"xa": 1}, {"b": None}],
        ),
        ({"propertyNames": {"maxLength": 1}, "maxProperties": 1}, [{"a": 1}], [{"ab": 1}, {"a": 1, "b": 1}]),
        ({"dependentRequired": {"a": ["b"]}}, [{"a": 1, "b": 1}, {"b": 1}], [{"a": 1}]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [0, 3]),
        ({"anyOf": [{"type": "null"}, {"minimum": 2}]}, [None, 2], [1]),
        ({"oneOf": [{"minimum": 1}, {"maximum": 2}]}, [0, 3], [1]),
        ({"not": {"type": "null"}}, [1], [None]),
        ({"if": {"minimum": 1}, "then": {"maximum": 2}, "else": {"const": 0}}, [1, 0], [3, -1]),
        (TREE, [{"v": 1, "next": {"v": 1}}], [{"v": 1, "next": {}}, {}]),
        ({"format": "email", "title": "x", "x-own": [1]}, ["no email"], []),
    ],
)
def test_what_fits_a_schema_and_what_does_not(schema: Any, fits: list[Any], fits_not: list[Any]) -> None:
    read = Schema(schema)
    for value in fits:
        read.check(value)
    for value in fits_not:
        with pytest.raises(ValueError):
            read.check(value)


def test_faults_are_told_with_their_places_the_first_of_them() -> None:
    schema = Schema({"properties": {"a": {"items": {"type": "integer"}}}, "required": ["b"]})
    with pytest.raises(ValueError) as raised:
        schema.check({"a": ["x", 1, None]})
    assert (
        str(raised.value)
        == "a.0: must be integer, not string; a.2: must be integer, not null; b: is required"
    )
    with pytest.raises(ValueError) as raised:
        Schema({"items": {"type": "null"}}).check([1] * 9)
    assert str(raised.value).endswith("4: must be null, not integer; ...")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "text"}, "schema.type has a value that it cannot have"),
        ({"type": []}, "schema.type has a value that it cannot have"),
        ({"properties": []}, "schema.properties has a value"),
        ({"properties": {"a": 1}}, "schema.properties.a must be an object or a boolean, not int"),
        ({"items": [{"required": "a"}]}, r"schema.items\[0\].required has a value"),
        ({"pattern": "("}, "schema.pattern: .* is no regular expression"),
        ({"multipleOf": 0}, "schema.multipleOf has a value"),
        ({"minLength": -1}, "schema.minLength has a value"),
        ({"$ref": "https://x"}, "is not within the schema"),
        ({"$ref": "#/$defs/x"}, "refers to nothing"),
        ({"unevaluatedProperties": False}, "schema.unevaluatedProperties is not known here"),
        ({"anyOf": []}, "schema.anyOf has a value"),
        ([], "schema must be an object or a boolean, not list"),
    ],
)
def test_a_schema_that_cannot_be_kept_to_is_refused(schema: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema(schema)


def test_what_never_ends_is_bounded() -> None:
    with pytest.raises(ValueError, match="nests more than 64 deep"):
        Schema({"$ref": "#"}).check(1)
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"not": deep}
    with pytest.raises(SchemaError, match="nests more than 64 deep"):
        Schema(deep)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0])
    | st.sampled_from(["", "a", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(json_values)
def test_a_value_equals_itself_and_fits_its_own_constant(value: Any) -> None:
    assert same(value, value)
    Schema({"const": value}).check(value)
    Schema({"enum": [value]}).check(value)


@given(json_values)
def test_pydantics_schemas_say_what_pydantic_says(value: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(dict[str, list[int | None] | bool | dict[str, str]] | list[str])
    try:
        adapter.validate_python(value, strict=True)
        expected = True
    except ValueError:
        expected = False
    try:
        Schema(adapter.json_schema()).check(value)
        found = True
    except ValueError:
        found = False
    has_whole_float = "1.0" in repr(value)  # an integer to JSON schema, none to pydantic
    assert found == expected or has_whole_float
