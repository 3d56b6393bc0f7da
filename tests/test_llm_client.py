"""The model client over real sockets: limits, cancellation, requests, and bodies that are no stream."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import anyio
import pytest
import respx
from pydantic import SecretStr

from tests.model_answers import DONE, data, finish, sends, text, usage
from tests.model_client import PATIENT, REQUEST, asked, completed, failure, talking, until
from tests.model_server import Exchange, Handler, serving
from worker.llm import ChatClient, ChatRequest, Completion, ModelError, TextDelta, Timeouts
from worker.llm import call as call_module
from worker.llm.client import endpoint
from worker.llm.errors import (
    AuthFailed,
    BadRequest,
    ConnectionFailed,
    ModelNotFound,
    ModelTimeout,
    RateLimited,
    ServerError,
    StreamProtocolError,
    StreamTruncated,
)


class TestLimits:
    async def test_comments_and_empty_chunks_do_not_put_off_the_first_event(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            while True:
                for piece in (
                    b": keep-alive\n\n",
                    text(""),
                    data({"choices": []}),
                    b"event: ping\ndata: {}\n\n",
                ):
                    await exchange.send(piece)
                await asyncio.sleep(0.01)

        async with talking(handler) as (client, _, transport):
            events, error = await failure(client, Timeouts(first_event_s=0.2, total_s=15))
            assert transport.open_connections == 0
        assert isinstance(error, ModelTimeout)
        assert str(error) == "No content came within 0.2 s of the request"
        assert (events, error.partial_output, error.retryable) == ([], False, True)

    async def test_comments_do_not_put_off_the_idle_limit_in_mid_answer(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            await exchange.send(text("a"))
            while True:
                await exchange.send(b": keep-alive\n\n")
                await asyncio.sleep(0.01)

        async with talking(handler) as (client, _, _):
            events, error = await failure(client, Timeouts(idle_s=0.2, total_s=15))
        assert str(error) == "No content came for 0.2 s in mid-answer"
        assert (events, error.partial_output) == ([TextDelta("a")], True)

    async def test_the_whole_call_is_limited_although_content_keeps_coming(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            while True:
                await exchange.send(text("a"))
                await asyncio.sleep(0.01)

        async with talking(handler) as (client, _, _):
            events, error = await failure(client, Timeouts(total_s=0.3))
        assert str(error) == "The call took longer than 0.3 s in all"
        assert events

    async def test_headers_that_never_come_are_a_timeout(self) -> None:
        async with talking(Exchange.client_gone) as (client, _, transport):
            _, error = await failure(client, Timeouts(first_event_s=0.1))
            assert transport.open_connections == 0
        assert str(error) == "No content came within 0.1 s of the request"

    async def test_a_busy_consumer_does_not_use_up_the_idle_limit(self) -> None:
        async with (
            talking(sends(text("a"), text("b"), finish(), DONE)) as (client, _, _),
            client.stream(REQUEST, Timeouts(idle_s=0.3, total_s=15)) as events,
        ):
            assert await anext(events) == TextDelta("a")
            await anyio.sleep(0.5)
            assert await anext(events) == TextDelta("b")
            assert (await completed(events)).text == "ab"

    async def test_no_free_connection_is_a_timeout_of_the_whole_call(self) -> None:
        async with talking(sends(text("a"), ends=False), max_connections=1) as (client, server, _):
            async with client.stream(REQUEST, PATIENT) as events:
                await anext(events)
                _, error = await failure(client, Timeouts(total_s=0.1))
            assert str(error) == "No connection became free within 0.1 s"
            assert len(server.requests) == 1
            async with client.stream(REQUEST, PATIENT) as events:
                assert await anext(events) == TextDelta("a")

    async def test_an_error_whose_body_stalls_is_told_by_its_status(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start(429, {"retry-after": "3"}, content_type="application/json")
            await exchange.client_gone()

        async with talking(handler) as (client, _, transport):
            _, error = await failure(client, Timeouts(idle_s=0.1, total_s=15))
            assert transport.open_connections == 0
        assert isinstance(error, RateLimited)
        assert error.retry_after_s == 3


class TestEnd:
    async def test_done_ends_the_answer_although_the_connection_stays_open(self) -> None:
        async with talking(sends(text("a"), finish(), usage(1), DONE, ends=False)) as (client, server, _):
            completion = await asked(client)
            assert (completion.text, completion.usage and completion.usage.output_tokens) == ("a", 1)
            await until(lambda: server.open == 0)

    async def test_a_finished_answer_does_not_wait_for_usage_for_long(self) -> None:
        async with talking(sends(text("a") + finish(), ends=False)) as (client, _, _):
            # Without a limit of its own for what follows, this would take ten minutes.
            assert (await asked(client, Timeouts(idle_s=0.1, first_event_s=600))).usage is None

    async def test_a_finished_answer_is_whole_although_the_connection_breaks(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            await exchange.send(text("a") + finish())
            exchange.writer.transport.abort()

        async with talking(handler) as (client, _, _):
            assert (await asked(client)).text == "a"

    async def test_a_body_that_breaks_off_is_truncated(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            await exchange.send(text("a"))
            exchange.writer.close()

        async with talking(handler) as (client, _, _):
            events, error = await failure(client)
        assert isinstance(error, StreamTruncated)
        assert (events, error.partial_output) == ([TextDelta("a")], True)

    async def test_an_empty_body_is_truncated(self) -> None:
        async with talking(sends()) as (client, _, _):
            assert isinstance((await failure(client))[1], StreamTruncated)

    async def test_text_and_error_in_one_read_come_in_their_order(self) -> None:
        broken = text("a") + text("b") + data({"error": {"code": 502, "message": "gone"}}) + DONE
        async with talking(sends(broken)) as (client, _, _):
            events, error = await failure(client)
        assert events == [TextDelta("a"), TextDelta("b")]
        assert isinstance(error, ServerError)
        assert error.partial_output

    async def test_nothing_comes_after_the_completion_or_the_error(self) -> None:
        late = sends(text("a"), finish(), DONE, text("late"))
        async with talking(late) as (client, _, _), client.stream(REQUEST) as events:
            await completed(events)
            assert [event async for event in events] == []
        async with talking(sends(b"data: {\n\n")) as (client, _, _), client.stream(REQUEST) as events:
            with pytest.raises(StreamProtocolError):
                await anext(events)
            assert [event async for event in events] == []


class TestOtherBodies:
    async def answered(self, body: bytes, content_type: str, status: int = 200) -> Any:
        async def handler(exchange: Exchange) -> None:
            await exchange.start(status, content_type=content_type)
            for at in range(0, len(body), 7):
                await exchange.send(body[at : at + 7])
            await exchange.end()

        async with talking(handler) as (client, _, _):
            try:
                return await asked(client)
            except ModelError as error:
                return error

    @pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
    async def test_a_whole_completion_is_one(self, content_type: str) -> None:
        message = {"role": "assistant", "content": "hello"}
        whole = {
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 2},
        }
        completion = await self.answered(b"\n\n  " + json.dumps(whole).encode(), content_type)
        assert (completion.text, completion.usage.input_tokens) == ("hello", 2)

    async def test_an_error_under_status_200_is_an_error(self) -> None:
        error = await self.answered(b'{"error": {"code": 429, "message": "slow down"}}', "application/json")
        assert isinstance(error, RateLimited)
        assert (str(error), error.partial_output) == ("slow down", False)

    @pytest.mark.parametrize("body", [b'{"choices": [', b"[1, 2", b'{"a": 1}\n{"a": 2}'])
    async def test_json_that_cannot_be_read_is_a_protocol_error(self, body: bytes) -> None:
        error = await self.answered(body, "application/json")
        assert str(error) == "The answer is neither an event stream nor JSON"

    async def test_a_web_page_is_a_protocol_error_that_names_the_base_url(self) -> None:
        error = await self.answered(b" <!doctype html><html>Sign in</html>", "text/html")
        assert isinstance(error, StreamProtocolError)
        assert "base URL" in str(error)

    async def test_an_event_stream_is_one_whatever_its_content_type(self) -> None:
        completion = await self.answered(text("a") + finish(), "application/json")
        assert completion.text == "a"

    async def test_a_redirect_names_the_base_url(self) -> None:
        error = await self.answered(b"", "text/html", 307)
        assert isinstance(error, ModelNotFound)
        assert "base URL" in str(error)

    @pytest.mark.parametrize(("extra", "passes"), [(0, True), (1, False)])
    async def test_a_whole_answer_has_a_size_limit(
        self, monkeypatch: pytest.MonkeyPatch, extra: int, passes: bool
    ) -> None:
        whole = {"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
        body = json.dumps(whole).encode() + b" " * extra
        monkeypatch.setattr(call_module, "MAX_WHOLE_BYTES", len(body) - extra)
        answer = await self.answered(body, "application/json")
        assert isinstance(answer, Completion if passes else StreamProtocolError)

    @pytest.mark.parametrize(("limit", "passes"), [(0, True), (-1, False)])
    async def test_a_stream_has_a_size_limit(
        self, monkeypatch: pytest.MonkeyPatch, limit: int, passes: bool
    ) -> None:
        body = text("a") * 10 + finish()
        monkeypatch.setattr(call_module, "MAX_STREAM_BYTES", len(body) + limit)
        answer = await self.answered(body, "text/event-stream")
        assert isinstance(answer, Completion if passes else StreamProtocolError)

    async def test_an_event_has_a_size_limit(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start()
            await exchange.send(text("a") + b"data: ")
            for _ in range(9):
                await exchange.send(b"x" * 1024 * 1024)
            await exchange.client_gone()

        async with talking(handler) as (client, _, _):
            events, error = await failure(client)
        assert events == [TextDelta("a")]
        assert str(error) == "An event of the stream has more than 8388608 bytes"

    async def test_only_the_beginning_of_an_errors_body_is_read(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.start(500, content_type="text/plain")
            while True:
                await exchange.send(b"x" * 10_000)

        async with talking(handler) as (client, _, transport):
            _, error = await failure(client)
            assert transport.open_connections == 0
        assert str(error) == "The provider answered with HTTP 500 Internal Server Error"


class TestCancellation:
    async def test_closes_the_connection_at_once(self) -> None:
        async with talking(sends(text("a"), ends=False)) as (client, server, transport):
            with anyio.CancelScope() as scope:
                async with client.stream(REQUEST, PATIENT) as events:
                    async for _ in events:
                        scope.cancel()
            assert transport.open_connections == 0
            await until(lambda: server.open == 0)

    async def test_before_the_headers_closes_the_connection_too(self) -> None:
        async with talking(Exchange.client_gone) as (client, server, transport):
            async with anyio.create_task_group() as group:
                group.start_soon(asked, client)
                await until(lambda: server.requests)
                group.cancel_scope.cancel()
            assert transport.open_connections == 0
            await until(lambda: server.open == 0)

    async def test_while_waiting_for_a_connection_takes_none(self) -> None:
        async with talking(sends(text("a"), ends=False), max_connections=1) as (client, _, _):
            async with client.stream(REQUEST, PATIENT) as events:
                await anext(events)
                with anyio.move_on_after(0.05):
                    await asked(client)
            async with client.stream(REQUEST, PATIENT) as events:
                assert await anext(events) == TextDelta("a")

    @pytest.mark.parametrize("handler", [sends(text("a"), ends=False), Exchange.client_gone])
    async def test_again_and_again_by_asyncio_itself_leaks_no_connection(self, handler: Handler) -> None:
        async with talking(handler, max_connections=1) as (client, server, transport):
            for _ in range(3):
                task = asyncio.create_task(asked(client))
                seen = len(server.requests)
                await until(lambda seen=seen: len(server.requests) > seen)
                await anyio.sleep(0.02)
                while not task.done():  # at every place where the clean-up could wait
                    task.cancel()
                    await asyncio.sleep(0)
                assert task.cancelled()
                assert transport.open_connections == 0
                await until(lambda: server.open == 0)

    async def test_by_asyncio_itself_while_the_connection_closes_leaks_none(self) -> None:
        async with talking(sends(text("a"), ends=False), max_connections=1) as (client, _, transport):
            leaving = asyncio.Event()

            async def leave() -> None:
                async with client.stream(REQUEST, PATIENT) as events:
                    await anext(events)
                    leaving.set()

            for _ in range(3):
                leaving.clear()
                task = asyncio.create_task(leave())
                await leaving.wait()
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                assert transport.open_connections == 0

    async def test_leaving_early_closes_the_connection(self) -> None:
        async with talking(sends(text("a"), ends=False)) as (client, server, transport):
            async with client.stream(REQUEST, PATIENT) as events:
                await anext(events)
            assert transport.open_connections == 0
            await until(lambda: server.open == 0)

    async def test_an_exception_of_the_consumer_comes_through_unchanged(self) -> None:
        async with talking(sends(text("a"), ends=False)) as (client, _, transport):
            with pytest.raises(KeyError, match="mine"):
                async with client.stream(REQUEST, PATIENT) as events:
                    async for _ in events:
                        raise KeyError("mine")
            assert transport.open_connections == 0

    async def test_closing_the_client_ends_open_streams(self) -> None:
        async with talking(sends(text("a"), ends=False)) as (client, server, _):
            async with client.stream(REQUEST, PATIENT) as events:
                await anext(events)
                await client.aclose()
                with pytest.raises((ConnectionFailed, StreamTruncated)):
                    await anext(events)
            await until(lambda: server.open == 0)


class TestRequests:
    @respx.mock
    async def test_have_this_shape(self) -> None:
        route = respx.post("https://api.example/v1/chat/completions").respond(
            content=text("a") + finish() + DONE, content_type="text/event-stream"
        )
        async with ChatClient("https://api.example/v1/", SecretStr("sk-secret")) as client:
            request = ChatRequest(
                model="m", messages=[{"role": "user", "content": "Grüße \ud800"}], max_output_tokens=7
            )
            assert (await asked(client, request=request)).text == "a"
        sent = route.calls.last.request
        assert json.loads(sent.content) == {
            "model": "m",
            "messages": [{"role": "user", "content": "Grüße ?"}],
            "max_tokens": 7,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        assert sent.headers["authorization"] == "Bearer sk-secret"
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["accept-encoding"] == "identity"

    @respx.mock
    @pytest.mark.parametrize("key", [None, SecretStr("")])
    async def test_carry_no_key_where_there_is_none(self, key: SecretStr | None) -> None:
        route = respx.post("http://localhost:11434/v1/chat/completions").respond(content=finish())
        async with ChatClient("http://localhost:11434", key) as client:
            await asked(client)
        assert "authorization" not in route.calls.last.request.headers

    @pytest.mark.parametrize(
        ("base_url", "sent_to"),
        [
            ("http://localhost:11434", "http://localhost:11434/v1/chat/completions"),
            ("http://localhost:11434/", "http://localhost:11434/v1/chat/completions"),
            ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
            ("https://api.openai.com/v1//", "https://api.openai.com/v1/chat/completions"),
            (" https://api.groq.com/openai/v1/ ", "https://api.groq.com/openai/v1/chat/completions"),
            ("https://h/v1/chat/completions", "https://h/v1/chat/completions"),
            ("https://h/v1beta/openai/", "https://h/v1beta/openai/chat/completions"),
            (
                "https://h/openai/v1?api-version=preview",
                "https://h/openai/v1/chat/completions?api-version=preview",
            ),
            ("https://h/v1#top", "https://h/v1/chat/completions"),
            ("http://[::1]:8000", "http://[::1]:8000/v1/chat/completions"),
        ],
    )
    def test_go_to_the_base_url(self, base_url: str, sent_to: str) -> None:
        assert str(endpoint(base_url, "/chat/completions")) == sent_to

    @pytest.mark.parametrize(
        "base_url", ["", "localhost:11434", "ftp://h/v1", "http://", "/v1", "http://h:port/v1"]
    )
    def test_need_a_base_url_that_is_a_web_address(self, base_url: str) -> None:
        with pytest.raises(ValueError, match="must be an address such as"):
            ChatClient(base_url)

    def test_take_no_password_from_the_base_url(self) -> None:
        with pytest.raises(ValueError, match="must not hold a user name or password") as caught:
            ChatClient("https://me:hunter22@h/v1")
        assert "hunter22" not in str(caught.value)

    @pytest.mark.parametrize("key", ["sk-secret\n", "sk-sécret", "sk\x00secret"])
    def test_take_no_key_that_a_header_cannot_carry(self, key: str) -> None:
        with pytest.raises(ValueError, match="no HTTP header can carry") as caught:
            ChatClient("https://h/v1", SecretStr(key))
        assert "cret" not in str(caught.value)

    @pytest.mark.parametrize("extra", [{"temperature": math.nan}, {"x": object()}])
    async def test_that_are_no_json_are_bad_requests(self, extra: dict[str, Any]) -> None:
        async with ChatClient("http://127.0.0.1:9") as client:
            with pytest.raises(BadRequest, match="cannot be written as JSON"):
                await asked(client, request=ChatRequest(model="m", messages=[], extra=extra))


async def test_a_providers_message_is_told_on_one_line_without_the_key() -> None:
    async def handler(exchange: Exchange) -> None:
        error = {
            "message": f"Incorrect API key:\n{exchange.headers['authorization']} {'x' * 9999}",
            "code": "my-secret-key",
        }
        await exchange.start(401, content_type="application/json")
        await exchange.send(json.dumps({"error": error}).encode())
        await exchange.end()

    async with serving(handler) as server, ChatClient(server.base_url, SecretStr("my-secret-key")) as client:
        _, error = await failure(client)
    assert isinstance(error, AuthFailed)
    assert "my-secret-key" not in f"{error!r} {error.provider_code}"
    assert "\n" not in str(error)
    assert len(str(error)) <= 500
