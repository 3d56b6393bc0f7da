"""Makes the client of a provider: its address and key from the environment, its dialect from the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx

from worker.llm.anthropic import AnthropicMessages
from worker.llm.chat import OpenAIChat
from worker.llm.client import ChatClient
from worker.llm.dialect import Dialect
from worker.llm.errors import AuthFailed, ModelNotFound
from worker.llm.providers import DialectName, Provider
from worker.llm.responses import OpenAIResponses

DIALECTS: dict[DialectName, Callable[[str | None], Dialect]] = {  # each takes the header that carries the key
    "openai-chat": OpenAIChat,
    "openai-responses": OpenAIResponses,
    "anthropic-messages": AnthropicMessages,
}


def dialect_of(provider: Provider) -> Dialect:
    """Return the dialect that `provider` speaks."""
    return DIALECTS[provider.dialect](provider.key_header)


def connect(
    provider: Provider,
    environ: Mapping[str, str],
    *,
    max_connections: int = 1000,
    transport: httpx.AsyncBaseTransport | None = None,
) -> ChatClient:
    """Return a client of `provider`; whoever asks for it closes it.

    Args:
        provider: One of a `Catalogue`.
        environ: Where its key is, and its address if a variable names that.
        max_connections: How many streams may be open at once.
        transport: Another way to the network, for tests.

    Raises:
        AuthFailed: Its key is missing, or is one that no header can carry.
        ModelNotFound: Its address is missing or malformed.
    """
    base_url, key = provider.url(environ), provider.key(environ)
    dialect = dialect_of(provider)
    try:
        client = ChatClient(
            base_url, None, max_connections, dialect=dialect, headers=provider.headers, transport=transport
        )
    except ValueError as error:
        raise ModelNotFound(f"{error} (of the provider {provider.name!r})") from None
    if key is not None:
        try:
            client.use_key(key)
        except ValueError as error:
            variable = provider.key_variable or "SIGNALBOX_MODEL_KEY"
            raise AuthFailed(f"{variable} is no key: {error}") from None
    return client
