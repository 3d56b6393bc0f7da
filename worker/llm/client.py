"""Calls one model provider: keeps its address, its key and its connections."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import TracebackType

import anyio
import httpx
from pydantic import SecretStr

from worker import __version__
from worker.http import StreamTransport
from worker.llm.call import Call
from worker.llm.chat import OpenAIChat
from worker.llm.dialect import Dialect
from worker.llm.messages import ChatRequest, Event, Timeouts
from worker.logs import Redactor


class ChatClient:
    """A model provider under one base URL, with one key. Used within one event loop.

    Args:
        base_url: What comes before `/chat/completions`, such as `https://api.openai.com/v1`. A trailing slash
            and a trailing `/chat/completions` are taken off, an address without a path gets `/v1`, a query is
            kept.
        api_key: None for servers that want no key.
        max_connections: How many streams may be open at once; a further call waits, within its `total_s`.
        dialect: The provider's language; chat completions by default.
        headers: More headers for every request.
        transport: Another way to the network, for tests.

    Raises:
        ValueError: The address or the key cannot be used; the message is one line that tells neither.
    """

    def __init__(
        self,
        base_url: str,
        api_key: SecretStr | None = None,
        max_connections: int = 1000,
        *,
        dialect: Dialect | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._dialect = dialect if dialect is not None else OpenAIChat()
        self._url = endpoint(base_url, self._dialect.path)
        self._redact = Redactor()
        self._slots = anyio.Semaphore(max_connections, fast_acquire=True)
        self._http = httpx.AsyncClient(
            transport=transport if transport is not None else StreamTransport(self._url),
            headers={
                "accept": "text/event-stream, application/json",
                "accept-encoding": "identity",  # a compressed stream arrives in lumps
                "content-type": "application/json",
                "user-agent": f"signalbox/{__version__}",
                **self._dialect.headers(None),
                **(headers or {}),
            },
            trust_env=False,  # neither a proxy nor a .netrc may come in by the environment
        )
        if api_key is not None:
            self.use_key(api_key)

    def use_key(self, api_key: SecretStr) -> None:
        """Send this key from now on.

        Raises:
            ValueError: No header can carry it.
        """
        if key := _usable(api_key):
            self._redact = Redactor([key])
            self._http.headers.update(self._dialect.headers(key))

    async def __aenter__(self) -> ChatClient:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection; streams still open end with an error."""
        await self._http.aclose()

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest, timeouts: Timeouts | None = None
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Send `request` and give its answer as events, the last of which is a `Completion`.

        Leaving the block in any way closes the connection at once, unless the answer was read to its end.

        Raises:
            ModelError: on entering, or from the iteration; `partial_output` says whether deltas were handed
                out.
        """
        call = Call(
            self._dialect, request, self._url, timeouts if timeouts is not None else Timeouts(), self._redact
        )
        await call.take_slot(self._slots)
        try:
            await call.send(self._http)
            yield call
        finally:
            try:
                await call.close()
            finally:
                self._slots.release()


def endpoint(base_url: str, path: str) -> httpx.URL:
    """Return the address that requests go to; see `ChatClient` for what is made of a base URL."""
    try:
        url = httpx.URL(base_url.strip())
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in {"http", "https"} or not url.host:
        raise ValueError("The model's base URL must be an address such as https://api.openai.com/v1")
    if url.userinfo:
        raise ValueError("The model's base URL must not hold a user name or password; give the key apart")
    base = url.path.rstrip("/").removesuffix(path).rstrip("/") or "/v1"
    return url.copy_with(path=base + path, fragment=None)


def _usable(api_key: SecretStr) -> str | None:
    key = api_key.get_secret_value()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            "The model key holds a line break or another character that no HTTP header can carry"
        )
    return key or None
