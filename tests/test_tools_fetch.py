"""The tool `fetch` over real sockets: what it brings, what it refuses, where its bounds are."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from typing import Any

import httpcore
import pytest

from tests.deployment import REPOSITORY
from tests.web_server import Answer, Resolver, page, server
from worker.runtime.tools import ToolContext, ToolError
from worker.tools.addresses import LOOPBACK, AddressRefusedError, Reach
from worker.tools.fetch import Fetcher, Page, fetch
from worker.tools.network import CheckedBackend, checked

CERTIFICATE = REPOSITORY / "tests" / "data" / "tls" / "certificate.pem"


def moved(to: str, status: str = "302 Found") -> bytes:
    return page(b"", f"location: {to}", status=status)


def local(**more: Any) -> Fetcher:
    return Fetcher(Reach(networks=LOOPBACK), **more)


async def get(answer: Answer, **more: Any) -> Page:
    async with server(answer) as (port, _):
        return await local(**more).get(f"http://127.0.0.1:{port}/a?b=c")


async def test_a_page_is_brought_with_its_status_and_kind() -> None:
    async with server(
        lambda _: page(b"gr\xfc\xdfe", "content-type: text/plain; charset=latin-1", status="404 Not Found")
    ) as (port, requests):
        got = await local().get(f"http://127.0.0.1:{port}/a?b=c#part")
    assert (got.status, got.text, got.bytes, got.truncated) == (404, "grüße", 5, False)
    assert got.url == f"http://127.0.0.1:{port}/a?b=c"
    assert requests[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)
    assert b"cookie" not in requests[0].lower() and b"authorization" not in requests[0].lower()


async def test_proxies_of_the_environment_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await get(lambda _: page(b"direct"))).text == "direct"


@pytest.mark.parametrize("charset", ["punycode", "unicode_escape", "no-such", "hex", '"'])
async def test_a_charset_of_another_kind_is_passed_over(charset: str) -> None:
    got = await get(lambda _: page(b"a-\\u0041", f"content-type: text/plain; charset={charset}"))
    assert got.text == "a-\\u0041"


async def test_what_is_no_text_is_told_and_not_brought() -> None:
    got = await get(lambda _: page(b"\x89PNG", "content-type: image/png"))
    assert (got.text, got.bytes, got.type) == (None, 4, "image/png")


@pytest.mark.parametrize(("size", "truncated"), [(1000, False), (1001, True)])
async def test_a_page_is_cut_at_its_bound(size: int, truncated: bool) -> None:
    got = await get(lambda _: page(b"x" * size), max_text_bytes=1000)
    assert (got.text, got.truncated, got.bytes) == ("x" * 1000, truncated, size)


async def test_an_endless_page_is_cut() -> None:
    async def forever(_: bytes) -> bytes:
        return b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50_000_000

    got = await get(forever)
    assert got.truncated and len(got.text or "") == 48 * 1024 and got.bytes is None


async def test_a_small_body_that_unpacks_to_a_large_one_is_cut() -> None:
    bomb = gzip.compress(b"0" * 100_000_000)
    got = await get(lambda _: page(bomb, "content-encoding: gzip"))
    assert got.truncated and len(got.text or "") == 48 * 1024


@pytest.mark.parametrize(
    ("headers", "body", "says"),
    [
        (["content-encoding: gzip"], b"not gzip", "not encoded as it says"),
        (["content-encoding: br"], b"x", "encoded as 'br'"),
    ],
)
async def test_what_cannot_be_unpacked_is_refused(headers: list[str], body: bytes, says: str) -> None:
    with pytest.raises(ToolError, match=says):
        await get(lambda _: page(body, *headers))


async def never(_: bytes) -> bytes:
    await asyncio.sleep(60)
    return b""


@pytest.mark.parametrize("answer", [never, lambda _: b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx"])
async def test_a_server_that_does_not_answer_ends_in_one_line(answer: Answer) -> None:
    with pytest.raises(ToolError, match="No answer"):
        await get(answer, timeout_s=0.3)


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000])
async def test_garbage_ends_in_one_line(said: bytes) -> None:
    with pytest.raises(ToolError, match="No answer") as raised:
        await get(lambda _: said)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 320


async def test_a_redirect_to_no_address_ends_in_one_line() -> None:
    with pytest.raises(ToolError, match="no address"):
        await get(lambda _: moved("http://[::1/"))


async def test_redirects_are_followed_so_far() -> None:
    def answer(request: bytes) -> bytes:
        hop = int(request.split()[1].split(b"/")[1])
        return page(b"there") if hop == 5 else moved(f"/{hop + 1}")

    async with server(answer) as (port, requests):
        got = await local().get(f"http://127.0.0.1:{port}/0")
        assert (got.text, got.url) == ("there", f"http://127.0.0.1:{port}/5")
        assert len(requests) == 6
        with pytest.raises(ToolError, match="More than 4 redirects"):
            await local(max_redirects=4).get(f"http://127.0.0.1:{port}/0")


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "//10.0.0.1/",
        "https://user:secret@example.com/",
        "file:///etc/passwd",
        "https://2130706433/",
        "https://db.internal/",
        "http://example.com/",
        "https://example.com:22/",
        "http://[::ffff:127.0.0.1]/",
    ],
)
async def test_each_redirect_is_checked_as_the_first_address(to: str) -> None:
    with pytest.raises(AddressRefusedError):
        await get(lambda _: moved(to))


@pytest.mark.parametrize(
    "answer",
    [
        ["127.0.0.1"],
        ["93.184.215.14", "10.0.0.1"],
        ["2606:2800:21f::1", "::1"],
        ["::ffff:93.184.215.14"],
        ["64:ff9b::7f00:1"],
        ["fe80::1%eth0"],
    ],
)
async def test_a_name_is_refused_if_any_of_its_addresses_is(answer: list[str]) -> None:
    with pytest.raises(AddressRefusedError, match=r"pages\.example\.com is at"):
        await Fetcher(Reach(), resolve=Resolver(answer)).get("https://pages.example.com/")


async def test_a_name_without_an_address_ends_in_one_line() -> None:
    async def nothing(host: str, port: int) -> list[str]:
        raise OSError("Name or service not known")

    for resolve in (nothing, Resolver([])):
        with pytest.raises(ToolError, match="No answer"):
            await Fetcher(Reach(), resolve=resolve).get("https://pages.example.com/")


async def test_a_name_that_is_bound_anew_reaches_only_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = Resolver(["93.184.215.14"], ["127.0.0.1"])
    connected: list[str] = []

    async def connect(self: object, protocol: object, host: str, port: int, **more: object) -> None:
        connected.append(host)
        raise ConnectionRefusedError("as far as this test goes")

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", connect)
    backend = CheckedBackend(Reach(), resolver)
    with pytest.raises(httpcore.ConnectError):
        await backend.connect_tcp("pages.example.com", 443, 5)
    assert (connected, resolver.asked) == (["93.184.215.14"], ["pages.example.com"])
    with pytest.raises(AddressRefusedError):
        await backend.connect_tcp("pages.example.com", 443, 5)
    assert connected == ["93.184.215.14"]


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async with server(lambda _: page(b"second")) as (port, _):
        resolver = Resolver(["::1", "127.0.0.1"])
        fetcher = Fetcher(Reach(networks=LOOPBACK, http=True, ports=(port,)), resolve=resolver)
        assert (await fetcher.get(f"http://pages.example.com:{port}/")).text == "second"


async def test_at_most_four_addresses_are_tried() -> None:
    assert len(await checked("a.example.com", 443, Reach(), Resolver([f"1.1.1.{n}" for n in range(9)]))) == 4


async def test_tls_knows_the_name_and_refuses_another() -> None:
    names: list[str | None] = []
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE, CERTIFICATE.with_name("key.pem"))
    tls.sni_callback = lambda _, name, __: names.append(name)

    async with server(lambda _: page(b"secret page"), tls) as (port, requests):
        fetcher = Fetcher(
            Reach(networks=LOOPBACK, ports=(port,)),
            resolve=Resolver(["127.0.0.1"]),
            tls=lambda: ssl.create_default_context(cafile=str(CERTIFICATE)),
        )
        assert (await fetcher.get(f"https://pages.example.com:{port}/")).text == "secret page"
        assert b"Host: pages.example.com:%d\r\n" % port in requests[0]
        with pytest.raises(ToolError, match="No answer"):
            await fetcher.get(f"https://elsewhere.example.com:{port}/")
    assert names == ["pages.example.com", "elsewhere.example.com"]


class Silent:
    def progress(self, done: float, total: float | None = None, message: str = "") -> None: ...

    def log(self, message: str, **facts: object) -> None: ...


async def test_the_tool_tells_the_model_what_came() -> None:
    made = fetch(Reach(networks=LOOPBACK))
    assert (made.effect, made.access) == ("idempotent", "outward")
    async with server(lambda _: page(b'{"a":1}', "content-type: application/json")) as (port, _):
        told = await made.call({"url": f"http://127.0.0.1:{port}"}, ToolContext("k", "t", "r", Silent()))
    assert told == {
        "url": f"http://127.0.0.1:{port}/",
        "status": 200,
        "type": "application/json",
        "bytes": 7,
        "truncated": False,
        "text": '{"a":1}',
    }
