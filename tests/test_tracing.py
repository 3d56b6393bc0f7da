"""Traces and error hooks: what OpenTelemetry is given, and that neither can break a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.lone_run import assigned
from worker import tracing
from worker.errors import RetryLater
from worker.runtime import Context, ErrorContext, LlmAgent, Toolbox, hooks, on_error, tool
from worker.testing import Fails, ScriptedModel, call, play

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@tool(effect="pure", into=Toolbox())
async def look(at: str) -> str:
    """Look at something."""
    return f"saw {at}"


def named(exporter: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in exporter.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


async def test_a_task_is_one_trace_of_runs_attempts_and_tools(spans: InMemorySpanExporter) -> None:
    model = ScriptedModel(Fails(500), call("look", at="x"), "done")
    played = await play(LlmAgent(tools=[look]), "go", model=model, tracer=tracing.tracer())
    assert played.output == "done"
    found = named(spans)
    assert sorted((name, len(each)) for name, each in found.items()) == [
        ("chat scripted", 3),
        ("execute_tool look", 1),
        ("invoke_agent llm", 1),
    ]
    (run,) = found["invoke_agent llm"]
    assert run.attributes is not None and run.context is not None
    assert run.attributes["gen_ai.operation.name"] == "invoke_agent"
    assert run.attributes["signalbox.state"] == "succeeded"
    for each in [*found["chat scripted"], *found["execute_tool look"]]:
        assert each.parent is not None and each.parent.span_id == run.context.span_id
        assert each.context is not None and each.context.trace_id == run.context.trace_id
    failed, first, _ = found["chat scripted"]
    assert failed.attributes is not None and first.attributes is not None
    assert failed.attributes["error.type"] == "server_error"
    assert first.attributes["gen_ai.usage.input_tokens"] == 10
    assert first.start_time is not None and first.end_time is not None
    assert first.start_time <= first.end_time


async def test_the_runs_of_a_task_share_its_trace_and_a_failure_has_its_code(
    spans: InMemorySpanExporter,
) -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        raise RetryLater("again", 0)

    await play(agent, attempts=2, tracer=tracing.tracer())
    first, second = named(spans)["invoke_agent agent"]
    assert first.context is not None and second.context is not None
    assert first.context.trace_id == second.context.trace_id
    assert first.attributes is not None and first.attributes["error.type"] == "retry_later"


def test_the_parent_is_the_submitters_span_or_made_of_the_task() -> None:
    assert tracing.parent_of(assigned(traceparent=f"00-{TRACE}-{SPAN}-00")) == (
        int(TRACE, 16),
        int(SPAN, 16),
        0,
    )
    own = tracing.parent_of(assigned(traceparent=None))
    assert own == tracing.parent_of(assigned(traceparent="nonsense"))
    assert own[0] > 0 and own[1] > 0 and own[2] == 1


def test_without_the_extra_nothing_is_traced_and_nothing_imported() -> None:
    source = """
import sys
sys.modules["opentelemetry"] = None
import worker.runtime, worker.service
from worker import tracing
print(type(tracing.tracer()).__name__, any(m.startswith("opentelemetry.") for m in sys.modules))
"""
    told = subprocess.run(
        [sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=60
    )
    assert told.stdout.split() == ["Tracer", "False"]


def test_where_nothing_is_set_up_to_take_spans_none_are_made() -> None:
    assert type(tracing.tracer()) is tracing.Tracer


@pytest.fixture
def errors() -> Iterator[list[tuple[BaseException, ErrorContext]]]:
    seen: list[tuple[BaseException, ErrorContext]] = []

    @on_error
    def breaks(error: BaseException, context: ErrorContext) -> None:
        raise SystemExit(3)

    @on_error
    def keeps(error: BaseException, context: ErrorContext) -> None:
        seen.append((error, context))

    yield seen
    hooks.forget(breaks)
    hooks.forget(keeps)


async def test_a_hook_is_told_of_each_error_and_cannot_break_a_run(
    errors: list[tuple[BaseException, ErrorContext]],
) -> None:
    async def agent(ctx: Context, value: Any) -> Any:
        if ctx.attempt == 1:
            raise RetryLater("again", 0)
        return json.dumps(value)

    played = await play(agent, "fine", attempts=2)
    assert (played.status, played.output) == ("succeeded", '"fine"')
    ((error, context),) = errors
    assert isinstance(error, RetryLater)
    assert (context.agent, context.attempt, context.code) == ("agent", 1, "retry_later")
    assert context.task == played.task.id
