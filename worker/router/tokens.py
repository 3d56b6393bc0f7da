"""How many tokens a request has, as far as its text tells. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.llm.messages import ChatRequest, TokenUsage
from worker.router.decide import Need

_LIKELY_BYTES = 4.0  # of a token: English prose; code and other scripts have fewer
_MOST_BYTES = 8.0  # no tokenizer in use packs more of a real text into a token
_TIGHT_BYTES = 3.0
_DATA = "data:"
_PICTURE_TOKENS = 1_000  # of a picture that stands in the request; its bytes say nothing
_MESSAGE_TOKENS = 4  # around each message


UNTOLD_OUTPUT_TOKENS = 4_096  # of an answer whose length nobody bounds


@dataclass(frozen=True, slots=True)
class Size:
    """How large a call is at one model.

    Attributes:
        need: Of the prompt.
        usage: What it may use: rather too much, since what is left over comes back.
    """

    need: Need
    usage: TokenUsage

    @property
    def most(self) -> int:
        """What it may use in all."""
        return (self.usage.input_tokens or 0) + (self.usage.output_tokens or 0)


def need_of(request: ChatRequest) -> Need:
    """Return the size of a request's prompt, its tools included."""
    text, pictures = _measure([*request.messages, *request.tools, request.response_format])
    fixed = pictures * _PICTURE_TOKENS + len(request.messages) * _MESSAGE_TOKENS
    return Need(least=int(text / _MOST_BYTES), likely=math.ceil(text / _LIKELY_BYTES) + fixed)


def size_of(request: ChatRequest, need: Need, max_output_tokens: int | None) -> Size:
    """Return how large a call is at a model whose answers have at most so many tokens; None: not known."""
    prompt = math.ceil(need.likely * _LIKELY_BYTES / _TIGHT_BYTES)
    told = request.max_output_tokens or max_output_tokens or UNTOLD_OUTPUT_TOKENS
    return Size(need, TokenUsage(prompt, told))


def tokens_in(text_chars: int) -> int:
    """Return the tokens of so many characters of an answer, as an estimate."""
    return math.ceil(text_chars / _LIKELY_BYTES)


def _measure(value: Any) -> tuple[int, int]:  # noqa: ANN401 - any JSON value
    """Return the bytes of the text in a JSON value, and its pictures."""
    text = pictures = 0
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if item.startswith(_DATA):
                pictures += 1
            else:
                text += len(item) if item.isascii() else len(item.encode("utf-8", "replace"))
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
            text += sum(len(str(key)) for key in item)
        elif isinstance(item, list | tuple):
            waiting.extend(item)
    return text, pictures
