"""The sockets of the model client: kept for the next call, bounded in number, slow, refused, and over TLS."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import subprocess
from pathlib import Path

import anyio
import httpx
import pytest

from tests.model_answers import DONE, finish, sends, text, usage
from tests.model_client import PATIENT, REQUEST, asked, completed, failure, talking, until
from tests.model_server import Exchange, serving
from worker.llm import ChatClient, ChatRequest, Timeouts
from worker.llm.errors import (
    ConnectionFailed,
    ModelTimeout,
)


class TestConnections:
    async def test_an_answer_read_to_its_end_leaves_its_connection_to_the_next(self) -> None:
        async with talking(sends(text("a"), finish(), DONE)) as (client, server, transport):
            for _ in range(5):
                assert (await asked(client)).text == "a"
            assert (server.connections, len(server.requests), transport.open_connections) == (1, 5, 1)

    async def test_a_connection_that_the_server_closed_is_not_used_again(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await sends(text("a"), finish(), DONE)(exchange)
            exchange.chunked = False  # the server hangs up although it did not say so

        async with talking(handler) as (client, server, _):
            for _ in range(3):
                assert (await asked(client)).text == "a"
                await until(lambda: server.open == 0)
            assert server.connections == 3

    async def test_an_error_whose_body_was_read_keeps_the_connection(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start(500, content_type="text/plain")
            await exchange.end()

        async with talking(handler) as (client, server, _):
            await failure(client)
            await failure(client)
            assert server.connections == 1

    async def test_no_more_are_open_than_allowed(self) -> None:
        most = 0

        async def handler(exchange: Exchange) -> None:
            nonlocal most
            most = max(most, server.open)
            await sends(text("a"), finish(), DONE)(exchange)

        async with (
            talking(handler, max_connections=3) as (client, server, _),
            anyio.create_task_group() as group,
        ):
            for _ in range(20):
                group.start_soon(asked, client)
        assert (len(server.requests), most <= 3) == (20, True)

    async def test_200_streams_at_once_each_come_whole(self) -> None:
        ready = asyncio.Event()

        async def handler(exchange: Exchange) -> None:
            if len(server.requests) == 200:
                ready.set()
            await ready.wait()
            own = json.loads(exchange.body)["messages"][0]["content"]
            await sends(*(text(f"{own}-{at} ") for at in range(20)), finish(), usage(20), DONE)(exchange)

        texts: dict[int, str] = {}

        async def one(number: int) -> None:
            message = {"role": "user", "content": str(number)}
            texts[number] = (await asked(client, request=ChatRequest(model="m", messages=[message]))).text

        async with talking(handler, max_connections=200) as (client, server, _):
            for _ in range(2):  # cold, then with connections kept alive
                async with anyio.create_task_group() as group:
                    for number in range(200):
                        group.start_soon(one, number)
                assert texts == {n: "".join(f"{n}-{at} " for at in range(20)) for n in range(200)}

    async def test_a_slow_consumer_holds_the_provider_back(self) -> None:
        sent = 0

        async def handler(exchange: Exchange) -> None:
            nonlocal sent
            exchange.writer.transport.set_write_buffer_limits(0)
            await exchange.start()
            for _ in range(1000):
                await exchange.send(text("x" * 65536))
                sent += 1
            await exchange.send(finish())
            await exchange.end()

        async with talking(handler) as (client, _, _), client.stream(REQUEST, PATIENT) as events:
            await anext(events)
            await anyio.sleep(0.3)
            assert sent < 500  # the sockets of both sides hold a few MB of the 64
            assert len((await completed(events)).text) == 1000 * 65536

    async def test_refused_and_unresolved_addresses_are_connection_errors(self) -> None:
        async with serving(sends()) as server:
            gone = server.base_url
        for address in (gone, "http://no-such-host.invalid/v1"):
            async with ChatClient(address) as client:
                _, error = await failure(client)
            assert isinstance(error, ConnectionFailed)
            assert httpx.URL(address).host in str(error)

    async def test_a_server_that_hangs_up_or_speaks_no_http_is_a_connection_error(self) -> None:
        async def hangs_up(exchange: Exchange) -> None:
            exchange.chunked = False

        async def speaks_no_http(exchange: Exchange) -> None:
            exchange.writer.write(b"220 mail.example ready\r\n\r\n")
            await exchange.client_gone()

        for handler in (hangs_up, speaks_no_http):
            async with talking(handler) as (client, _, transport):
                assert isinstance((await failure(client))[1], ConnectionFailed)
                assert transport.open_connections == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the certificate is made with openssl")
class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[Path, Path]:
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subprocess.run(
            ["openssl", "req", "-x509", *curve, *subject, "-out", str(certificate), "-keyout", str(key)],
            check=True,
            capture_output=True,
        )
        return certificate, key

    async def test_a_trusted_certificate_is_needed_and_suffices(
        self, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
        async with serving(sends(text("a"), finish(), DONE), tls=context) as server:
            address = server.base_url.replace("127.0.0.1", "localhost")
            async with ChatClient(address) as client:
                _, error = await failure(client)
            assert isinstance(error, ConnectionFailed)
            assert "certificate verify failed" in str(error)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
            async with ChatClient(address) as client:
                assert (await asked(client)).text == "a"
                assert (await asked(client)).text == "a"

    async def test_a_handshake_that_never_ends_is_a_timeout(self) -> None:
        hung_up = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            hung_up.set()

        listener = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        async with listener, ChatClient(f"https://127.0.0.1:{port}/v1") as client:
            _, error = await failure(client, Timeouts(connect_s=0.2))
            await hung_up.wait()
        assert isinstance(error, ModelTimeout)
        assert str(error) == "No connection to 127.0.0.1 within 0.2 s"
