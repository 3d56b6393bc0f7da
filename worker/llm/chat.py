"""The dialect `openai-chat`: chat completions, as OpenAI and the many compatible servers speak them. Pure.

The rules for what servers really send stand beside the code that keeps them. The terminal marker is
`finish_reason`; `[DONE]` is optional, and nothing behind it is read.
"""

from __future__ import annotations

import json
from typing import Any

from worker.llm.classify import from_error
from worker.llm.dialect import Reader
from worker.llm.errors import Overloaded, ServerError, StreamProtocolError, StreamTruncated
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

_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",  # the name before tools
    "content_filter": "content_filter",
}
_RENAMED_LIMIT = (
    ".openai.com",
    ".openai.azure.com",
)  # their newer models refuse the name that all others know


class OpenAIChat:
    """How chat completions are asked for.

    Args:
        key_header: The header that carries the key alone, where a provider wants no bearer.
    """

    path = "/chat/completions"

    def __init__(self, key_header: str | None = None) -> None:
        self._key_header = key_header

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the bearer's header; servers such as Ollama want none."""
        if key is None:
            return {}
        return {self._key_header: key} if self._key_header else {"authorization": f"Bearer {key}"}

    def body(self, request: ChatRequest, host: str) -> dict[str, Any]:
        """Return the request's body; a field that `extra` sets to None is left out."""
        limit = "max_completion_tokens" if f".{host}".endswith(_RENAMED_LIMIT) else "max_tokens"
        fields: dict[str, Any] = {
            "model": request.model,
            "messages": list(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": request.temperature,
            limit: request.max_output_tokens,
            "tools": list(request.tools) or None,
            "tool_choice": request.tool_choice,
            "response_format": request.response_format,
            "stop": list(request.stop) or None,
            **request.extra,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def reader(self) -> Reader:
        """Return a reader for one answer."""
        return ChatReader()


class ChatReader:
    """Reads one message from its chunks."""

    def __init__(self) -> None:
        self.ended = False
        self._raw_finish: str | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._calls = ToolCalls()
        self._model: str | None = None
        self._usage: TokenUsage | None = None

    @property
    def finished(self) -> bool:
        """Whether `finish_reason` came."""
        return self._raw_finish is not None

    def read(self, event: str, data: str) -> list[Delta]:
        """Return what an event adds to the message."""
        data = data.strip()
        if not data:
            return []
        if data == "[DONE]":
            self.ended = True
            return []
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            if event == "error":
                raise from_error(data) from None
            raise StreamProtocolError("The stream carries an event that is not JSON") from None
        if event == "error":
            raise from_error(chunk)
        if not isinstance(chunk, dict):
            raise StreamProtocolError("The stream carries an event that is no chat completion chunk")
        return self._chunk(chunk, "delta")

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
            text="".join(self._text),
            reasoning="".join(self._reasoning),
            refusal="".join(self._refusal) or None,
            tool_calls=self._calls.whole() if finish == "tool_calls" else (),
            finish=finish,
            raw_finish=self._raw_finish,
            model=self._model,
            usage=self._usage,
        )

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
        usage = chunk.get("usage") or _field(chunk.get("x_groq"), "usage")
        if isinstance(usage, dict):
            self._usage = _usage(usage) or self._usage  # running counts replace, they are never added
        model = chunk.get("model")
        if model and isinstance(model, str):
            self._model = model  # Azure's filter chunks have an empty one
        deltas: list[Delta] = []
        for choice in _list(chunk.get("choices")):
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
        content = delta.get("content")
        if content:
            self._content(content, deltas)
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            self._refusal.append(refusal)
            deltas.append(RefusalDelta(refusal))
        for call in _list(delta.get("tool_calls")):
            if isinstance(call, dict):
                deltas.extend(self._calls.add(call))
        function = delta.get("function_call")
        if isinstance(function, dict):
            deltas.extend(self._calls.add({"index": 0, "function": function}))

    def _content(self, content: Any, deltas: list[Delta]) -> None:  # noqa: ANN401 - any JSON value
        if isinstance(content, str):
            self._text.append(content)
            deltas.append(TextDelta(content))
        elif isinstance(content, list):  # Mistral's reasoning models send typed parts
            for part in content:
                if _field(part, "type") == "thinking":
                    for thought in _list(_field(part, "thinking")):
                        self._reason(_text(thought), deltas)
                elif text := _text(part):
                    self._content(text, deltas)

    def _reason(self, text: str, deltas: list[Delta]) -> None:
        if text:
            self._reasoning.append(text)
            deltas.append(ReasoningDelta(text))


def _usage(usage: dict[str, Any]) -> TokenUsage | None:
    """Return a provider's counts in the common form; None if it counts nothing."""
    prompt, output = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None and output is None:
        return None
    prompt_parts, output_parts = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _count(_field(prompt_parts, "cached_tokens"))
    if cached is None:
        cached = _count(usage.get("prompt_cache_hit_tokens"))  # DeepSeek's name
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=output,
        cached_input_tokens=cached or 0,
        cache_write_tokens=_count(_field(prompt_parts, "cache_write_tokens")) or 0,
        reasoning_tokens=_count(_field(output_parts, "reasoning_tokens")) or 0,
    )


def _count(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _field(value: Any, name: str) -> Any:  # noqa: ANN401 - any JSON value
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:  # noqa: ANN401 - any JSON value
    return value if isinstance(value, list) else []


def _text(part: Any) -> str:  # noqa: ANN401 - any JSON value
    text = part if isinstance(part, str) else _field(part, "text")
    return text if isinstance(text, str) else ""
