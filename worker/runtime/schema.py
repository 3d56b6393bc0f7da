"""Checks JSON values against JSON schemas: outputs of models, arguments of tools. Pure.

It knows the assertions of draft 2020-12 that schemas of tools and outputs use, with `definitions` and the
tuple form of `items` of the older drafts. Annotations (`title`, `format`, `default`, ...) assert nothing. An
assertion that is not known here is refused when the schema is read, not passed over when a value is checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Where: TypeAlias = tuple[str | int, ...]
Faults: TypeAlias = Iterator[tuple[Where, str]]

MAX_DEPTH = 64  # of references and nested values: deeper ones are refused, not followed
MAX_TOLD = 5  # faults in a message: enough to correct a value by

_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: _is_number(v) and (isinstance(v, int) or v.is_integer()),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}


class SchemaError(ValueError):
    """A schema cannot be kept to; the message is one line that names the place and the reason."""


@dataclass(frozen=True, slots=True)
class At:
    """A value, where it lies in the whole one, and the schema that it is to fit."""

    schema: Any
    value: Any
    where: Where
    depth: int

    def by(self, schema: Any) -> At:  # noqa: ANN401 - any JSON
        """Return the same value by another schema."""
        return At(schema, self.value, self.where, self.depth + 1)

    def below(self, part: str | int, schema: Any) -> At:  # noqa: ANN401 - any JSON
        """Return a part of the value by a schema of its own."""
        return At(schema, self.value[part], (*self.where, part), self.depth + 1)


class Schema:
    """A JSON schema that has been read.

    Args:
        schema: An object as JSON has it.

    Raises:
        SchemaError: It is malformed, or uses what is not known here.
    """

    def __init__(self, schema: Mapping[str, Any] | bool) -> None:
        self.schema = schema
        self._read(schema, "schema", 0)

    def check(self, value: Any) -> None:  # noqa: ANN401 - any JSON
        """Return if the value fits.

        Raises:
            ValueError: It does not; the message is one line with the first faults and their places.
        """
        told: list[str] = []
        for where, what in self._faults(At(self.schema, value, (), 0)):
            if len(told) == MAX_TOLD:
                told.append("...")
                break
            told.append(f"{'.'.join(str(part) for part in where) or 'the value'}: {what}")
        if told:
            raise ValueError("; ".join(told)[:2000])

    # Reading.

    def _read(self, schema: object, at: str, depth: int) -> None:
        if isinstance(schema, bool):
            return
        if not isinstance(schema, Mapping):
            raise SchemaError(f"{at} must be an object or a boolean, not {type(schema).__name__}")
        if depth > MAX_DEPTH:
            raise SchemaError(f"{at} nests more than {MAX_DEPTH} deep")
        for name, given in schema.items():
            place = f"{at}.{name}"
            if name in _SHAPES and not _SHAPES[name](given):
                raise SchemaError(f"{place} has a value that it cannot have")
            if name == "pattern":
                _compiled(given, place)
            elif name == "patternProperties":
                for pattern in given:
                    _compiled(pattern, place)
            elif name == "$ref":
                self._resolve(given, place)
            elif name in _UNKNOWN:
                raise SchemaError(f"{place} is not known here; say it in another way")
            for below, sub in _subschemas(name, given):
                self._read(sub, f"{place}{below}", depth + 1)

    def _resolve(self, ref: str, at: str) -> Any:  # noqa: ANN401 - any JSON
        if not ref.startswith("#"):
            raise SchemaError(
                f"{at}: {ref!r} is not within the schema; only references that begin with # are"
            )
        found: Any = self.schema
        for part in ref[1:].strip("/").split("/") if ref.strip("#/") else ():
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, Mapping) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise SchemaError(f"{at}: {ref!r} refers to nothing")
        if not isinstance(found, Mapping | bool):
            raise SchemaError(f"{at}: {ref!r} refers to what is no schema")
        return found

    # Checking.

    def _faults(self, at: At) -> Faults:
        if at.schema is True:
            return
        if at.schema is False:
            yield at.where, "nothing is allowed here"
            return
        if at.depth > MAX_DEPTH:
            yield at.where, f"nests more than {MAX_DEPTH} deep"
            return
        for name, given in at.schema.items():
            if name in _SIMPLE:
                fault = _SIMPLE[name](given, at.value)
                if fault is not None:
                    yield at.where, fault
            elif name in _COMPOUND and _COMPOUND[name][0](at.value):
                yield from _COMPOUND[name][1](self, given, at)

    def _fits(self, at: At) -> bool:
        return next(self._faults(at), None) is None

    def _ref(self, ref: str, at: At) -> Faults:
        yield from self._faults(at.by(self._resolve(ref, "$ref")))

    def _properties(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for name, sub in given.items():
            if name in at.value:
                yield from self._faults(at.below(name, sub))

    def _patterns(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for pattern, sub in given.items():
            for name in at.value:
                if re.search(pattern, name):
                    yield from self._faults(at.below(name, sub))

    def _additional(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        patterns = at.schema.get("patternProperties", {})
        for name in at.value:
            if name in at.schema.get("properties", {}) or any(re.search(each, name) for each in patterns):
                continue
            if given is False:
                yield (*at.where, name), "is not a property that is allowed"
            else:
                yield from self._faults(at.below(name, given))

    def _names(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for name in at.value:
            yield from self._faults(At(given, name, (*at.where, name), at.depth + 1))

    def _required_with(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for name, others in given.items():
            for other in others if name in at.value else ():
                if other not in at.value:
                    yield at.where, f"{other!r} is required beside {name!r}"

    def _required(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for name in given:
            if name not in at.value:
                yield (*at.where, name), "is required"

    def _items(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        if isinstance(given, list):  # a tuple, as older drafts write it
            yield from self._prefix(given, at)
            return
        for number in range(len(at.schema.get("prefixItems", ())), len(at.value)):
            yield from self._faults(at.below(number, given))

    def _prefix(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for number, sub in enumerate(given[: len(at.value)]):
            yield from self._faults(at.below(number, sub))

    def _more_items(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        if isinstance(at.schema.get("items"), list):
            for number in range(len(at.schema["items"]), len(at.value)):
                yield from self._faults(at.below(number, given))

    def _contains(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        found = sum(self._fits(at.below(number, given)) for number in range(len(at.value)))
        least, most = at.schema.get("minContains", 1), at.schema.get("maxContains", math.inf)
        if not least <= found <= most:
            yield at.where, f"{found} items are as `contains` says, {least} to {most} must be"

    def _all(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        for sub in given:
            yield from self._faults(at.by(sub))

    def _any(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        if not any(self._fits(at.by(sub)) for sub in given):
            yield at.where, "fits none of the forms that are allowed"

    def _one(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        fitting = sum(self._fits(at.by(sub)) for sub in given)
        if fitting != 1:
            yield at.where, f"fits {fitting} of the forms that are allowed, one must fit"

    def _not(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        if self._fits(at.by(given)):
            yield at.where, "has a form that is not allowed"

    def _if(self, given: Any, at: At) -> Faults:  # noqa: ANN401 - any JSON
        branch = "then" if self._fits(at.by(given)) else "else"
        if branch in at.schema:
            yield from self._faults(at.by(at.schema[branch]))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(one: Any, other: Any) -> bool:  # noqa: ANN401 - any JSON
    """Return whether two JSON values are equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return (type(one) is type(other) and one == other) or (
        _is_number(one) and _is_number(other) and one == other
    )


def _compiled(pattern: str, at: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise SchemaError(f"{at}: {pattern!r} is no regular expression: {error}"[:300]) from None


def _type(given: Any, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    names = [given] if isinstance(given, str) else given
    if any(_TYPES[name](value) for name in names):
        return None
    return f"must be {' or '.join(names)}, not {_name_of(value)}"


def _name_of(value: object) -> str:
    return next(name for name in ("null", "boolean", "integer", "number", *_TYPES) if _TYPES[name](value))


def _enum(given: Any, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    return None if any(same(each, value) for each in given) else f"must be one of {given!r}"[:300]


def _const(given: Any, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    return None if same(given, value) else f"must be {given!r}"[:300]


def _bound(
    kind: Callable[[Any], bool], measure: Callable[[Any], Any], holds: Callable[[Any, Any], bool], what: str
) -> Callable[[Any, Any], str | None]:
    def check(given: Any, value: Any) -> str | None:  # noqa: ANN401 - any JSON
        return None if not kind(value) or holds(measure(value), given) else what.format(given)

    return check


def _multiple(value: Any, given: Any) -> bool:  # noqa: ANN401 - a number
    times = value / given
    return math.isfinite(times) and math.isclose(times, round(times), rel_tol=1e-12, abs_tol=1e-12)


def _unique(given: bool, value: Any) -> str | None:  # noqa: ANN401 - any JSON
    if not given or not isinstance(value, list):
        return None
    twice = any(same(one, other) for n, one in enumerate(value) for other in value[n + 1 :])
    return "has an item twice" if twice else None


def _text(value: object) -> bool:
    return isinstance(value, str)


def _list(value: object) -> bool:
    return isinstance(value, list)


def _object(value: object) -> bool:
    return isinstance(value, dict)


def _itself(value: Any) -> Any:  # noqa: ANN401 - a number
    return value


_SIMPLE: dict[str, Callable[[Any, Any], str | None]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "minLength": _bound(_text, len, lambda n, m: n >= m, "must have at least {} characters"),
    "maxLength": _bound(_text, len, lambda n, m: n <= m, "must have at most {} characters"),
    "pattern": _bound(_text, _itself, lambda v, p: re.search(p, v) is not None, "must match {!r}"),
    "minimum": _bound(_is_number, _itself, lambda n, m: n >= m, "must be at least {}"),
    "maximum": _bound(_is_number, _itself, lambda n, m: n <= m, "must be at most {}"),
    "exclusiveMinimum": _bound(_is_number, _itself, lambda n, m: n > m, "must be more than {}"),
    "exclusiveMaximum": _bound(_is_number, _itself, lambda n, m: n < m, "must be less than {}"),
    "multipleOf": _bound(_is_number, _itself, _multiple, "must be a multiple of {}"),
    "minItems": _bound(_list, len, lambda n, m: n >= m, "must have at least {} items"),
    "maxItems": _bound(_list, len, lambda n, m: n <= m, "must have at most {} items"),
    "uniqueItems": _unique,
    "minProperties": _bound(_object, len, lambda n, m: n >= m, "must have at least {} properties"),
    "maxProperties": _bound(_object, len, lambda n, m: n <= m, "must have at most {} properties"),
}


def _whatever(value: object) -> bool:  # noqa: ARG001 - any value
    return True


# What kind of value each asserts something of, and what.
_COMPOUND: dict[str, tuple[Callable[[Any], bool], Callable[[Schema, Any, At], Faults]]] = {
    "$ref": (_whatever, Schema._ref),
    "required": (_object, Schema._required),
    "properties": (_object, Schema._properties),
    "patternProperties": (_object, Schema._patterns),
    "additionalProperties": (_object, Schema._additional),
    "propertyNames": (_object, Schema._names),
    "dependentRequired": (_object, Schema._required_with),
    "items": (_list, Schema._items),
    "prefixItems": (_list, Schema._prefix),
    "additionalItems": (_list, Schema._more_items),
    "contains": (_list, Schema._contains),
    "allOf": (_whatever, Schema._all),
    "anyOf": (_whatever, Schema._any),
    "oneOf": (_whatever, Schema._one),
    "not": (_whatever, Schema._not),
    "if": (_whatever, Schema._if),
}
# Assertions of the specification that are not kept to; other names are the writer's own and assert nothing.
_UNKNOWN = frozenset(
    {
        "unevaluatedProperties",
        "unevaluatedItems",
        "dependentSchemas",
        "dependencies",
        "$dynamicRef",
        "$recursiveRef",
    }
)


def _is_count(value: object) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)  # type: ignore[operator,call-overload]


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_type(value: object) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(isinstance(n, str) and n in _TYPES for n in names)


def _is_list_of_schemas(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "type": _is_type,
    "enum": _list,
    "pattern": _text,
    "$ref": _text,
    "required": _is_names,
    "uniqueItems": lambda v: isinstance(v, bool),
    "multipleOf": lambda v: _is_number(v) and v > 0,
    "dependentRequired": lambda v: _is_mapping(v) and all(map(_is_names, v.values())),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    **dict.fromkeys(
        ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "minContains"),
        _is_count,
    ),
    "maxContains": _is_count,
    **dict.fromkeys(("properties", "patternProperties", "$defs", "definitions"), _is_mapping),
    **dict.fromkeys(("allOf", "anyOf", "oneOf", "prefixItems"), _is_list_of_schemas),
}


def _subschemas(name: str, given: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - any JSON
    if name in {"properties", "patternProperties", "$defs", "definitions"}:
        for key, sub in given.items():
            yield f".{key}", sub
    elif name in {"allOf", "anyOf", "oneOf", "prefixItems"} or (name == "items" and isinstance(given, list)):
        for number, sub in enumerate(given):
            yield f"[{number}]", sub
    elif name in {
        "items",
        "additionalItems",
        "additionalProperties",
        "propertyNames",
        "contains",
        "not",
        "if",
        "then",
        "else",
    }:
        yield "", given
