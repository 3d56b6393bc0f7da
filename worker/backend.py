"""HTTP to Convex: one call, one deadline, and every failure under a name of ours.

A call is never repeated in here, since only the caller knows whether its request carries an idempotency key;
`retry` is the tool for those that do.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import random
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx
from pydantic import SecretStr

from worker.errors import (
    BackendOverloaded,
    BackendTimeout,
    BackendUnavailable,
    BackendUnreachable,
    ConnectionLost,
    FunctionFailed,
    ProtocolError,
    RequestRefused,
    RequestUnencodable,
    TransportError,
    function_error,
)
from worker.http import StreamTransport

T = TypeVar("T")
Json: TypeAlias = Any  # a decoded JSON value
_CONNECT_S = 5.0
_SHORTEST_S = 0.05  # an attempt after others that has less would only say that it had no time
_SHOWN = 200  # characters of a strange answer that an error quotes


def _decode_special(value: dict[str, Json]) -> Json:
    """Turn Convex's encoded integers, floats and bytes into Python's; every other object is itself."""
    if len(value) == 1:
        if "$integer" in value:
            return int.from_bytes(_bytes(value["$integer"]), "little", signed=True)
        if "$float" in value:
            return struct.unpack("<d", _bytes(value["$float"]))[0]
        if "$bytes" in value:
            return _bytes(value["$bytes"])
    return value


def _number(text: str) -> int | float:
    """Convex writes every number as a float; a whole one is an integer here."""
    return int(float(text)) if text.endswith(".0") else float(text)


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def decode(text: str | bytes) -> Json:
    """Parse JSON in Convex's encoding; whole numbers are integers.

    Raises:
        ValueError: The text is not JSON, or an encoded value is malformed.
    """
    try:
        return json.loads(text, object_hook=_decode_special, parse_float=_number)
    except (TypeError, struct.error) as error:
        raise ValueError(f"malformed encoded value: {error}") from error


def encode_call(path: str, args: dict[str, Json]) -> bytes:
    """Return the body of a call: the same arguments give the same bytes.

    Raises:
        RequestUnencodable: An argument is not JSON, or holds a lone surrogate, which UTF-8 cannot.
    """
    body = {"path": path, "args": args, "format": "convex_encoded_json"}
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        raise RequestUnencodable(f"A text for {path} holds half a surrogate pair{_where(args)}") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise RequestUnencodable(f"The arguments of {path} are not JSON: {error}{_where(args)}") from None


def _where(args: dict[str, Json]) -> str:
    """Name the first argument that cannot be written, if there is one to blame."""
    try:
        place = _unwritable(args, "")
    except RecursionError:
        place = None
    if place is None:
        return ""
    name = place.removeprefix(".")[:200].encode("utf-8", "replace").decode()
    return f" (at {name})"


def _unwritable(value: object, place: str) -> str | None:
    if isinstance(value, dict):
        parts = [(f"{place}.{key}", part) for key, item in value.items() for part in (key, item)]
    elif isinstance(value, list | tuple):
        parts = [(f"{place}[{i}]", item) for i, item in enumerate(value)]
    else:
        try:
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError):  # of which a UnicodeEncodeError is one
            return place
        return None
    return next((at for name, part in parts if (at := _unwritable(part, name)) is not None), None)


def interpret(status: int, body: bytes, headers: httpx.Headers) -> Json:
    """Return the value that an HTTP answer of Convex carries.

    Raises:
        FunctionFailed: The function threw.
        BackendOverloaded: Status 429 or 503.
        BackendUnavailable: Another 5xx.
        RequestRefused: Status 400 or 413, from Convex or from what stands before it.
        ProtocolError: Anything else that Convex does not say.
    """
    if status in {429, 503}:
        raise BackendOverloaded(f"Convex is overloaded (HTTP {status})", _retry_after(headers))
    if status >= 500 and status != 560:  # 560: a function's own error on some deployments
        raise BackendUnavailable(f"Convex is not available (HTTP {status})")
    strange = RequestRefused if status in {400, 413} else ProtocolError
    try:
        answer = decode(body)
    except (ValueError, RecursionError):
        raise strange(f"Not an answer of Convex (HTTP {status}): {_shown(body)!r}") from None
    if isinstance(answer, dict):
        if answer.get("status") == "success" and "value" in answer:
            return answer["value"]
        if answer.get("status") == "error":
            raise _function_failed(answer)
        if isinstance(answer.get("message"), str):  # the transport's own refusals: {code, message}
            raise strange(f"Convex refused the call (HTTP {status}): {answer['message']}")
    raise strange(f"Not an answer of Convex (HTTP {status}): {_shown(body)!r}")


def _function_failed(answer: dict[str, Json]) -> FunctionFailed:
    data = answer.get("errorData")
    if isinstance(data, dict) and isinstance(data.get("code"), str):
        return function_error(data["code"], str(data.get("message") or data["code"]))
    text = str(answer.get("errorMessage") or "the function failed")
    return FunctionFailed(" ".join(text.split())[:1000])


def _retry_after(headers: httpx.Headers) -> float | None:
    try:
        return max(0.0, min(float(headers.get("retry-after", "")), 300.0))
    except ValueError:
        return None


def _shown(body: bytes) -> str:
    return body[:_SHOWN].decode("utf-8", "replace")


def _transport_to(url: str) -> httpx.AsyncBaseTransport:
    """Return our own transport, or httpx's where a proxy of the environment stands between."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not _is_loopback(host) and not proxy_bypass(host):
        return _ThroughProxy()
    return StreamTransport(httpx.URL(url))


class _ThroughProxy(httpx.AsyncBaseTransport):
    """httpx's client, which finds the proxy itself."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(follow_redirects=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._client.send(request, stream=True)

    async def aclose(self) -> None:
        await self._client.aclose()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Backend:
    """One Convex deployment over keep-alive connections of its own.

    Requests go straight to the transport: what httpx's client adds (redirects, cookies, authentication, the
    joining of addresses) is a third of a call's processor time, 0.35 of 1.06 ms, and none of it is needed.

    Args:
        url: The deployment's address.
        admin_key: The deployment's admin key, for calls of internal functions; a worker never holds it.
        transport: Replaces the network in tests.
    """

    def __init__(
        self,
        url: str,
        *,
        admin_key: SecretStr | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._headers = httpx.Headers(
            {"content-type": "application/json", "accept-encoding": "gzip, deflate"}
        )
        if admin_key is not None:
            self._headers["authorization"] = f"Convex {admin_key.get_secret_value()}"
        self._transport = transport or _transport_to(self.url)

    async def __aenter__(self) -> Self:
        """Return the backend; its connections are closed at the end of the block."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    async def query(self, path: str, args: dict[str, Json], *, timeout: float) -> Json:
        """Return the value of a query, within `timeout` seconds in all."""
        return await self._call("/api/query", path, args, timeout)

    async def mutation(self, path: str, args: dict[str, Json], *, timeout: float) -> Json:
        """Run a mutation and return its value, within `timeout` seconds in all."""
        return await self._call("/api/mutation", path, args, timeout)

    async def _call(
        self,
        endpoint: Literal["/api/query", "/api/mutation"],
        path: str,
        args: dict[str, Json],
        timeout: float,
    ) -> Json:
        limits = httpx.Timeout(timeout, connect=min(timeout, _CONNECT_S)).as_dict()
        request = httpx.Request(
            "POST",
            self.url + endpoint,
            headers=self._headers,
            content=encode_call(path, args),
            extensions={"timeout": limits},
        )
        try:
            # httpx bounds each read; only the scope bounds an answer that trickles in byte by byte.
            with anyio.fail_after(timeout):
                response = await self._transport.handle_async_request(request)
                try:
                    body = await response.aread()
                finally:
                    await response.aclose()
        except (TimeoutError, httpx.TimeoutException):
            raise BackendTimeout(f"No answer from {self.url} within {timeout:.3g} s") from None
        except httpx.ConnectError as error:
            raise BackendUnreachable(f"Cannot reach {self.url}: {error}") from None
        except httpx.TransportError as error:
            raise ConnectionLost(
                f"The connection to {self.url} broke: {error or type(error).__name__}"
            ) from None
        except httpx.HTTPError as error:  # a redirect loop or a body that does not decode
            raise ProtocolError(f"Not an answer of Convex: {error}") from None
        return interpret(response.status_code, body, response.headers)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full jitter: each delay is drawn evenly between nothing and a bound that doubles up to `max_s`."""

    initial_s: float = 0.2
    max_s: float = 5.0

    def delay_s(self, failures: int, draw: float) -> float:
        """Return the wait after so many `failures` in a row (1, 2, ...), for a `draw` in [0, 1)."""
        return draw * min(self.max_s, self.initial_s * 2.0 ** min(failures - 1, 32))


async def retry(
    send: Callable[[float], Awaitable[T]],
    *,
    deadline_s: float,
    attempt_s: float,
    backoff: Backoff | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    draw: Callable[[], float] = random.random,
) -> T:
    """Call `send(timeout)` until it brings a value, a final refusal, or the deadline has come.

    `send` must repeat the identical request, and the request must be idempotent.

    Args:
        send: Makes one attempt within the seconds it is given.
        deadline_s: Seconds for all attempts and the waits between them.
        attempt_s: Seconds for one attempt.
        backoff: How long to wait between two attempts.
        clock: Monotonic seconds.
        sleep: Waits for seconds.
        draw: Draws evenly from [0, 1).

    Raises:
        TransportError: The last failure, once no other attempt fits before the deadline.
    """
    backoff = backoff or Backoff()
    ends = clock() + deadline_s
    failures = 0
    while True:
        try:
            return await send(max(0.001, min(attempt_s, ends - clock())))
        except TransportError as error:
            failures += 1
            wait = max(backoff.delay_s(failures, draw()), error.retry_after_s or 0.0)
            if clock() + wait + _SHORTEST_S > ends:
                raise
            await sleep(wait)
            if clock() + _SHORTEST_S > ends:
                raise  # it was woken late
