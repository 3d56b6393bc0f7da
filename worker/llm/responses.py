"""The dialect `openai-responses`: how requests to OpenAI's Responses API are written. Pure.

Nothing is left with the provider (`store` is false): its items come back with each turn, thoughts encrypted.
Answers are read in `responses_reader.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from worker.llm.dialect import Reader, key_headers
from worker.llm.errors import BadRequest
from worker.llm.history import (
    CallIds,
    arguments_text,
    calls_of,
    check,
    content_text,
    origin_of,
    replay_of,
    sorted_tools,
)
from worker.llm.messages import ChatRequest
from worker.llm.responses_reader import ResponsesReader
from worker.llm.wire import field, listed, string

NAME = "openai-responses"
_ID = re.compile(r"[\x21-\x7e]{1,64}")
_ID_LENGTH = 32
_THOUGHTLESS = re.compile(
    r"(?:^|/)(?:gpt-3|gpt-4|chatgpt-4)|-chat-latest$"
)  # they refuse to be asked for thoughts

Item = dict[str, Any]


class OpenAIResponses:
    """How responses are asked for.

    Args:
        key_header: The header that carries the key alone, where a provider wants no bearer.
    """

    path = "/responses"

    def __init__(self, key_header: str | None = None) -> None:
        self._key_header = key_header

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the header that carries the key, if there is one."""
        return key_headers(key, self._key_header)

    def body(self, request: ChatRequest, host: str) -> dict[str, Any]:
        """Return the request's body; a field that `extra` sets to None is left out.

        Raises:
            BadRequest: The request is malformed, or asks for what this API does not have.
        """
        check(request)
        if request.stop:
            raise BadRequest("The Responses API knows no stop sequences")
        fields = {
            "model": request.model,
            "input": _items(request, origin_of(NAME, host, request.model)),
            "stream": True,
            "store": False,
            "include": None if _THOUGHTLESS.search(request.model) else ["reasoning.encrypted_content"],
            "temperature": request.temperature,
            "max_output_tokens": request.max_output_tokens,
            "tools": [_tool(tool) for tool in sorted_tools(request)] or None,
            "tool_choice": _choice(request.tool_choice),
            "text": _format(request.response_format),
            "prompt_cache_key": request.cache_key,
            **request.extra,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def reader(self, request: ChatRequest, host: str) -> Reader:
        """Return a reader for the answer to `request`."""
        return ResponsesReader(origin_of(NAME, host, request.model))


def _items(request: ChatRequest, origin: Mapping[str, str]) -> list[Item]:
    ids = CallIds(_ID, _ID_LENGTH)
    items: list[Item] = []
    for message in request.messages:
        role, content = message["role"], message.get("content")
        if role == "tool":
            output = _parts(content, "input_text") if isinstance(content, list) else content or ""
            items.append(
                {"type": "function_call_output", "call_id": ids.of_result(message), "output": output}
            )
        elif role == "assistant":
            items += _answer(message, ids, origin)
        else:
            items.append({"role": role, "content": _parts(content, "input_text")})
    return items


def _answer(message: Mapping[str, Any], ids: CallIds, origin: Mapping[str, str]) -> list[Item]:
    replay = replay_of(message, origin)
    items = [dict(item) for item in listed(field(replay, "items")) if isinstance(item, Mapping)]
    if items and _says(items) == content_text(message.get("content")):
        for item in items:
            if item.get("type") == "function_call":
                ids.keep(string(item.get("call_id")))
        return items
    text = content_text(message.get("content")) or string(message.get("refusal"))
    said: list[Item] = [{"role": "assistant", "content": text}] if text else []
    return said + [
        {
            "type": "function_call",
            "call_id": ids.of_call(call),
            "name": string(field(field(call, "function"), "name")),
            "arguments": arguments_text(call),
        }
        for call in calls_of(message)
    ]


def _parts(content: Any, text_type: str) -> Any:  # noqa: ANN401 - any JSON value
    if not isinstance(content, list):
        return content or ""
    parts: list[Any] = []
    for part in content:
        kind = field(part, "type")
        if isinstance(part, str) or kind == "text":
            parts.append({"type": text_type, "text": content_text([part])})
        elif kind == "image_url":
            image = part.get("image_url")
            shown = {"type": "input_image", "image_url": string(field(image, "url"))}
            detail = field(image, "detail")
            parts.append({**shown, "detail": detail} if detail else shown)
        else:
            parts.append(part)
    return parts


def _says(items: list[Item]) -> str:
    said = (part for item in items if item.get("type") == "message" for part in listed(item.get("content")))
    return "".join(string(field(part, "text")) for part in said if field(part, "type") == "output_text")


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return dict(tool)  # one that the provider runs
    function = tool["function"]
    told = {
        "type": "function",
        "name": function["name"],
        "description": function.get("description"),
        "parameters": function.get("parameters") or {"type": "object", "properties": {}},
        "strict": bool(
            function.get("strict")
        ),  # this API's own default is true, and refuses ordinary schemas
    }
    return {name: value for name, value in told.items() if value is not None}


def _choice(choice: str | Mapping[str, Any] | None) -> str | Mapping[str, Any] | None:
    name = field(field(choice, "function"), "name")
    return {"type": "function", "name": name} if isinstance(name, str) else choice


def _format(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if response_format is None:
        return None
    schema = response_format.get("json_schema")
    if isinstance(schema, Mapping):
        return {"format": {"type": "json_schema", "name": "answer", **schema}}
    return {"format": dict(response_format)}
