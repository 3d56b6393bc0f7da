"""One model call: a request, its answer read as events, and the deadline of every wait in between."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime

import anyio
import httpx

from worker.llm.classify import from_response
from worker.llm.dialect import Dialect
from worker.llm.errors import (
    BadRequest,
    ConnectionFailed,
    ModelError,
    ModelTimeout,
    StreamProtocolError,
    StreamTruncated,
)
from worker.llm.messages import ChatRequest, Event, Timeouts
from worker.llm.sse import EventDecoder, EventTooLarge
from worker.logs import Redactor

MAX_ERROR_BYTES = 64 * 1024  # of an error's body: enough for its message
MAX_WHOLE_BYTES = 8 * 1024 * 1024  # of an answer that is no stream
MAX_STREAM_BYTES = 128 * 1024 * 1024  # a few hundred bytes for each token of the longest answers
TRAILER_S = 5.0  # the message is whole by then; only its usage may still come
DRAIN_S = 0.05  # the body ends with [DONE] or right behind it; a new connection costs less than a longer wait
CLOSE_S = 1.0
_BOM = b"\xef\xbb\xbf"


class Call(AsyncIterator[Event]):
    """The answer to one request, as its events come in.

    Args:
        dialect: The provider's language.
        request: What is asked.
        url: Where.
        timeouts: The limits; `total_s` begins to run here.
        redact: Takes the key out of the provider's messages.
    """

    def __init__(
        self, dialect: Dialect, request: ChatRequest, url: httpx.URL, timeouts: Timeouts, redact: Redactor
    ) -> None:
        self._dialect = dialect
        self._request = request
        self._url = url
        self._timeouts = timeouts
        self._redact = redact
        self._reader = dialect.reader(request, url.host)
        self._decoder = EventDecoder()
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._whole: list[bytes] | None = None  # the pieces of a body that is JSON and no stream
        self._opening = b""  # what could still become a byte order mark
        self._streams = False
        self._read_bytes = 0
        self.heard_at: float | None = None  # when anything came, a comment too (monotonic seconds)
        self._ready: deque[Event] = deque()
        self._failure: ModelError | None = None  # comes after the events read before it
        self._over = False
        self._handed_out = False
        self._total_at = anyio.current_time() + timeouts.total_s
        self._content_at = self._total_at  # when the next content must have come
        self._limit = ""  # the words for `_content_at` having passed

    async def take_slot(self, slots: anyio.Semaphore) -> None:
        """Wait for one of the client's connections."""
        with anyio.CancelScope(deadline=self._total_at) as scope:
            await slots.acquire()
        if scope.cancelled_caught:
            raise ModelTimeout(f"No connection became free within {self._timeouts.total_s:g} s")

    async def send(self, http: httpx.AsyncClient) -> None:
        """Send the request; returns when an answer that promises content has begun."""
        try:
            self._response = await self._answer(http)
            if self._response.status_code >= httpx.codes.MULTIPLE_CHOICES:
                body = await self._error_body(self._response)
                headers = self._response.headers
                raise from_response(self._response.status_code, headers, body, datetime.now(UTC))
        except ModelError as error:
            raise self._told(error) from error.__cause__
        self._pieces = self._response.aiter_bytes()

    async def __anext__(self) -> Event:
        """Return the next event; a failure comes once everything before it was handed out."""
        if not self._ready and not self._over:
            await self._read_on()
        if self._ready:
            self._handed_out = True
            return self._ready.popleft()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise self._told(failure) from failure.__cause__
        raise StopAsyncIteration

    async def close(self) -> None:
        """Close the connection at once, or keep it if its answer was read to the end."""
        if self._response is None:
            return
        with anyio.CancelScope(shield=True, deadline=anyio.current_time() + CLOSE_S):
            if self._reader.ended and self._pieces is not None:
                await self._drain(self._pieces)
            await self._response.aclose()

    async def _answer(self, http: httpx.AsyncClient) -> httpx.Response:
        url = self._url
        try:
            content = json.dumps(
                self._dialect.body(self._request, url.host),
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            ).encode("utf-8", "replace")  # a lone surrogate cannot be sent
        except (TypeError, ValueError, RecursionError) as error:
            raise BadRequest(f"The request cannot be written as JSON: {error}") from error
        connect_s = self._timeouts.connect_s
        outgoing = http.build_request(
            "POST", url, content=content, timeout=httpx.Timeout(None, connect=connect_s)
        )
        self._expect(self._timeouts.first_event_s, "No content came within {:g} s of the request")
        try:
            with anyio.CancelScope(deadline=min(self._content_at, self._total_at)):
                return await http.send(outgoing, stream=True)
        except httpx.ConnectTimeout as error:
            raise ModelTimeout(f"No connection to {url.host} within {connect_s:g} s") from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"The connection to {url.host} failed: {error}") from error
        raise self._timed_out()

    async def _error_body(self, response: httpx.Response) -> bytes:
        """Return the beginning of an error's body; what comes late is left out, the status says enough."""
        body = bytearray()
        deadline = min(anyio.current_time() + self._timeouts.idle_s, self._content_at, self._total_at)
        with anyio.CancelScope(deadline=deadline), suppress(httpx.RequestError):
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) >= MAX_ERROR_BYTES:
                    break
        return bytes(body[:MAX_ERROR_BYTES])

    async def _read_on(self) -> None:
        """Read until there is an event or the answer is over."""
        if self._handed_out and not self._reader.finished:
            self._expect(self._timeouts.idle_s, "No content came for {:g} s in mid-answer")
        try:
            while not self._ready and not self._over:
                piece = await self._piece()
                if piece is None:
                    self._end()
                else:
                    self._take(piece)
        except ModelError as error:
            self._failure = error
            self._over = True

    async def _piece(self) -> bytes | None:
        """Return the next bytes; None at the end, and when the trailer of a whole message does not come."""
        assert self._pieces is not None  # `send` has set it
        try:
            with anyio.CancelScope(deadline=min(self._content_at, self._total_at)):
                return await anext(self._pieces, None)
        except httpx.RequestError as error:
            if self._reader.finished:
                return None
            raise _broken(error) from error
        if self._reader.finished:
            return None
        raise self._timed_out()

    def _take(self, piece: bytes) -> None:
        self._read_bytes += len(piece)
        self.heard_at = time.monotonic()
        if self._read_bytes > (MAX_STREAM_BYTES if self._whole is None else MAX_WHOLE_BYTES):
            raise StreamProtocolError("The answer is larger than any that a model gives")
        if not self._streams and self._whole is None:
            piece, self._opening = self._opening + piece, b""
            if _BOM.startswith(piece):
                self._opening = piece  # more may come of it
                return
            self._settle(piece)
        if self._whole is not None:
            self._whole.append(piece)
        else:
            self._feed(piece)

    def _settle(self, piece: bytes) -> None:
        """Tell by the first byte what the body is: content types are wrong too often.

        No line of an event stream that means anything begins with a bracket.
        """
        first = piece.removeprefix(_BOM).lstrip()[:1]
        if first == b"<":
            raise StreamProtocolError("The answer is a web page; the base URL does not lead to a model's API")
        if first in {b"{", b"["}:
            self._whole = []
        elif first:
            self._streams = True

    def _feed(self, piece: bytes) -> None:
        finished = self._reader.finished
        try:
            for event, data in self._decoder.feed(piece):
                self._ready.extend(self._reader.read(event, data))
                if self._reader.ended:
                    self._complete()
                    return
        except EventTooLarge as error:
            raise StreamProtocolError(str(error)) from error
        if self._reader.finished and not finished:
            self._expect(min(self._timeouts.idle_s, TRAILER_S), "")

    def _end(self) -> None:
        if self._whole is not None:
            try:
                value = json.loads(b"".join(self._whole))
            except (ValueError, RecursionError):
                raise StreamProtocolError("The answer is neither an event stream nor JSON") from None
            self._ready.extend(self._reader.read_whole(value))
        self._complete()

    def _complete(self) -> None:
        self._ready.append(self._reader.completion())
        self._over = True

    async def _drain(self, pieces: AsyncIterator[bytes]) -> None:
        with anyio.CancelScope(deadline=anyio.current_time() + DRAIN_S), suppress(httpx.RequestError):
            async for _ in pieces:
                pass

    def _expect(self, within_s: float, otherwise: str) -> None:
        self._content_at = anyio.current_time() + within_s
        self._limit = otherwise.format(within_s)

    def _timed_out(self) -> ModelTimeout:
        if self._total_at <= self._content_at:
            return ModelTimeout(f"The call took longer than {self._timeouts.total_s:g} s in all")
        return ModelTimeout(self._limit)

    def _told(self, error: ModelError) -> ModelError:
        """Return `error` as the caller gets it: one line without secrets, knowing what was handed out."""
        error.args = (self._redact.line(str(error)),)
        if error.provider_code is not None:
            error.provider_code = self._redact.known(error.provider_code)
        error.partial_output = self._handed_out
        error.usage = self._reader.usage
        return error


def _broken(error: httpx.RequestError) -> ModelError:
    if isinstance(error, httpx.RemoteProtocolError):
        return StreamTruncated(f"The stream broke off before the answer was complete: {error}")
    if isinstance(error, httpx.DecodingError):
        return StreamProtocolError(f"The answer's compression cannot be read: {error}")
    return ConnectionFailed(f"The connection broke in mid-answer: {error}")
