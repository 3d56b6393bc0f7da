"""The router over real sockets: chains, mid-stream failures, and what is kept of every attempt."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import anyio
import pytest

from tests.model_answers import CUTS, EVENTS, WORDS, breaks, refuses, sends
from tests.model_server import Exchange, Handler, serving
from worker.llm import ChatClient, ChatRequest, ModelError, Timeouts, TokenUsage
from worker.llm.errors import ModelNotFound
from worker.purse import BudgetExceeded, UnpricedModel
from worker.router import CallRecord, Chain, NoModelFree, Router, Target
from worker.router.standing import Standing

ASK = ChatRequest(model="", messages=[{"role": "user", "content": "hello"}])
QUICK = Timeouts(connect_s=2, first_event_s=5, idle_s=2, total_s=20)


class Screen:
    """A sink: what somebody who follows the call would see."""

    def __init__(self) -> None:
        self.text_of: dict[int, str] = defaultdict(str)
        self.records: list[CallRecord] = []
        self.shown = anyio.Event()

    @contextmanager
    def calling(self, model: str, attempt: int) -> Iterator[None]:
        yield

    def listen(self, events: object) -> None:
        pass

    def text(self, kind: Literal["text", "reasoning"], text: str, attempt: int) -> None:
        if kind == "text":
            self.text_of[attempt] += text
        self.shown.set()

    def flush(self) -> None:
        pass

    def record(self, record: CallRecord) -> None:
        self.records.append(record)

    @property
    def text_now(self) -> str:
        return self.text_of[max(self.text_of)] if self.text_of else ""

    @property
    def states(self) -> list[tuple[str, str, str | None]]:
        return [(record.model, record.state, record.code) for record in self.records]


class Models:
    """A catalogue of models that one server answers for, each as it is told."""

    def __init__(self, client: ChatClient, **known: dict[str, Any]) -> None:
        self._client = client
        self.known = known

    def target(self, name: str) -> Target:
        if name not in self.known:
            raise ModelNotFound(f"No provider is known for {name}")
        more = {"timeouts": QUICK, **self.known[name]}
        return Target(name=name, provider="test", model=name, source=self._client, **more)


@asynccontextmanager
async def models(
    answers: dict[str, list[Handler]], **known: dict[str, Any]
) -> AsyncIterator[tuple[Models, Any]]:
    """Serve models that answer as listed; the last answer repeats."""
    asked: dict[str, int] = defaultdict(int)

    async def handle(exchange: Exchange) -> None:
        name = json.loads(exchange.body)["model"]
        its = answers[name]
        asked[name] += 1
        await its[min(asked[name], len(its)) - 1](exchange)

    async with serving(handle) as server, ChatClient(server.base_url) as client:
        yield Models(client, **{name: known.get(name, {}) for name in answers}), asked


@pytest.mark.parametrize("next_model", ["the same", "another"])
async def test_a_stream_that_breaks_at_any_event_leaves_no_text_behind(next_model: str) -> None:
    for cut, how in CUTS:
        whole = sends(*EVENTS)
        broken = breaks(EVENTS[:cut], how)
        answers = {"a": [broken, whole]} if next_model == "the same" else {"a": [broken], "b": [whole]}
        screen = Screen()
        async with models(answers) as (catalogue, asked):
            router = Router(catalogue, draw=lambda: 0.0)
            answer = await router.complete(ASK, Chain(tuple(answers)), sink=screen)
        assert answer.completion.text == "".join(WORDS) == screen.text_now, (cut, how)
        assert answer.completion.usage == TokenUsage(7, 3)
        *failed, last = screen.records
        assert last.state == "succeeded"
        assert last.attempt == len(screen.records) == sum(asked.values())
        shown = cut > 1
        for record in failed:
            assert record.state == ("superseded" if shown else "failed"), (cut, how)
            assert record.estimated
            assert record.usage is not None
            assert record.usage.output_tokens == pytest.approx(
                sum(map(len, WORDS[: max(0, cut - 1)])) / 4, abs=1
            )


async def test_a_stream_that_goes_silent_is_left_for_another_model() -> None:
    quick = {"timeouts": Timeouts(first_event_s=0.3, idle_s=0.3, total_s=5)}
    answers = {"a": [breaks(EVENTS[:3], "silence")], "b": [sends(*EVENTS)]}
    screen = Screen()
    async with models(answers, a=quick) as (catalogue, _):
        answer = await Router(catalogue, draw=lambda: 0.0).complete(ASK, Chain(("a", "b")), sink=screen)
    assert answer.model == "b"
    assert screen.text_now == "".join(WORDS)
    assert screen.states == [
        ("a", "superseded", "timeout"),
        ("a", "superseded", "timeout"),
        ("b", "succeeded", None),
    ]


PRICE = {"cost_micros": lambda usage: (usage.input_tokens or 0) * 10 + (usage.output_tokens or 0) * 100}


async def test_every_failure_of_a_chain_is_kept_and_told_and_what_was_begun_is_counted() -> None:
    answers = {
        "limited": [refuses(429, {"retry-after": "30"})],
        "keyless": [refuses(401)],
        "broken": [breaks(EVENTS[:3], "error")],
    }
    screen = Screen()
    async with models(answers, limited=PRICE, keyless=PRICE, broken=PRICE) as (catalogue, _):
        router = Router(catalogue, draw=lambda: 0.0)
        with pytest.raises(ModelError) as failure:
            await router.complete(ASK, Chain(("limited", "nobody", "keyless", "broken")), sink=screen)
    error = failure.value
    for told in (
        "limited: rate_limited",
        "keyless: auth",
        "broken: overloaded",
        "No provider is known for nobody",
    ):
        assert told in str(error)
    assert error.code == "overloaded"
    assert error.retryable
    assert screen.states == [
        ("limited", "failed", "rate_limited"),
        ("keyless", "failed", "auth"),
        ("broken", "superseded", "overloaded"),
        ("broken", "failed", "overloaded"),
    ]
    assert [(r.cost_micros, r.estimated, r.usage is None) for r in screen.records[:2]] == [
        (0, False, True)
    ] * 2
    partial = screen.records[2]
    assert partial.estimated
    assert partial.usage == TokenUsage(9, 2)
    assert partial.cost_micros == 9 * 10 + 2 * 100


async def test_a_call_that_is_cancelled_is_kept_and_counted() -> None:
    async def hangs(exchange: Exchange) -> None:
        await breaks(EVENTS[:3], "silence")(exchange)

    screen = Screen()
    async with models({"a": [hangs]}, a=PRICE) as (catalogue, _), anyio.create_task_group() as tasks:

        async def call() -> None:
            await Router(catalogue).complete(ASK, Chain(("a",)), sink=screen)

        tasks.start_soon(call)
        with anyio.fail_after(5):
            await screen.shown.wait()
        tasks.cancel_scope.cancel()
    (record,) = screen.records
    assert (record.state, record.code, record.estimated) == ("cancelled", None, True)
    assert record.cost_micros


async def test_a_run_stays_with_the_model_that_has_its_beginning_while_that_is_healthy() -> None:
    answers = {"a": [refuses(429, {"retry-after": "600"}), sends(*EVENTS)], "b": [sends(*EVENTS)]}
    async with models(answers) as (catalogue, asked):
        standing = Standing()
        router = Router(catalogue, standing)
        first = await router.complete(ASK, Chain(("a", "b")), sink=Screen())
        assert first.model == "b"
        fresh = Router(catalogue)  # one for which `a` does not cool
        assert (await fresh.complete(ASK, Chain(("a", "b")), sink=Screen(), stay="b")).model == "b"
        assert (await fresh.complete(ASK, Chain(("a", "b")), sink=Screen())).model == "a"
        assert (await router.complete(ASK, Chain(("a", "b")), sink=Screen(), stay="a")).model == "b"
        assert asked == {"a": 2, "b": 3}


async def test_models_that_cannot_do_it_or_are_too_small_are_not_asked() -> None:
    known: dict[str, dict[str, Any]] = {
        "small": {"context_tokens": 10},
        "mute": {"context_tokens": 100_000, "capabilities": frozenset({"vision"})},
        "able": {"context_tokens": 100_000, "capabilities": frozenset({"tools", "json_schema"})},
    }
    long = ChatRequest(
        model="",
        messages=[{"role": "user", "content": "word " * 500}],
        tools=[{"type": "function", "function": {"name": "f"}}],
    )
    async with models({name: [sends(*EVENTS)] for name in known}, **known) as (catalogue, asked):
        router = Router(catalogue)
        answer = await router.complete(long, Chain(("small", "mute", "able")), sink=Screen())
        assert answer.model == "able"
        with pytest.raises(ModelError, match="the largest window of the chain has 10") as failure:
            await router.complete(long, Chain(("small",)), sink=Screen())
        assert (failure.value.code, failure.value.retryable) == ("context_length", False)
        with pytest.raises(ModelError, match="can do what is asked for: tools"):
            await router.complete(long, Chain(("mute",)), sink=Screen())
        assert dict(asked) == {"able": 1}


async def test_when_all_cool_the_first_to_return_is_waited_for_or_the_queue_waits_for_it() -> None:
    answers = {
        "a": [refuses(429, {"retry-after": "60"})],
        "b": [refuses(429, {"retry-after": "0.4"}), sends(*EVENTS)],
    }
    screen = Screen()
    async with models(answers) as (catalogue, asked):
        router = Router(catalogue)
        answer = await router.complete(ASK, Chain(("a", "b")), sink=screen)
        assert answer.model == "b"
        assert asked == {"a": 1, "b": 2}
        with pytest.raises(NoModelFree, match="a cools, for") as failure:
            await router.complete(ASK, Chain(("a",)), sink=screen)
        assert failure.value.retry_after_s == pytest.approx(60, abs=5)
        assert asked["a"] == 1


async def test_a_wrong_key_is_told_at_once_and_not_tried_again_until_something_changes() -> None:
    async with models({"a": [refuses(401), sends(*EVENTS)]}) as (catalogue, asked):
        router = Router(catalogue)
        for _ in range(2):
            with pytest.raises(ModelError) as failure:
                await router.complete(ASK, Chain(("a",)), sink=Screen())
            assert (failure.value.code, failure.value.retryable) == ("auth", False)
        assert asked["a"] == 1


@pytest.mark.parametrize("policy", [frozenset[str](), frozenset({"content_filter"})])
async def test_what_a_filter_stops_goes_on_only_if_the_chain_says_so(policy: frozenset[str]) -> None:
    filtered = refuses(400, body='{"error":{"code":"content_filter","message":"no"}}')
    async with models({"a": [filtered], "b": [sends(*EVENTS)]}) as (catalogue, asked):
        call = Router(catalogue).complete(ASK, Chain(("a", "b"), policy), sink=Screen())
        if policy:
            assert (await call).model == "b"
        else:
            with pytest.raises(ModelError) as failure:
                await call
            assert failure.value.code == "content_filter"
        assert asked["b"] == len(policy)


class Wallet:
    """A purse that notes what is asked of it."""

    degraded = False

    def __init__(self, micros: int) -> None:
        self.left = micros
        self.settled: list[tuple[int | None, int | None]] = []

    async def reserve(self, micros: int | None, tokens: int) -> Wallet:
        assert tokens > 0
        if micros is None:
            raise UnpricedModel("no price")
        if micros > self.left:
            raise BudgetExceeded("spent")
        return self

    def settle(self, micros: int | None, tokens: int | None) -> None:
        self.settled.append((micros, tokens))
        self.left -= micros or 0

    def close(self) -> None:
        pass


async def test_each_attempt_is_paid_for_and_an_empty_purse_ends_the_call() -> None:
    answers = {
        "free": [sends(*EVENTS)],
        "a": [breaks(EVENTS[:3], "reset"), sends(*EVENTS)],
        "dear": [sends(*EVENTS)],
    }
    dear = {"cost_micros": lambda usage: usage.output_tokens * 1_000_000}
    async with models(answers, a=PRICE, dear=dear) as (catalogue, asked):
        router, wallet = Router(catalogue, draw=lambda: 0.0), Wallet(1_000_000)
        answer = await router.complete(ASK, Chain(("free", "a")), sink=Screen(), purse=wallet)
        assert answer.model == "a"  # the other one has no price
        assert wallet.settled == [(9 * 10 + 2 * 100, 11), (7 * 10 + 3 * 100, 10)]
        with pytest.raises(BudgetExceeded):
            await router.complete(ASK, Chain(("dear", "a")), sink=Screen(), purse=wallet)
        with pytest.raises(UnpricedModel):
            await router.complete(ASK, Chain(("free",)), sink=Screen(), purse=wallet)
        wallet.degraded = True
        assert (await router.complete(ASK, Chain(("dear", "a")), sink=Screen(), purse=wallet)).model == "a"
        assert dict(asked) == {"a": 3}


async def test_a_model_that_keeps_failing_is_left_alone_only_where_there_is_another() -> None:
    answers = {"a": [refuses(500)], "b": [refuses(502)]}
    async with models(answers) as (catalogue, asked):
        router = Router(catalogue, draw=lambda: 0.0)
        for _ in range(3):
            with pytest.raises(ModelError) as failure:
                await router.complete(ASK, Chain(("a",)), sink=Screen())
            assert (failure.value.code, failure.value.retryable) == ("server_error", True)
        assert asked["a"] == 6
        for _ in range(2):
            with pytest.raises(ModelError):
                await router.complete(ASK, Chain(("a", "b")), sink=Screen())
        assert dict(asked) == {"a": 6, "b": 3}  # it cools from its third failure on
        with pytest.raises(ModelError, match="Every model fails: a cools, for") as failure:
            await router.complete(ASK, Chain(("a", "b")), sink=Screen())
        assert (failure.value.code, failure.value.retryable) == ("server_error", True)
        assert not isinstance(failure.value, NoModelFree)
        assert dict(asked) == {"a": 6, "b": 3}
