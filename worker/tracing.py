"""Spans of runs, model attempts and tool calls for OpenTelemetry; nothing without the extra `otel`.

Each task is one trace: that of the `traceparent` that its submitter gave, else one that is made of the task's
id, so that all of its runs share it, wherever they play. Names are those of the GenAI conventions. Where they
go is the application's affair: what is set up with the SDK before the worker starts, for example by
`opentelemetry-instrument`.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from worker import __version__
from worker.models import Assignment

if TYPE_CHECKING:
    from worker.router import CallRecord

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


class RunTrace:
    """The trace of one run: this one keeps nothing."""

    def playing(self) -> AbstractContextManager[None]:
        """Return the span of the run, for as long as it plays."""
        return nullcontext()

    def ended(self, state: str, code: str | None) -> None:
        """Note how the run ends."""

    def attempt(self, call: int, record: CallRecord) -> None:
        """Note one attempt at a model call, once it is over."""

    def tool(self, name: str, key: str) -> AbstractContextManager[None]:
        """Return the span of a tool call."""
        del name, key
        return nullcontext()


QUIET = RunTrace()
current: ContextVar[RunTrace] = ContextVar("signalbox_trace", default=QUIET)
"""The trace of the run that this code is part of."""


class Tracer:
    """Makes the traces of runs: this one makes none."""

    def run(self, assignment: Assignment) -> RunTrace:
        """Return the trace of a run."""
        del assignment
        return QUIET


def tracer() -> Tracer:
    """Return what makes traces: none without OpenTelemetry, or where nothing is set up to take spans."""
    try:
        from opentelemetry import trace  # noqa: PLC0415 - it costs nothing where it is not used
    except ImportError:
        return Tracer()
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return Tracer()  # nobody would hear of the spans, and they cost a no-op a tenth of its time
    return _OtelTracer(trace)


def parent_of(assignment: Assignment) -> tuple[int, int, int]:
    """Return the trace, the span and the flags that a run's span belongs under."""
    if assignment.traceparent is not None:
        found = _TRACEPARENT.fullmatch(assignment.traceparent)
        if found is not None:
            return int(found[1], 16), int(found[2], 16), int(found[3], 16)
    digest = hashlib.sha256(f"signalbox/{assignment.task}".encode()).digest()
    return int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]), 1


class _OtelTracer(Tracer):
    def __init__(self, api: Any) -> None:  # noqa: ANN401 - the module, which may be absent
        self._api = api
        self._tracer = api.get_tracer("signalbox", __version__)

    def run(self, assignment: Assignment) -> RunTrace:
        return _OtelRun(self._api, self._tracer, assignment)


class _OtelRun(RunTrace):
    def __init__(self, api: Any, tracer: Any, assignment: Assignment) -> None:  # noqa: ANN401
        self._api = api
        self._tracer = tracer
        self._assignment = assignment
        self._span: Any = api.INVALID_SPAN

    @contextmanager
    def playing(self) -> Iterator[None]:
        api, assignment = self._api, self._assignment
        trace_id, span_id, flags = parent_of(assignment)
        parent = api.SpanContext(trace_id, span_id, is_remote=True, trace_flags=api.TraceFlags(flags))
        self._span = self._tracer.start_span(
            f"invoke_agent {assignment.agent}",
            context=api.set_span_in_context(api.NonRecordingSpan(parent)),
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": assignment.agent,
                "gen_ai.conversation.id": assignment.task,
                "signalbox.task": assignment.task,
                "signalbox.run": assignment.run,
                "signalbox.attempt": assignment.attempt,
            },
        )
        token = current.set(self)
        try:
            with api.use_span(self._span, record_exception=False, set_status_on_exception=False):
                yield
        finally:
            current.reset(token)
            self._span.end()

    def ended(self, state: str, code: str | None) -> None:
        self._span.set_attribute("signalbox.state", state)
        if code is not None:
            self._span.set_attribute("error.type", code)
            self._span.set_status(self._api.StatusCode.ERROR)

    def attempt(self, call: int, record: CallRecord) -> None:
        end_ns = time.time_ns() - round((time.monotonic() - record.started_s) * 1e9 - record.ms * 1e6)
        span = self._tracer.start_span(
            f"chat {record.model}",
            context=self._api.set_span_in_context(self._span),
            kind=self._api.SpanKind.CLIENT,
            start_time=end_ns - round(record.ms * 1e6),
            attributes={
                "gen_ai.operation.name": "chat",
                "gen_ai.provider.name": record.provider,
                "gen_ai.request.model": record.model,
                "signalbox.call": call,
                "signalbox.attempt": record.attempt,
                "signalbox.state": record.state,
            },
        )
        if record.usage is not None:
            for name, count in (
                ("input", record.usage.input_tokens),
                ("output", record.usage.output_tokens),
            ):
                if count is not None:
                    span.set_attribute(f"gen_ai.usage.{name}_tokens", count)
        if record.cost_micros is not None:
            span.set_attribute("signalbox.cost_micros", record.cost_micros)
        if record.code is not None:
            span.set_attribute("error.type", record.code)
            span.set_status(self._api.StatusCode.ERROR)
        span.end(end_ns)

    @contextmanager
    def tool(self, name: str, key: str) -> Iterator[None]:
        with self._tracer.start_as_current_span(
            f"execute_tool {name}",
            attributes={
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.name": name,
                "gen_ai.tool.call.id": key,
            },
        ):
            yield
