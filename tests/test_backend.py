"""The HTTP client of Convex: values, errors and deadlines, against canned answers and real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from worker import errors
from worker.backend import Backend, Backoff, decode, encode_call, retry

URL = "http://127.0.0.1:3210"


def special(kind: str, value: bytes) -> str:
    return json.dumps({f"${kind}": base64.b64encode(value).decode()})


def answer(value: object) -> httpx.Response:
    return httpx.Response(200, json={"status": "success", "value": value, "logLines": []})


def refusal(code: str, message: str, status: int = 200) -> httpx.Response:
    body = {"status": "error", "errorMessage": "Uncaught", "errorData": {"code": code, "message": message}}
    return httpx.Response(status, json=body)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":[1,2.5,null,true,"x"]}', {"a": [1, 2.5, None, True, "x"]}),
        ("3.0", 3),
        ("-12.0", -12),
        ("1e21", 1e21),
        ('{"n":[0.0,1795300957433.0,0.5]}', {"n": [0, 1795300957433, 0.5]}),
        (special("integer", struct.pack("<q", -5)), -5),
        (special("integer", struct.pack("<q", 2**63 - 1)), 2**63 - 1),
        (special("float", struct.pack("<d", math.inf)), math.inf),
        ('{"$bytes":"AAEC"}', b"\0\1\2"),
        ('[{"$integer":"AQAAAAAAAAA="}]', [1]),
        ('{"a":1,"$integer":"AQAAAAAAAAA="}', {"a": 1, "$integer": "AQAAAAAAAAA="}),
    ],
)
def test_values_are_decoded(text: str, value: object) -> None:
    decoded = decode(text)
    assert decoded == value
    assert repr(decoded) == repr(value)  # 1 == 1.0


@pytest.mark.parametrize("text", ["", "{", '{"$integer":5}', '{"$float":"AA=="}', '{"$bytes":"!"}'])
def test_a_malformed_value_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        decode(text)


@given(st.dictionaries(st.text(), st.recursive(st.integers() | st.text(), st.lists, max_leaves=5)))
def test_the_same_call_is_the_same_bytes(args: dict[str, object]) -> None:
    first = encode_call("worker:sync", args)
    assert first == encode_call("worker:sync", dict(args))
    assert json.loads(first) == {"path": "worker:sync", "args": args, "format": "convex_encoded_json"}


def nested(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.inf, r"not JSON: .* \(at x\)$"),
        ([0, {"priority": math.nan}], r"not JSON: .* \(at x\[1\].priority\)$"),
        ({1, 2}, r"not JSON: .* \(at x\)$"),
        (nested(100_000), "not JSON"),
        (["a", "a\ud800b"], r"half a surrogate pair \(at x\[1\]\)$"),
        ({"k\udfff": 1}, r"half a surrogate pair \(at x\.k\?\)$"),
    ],
    ids=["inf", "nan", "set", "deep", "surrogate", "surrogate key"],
)
@respx.mock(base_url=URL, assert_all_called=False)
async def test_what_cannot_be_encoded_is_not_sent(
    respx_mock: respx.MockRouter, value: object, says: str
) -> None:
    call = respx_mock.post("/api/mutation").mock(return_value=answer(None))
    async with Backend(URL) as backend:
        with pytest.raises(errors.RequestUnencodable, match=says):
            await backend.mutation("a:b", {"x": value}, timeout=1)
    assert not call.called


@respx.mock(base_url=URL)
async def test_a_query_and_a_mutation_bring_their_value(respx_mock: respx.MockRouter) -> None:
    query = respx_mock.post("/api/query").mock(return_value=answer({"n": 1}))
    mutation = respx_mock.post("/api/mutation").mock(return_value=answer(None))
    async with Backend(URL, admin_key=SecretStr("host|key")) as backend:
        assert await backend.query("tasks:get", {"task": "t"}, timeout=1) == {"n": 1}
        assert await backend.mutation("tasks:cancel", {"task": "t"}, timeout=1) is None
    sent = json.loads(query.calls.last.request.content)
    assert sent == {"path": "tasks:get", "args": {"task": "t"}, "format": "convex_encoded_json"}
    assert mutation.calls.last.request.headers["authorization"] == "Convex host|key"


@pytest.mark.parametrize(
    ("response", "error", "says"),
    [
        (refusal("unauthorized", "no such key"), errors.Unauthorized, "no such key"),
        (refusal("forbidden", "not yours", status=560), errors.Forbidden, "not yours"),
        (refusal("invalid_argument", "x"), errors.InvalidArgument, "x"),
        (refusal("not_found", "x"), errors.NotFound, "x"),
        (refusal("unknown_agent", "x"), errors.UnknownAgent, "x"),
        (refusal("payload_too_large", "x"), errors.PayloadTooLarge, "x"),
        (refusal("session_ended", "x"), errors.SessionEnded, "x"),
        (refusal("too_many_workers", "500"), errors.FunctionFailed, "500"),
        (
            httpx.Response(200, json={"status": "error", "errorMessage": "Server\n Error"}),
            errors.FunctionFailed,
            "Server Error",
        ),
        (httpx.Response(429), errors.BackendOverloaded, "429"),
        (httpx.Response(503, headers={"retry-after": "2"}), errors.BackendOverloaded, "503"),
        (httpx.Response(502, text="<html>bad gateway"), errors.BackendUnavailable, "502"),
        (httpx.Response(200, text="<html>a login page"), errors.ProtocolError, "<html>a login page"),
        (httpx.Response(404, json={"code": "NotFound", "message": "no"}), errors.ProtocolError, "no"),
        (httpx.Response(400, json={"code": "BadJsonBody", "message": "no"}), errors.RequestRefused, "no"),
        (httpx.Response(413, text="<html>too large"), errors.RequestRefused, "413"),
        (refusal("invalid_argument", "x", status=400), errors.InvalidArgument, "x"),
        (httpx.Response(200, json=[1]), errors.ProtocolError, "[1]"),
        (httpx.Response(302, headers={"location": "/x"}), errors.ProtocolError, "302"),
        (httpx.Response(200, text="[" * 100_000), errors.ProtocolError, "[[["),
    ],
)
@respx.mock(base_url=URL)
async def test_every_failure_has_its_name(
    respx_mock: respx.MockRouter, response: httpx.Response, error: type[Exception], says: str
) -> None:
    respx_mock.post("/api/query").mock(return_value=response)
    async with Backend(URL) as backend:
        with pytest.raises(error, match=None) as caught:
            await backend.query("a:b", {}, timeout=1)
    assert type(caught.value) is error
    assert says in str(caught.value)
    if response.headers.get("retry-after"):
        assert caught.value.retry_after_s == 2.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (httpx.ConnectError("refused"), errors.BackendUnreachable),
        (httpx.ConnectTimeout("slow"), errors.BackendTimeout),
        (httpx.ReadError(""), errors.ConnectionLost),
        (httpx.RemoteProtocolError("eof"), errors.ConnectionLost),
        (httpx.DecodingError("gzip"), errors.ProtocolError),
    ],
)
@respx.mock(base_url=URL)
async def test_the_transports_errors_are_translated(
    respx_mock: respx.MockRouter, raised: Exception, error: type[Exception]
) -> None:
    respx_mock.post("/api/mutation").mock(side_effect=raised)
    async with Backend(URL) as backend:
        with pytest.raises(error):
            await backend.mutation("a:b", {}, timeout=1)


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[str]:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()


async def test_a_server_that_accepts_and_never_answers_costs_no_more_than_the_deadline() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            pass

    async with server(silent) as url, Backend(url) as backend:
        with anyio.fail_after(5), pytest.raises(errors.BackendTimeout):
            await backend.mutation("worker:sync", {}, timeout=0.2)


async def test_an_answer_that_trickles_in_is_cut_at_the_deadline() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        for _ in range(100_000):
            writer.write(b" ")
            await asyncio.sleep(0.05)

    async with server(trickle) as url, Backend(url) as backend:
        with anyio.fail_after(5), pytest.raises(errors.BackendTimeout):
            await backend.mutation("worker:sync", {}, timeout=0.3)


async def test_a_closed_port_and_a_cut_connection_have_different_names() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")

    async with server(cut) as url, Backend(url) as backend:
        with pytest.raises(errors.ConnectionLost):
            await backend.query("a:b", {}, timeout=2)
    async with Backend(url) as backend:
        with pytest.raises(errors.BackendUnreachable):
            await backend.query("a:b", {}, timeout=2)


async def test_a_call_goes_through_the_environments_proxy_and_to_loopback_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []

    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head.split(b"\r\n", 1)[0])
        body = answer(7).content
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()

    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    async with server(answering) as url:
        monkeypatch.setenv("http_proxy", url)
        for deployment in ("http://convex.example", url):
            async with Backend(deployment) as backend:
                assert await backend.query("a:b", {}, timeout=5) == 7
    assert asked == [b"POST http://convex.example/api/query HTTP/1.1", b"POST /api/query HTTP/1.1"]


class Clock:
    """Seconds that pass only by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.mark.parametrize(
    ("failures", "draw", "delay"),
    [(1, 0.5, 0.1), (2, 0.5, 0.2), (3, 0.5, 0.4), (6, 1.0, 5.0), (4000, 1.0, 5.0), (9, 0.0, 0.0)],
)
def test_backoff_doubles_up_to_its_bound(failures: int, draw: float, delay: float) -> None:
    assert Backoff(initial_s=0.2, max_s=5.0).delay_s(failures, draw) == pytest.approx(delay)


async def test_a_retry_repeats_until_a_value_comes() -> None:
    clock, tries = Clock(), [errors.BackendTimeout("x"), errors.BackendOverloaded("y", 1.5), None]
    given: list[float] = []

    async def send(timeout: float) -> str:
        given.append(timeout)
        if (failure := tries.pop(0)) is not None:
            raise failure
        return "value"

    value = await retry(send, deadline_s=10, attempt_s=4, clock=clock, sleep=clock.sleep, draw=lambda: 0.5)
    assert value == "value"
    assert clock.slept == [0.1, 1.5]  # the server asked for the second
    assert given == [4, 4, 4]


async def test_a_retry_gives_up_before_its_deadline_and_raises_the_last_failure() -> None:
    clock, count = Clock(), 0

    async def send(timeout: float) -> None:
        nonlocal count
        count += 1
        clock.now += timeout
        raise errors.BackendTimeout(f"try {count}")

    with pytest.raises(errors.BackendTimeout, match=f"try {3}"):
        await retry(send, deadline_s=5, attempt_s=2, clock=clock, sleep=clock.sleep, draw=lambda: 0.5)
    assert clock.now <= 105.0


@pytest.mark.parametrize(("late_s", "tries"), [(0.84, 2), (0.86, 1)])
async def test_a_retry_that_is_woken_too_late_raises_what_it_knows(late_s: float, tries: int) -> None:
    clock, count = Clock(), 0

    async def send(timeout: float) -> None:
        nonlocal count
        count += 1
        raise errors.BackendUnreachable(f"try {count} of {timeout:.2f} s")

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds + late_s)

    with pytest.raises(errors.BackendUnreachable, match=f"try {tries}"):
        await retry(send, deadline_s=1, attempt_s=1, clock=clock, sleep=sleep, draw=lambda: 0.5)
    assert count == tries


async def test_a_refusal_is_not_repeated() -> None:
    calls = 0

    async def send(timeout: float) -> None:
        nonlocal calls
        calls += 1
        raise errors.InvalidArgument("no")

    with pytest.raises(errors.InvalidArgument):
        await retry(send, deadline_s=5, attempt_s=1)
    assert calls == 1
