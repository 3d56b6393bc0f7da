"""Joins the router with what it knows nothing of: the table of providers and the wire."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from pydantic import SecretStr

from worker import models as wire
from worker.llm import ChatClient, Timeouts
from worker.llm.connect import connect
from worker.llm.providers import Catalogue, cost_micros
from worker.logs import Redactor
from worker.router import ModelReport, ModelState, Router, Target
from worker.runtime import ModelCaller
from worker.runtime.called import error_of
from worker.settings import environment

# Reasoning models may think for minutes before, and in the middle of, what they say.
PATIENT = Timeouts(first_event_s=300.0, idle_s=120.0)


class Providers:
    """The models of the table of providers, each provider's client made when it is first asked for.

    Args:
        table: Providers and models.
        environ: Where their keys and addresses are.
        max_connections: To each provider at once.
    """

    def __init__(self, table: Catalogue, environ: Mapping[str, str], max_connections: int) -> None:
        self._table = table
        self._environ = environ
        self._max_connections = max_connections
        self._clients: dict[str, ChatClient] = {}

    async def __aenter__(self) -> Providers:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self._clients.values():
            await client.aclose()

    def target(self, name: str) -> Target:
        """Return a model by its name.

        Raises:
            ModelNotFound: No provider is meant, or its address is missing or malformed.
            AuthFailed: The provider's key is missing, or is one that no header can carry.
        """
        found = self._table.find(name)
        provider, info = found.provider, found.info
        client = self._clients.get(provider.name)
        if client is None:
            client = connect(provider, self._environ, max_connections=self._max_connections)
            self._clients[provider.name] = client
        return Target(
            name=found.name,
            provider=provider.name,
            model=found.model,
            source=client,
            context_tokens=info.context_tokens,
            max_output_tokens=info.max_output_tokens,
            # The table says what a model is known to do; of one that it does not list nothing is known.
            capabilities=frozenset(info.capabilities) or None,
            timeouts=PATIENT if "reasoning" in info.capabilities else Timeouts(),
            cost_micros=functools.partial(cost_micros, info),
        )


@asynccontextmanager
async def caller(
    *,
    base_url: str | None,
    key: SecretStr | None,
    default: str | None,
    table: Path | None,
    max_connections: int,
    redact: Redactor,
) -> AsyncIterator[ModelCaller | None]:
    """Yield what calls the models of all providers; None when nothing says that any is to be called.

    Args:
        base_url: Of the provider of names without a provider.
        key: Its key.
        default: The model of prompts that name none.
        table: A file with more or other providers and models.
        max_connections: To each provider at once.
        redact: Learns the providers' keys.

    Raises:
        SettingsError: The file cannot be used; one line with the place.
    """
    environ = environment()
    catalogue = Catalogue.load(table)
    if base_url is not None:
        catalogue = catalogue.with_default(base_url, key)
    secrets = set(catalogue.secrets(environ))
    for secret in secrets:
        redact.learn(secret)
    if base_url is None and table is None and default is None and not secrets:
        yield None
        return
    async with Providers(catalogue, environ, max_connections) as providers:
        yield ModelCaller(Router(providers), [] if default is None else [default])


def state_of(state: wire.ModelState) -> ModelState:
    """Return what the control plane says of a model as the router has it."""
    return ModelState(
        model=state.model,
        cool_s=state.cool_ms / 1000,
        code=None if state.error is None else state.error.code,
        message=None if state.error is None else state.error.message,
        configured=state.configured,
        rev=state.rev,
        per_s=state.per_ms / 1000,
        requests=state.requests,
        tokens=state.tokens,
        most_tokens=state.most_tokens,
    )


def report_of(report: ModelReport, redact: Redactor) -> wire.ModelReport:
    """Return what happened with a model as the wire has it."""
    share = report.share
    return wire.ModelReport.model_construct(
        model=report.model,
        requests=report.requests,
        failures=report.failures,
        tokens=report.tokens,
        error=error_of(report.code, report.message, redact),
        cool_ms=None if report.cool_s is None else report.cool_s * 1000,
        share=None
        if share is None
        else wire.ModelShareReport.model_construct(
            configured=share.configured,
            rev=share.rev,
            used_requests=share.used_requests,
            used_tokens=share.used_tokens,
            waiting=share.waiting,
            least_tokens=share.least_tokens,
        ),
    )
