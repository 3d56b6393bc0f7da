"""Failures of whole calls, and how they are told."""

# ruff: noqa: N818 - the names say what happened, as those of worker/llm/errors.py do.
from __future__ import annotations

from collections.abc import Iterable

from worker.llm.errors import (
    AuthFailed,
    ConnectionFailed,
    ModelError,
    ModelNotFound,
    ModelTimeout,
    Overloaded,
    PermissionRefused,
    ServerError,
    StreamProtocolError,
    StreamTruncated,
)

LINE_CHARS = 300  # of one model's failure in the line for all of them


class NoModelFree(ModelError):
    """No model of the chain is free, and none was asked: whoever waits loses nothing."""

    code = "no_model_free"
    retryable = True


class NoCapableModel(ModelError):
    """No model of the chain can do what the request asks for."""

    code = "no_capable_model"
    fallback = False


class Refused(ModelError):
    """The model refused, and the chain says that the next one is asked."""

    code = "refusal"


_CLASSES: dict[str, type[ModelError]] = {
    error.code: error
    for error in (
        AuthFailed,
        PermissionRefused,
        ModelNotFound,
        Overloaded,
        ServerError,
        ModelTimeout,
        ConnectionFailed,
        StreamTruncated,
        StreamProtocolError,
    )
}


def blocked_by(code: str, message: str) -> ModelError:
    """Return the failure of a call that asked no model, since all are known to fail by this class."""
    return _CLASSES.get(code, ServerError)(message)


def named(failures: Iterable[tuple[str, str, str]], untried: Iterable[str]) -> str:
    """Return one line that names every failure (model, class, message) and why others were not asked."""
    lines = [f"{model}: {code}: {message}"[:LINE_CHARS] for model, code, message in failures]
    lines += [line[:LINE_CHARS] for line in untried]
    return f"No model of the chain has answered: {'; '.join(lines)}"
