"""What every dialect does with messages in the common form before it writes its own. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from worker.llm.errors import BadRequest
from worker.llm.messages import ChatRequest
from worker.llm.wire import field, listed, string, text_of

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
OWN_FIELDS = frozenset({"replay", "cache"})  # of the common form, which no provider knows
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check(request: ChatRequest) -> None:
    """Refuse what no provider would take, with the place.

    Raises:
        BadRequest: A message or a tool is malformed.
    """
    for number, message in enumerate(request.messages):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise BadRequest(f"messages[{number}] needs a role: {', '.join(sorted(ROLES))}")
    names: set[str] = set()
    for number, tool in enumerate(request.tools):
        name = _checked_tool(tool, f"tools[{number}]")
        if name in names:
            raise BadRequest(f"tools[{number}] has the name {name!r} of another tool")
        names.add(name)


def _checked_tool(tool: Mapping[str, Any], place: str) -> str:
    if not isinstance(tool, Mapping) or not isinstance(tool.get("type"), str):
        raise BadRequest(f'{place} must be {{"type": "function", "function": {{...}}}}')
    if tool["type"] != "function":
        return string(tool.get("name")) or f"{place} of type {tool['type']}"  # a provider's own tool
    name = field(tool.get("function"), "name")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise BadRequest(
            f"{place} needs a function.name of 1 to 64 letters, digits, _ and -, not {name!r:.80}"
        )
    schema = tool["function"].get("parameters")
    if schema is not None and (not isinstance(schema, Mapping) or schema.get("type") != "object"):
        raise BadRequest(f'{place} ({name}): function.parameters must be a JSON schema of "type": "object"')
    for part in ("properties", "$defs"):
        if schema is not None and not isinstance(schema.get(part, {}), Mapping):
            raise BadRequest(f"{place} ({name}): function.parameters.{part} must be an object")
    if schema is not None and not isinstance(schema.get("required", []), list):
        raise BadRequest(f"{place} ({name}): function.parameters.required must be a list of names")
    return name


def sorted_tools(request: ChatRequest) -> list[dict[str, Any]]:
    """Return the tools in an order that is the same for each turn, since a prompt's cache is a prefix."""
    return sorted((dict(tool) for tool in request.tools), key=_tool_name)


def _tool_name(tool: Mapping[str, Any]) -> str:
    return string(field(tool.get("function"), "name")) or string(tool.get("name"))


def content_text(content: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the text of a content: itself, or that of its parts."""
    return content if isinstance(content, str) else "".join(text_of(part) for part in listed(content))


def arguments_of(call: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Return a call's arguments as an object; what is none is shown to the model as such."""
    raw = field(field(call, "function"), "arguments")
    if isinstance(raw, dict):
        return raw
    try:
        value = json.loads(raw) if string(raw).strip() else {}
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"INVALID_JSON": string(raw)}


def arguments_text(call: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a call's arguments as JSON text of an object, as the model wrote it wherever that is one.

    Servers parse what they are sent back and refuse the whole request if it is no JSON.
    """
    raw, value = field(field(call, "function"), "arguments"), arguments_of(call)
    if isinstance(raw, str) and raw.strip() and "INVALID_JSON" not in value:
        return raw
    return json.dumps(value, ensure_ascii=False)


def replay_of(message: Mapping[str, Any], origin: Mapping[str, str]) -> Mapping[str, Any] | None:
    """Return what `message` holds for the model that wrote it, if `origin` is that one."""
    replay = message.get("replay")
    if not isinstance(replay, Mapping) or any(replay.get(name) != value for name, value in origin.items()):
        return None
    return replay


def origin_of(dialect: str, host: str, model: str) -> dict[str, str]:
    """Return whose a replay is: signatures and encrypted thoughts are of use to that model there alone."""
    return {"dialect": dialect, "host": host, "model": model}


class CallIds:
    """Gives tool calls ids that a provider takes, each of them once in a history.

    Args:
        pattern: What the provider takes.
        length: Of an id made anew.
    """

    def __init__(self, pattern: re.Pattern[str], length: int) -> None:
        self._pattern = pattern
        self._length = length
        self._used: set[str] = set()
        self._sent: dict[str, str] = {}  # by the id in the history: the one that its last call has

    def of_call(self, call: Any) -> str:  # noqa: ANN401 - any JSON value
        """Return the id of a call that comes next in the history."""
        given = string(field(call, "id"))
        sent, again = given, 0
        while not self._pattern.fullmatch(sent) or sent in self._used:
            digest = hashlib.sha256(f"{given}\0{again}".encode("utf-8", "replace")).hexdigest()
            sent, again = digest[: self._length], again + 1
        self._used.add(sent)
        self._sent[given] = sent
        return sent

    def keep(self, given: str) -> None:
        """Note an id that is sent as it is."""
        self._used.add(given)
        self._sent[given] = given

    def of_result(self, message: Mapping[str, Any]) -> str:
        """Return the id of the call whose result `message` is."""
        given = string(message.get("tool_call_id"))
        return self._sent.get(given) or given


def calls_of(message: Mapping[str, Any]) -> Sequence[Any]:
    """Return the tool calls of an assistant's message."""
    return [call for call in listed(message.get("tool_calls")) if isinstance(call, Mapping)]
