"""The dialect `anthropic-messages`: how requests to Anthropic's Messages API are written. Pure.

Answers are read in `anthropic_reader.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from worker.llm.anthropic_reader import AnthropicReader
from worker.llm.dialect import Reader
from worker.llm.history import (
    CallIds,
    arguments_of,
    calls_of,
    check,
    content_text,
    origin_of,
    replay_of,
    sorted_tools,
)
from worker.llm.messages import ChatRequest
from worker.llm.wire import field, listed, string

NAME = "anthropic-messages"
VERSION = "2023-06-01"
MAX_TOKENS = 8192  # the API wants a number; every model since 2024 takes this one
MAX_MARKERS = 4  # of the prompt's cache, in one request
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID_LENGTH = 32
_BEFORE_OUTPUT_FORMAT = re.compile(r"claude-(?:2|3|instant)|claude-(?:opus|sonnet)-4(?:-0|-2025|$)")
_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_UNSENT_LIMITS = (  # JSON schema's words that the API refuses; whoever asked checks the answer anyway
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength"}
    | {"minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"}
)
_CACHED = {"type": "ephemeral"}

Block = dict[str, Any]


class AnthropicMessages:
    """How messages are asked for.

    Args:
        key_header: The header that carries the key, where it is not `x-api-key`.
    """

    path = "/messages"

    def __init__(self, key_header: str | None = None) -> None:
        self._key_header = key_header or "x-api-key"

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the version's header, and the key's."""
        return {"anthropic-version": VERSION, **({} if key is None else {self._key_header: key})}

    def body(self, request: ChatRequest, host: str) -> dict[str, Any]:
        """Return the request's body; a field that `extra` sets to None is left out.

        Raises:
            BadRequest: The request is malformed.
        """
        check(request)
        history = _History(request, host)
        tools, choice = [_tool(tool) for tool in sorted_tools(request)], _choice(request.tool_choice)
        output = None
        if (schema := _schema(request)) is not None:
            if answer := answer_tool(request):
                tools.append({"name": answer, "description": "Gives the answer.", "input_schema": schema})
                choice = {"type": "any"} if len(tools) > 1 else {"type": "tool", "name": answer}
            else:
                output = {"format": {"type": "json_schema", "schema": _sendable(schema)}}
        extra = dict(request.extra)
        thinks = field(extra.get("thinking"), "type")
        if thinks == "enabled" and history.lacks_thoughts:
            extra.pop("thinking")  # a turn that another model began cannot be thought through to its end
            thinks = None
        temperature = request.temperature
        if temperature is not None:
            temperature = None if thinks in {"enabled", "adaptive"} else min(temperature, 1.0)
        fields = {
            "model": request.model,
            "max_tokens": request.max_output_tokens or MAX_TOKENS,
            "system": history.system or None,
            "messages": history.turns,
            "stream": True,
            "temperature": temperature,
            "tools": tools or None,
            "tool_choice": choice if tools else None,
            "stop_sequences": list(request.stop) or None,
            "output_config": output,
            **extra,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def reader(self, request: ChatRequest, host: str) -> Reader:
        """Return a reader for the answer to `request`."""
        return AnthropicReader(origin_of(NAME, host, request.model), answer_tool(request))


def answer_tool(request: ChatRequest) -> str | None:
    """Return the name of the tool that stands in for an output format, for models that have none."""
    if _schema(request) is None or not _BEFORE_OUTPUT_FORMAT.search(request.model):
        return None
    return string(field(field(request.response_format, "json_schema"), "name")) or "answer"


class _History:
    """The messages as Anthropic wants them: the system's apart, then turns that alternate."""

    def __init__(self, request: ChatRequest, host: str) -> None:
        self.system: list[Block] = []
        self.turns: list[dict[str, Any]] = []
        self.lacks_thoughts = False
        self._origin = origin_of(NAME, host, request.model)
        self._ids = CallIds(_ID, _ID_LENGTH)
        self._marked: list[Block] = []
        for message in request.messages:
            blocks = self._take(message)
            if message.get("cache") is True and blocks:
                self._marked.append(blocks[-1])
        self._trim()
        if request.cache_key is not None:
            self._mark_ends()
        for block in _fewest(self._marked):
            block["cache_control"] = _CACHED

    def _take(self, message: Mapping[str, Any]) -> list[Block]:
        role, content = message["role"], message.get("content")
        if role in {"system", "developer"} and not self.turns:
            blocks = _blocks(content)
            self.system += blocks
            return blocks
        if role == "assistant":
            blocks = self._answer(message)
            self._turn("assistant", blocks)
        elif role == "tool":
            results = _blocks(content) if isinstance(content, list) else content or ""
            result = {"type": "tool_result", "tool_use_id": self._ids.of_result(message), "content": results}
            blocks = [result]
            self._turn("user", blocks)
        else:
            blocks = _blocks(content)
            self._turn("user", blocks)
            if blocks:
                self.lacks_thoughts = False
        return blocks

    def _answer(self, message: Mapping[str, Any]) -> list[Block]:
        replay = replay_of(message, self._origin)
        blocks = [dict(block) for block in listed(field(replay, "blocks")) if isinstance(block, Mapping)]
        if blocks and _says(blocks) == content_text(message.get("content")):
            for block in blocks:
                if block.get("type") == "tool_use":
                    self._ids.keep(string(block.get("id")))
            self.lacks_thoughts = blocks[0].get("type") not in {"thinking", "redacted_thinking"}
            return blocks
        calls = calls_of(message)
        self.lacks_thoughts = bool(calls)
        return _blocks(message.get("content") or message.get("refusal")) + [
            {
                "type": "tool_use",
                "id": self._ids.of_call(call),
                "name": string(field(field(call, "function"), "name")),
                "input": arguments_of(call),
            }
            for call in calls
        ]

    def _turn(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"] += blocks
        else:
            self.turns.append({"role": role, "content": list(blocks)})

    def _trim(self) -> None:
        """Take white space off the end of an answer that is to be gone on with: the API refuses it."""
        if self.turns and self.turns[-1]["role"] == "assistant":
            last = self.turns[-1]["content"][-1]
            if last.get("type") == "text":
                last["text"] = last["text"].rstrip() or "."

    def _mark_ends(self) -> None:
        """Mark the end of what is the same in each turn, and of what the next turn begins with."""
        if self.system:
            self._marked.insert(0, self.system[-1])
        if self.turns:
            self._marked.append(self.turns[-1]["content"][-1])


def _fewest(marked: list[Block]) -> list[Block]:
    """Return at most as many blocks as may be marked: the first, and the last ones."""
    able = [block for block in marked if block.get("type") not in {"thinking", "redacted_thinking"}]
    distinct = list({id(block): block for block in able}.values())
    return distinct if len(distinct) <= MAX_MARKERS else [distinct[0], *distinct[1 - MAX_MARKERS :]]


def _blocks(content: Any) -> list[Block]:  # noqa: ANN401 - any JSON value
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []  # an empty block is refused
    return [block for part in listed(content) if (block := _block(part)) is not None]


def _block(part: Any) -> Block | None:  # noqa: ANN401 - any JSON value
    if isinstance(part, str):
        return {"type": "text", "text": part} if part else None
    kind = field(part, "type")
    if kind == "text":
        return dict(part) if part.get("text") else None
    if kind == "image_url":
        url = string(field(part.get("image_url"), "url"))
        head, comma, data = url.partition(",")
        if comma and head.startswith("data:") and head.endswith(";base64"):
            media = head.removeprefix("data:").removesuffix(";base64")
            return {"type": "image", "source": {"type": "base64", "media_type": media, "data": data}}
        return {"type": "image", "source": {"type": "url", "url": url}}
    return dict(part) if isinstance(part, Mapping) else None


def _says(blocks: list[Block]) -> str:
    return "".join(string(block.get("text")) for block in blocks if block.get("type") == "text")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return dict(tool)  # one that the provider runs
    function = tool["function"]
    told = {
        "name": function["name"],
        "description": function.get("description"),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    return {name: value for name, value in told.items() if value is not None}


def _choice(choice: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    if choice is None or not isinstance(choice, str):
        name = field(field(choice, "function"), "name")
        return {"type": "tool", "name": name} if isinstance(name, str) else choice
    return {"type": _CHOICES.get(choice, choice)}


def _schema(request: ChatRequest) -> Mapping[str, Any] | None:
    schema = field(field(request.response_format, "json_schema"), "schema")
    return schema if isinstance(schema, Mapping) else None


def _sendable(schema: Any, named: bool = False) -> Any:  # noqa: ANN401, FBT - any JSON value
    """Return a schema without the words that the API refuses, every object closed as it wants."""
    if isinstance(schema, list):
        return [_sendable(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    if named:  # the keys are the user's own names
        return {name: _sendable(each) for name, each in schema.items()}
    sent = {
        word: value
        if word in {"enum", "const", "default", "examples", "required"}
        else _sendable(value, word in _NAMED)
        for word, value in schema.items()
        if word not in _UNSENT_LIMITS
    }
    if sent.get("type") == "object" or "properties" in sent:
        sent["additionalProperties"] = False
    return sent


_NAMED = frozenset({"properties", "$defs", "definitions"})
