"""Endpoints: the addresses that the control plane may call, as its operator lists them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from worker.backend import Json
from worker.models import Wire

EndpointMode = Literal["push", "wake"]


class Poll(Wire):
    """Workers play the agent."""

    kind: Literal["poll"] = "poll"


class Http(Wire):
    """The agent's runs are pushed to an endpoint of the operator's list; workers that bring it play it too.

    Agents of one endpoint share the largest `concurrency` of theirs; the endpoint answers a run within
    `timeout_ms`, if only to say that the result will follow.
    """

    kind: Literal["http"] = "http"
    endpoint: str
    concurrency: int | None = None
    health_every_ms: float | None = None
    timeout_ms: float | None = None


Executor = Annotated[Poll | Http, Field(discriminator="kind")]


class EndpointSpec(Wire):
    """An endpoint to put on the list; what is None takes its default.

    Attributes:
        name: What agents call it by.
        url: Where runs or wake-up calls are posted: https, or http on a loopback that the deployment allows.
        health_url: What is asked how it does; without one `url` is, and any answer below 500 counts.
        mode: `push`: it is given runs. `wake`: it is told that work waits, and starts a worker.
        queues: The queues it serves; by default the one named default.
        labels: What it carries, as a worker does.
        secret_variable: The deployment's variable, `SIGNALBOX_...`, that holds the secret of its signatures.
        enabled: Whether it is called at all.
    """

    name: str
    url: str
    health_url: str | None = None
    mode: EndpointMode | None = None
    queues: list[str] | None = None
    labels: list[str] | None = None
    secret_variable: str
    enabled: bool | None = None


class EndpointView(Wire):
    """An endpoint of the list, and how it does.

    Attributes:
        live: Whether runs are pushed to it.
        misses: Checks or calls in a row that it did not answer.
        error: What was wrong with the last of them.
    """

    name: str
    url: str
    health_url: str | None
    mode: EndpointMode
    queues: list[str]
    labels: list[str]
    secret_variable: str
    enabled: bool
    live: bool
    misses: int
    error: str | None


class Endpoints:
    """`endpoints:*`, for a client that can call functions; it needs an operator key."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def set_endpoint(self, spec: EndpointSpec) -> bool:
        """Put an endpoint on the list or change it, and return whether that changed anything.

        Raises:
            InvalidArgument: The message names the field and the reason.
        """
        args = spec.model_dump(by_alias=True, exclude_none=True)
        return bool((await self._mutation("endpoints:set", args))["changed"])

    async def endpoints(self) -> list[EndpointView]:
        """Return the list, by name."""
        return [EndpointView.model_validate(row) for row in await self._query("endpoints:list", {})]

    async def remove_endpoint(self, name: str) -> None:
        """Take an endpoint off the list; the runs that it holds are released."""
        await self._mutation("endpoints:remove", {"name": name})
