"""Runs played alone, without a control plane: outcomes, streams, limits, cancellation, model calls."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from tests.lone_run import Model, Reporter, assigned, completion
from worker import errors
from worker.llm import (
    Event,
    ModelError,
    ReasoningDelta,
    TextDelta,
    TokenUsage,
)
from worker.llm.errors import BadRequest, Overloaded, RateLimited
from worker.logs import Redactor
from worker.models import (
    Failed,
    LlmSpec,
    Outcome,
    Succeeded,
)
from worker.router import Router
from worker.runtime import Agent, Context, Environment, ModelCaller, Registry, Report, Run, Sole
from worker.runtime.llm_agent import InvalidInputError, messages_of
from worker.runtime.outcome import snake_case, succeeded
from worker.runtime.run import StopReason

SPEC = LlmSpec(model="m", prompt="Be brief.", temperature=0.5, max_output_tokens=10)


@dataclass
class Scene:
    """A run with all that it needs."""

    play: Callable[[Context, Any], Any] | None = None
    input: str | None = "null"
    model: Model | None = None
    timeout_ms: float | None = None
    llm: LlmSpec | None = None
    run_id: str = "run1"
    once: bool = False
    max_output_bytes: int = 1000
    reporter: Reporter = field(default_factory=Reporter)

    def run(self) -> Run:
        agents = Registry([Agent("a", "", self.play)] if self.play else [])
        assignment = assigned(
            run=self.run_id,
            kind="llm" if self.llm else "python",
            input=self.input,
            llm=self.llm,
            timeout_ms=self.timeout_ms,
            once=self.once,
        )
        router = Router(Sole(self.model), draw=lambda: 0.0) if self.model else None
        caller = ModelCaller(router, ["default-model"]) if router else None
        redact = Redactor(["known-secret"])
        environment = Environment(agents, model=caller, redact=redact, max_output_bytes=self.max_output_bytes)
        return Run(assignment, environment, self.reporter)

    async def report(self) -> Report:
        with anyio.fail_after(10):
            report = await self.run().play()
        assert report is not None
        return report

    async def outcome(self) -> Outcome:
        return (await self.report()).outcome


async def test_what_an_agent_returns_is_its_output() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        return {"run": ctx.run, "task": ctx.task, "attempt": ctx.attempt, "agent": ctx.agent, "input": value}

    report = await Scene(play, input='{"x":"é"}').report()
    assert isinstance(report.outcome, Succeeded)
    assert json.loads(report.outcome.output or "") == {
        "run": "run1",
        "task": "task1",
        "attempt": 2,
        "agent": "a",
        "input": {"x": "é"},
    }
    assert report.usage is None


async def test_a_large_input_is_fetched_and_an_input_that_is_not_there_fails_the_run() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        return value

    assert await Scene(play, input=None).outcome() == Succeeded(output='"a large input"')
    failed = await Scene(play, input=None, run_id="unreachable").outcome()
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.retryable) == ("input_unavailable", True)


@pytest.mark.parametrize(
    ("value", "max_bytes", "expected"),
    [
        (None, 10, None),
        ("x" * 8, 10, '"xxxxxxxx"'),
        ("x" * 9, 10, "output_too_large"),
        ("é" * 4, 10, '"éééé"'),
        ("é" * 5, 10, "output_too_large"),
        ("\ud800", 10, '"\\ud800"'),
        ({1, 2}, 10, "invalid_output"),
        (math.nan, 10, "invalid_output"),
        ((1, 2), 10, "[1,2]"),
    ],
)
def test_an_output_is_kept_as_json_or_says_why_not(
    value: object, max_bytes: int, expected: str | None
) -> None:
    outcome = succeeded(value, max_bytes)
    if isinstance(outcome, Failed):
        assert outcome.error.code == expected
        assert not outcome.retryable
    else:
        assert outcome == Succeeded(output=expected)


def test_a_value_that_holds_itself_is_no_output() -> None:
    loop: list[object] = []
    loop.append(loop)
    outcome = succeeded(loop, 100)
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "invalid_output"


YEAR_S = 365 * 86_400


class HTTPStatusError(Exception):
    """Some library's error."""


class UnsaidError(Exception):
    """An agent's own error, which cannot say what it is."""

    code = "half_\ud800"

    def __str__(self) -> str:
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("error", "code", "message", "retryable", "not_before_ms"),
    [
        (ValueError("one\ntwo"), "value_error", "one two", True, None),
        (HTTPStatusError(""), "http_status_error", "HTTPStatusError", True, None),
        (KeyError("sk-0123456789abcdef"), "key_error", "'sk-[redacted]'", True, None),
        (RuntimeError("has known-secret"), "runtime_error", "has [redacted]", True, None),
        (errors.NonRetryable("no"), "non_retryable", "no", False, None),
        (errors.RetryLater("busy", 2.5), "retry_later", "busy", True, 2500),
        (ExceptionGroup("g", [ExceptionGroup("h", [OSError("x")])]), "os_error", "x", True, None),
        (
            ExceptionGroup("g", [OSError("x"), OSError("y")]),
            "exception_group",
            "g (2 sub-exceptions)",
            True,
            None,
        ),
        (SystemExit(3), "system_exit", "3", True, None),
        (KeyboardInterrupt(), "keyboard_interrupt", "KeyboardInterrupt", True, None),
        (RateLimited("slow down", retry_after_s=30), "rate_limited", "slow down", True, 30_000),
        (BadRequest("bad"), "bad_request", "bad", False, None),
        (asyncio.CancelledError(), "cancelled_error", "CancelledError", True, None),
        (errors.RetryLater("a year", YEAR_S), "retry_later", "a year", True, YEAR_S * 1000),
        (errors.RetryLater("more", YEAR_S + 1), "retry_later", "more", True, YEAR_S * 1000),
        (errors.RetryLater("huge", 10**400), "retry_later", "huge", True, YEAR_S * 1000),
        (errors.RetryLater("past", -1), "retry_later", "past", True, 0),
        (RateLimited("never", retry_after_s=math.inf), "rate_limited", "never", True, YEAR_S * 1000),
        (RateLimited("bug", retry_after_s=math.nan), "rate_limited", "bug", True, None),
        (UnsaidError(), "half_?", "UnsaidError", True, None),
    ],
)
async def test_whatever_an_agent_raises_fails_its_run_alone(
    error: BaseException, code: str, message: str, retryable: bool, not_before_ms: float | None
) -> None:
    async def play(ctx: Context, value: Any) -> Any:
        raise error

    outcome = await Scene(play).outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.message) == (code, message)
    assert (outcome.retryable, outcome.not_before_ms) == (retryable, not_before_ms)


@pytest.mark.parametrize("after_s", [math.inf, -math.inf, math.nan])
async def test_a_wait_without_end_is_the_agents_error_and_says_so(after_s: float) -> None:
    async def play(ctx: Context, value: Any) -> Any:
        raise errors.RetryLater("busy", after_s)

    outcome = await Scene(play).outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "value_error"
    assert outcome.error.message == f"after_s must be a finite number of seconds, not {after_s}"
    assert outcome.not_before_ms is None


async def test_an_agent_that_this_worker_does_not_have_fails_the_run() -> None:
    outcome = await Scene().outcome()
    assert isinstance(outcome, Failed)
    assert outcome.error.code == "unknown_agent"


async def forever(ctx: Context, value: Any) -> Any:
    await ctx.stream("started")
    try:
        await anyio.sleep_forever()
    finally:
        await ctx.stream(" cleaning up")  # cancelled again: nothing more may be awaited


async def test_a_time_limit_ends_the_run() -> None:
    outcome = await Scene(forever, timeout_ms=20).outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.retryable) == ("timeout", True)


async def stopped(run: Run, *reasons: StopReason) -> Report | None:
    """Return the report of a run that is stopped once it waits."""
    reports: list[Report | None] = []

    async def play() -> None:
        reports.append(await run.play())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(play)
            await anyio.wait_all_tasks_blocked()
            for reason in reasons:
                run.stop(reason)
    return reports[0]


@pytest.mark.parametrize(
    ("reason", "kind"), [("cancelled", "cancelled"), ("released", "released"), ("lost", None)]
)
async def test_a_run_that_is_stopped_says_so_unless_nobody_would_listen(
    reason: StopReason, kind: str | None
) -> None:
    scene = Scene(forever)
    report = await stopped(scene.run(), reason, "cancelled")
    assert (report and report.outcome.kind) == kind
    assert scene.reporter.said[0] == ("text", 0, 1, "started")


async def test_a_run_that_is_stopped_before_it_begins_never_begins() -> None:
    run = Scene(forever).run()
    run.stop("cancelled")
    report = await run.play()
    assert report is not None
    assert report.outcome.kind == "cancelled"


async def test_an_agent_that_turns_its_cancellation_into_an_error_is_still_cancelled() -> None:
    async def stubborn(ctx: Context, value: Any) -> Any:
        try:
            await anyio.sleep_forever()
        except BaseException:
            raise RuntimeError("I object") from None

    report = await stopped(Scene(stubborn).run(), "cancelled")
    assert report is not None
    assert report.outcome.kind == "cancelled"


async def test_the_cancellation_of_the_worker_itself_passes_through() -> None:
    run = Scene(forever).run()
    with anyio.move_on_after(0.02) as scope:
        await run.play()
    assert scope.cancelled_caught


async def test_an_agent_streams_and_logs_without_secrets() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        await ctx.stream("Hello known-secret")
        await ctx.stream("thinking", kind="reasoning")
        ctx.log("called", url="https://me:pass@example.com")
        with pytest.raises(ValueError, match="kind"):
            await ctx.stream("x", kind="log")
        with pytest.raises(TypeError, match="text must be a str, not bytes"):
            await ctx.stream(b"x")  # type: ignore[arg-type]

    scene = Scene(play)
    assert await scene.outcome() == Succeeded(output=None)
    assert scene.reporter.said == [
        ("text", 0, 1, "Hello [redacted]"),
        ("reasoning", 0, 1, "thinking"),
        ("log", 0, 1, "called url='https://[redacted]@example.com'\n"),
    ]


async def test_a_run_that_may_happen_once_begins_when_it_is_confirmed() -> None:
    begun = anyio.Event()

    async def play(ctx: Context, value: Any) -> Any:
        begun.set()

    scene = Scene(play, once=True)
    run = scene.run()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run.play)
            await scene.reporter.hurried.wait()
            await anyio.wait_all_tasks_blocked()
            assert not begun.is_set()
            run.confirm()
            await begun.wait()


@pytest.mark.parametrize(("reason", "outcome"), [("lost", None), ("released", "released")])
async def test_a_run_that_may_happen_once_and_is_not_confirmed_never_begins(
    reason: StopReason, outcome: str | None
) -> None:
    async def play(ctx: Context, value: Any) -> Any:
        raise AssertionError("it has begun")

    scene = Scene(play, once=True)
    run = scene.run()
    reports: list[Report | None] = []

    async def drive() -> None:
        reports.append(await run.play())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive)
            await scene.reporter.hurried.wait()
            run.stop(reason)
    assert [report and report.outcome.kind for report in reports] == [outcome]


async def test_confirmation_is_asked_for_once_and_waited_for() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        await ctx.confirmed()
        await ctx.confirmed()
        return "acted"

    scene = Scene(play)
    run = scene.run()
    reports: list[Report | None] = []

    async def drive() -> None:
        reports.append(await run.play())

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drive)
            await scene.reporter.hurried.wait()
            assert not reports
            run.confirm()
    assert reports[0] is not None
    assert reports[0].outcome == Succeeded(output='"acted"')


# Models.


async def test_the_built_in_agent_streams_the_model_and_returns_its_answer() -> None:
    model = Model(
        [
            ReasoningDelta("hm"),
            TextDelta("Hello"),
            TextDelta(", world."),
            completion("Hello, world.", TokenUsage(7, 3)),
        ]
    )
    scene = Scene(llm=SPEC, input='{"prompt":"Hi"}', model=model)
    report = await scene.report()
    assert report.outcome == Succeeded(output='{"text":"Hello, world.","finish":"stop","model":"m-1"}')
    assert report.usage is not None
    assert report.usage.model_dump() == {"model": "m-1", "calls": 1, "input_tokens": 7, "output_tokens": 3}
    assert scene.reporter.said[0] == ("reasoning", 1, 1, "hm")
    assert "".join(text for kind, _, _, text in scene.reporter.said if kind == "text") == "Hello, world."
    request = model.requests[0]
    assert (request.model, request.temperature, request.max_output_tokens) == ("m", 0.5, 10)
    assert list(request.messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]


async def test_a_call_that_breaks_is_tried_again_and_its_text_is_superseded() -> None:
    model = Model([TextDelta("Half"), Overloaded("busy")], [TextDelta("Whole"), completion("Whole")])
    scene = Scene(llm=SPEC, input='"Hi"', model=model)
    report = await scene.report()
    assert report.outcome.kind == "succeeded"
    assert scene.reporter.said == [("text", 1, 1, "Half"), ("text", 1, 2, "Whole")]
    assert report.usage is not None
    assert (report.usage.calls, report.usage.input_tokens) == (1, None)


@pytest.mark.parametrize(
    ("failures", "calls", "not_before_ms", "retryable"),
    [
        ([Overloaded("busy"), Overloaded("busy")], 2, None, True),
        ([RateLimited("later", retry_after_s=60)], 1, 60_000, True),
        ([BadRequest("wrong")], 1, None, False),
    ],
)
async def test_the_queue_waits_for_a_provider_and_not_the_worker(
    failures: list[ModelError], calls: int, not_before_ms: float | None, retryable: bool
) -> None:
    answers: list[list[Event | ModelError]] = [[failure] for failure in failures]
    model = Model(*answers)
    report = await Scene(llm=SPEC, input='"Hi"', model=model).report()
    assert isinstance(report.outcome, Failed)
    assert report.outcome.retryable == retryable
    wait_ms = report.outcome.not_before_ms
    assert wait_ms == (not_before_ms and pytest.approx(not_before_ms, rel=0.2))
    assert len(model.requests) == calls


async def test_an_agent_calls_models_and_its_usage_adds_up() -> None:
    async def play(ctx: Context, value: Any) -> Any:
        first = await ctx.complete("Hi")
        second = await ctx.complete([{"role": "user", "content": "Ho"}], model="other", temperature=0)
        return [first.text, second.text]

    model = Model([completion("1", TokenUsage(5, None))], [TextDelta("2"), completion("2", TokenUsage(4, 2))])
    scene = Scene(play, model=model)
    report = await scene.report()
    assert report.outcome == Succeeded(output='["1","2"]')
    assert [request.model for request in model.requests] == ["default-model", "other"]
    assert scene.reporter.said == [("text", 2, 1, "2")]
    assert report.usage is not None
    assert report.usage.model_dump() == {"model": "m-1", "calls": 2, "input_tokens": 9, "output_tokens": 2}


async def test_without_a_provider_a_model_call_fails_for_good() -> None:
    outcome = await Scene(llm=SPEC, input='"Hi"').outcome()
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.retryable) == ("no_model", False)


@pytest.mark.parametrize(
    "value", [None, 5, [], {}, {"prompt": 5}, {"messages": []}, {"messages": [{"role": "x"}]}]
)
def test_an_input_that_is_no_chat_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError):
        messages_of(SPEC.prompt, value)


def test_messages_are_passed_on_behind_the_agents_prompt() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    assert messages_of(SPEC.prompt, {"messages": chat}) == [{"role": "system", "content": "Be brief."}, *chat]
    assert messages_of("", "Hi") == [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ValueError", "value_error"),
        ("HTTPStatusError", "http_status_error"),
        ("OSError", "os_error"),
        ("x", "x"),
    ],
)
def test_class_names_become_codes(name: str, code: str) -> None:
    assert snake_case(name) == code


LARGE = "x" * 250_000


async def large(ctx: Context, value: Any) -> str:
    return LARGE[:value]


async def test_an_output_that_no_sync_could_carry_is_sent_ahead_of_its_result() -> None:
    scene = Scene(play=large, input="249998", max_output_bytes=1_000_000)
    assert (await scene.report()).outcome == Succeeded(output=json.dumps(LARGE[:249_998]))
    assert scene.reporter.sent == []
    scene = Scene(play=large, input="249999", max_output_bytes=1_000_000)
    assert (await scene.report()).outcome == Succeeded(output=None)
    assert scene.reporter.sent == [json.dumps(LARGE[:249_999])]


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (errors.BackendUnreachable("down"), "output_not_sent", True),
        (errors.PayloadTooLarge("too large"), "output_refused", False),
        (errors.FunctionFailed("crashed"), "output_refused", True),
    ],
)
async def test_an_output_that_cannot_be_sent_fails_its_run(
    error: errors.BackendError, code: str, retryable: bool
) -> None:
    scene = Scene(play=large, input="250000", max_output_bytes=1_000_000)
    scene.reporter.refuses = error
    outcome = (await scene.report()).outcome
    assert isinstance(outcome, Failed)
    assert (outcome.error.code, outcome.error.message, outcome.retryable) == (code, str(error), retryable)
