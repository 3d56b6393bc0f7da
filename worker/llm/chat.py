"""The dialect `openai-chat`: chat completions, as OpenAI and the many compatible servers speak them. Pure.

The rules for what servers really send stand beside the code that keeps them. The terminal marker is
`finish_reason`; `[DONE]` is optional, and nothing behind it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from worker.llm.chat_quirks import Quirks, quirks_of
from worker.llm.classify import from_error
from worker.llm.dialect import Reader, key_headers
from worker.llm.errors import Overloaded, ServerError, StreamProtocolError, StreamTruncated
from worker.llm.gathered import Gathered
from worker.llm.history import (
    OWN_FIELDS,
    CallIds,
    arguments_text,
    calls_of,
    check,
    origin_of,
    replay_of,
    sorted_tools,
)
from worker.llm.messages import (
    ChatRequest,
    Completion,
    Delta,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenUsage,
)
from worker.llm.tool_calls import ToolCalls
from worker.llm.wire import count, event_value, field, listed, string, text_of

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",  # the name before tools
    "content_filter": "content_filter",
}
NAME = "openai-chat"
_JOINED = frozenset({"text", "summary", "data"})
_STRICT_ONLY = frozenset({"refusal"})  # fields of messages that OpenAI alone takes back


class OpenAIChat:
    """How chat completions are asked for.

    Args:
        key_header: The header that carries the key alone, where a provider wants no bearer.
    """

    path = "/chat/completions"

    def __init__(self, key_header: str | None = None) -> None:
        self._key_header = key_header

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the header that carries the key, if there is one."""
        return key_headers(key, self._key_header)

    def body(self, request: ChatRequest, host: str) -> dict[str, Any]:
        """Return the request's body; a field that `extra` sets to None is left out.

        Raises:
            BadRequest: The request is malformed.
        """
        check(request)
        quirks = quirks_of(host)
        messages = _messages(request, quirks, origin_of(NAME, host, request.model))
        response_format = request.response_format
        if field(response_format, "type") == "json_schema" and not quirks.json_schema:
            schema = json.dumps(field(field(response_format, "json_schema"), "schema"), ensure_ascii=False)
            told = f"Answer with a JSON object that fits this JSON schema, and nothing else: {schema}"
            messages.append({"role": "system", "content": told})
            response_format = {"type": "json_object"}
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True} if quirks.stream_options else None,
            "temperature": request.temperature,
            quirks.limit: request.max_output_tokens,
            "tools": sorted_tools(request) or None,
            "tool_choice": request.tool_choice,
            "response_format": response_format,
            "stop": list(request.stop) or None,
            "prompt_cache_key": request.cache_key if quirks.cache_key else None,
            **request.extra,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def reader(self, request: ChatRequest, host: str) -> Reader:
        """Return a reader for the answer to `request`."""
        return ChatReader(origin_of(NAME, host, request.model), quirks_of(host).keeps)


def _messages(request: ChatRequest, quirks: Quirks, origin: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the messages without what this provider does not know."""
    ids = CallIds(quirks.call_id, quirks.call_id_length)
    left_out = OWN_FIELDS if quirks.developer else OWN_FIELDS | _STRICT_ONLY
    sent: list[dict[str, Any]] = []
    for given in request.messages:
        message = {name: value for name, value in given.items() if name not in left_out}
        if message["role"] == "developer" and not quirks.developer:
            message["role"] = "system"
        elif message["role"] == "tool":
            message["tool_call_id"] = ids.of_result(given)
        elif message["role"] == "assistant":
            replay = replay_of(given, origin)
            message.update(field(replay, "fields") or {})
            extras = listed(field(replay, "calls"))
            if calls := calls_of(given):
                message["tool_calls"] = [
                    {
                        **call,
                        **(extras[number] if number < len(extras) else {}),
                        "id": ids.of_call(call),
                        "function": {**call.get("function", {}), "arguments": arguments_text(call)},
                    }
                    for number, call in enumerate(calls)
                ]
            elif not message.get("content") and not quirks.developer:
                message["content"] = string(given.get("refusal"))
        sent.append(message)
    return sent


class ChatReader:
    """Reads one message from its chunks.

    Args:
        origin: Whose the message is, for what must go back to it unchanged.
        keeps: The fields that must.
    """

    def __init__(self, origin: Mapping[str, str] | None = None, keeps: frozenset[str] = frozenset()) -> None:
        self.ended = False
        self._origin = dict(origin or {})
        self._keeps = keeps
        self._details: list[dict[str, Any]] = []  # OpenRouter's pieces of thoughts
        self._extras: dict[int, dict[str, Any]] = {}  # Gemini's, by the position of the call
        self._raw_finish: str | None = None
        self._text = Gathered()
        self._reasoning = Gathered()
        self._refusal = Gathered()
        self._calls = ToolCalls()
        self._model: str | None = None
        self._usage: TokenUsage | None = None

    @property
    def finished(self) -> bool:
        """Whether `finish_reason` came."""
        return self._raw_finish is not None

    @property
    def usage(self) -> TokenUsage | None:
        """What was counted so far; None if nothing was."""
        return self._usage

    def read(self, event: str, data: str) -> list[Delta]:
        """Return what an event adds to the message."""
        if data.strip() == "[DONE]":
            self.ended = True
            return []
        chunk = event_value(event, data)
        return [] if chunk is None else self._chunk(chunk, "delta")

    def read_whole(self, value: Any) -> list[Delta]:  # noqa: ANN401 - any JSON value
        """Return the content of a completion that came in one piece."""
        if isinstance(value, list) and value and isinstance(value[0], dict) and value[0].get("error"):
            raise from_error(value)  # Gemini's compatible endpoint wraps its errors in a list
        deltas = self._chunk(value, "message") if isinstance(value, dict) else []
        if not self.finished:
            raise StreamProtocolError("The answer is JSON, but neither a whole chat completion nor an error")
        return deltas

    def completion(self) -> Completion:
        """Return the whole message."""
        if self._raw_finish is None:
            raise StreamTruncated("The stream ended before the answer was complete (no finish_reason came)")
        finish = self._finish(self._raw_finish)
        return Completion(
            text=self._text.whole(),
            reasoning=self._reasoning.whole(),
            refusal=self._refusal.whole() or None,
            tool_calls=self._calls.whole() if finish == "tool_calls" else (),
            finish=finish,
            raw_finish=self._raw_finish,
            model=self._model,
            usage=self._usage,
            replay=self._replay(finish) if self._keeps else None,
        )

    def _replay(self, finish: Finish) -> dict[str, Any] | None:
        """Return what must go back as it is, to the servers that want it."""
        fields: dict[str, Any] = {}
        if "reasoning_details" in self._keeps and self._details:
            fields["reasoning_details"] = self._details
        if "reasoning_content" in self._keeps and self._reasoning and finish == "tool_calls":
            fields["reasoning_content"] = self._reasoning.whole()
        calls = [self._extras.get(position, {}) for position in range(len(self._calls))]
        if finish not in {"stop", "tool_calls"} or not (fields or any(calls)):
            return None
        return {**self._origin, "fields": fields, "calls": calls if any(calls) else []}

    def _finish(self, raw: str) -> Finish:
        finish = _FINISH.get(raw, "unknown")
        if finish == "stop" and self._refusal:
            return "refusal"
        if finish in {"stop", "tool_calls"}:  # servers say `stop` behind calls, and `tool_calls` without any
            return "tool_calls" if self._calls else "stop"
        return finish

    def _chunk(self, chunk: dict[str, Any], part: str) -> list[Delta]:
        if chunk.get("error") or chunk.get("object") == "error":
            raise from_error(chunk)
        usage = chunk.get("usage") or field(chunk.get("x_groq"), "usage")
        if isinstance(usage, dict):
            self._usage = _usage(usage) or self._usage  # running counts replace, they are never added
        model = chunk.get("model")
        if model and isinstance(model, str):
            self._model = model  # Azure's filter chunks have an empty one
        deltas: list[Delta] = []
        for choice in listed(chunk.get("choices")):
            if isinstance(choice, dict) and choice.get("index") in (0, None):
                self._choice(choice, part, deltas)
        return deltas

    def _choice(self, choice: dict[str, Any], part: str, deltas: list[Delta]) -> None:
        if choice.get("error"):
            raise from_error(choice)
        delta = choice.get(part)
        if isinstance(delta, dict):
            self._delta(delta, deltas)
        finish = choice.get("finish_reason")
        if finish == "error":
            raise ServerError("The provider ended the stream with an error", provider_code="error")
        if finish == "insufficient_system_resource":
            raise Overloaded("The provider ran out of capacity in mid-answer", provider_code=finish)
        if isinstance(finish, str) and finish and self._raw_finish is None:
            self._raw_finish = finish

    def _delta(self, delta: dict[str, Any], deltas: list[Delta]) -> None:
        reasoning = delta.get("reasoning_content") or delta.get("reasoning")  # two spellings of one thing
        if reasoning and isinstance(reasoning, str):
            self._reason(reasoning, deltas)
        if "reasoning_details" in self._keeps:
            for piece in listed(delta.get("reasoning_details")):
                self._detail(piece)
        content = delta.get("content")
        if content:
            self._content(content, deltas)
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            self._refuse(refusal, deltas)
        for call in listed(delta.get("tool_calls")):
            if isinstance(call, dict):
                deltas.extend(self._calls.add(call))
                if "extra_content" in self._keeps and isinstance(call.get("extra_content"), dict):
                    self._extras[self._calls.last] = {"extra_content": call["extra_content"]}
        function = delta.get("function_call")
        if isinstance(function, dict):
            deltas.extend(self._calls.add({"index": 0, "function": function}))

    def _detail(self, piece: Any) -> None:  # noqa: ANN401 - any JSON value
        """Join a piece of thoughts to the one that it goes on with."""
        if not isinstance(piece, dict):
            return
        last = self._details[-1] if self._details else None
        if last is None or any(last.get(name) != piece.get(name) for name in ("type", "index")):
            self._details.append(dict(piece))
            return
        for name, value in piece.items():
            joined = name in _JOINED and isinstance(last.get(name), str) and isinstance(value, str)
            if value is not None:
                last[name] = last[name] + value if joined else value

    def _content(self, content: Any, deltas: list[Delta]) -> None:  # noqa: ANN401 - any JSON value
        if isinstance(content, str):
            if shown := self._text.add(content):
                deltas.append(TextDelta(shown))
        elif isinstance(content, list):  # Mistral's reasoning models send typed parts
            for part in content:
                if field(part, "type") == "thinking":
                    for thought in listed(field(part, "thinking")):
                        self._reason(text_of(thought), deltas)
                elif text := text_of(part):
                    self._content(text, deltas)

    def _reason(self, text: str, deltas: list[Delta]) -> None:
        if shown := self._reasoning.add(text):
            deltas.append(ReasoningDelta(shown))

    def _refuse(self, text: str, deltas: list[Delta]) -> None:
        if shown := self._refusal.add(text):
            deltas.append(RefusalDelta(shown))


def _usage(usage: dict[str, Any]) -> TokenUsage | None:
    """Return a provider's counts in the common form; None if it counts nothing."""
    prompt, output = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    if prompt is None and output is None:
        return None
    prompt_parts, output_parts = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = count(field(prompt_parts, "cached_tokens"))
    if cached is None:
        cached = count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=output,
        cached_input_tokens=cached or 0,
        cache_write_tokens=count(field(prompt_parts, "cache_write_tokens")) or 0,
        reasoning_tokens=count(field(output_parts, "reasoning_tokens")) or 0,
    )
