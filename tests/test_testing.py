"""`worker.testing`: what users test their own agents with."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from worker.errors import RetryLater
from worker.runtime import Context
from worker.testing import Fails, FakeControlPlane, Says, ScriptedModel, play, working


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a socket was to be connected")

    monkeypatch.setattr(socket.socket, "connect", refused)


async def ask(ctx: Context, value: Any) -> Any:
    answer = await ctx.complete(value)
    return [answer.text, answer.model]


async def test_a_scripted_model_answers_in_order_and_keeps_what_it_was_asked() -> None:
    async def twice(ctx: Context, value: Any) -> Any:
        return [(await ctx.complete(value)).text, (await ctx.complete("again")).text]

    model = ScriptedModel("a text of several pieces", lambda body: body["messages"][0]["content"])
    played = await play(twice, "hello", model=model)
    assert (played.status, played.output) == ("succeeded", ["a text of several pieces", "again"])
    assert played.text == "a text of several piecesagain"
    assert [body["messages"][0]["content"] for body in model.asked] == ["hello", "again"]
    assert model.left == 0
    assert played.usage is not None
    assert (played.usage.calls, played.usage.input_tokens, played.usage.output_tokens) == (2, 20, 10)


async def test_it_says_that_it_is_scripted_and_when_it_has_nothing_to_say() -> None:
    played = await play(ask, "hello", model=ScriptedModel("hi"))
    assert played.output == ["hi", "scripted"]
    played = await play(ask, "hello", model=ScriptedModel())
    assert played.error is not None
    assert "no answer for request 1" in played.error[1]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Fails(401, "no such key"), "auth"),
        (Fails(400, "too long", code="context_length_exceeded"), "context_length"),
    ],
)
async def test_a_scripted_failure_is_classed_as_a_providers_is(answer: Fails, code: str) -> None:
    played = await play(ask, "hello", model=ScriptedModel(answer))
    assert played.error is not None
    assert (played.status, played.error[0]) == ("failed", code)


async def test_a_stream_that_is_cut_is_asked_for_again_and_its_text_superseded() -> None:
    model = ScriptedModel(Says(text="half of it", cut=True), "all of it")
    played = await play(ask, "hello", model=model, attempts=2)
    assert played.output == ["all of it", "scripted"]
    assert played.text == "all of it"
    assert len(model.asked) == 2


async def test_steps_signals_and_attempts_are_those_of_a_worker() -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        draft = await ctx.step("draft", lambda: f"about {value}")
        if ctx.attempt == 1:
            raise RetryLater("not yet", 0)
        answer = await ctx.wait_for("approved")
        return [draft, answer["by"], ctx.attempt]

    played = await play(agent, "cats", signals=[("approved", {"by": "Ada"})], attempts=3)
    assert played.output == ["about cats", "Ada", 2]
    assert played.steps["draft"] == "about cats"
    assert list(played.steps) == ["draft", "approved"]


async def test_a_task_that_waits_for_nothing_that_comes_is_told_to_wait() -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        return await ctx.wait_for("never")

    played = await play(agent)
    assert (played.status, played.output, played.error) == ("waiting", None, None)


async def test_time_that_an_agent_sleeps_does_not_pass() -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        await ctx.sleep(86_400)
        await ctx.sleep(86_400)
        return "rested"

    played = await play(agent)
    assert (played.output, played.runs) == ("rested", 3)


async def test_a_failure_has_its_code_and_message() -> None:
    async def broken(ctx: Context, value: Any) -> Any:
        raise KeyError("missing")

    played = await play(broken)
    assert (played.status, played.error) == ("failed", ("key_error", "'missing'"))


async def test_another_worker_goes_on_with_what_one_has_left() -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        await ctx.step("first", lambda: 1)
        return [value, await ctx.wait_for("go")]

    control = FakeControlPlane(next_sync_ms=20.0)
    async with working(agent, control=control) as at:
        task = control.submit("agent", "x")
        assert (await at.settled(task)).status == "waiting"
    async with working(agent, control=control, name="v") as at:
        control.signal(task, "go", 2)
        assert (await at.settled(task)).output == ["x", 2]


async def test_an_agent_that_hangs_is_given_up() -> None:
    async def hangs(ctx: Context, value: Any) -> Any:
        await ctx.complete("x")  # it has no model
        await ctx.signals().__anext__()

    with pytest.raises(TimeoutError):
        await play(hangs, model=ScriptedModel("x"), timeout_s=0.3)
