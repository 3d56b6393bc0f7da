"""Failures of whole calls, and how they are told."""

# ruff: noqa: N818 - the names say what happened, as those of worker/llm/errors.py do.
from __future__ import annotations

from collections.abc import Iterable

from worker.llm.errors import AuthFailed, Misconfigured, ModelError, ModelNotFound, PermissionRefused

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


_MISCONFIGURED: dict[str, type[Misconfigured]] = {
    error.code: error for error in (AuthFailed, PermissionRefused, ModelNotFound)
}


def blocked_by(code: str, message: str) -> ModelError:
    """Return the failure of a call whose models are all broken until somebody configures them."""
    return _MISCONFIGURED.get(code, ModelNotFound)(message)


def named(failures: Iterable[tuple[str, str, str]], untried: Iterable[str]) -> str:
    """Return one line that names every failure (model, class, message) and why others were not asked."""
    lines = [f"{model}: {code}: {message}"[:LINE_CHARS] for model, code, message in failures]
    lines += [line[:LINE_CHARS] for line in untried]
    return f"No model of the chain has answered: {'; '.join(lines)}"
