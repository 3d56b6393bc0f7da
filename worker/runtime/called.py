"""Attempts at model calls as the wire has them. Pure."""

from __future__ import annotations

from worker.logs import Redactor
from worker.models import CallReport, CallTokens, RunError
from worker.router import CallRecord

NAME_CHARS = 200  # of a model, as the control plane keeps it


def call_of(run: str, began_s: float, call: int, record: CallRecord, redact: Redactor) -> CallReport:
    """Return what became of an attempt of a run that began at `began_s` by the router's clock."""
    usage = record.usage
    return CallReport.model_construct(
        run=run,
        call=call,
        attempt=record.attempt,
        model=record.model[:NAME_CHARS],
        provider=record.provider,
        started_ms=max(0.0, record.started_s - began_s) * 1000,
        ms=record.ms,
        state=record.state,
        error=error_of(record.code, record.message, redact),
        usage=None
        if usage is None
        else CallTokens.model_construct(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_input_tokens=usage.cached_input_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            reasoning_tokens=usage.reasoning_tokens,
        ),
        cost_micros=record.cost_micros,
        estimated=record.estimated,
    )


def error_of(code: str | None, message: str | None, redact: Redactor) -> RunError | None:
    """Return a failure of a model as the wire has it: one line without secrets."""
    if code is None:
        return None
    return RunError.model_construct(code=code, message=redact.line(message or "", 1000))
