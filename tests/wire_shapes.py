"""Shapes of what goes over the wire, in the same terms for validators (tests/contract.json) and models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

CONTRACT: dict[str, Any] = json.loads((Path(__file__).parent / "contract.json").read_text(encoding="utf-8"))


def wire(validator: dict[str, Any]) -> Any:
    """Return a validator's shape: a sorted union of scalars, literals, lists and objects."""
    kind = validator["type"]
    if kind == "union":
        return union(wire(member) for member in validator["value"])
    if kind == "object":
        fields = validator["value"].items()
        return union([("object", {name: (wire(f["fieldType"]), f["optional"]) for name, f in fields})])
    if kind == "array":
        return union([("array", wire(validator["value"]))])
    if kind == "record":
        return union([("record", wire(validator["values"]["fieldType"]))])
    if kind == "literal":
        return union([("literal", validator["value"])])
    return union(
        [{"id": "string", "string": "string", "number": "number", "boolean": "boolean", "null": "null"}[kind]]
    )


def python(schema: dict[str, Any], definitions: dict[str, Any], *, omits_none: bool) -> Any:
    """Return the shape of a model's JSON schema in the same terms."""
    if "$ref" in schema:
        return python(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions, omits_none=omits_none)
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return union(python(member, definitions, omits_none=omits_none) for member in schema[key])
    if "const" in schema:
        return union([("literal", schema["const"])])
    if "enum" in schema:
        return union(("literal", value) for value in schema["enum"])
    if schema["type"] == "array":
        return union([("array", python(schema["items"], definitions, omits_none=omits_none))])
    if schema["type"] == "object" and "properties" not in schema:
        return union([("record", python(schema["additionalProperties"], definitions, omits_none=omits_none))])
    if schema["type"] == "object":
        fields = {}
        for name, field in schema["properties"].items():
            shape = python(field, definitions, omits_none=omits_none)
            leaves_out = field.get("omitted", omits_none and field.get("default", ...) is None)
            # A field that is left out when it is None is optional on the wire and never null there.
            fields[name] = (union(s for s in shape if s != "null") if leaves_out else shape, leaves_out)
        return union([("object", fields)])
    return union([{"integer": "number"}.get(schema["type"], schema["type"])])


def union(shapes: Any) -> list[Any]:
    """Return the members of a union, flat, once each, in one order."""
    flat: list[Any] = []
    for shape in shapes:
        for member in shape if isinstance(shape, list) else [shape]:
            if member not in flat:
                flat.append(member)
    return sorted(flat, key=repr)


def shape_of(model: type[BaseModel], *, omits_none: bool = False) -> Any:
    schema = model.model_json_schema(by_alias=True)
    return python(schema, schema.get("$defs", {}), omits_none=omits_none)


def arguments_of(function: str) -> Any:
    """Return the shape of a function's arguments but for the key, which `Api` and `Client` add."""
    validator = CONTRACT[function]["args"]
    fields = {name: field for name, field in validator["value"].items() if name != "key"}
    return wire({"type": "object", "value": fields})


def answer_of(function: str) -> Any:
    return wire(CONTRACT[function]["returns"])


def only(shape: Any, kind: str) -> Any:
    """Return what the one list or object of a union holds."""
    (found,) = [member[1] for member in shape if isinstance(member, tuple) and member[0] == kind]
    return found
