"""What servers of chat completions want written otherwise than the rest, by their host. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ANY_ID = re.compile(r"[\x21-\x7e]{1,40}")  # OpenAI's limit, the shortest of those that keep ids as they come


@dataclass(frozen=True, slots=True)
class Quirks:
    """How one server differs.

    Args:
        limit: The name of the limit of the answer's tokens.
        developer: Whether it knows the role `developer`; the others say `system`.
        cache_key: Whether it takes `prompt_cache_key`.
        stream_options: Whether it takes `stream_options`; one that does not counts tokens unasked.
        json_schema: Whether it takes a schema; one that does not is told it in words.
        keeps: Fields of an answer that the same model must be sent back.
        call_id: The ids of tool calls that it takes.
        call_id_length: Of an id made anew.
    """

    limit: str = "max_tokens"
    developer: bool = False
    cache_key: bool = False
    stream_options: bool = True
    json_schema: bool = True
    keeps: frozenset[str] = frozenset()
    call_id: re.Pattern[str] = _ANY_ID
    call_id_length: int = 32


_OPENAI = Quirks(limit="max_completion_tokens", developer=True, cache_key=True)
_BY_HOST: tuple[tuple[str, Quirks], ...] = (
    (".openai.com", _OPENAI),
    (".openai.azure.com", _OPENAI),
    (".services.ai.azure.com", _OPENAI),
    # Thoughts within a tool loop must come back, or the request is refused.
    (".deepseek.com", Quirks(json_schema=False, keeps=frozenset({"reasoning_content"}))),
    (".openrouter.ai", Quirks(keeps=frozenset({"reasoning_details"}))),
    # Signatures of thoughts come with the calls, and Gemini 3 refuses a call without its own.
    (".googleapis.com", Quirks(keeps=frozenset({"extra_content"}))),
    (".mistral.ai", Quirks(stream_options=False, call_id=re.compile(r"[A-Za-z0-9]{9}"), call_id_length=9)),
)
_PLAIN = Quirks()


def quirks_of(host: str) -> Quirks:
    """Return how the server at `host` differs from the rest."""
    return next((quirks for suffix, quirks in _BY_HOST if f".{host}".endswith(suffix)), _PLAIN)
