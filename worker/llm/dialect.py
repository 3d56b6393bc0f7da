"""What the client must know of a provider's language; each dialect is one module beside `chat.py`."""

from __future__ import annotations

from typing import Any, Protocol

from worker.llm.messages import ChatRequest, Completion, Delta, TokenUsage


class Reader(Protocol):
    """Reads one message from its events. Pure."""

    @property
    def finished(self) -> bool:
        """Whether the message's terminal marker came; what follows can only be usage."""

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be read, although the connection may stay open."""

    @property
    def usage(self) -> TokenUsage | None:
        """What the provider has counted so far; None if it told nothing."""

    def read(self, event: str, data: str) -> list[Delta]:
        """Return what an event adds to the message.

        Raises:
            ModelError: the event is an error, or cannot be read.
        """

    def read_whole(self, value: Any) -> list[Delta]:  # noqa: ANN401 - any JSON value
        """Return the content of an answer that is one JSON value and no stream.

        Raises:
            ModelError: it is an error, or no answer of this dialect.
        """

    def completion(self) -> Completion:
        """Return the whole message.

        Raises:
            StreamTruncated: its terminal marker has not come.
        """


def key_headers(key: str | None, key_header: str | None) -> dict[str, str]:
    """Return the header that carries a key: alone in `key_header`, else as a bearer's."""
    if key is None:
        return {}
    return {key_header: key} if key_header else {"authorization": f"Bearer {key}"}


class Dialect(Protocol):
    """How a provider is asked."""

    path: str  # under the base URL

    def headers(self, key: str | None) -> dict[str, str]:
        """Return the headers that carry the key, if there is one."""

    def body(self, request: ChatRequest, host: str) -> dict[str, Any]:
        """Return the JSON body of a streaming request to `host`.

        Raises:
            BadRequest: The request is malformed, and the message says where.
        """

    def reader(self, request: ChatRequest, host: str) -> Reader:
        """Return a reader for the answer to `request`."""
