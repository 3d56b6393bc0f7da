"""Events that are told from outside, what they start, and who may call by webhook."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from worker.backend import Json
from worker.collecting import Batch, Debounce
from worker.models import RunError, Wire
from worker.schedules import Template

WebhookScheme = Literal["standard", "github"]


class EventSpec(Wire):
    """Something that has happened. `data` is JSON text; what comes again under its `id` does nothing."""

    tenant: str | None = None
    name: str
    data: str
    id: str | None = None


class RefusedTrigger(Wire):
    """A trigger whose task was refused, and why."""

    trigger: str
    code: str
    message: str


class Emission(Wire):
    """What an event has started: tasks of triggers, and how many that waited for it."""

    duplicate: bool
    tasks: list[str]
    refused: list[RefusedTrigger]
    woken: int


class Condition(Wire):
    """A field of the event's data, and what it equals."""

    field: str
    equals: str | float | bool | None


class EventTemplate(Template):
    """What an event or a call submits. What comes close together may share a task."""

    debounce: Debounce | None = None
    batch: Batch | None = None


class TriggerSpec(Wire):
    """A trigger to set: the task that an event of this name starts, if all of `filter` holds of its data.

    The task's input is `{"event": {"name", "id", "data"}, "input": the template's}`: of the last event if it
    is debounced, the array of these if it is batched. `enabled` None: as it was, and true for a new one.
    """

    name: str
    tenant: str | None = None
    event: str
    template: EventTemplate
    filter: list[Condition] | None = None
    enabled: bool | None = None


class TriggerView(Wire):
    """A trigger, and why its last task was refused if it was."""

    tenant: str
    name: str
    event: str
    template: EventTemplate
    filter: list[Condition]
    enabled: bool
    last_error: RunError | None


class TriggerPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    triggers: list[TriggerView]
    cursor: str | None


class EventTarget(Wire):
    """A call emits an event; of github, NAME.KIND with the kind that GitHub tells."""

    kind: Literal["event"] = "event"
    event: str


class TaskTarget(Wire):
    """A call submits a task, whose input is as that of a trigger."""

    kind: Literal["task"] = "task"
    template: EventTemplate


class WebhookSpec(Wire):
    """A webhook to set: `POST /webhooks/NAME`.

    Attributes:
        name: What it is called by.
        tenant: Whose events or tasks its calls make; None: default.
        scheme: How calls are signed; None: standard.
        secret_variables: Variables of the deployment, `SIGNALBOX_...`, that hold the secrets, any of which
            may sign; None: SIGNALBOX_WEBHOOK_SECRET.
        target: What a call does.
        enabled: None: as it was, and true for a new one.
    """

    name: str
    tenant: str | None = None
    scheme: WebhookScheme | None = None
    secret_variables: list[str] | None = None
    target: EventTarget | TaskTarget
    enabled: bool | None = None


class WebhookView(Wire):
    """A webhook; of its secrets only the names of their variables."""

    name: str
    tenant: str
    scheme: WebhookScheme
    secret_variables: list[str]
    target: EventTarget | TaskTarget
    enabled: bool


class WebhookPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    webhooks: list[WebhookView]
    cursor: str | None


class Triggers:
    """`events:*`, `triggers:*` and `webhooks:*`, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def emit(
        self, name: str, data: str = "null", *, tenant: str | None = None, id: str | None = None
    ) -> Emission:
        """Tell that something has happened, and return what that has started.

        Args:
            name: Of the event.
            data: JSON text of at most 128 KiB.
            tenant: Whose event it is; None: default.
            id: The same within seven days does nothing, but that triggers whose tasks were refused are tried
                again; None: each call is an event of its own.
        """
        # A lost answer is asked for again: without an id the second try would be a second event.
        event = EventSpec(name=name, data=data, tenant=tenant, id=id or f"call-{uuid.uuid4()}")
        args = {"event": event.model_dump(by_alias=True, exclude_none=True)}
        return Emission.model_validate(await self._mutation("events:emit", args))

    async def set_trigger(self, spec: TriggerSpec) -> bool:
        """Make the trigger of this tenant and name be as given, and return whether that changed anything."""
        args = {"trigger": _given(spec)}
        return bool((await self._mutation("triggers:set", args))["changed"])

    async def triggers(
        self, *, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> TriggerPage:
        """Return a page of a tenant's triggers, by name."""
        args: dict[str, Any] = {"limit": limit, "cursor": cursor}
        if tenant is not None:
            args["tenant"] = tenant
        return TriggerPage.model_validate(await self._query("triggers:list", args))

    async def pause_trigger(self, name: str, *, tenant: str | None = None) -> TriggerView:
        """Let a trigger start nothing until it is resumed."""
        return TriggerView.model_validate(await self._mutation("triggers:pause", _named(name, tenant)))

    async def resume_trigger(self, name: str, *, tenant: str | None = None) -> TriggerView:
        """Let a paused trigger go on."""
        return TriggerView.model_validate(await self._mutation("triggers:resume", _named(name, tenant)))

    async def remove_trigger(self, name: str, *, tenant: str | None = None) -> bool:
        """Remove a trigger and return whether there was one; the tasks that it started stay."""
        return bool((await self._mutation("triggers:remove", _named(name, tenant)))["removed"])

    async def set_webhook(self, spec: WebhookSpec) -> bool:
        """Make the webhook of this name be as given, and return whether that changed anything."""
        return bool((await self._mutation("webhooks:set", {"webhook": _given(spec)}))["changed"])

    async def webhooks(self, *, limit: int = 50, cursor: str | None = None) -> WebhookPage:
        """Return a page of the webhooks, by name."""
        args = {"limit": limit, "cursor": cursor}
        return WebhookPage.model_validate(await self._query("webhooks:list", args))

    async def remove_webhook(self, name: str) -> bool:
        """Remove a webhook and return whether there was one."""
        return bool((await self._mutation("webhooks:remove", {"name": name}))["removed"])


def _given(spec: TriggerSpec | WebhookSpec) -> dict[str, Any]:
    given: dict[str, Any] = spec.model_dump(by_alias=True, exclude_none=True)
    if isinstance(spec, TriggerSpec) and spec.filter is not None:
        given["filter"] = [condition.model_dump() for condition in spec.filter]  # null is a value here
    return given


def _named(name: str, tenant: str | None) -> dict[str, Any]:
    return {"name": name} if tenant is None else {"name": name, "tenant": tenant}
