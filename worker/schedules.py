"""Schedules: tasks that are submitted at times, set and looked at from outside."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, Literal

from worker.backend import Json
from worker.budgets import TaskBudget
from worker.errors import function_error
from worker.groups import OnComplete
from worker.models import RetryPolicy, Wire

CatchUpPolicy = Literal["skip", "once", "all"]
Overlap = Literal["allow", "skip", "queue", "cancel_other"]


class Template(Wire):
    """What each occurrence submits: a task without time and dedup key of its own. `input` is JSON text."""

    agent: str | None = None
    capability: str | None = None
    input: str
    queue: str | None = None
    priority: float | None = None
    timeout_ms: float | None = None
    retry: RetryPolicy | None = None
    start_within_ms: float | None = None
    end_within_ms: float | None = None
    labels: list[str] | None = None
    key: str | None = None
    on_complete: OnComplete | None = None
    stack: str | None = None
    budget: TaskBudget | None = None


class CatchUpSpec(Wire):
    """What becomes of occurrences that were missed by more than a minute; None: once, within a day."""

    policy: CatchUpPolicy | None = None
    window_ms: float | None = None


class CatchUp(Wire):
    """What becomes of occurrences that were missed by more than a minute."""

    policy: CatchUpPolicy
    window_ms: float


class Timing(Wire):
    """When: exactly one of `cron`, `every_ms` and `at`.

    Attributes:
        cron: Five fields, or a nickname such as @daily.
        time_zone: The IANA name of the zone in which the cron is read; None: UTC.
        every_ms: An interval of a second or more, counted from when the schedule was set.
        at: A single time, in milliseconds since the epoch.
    """

    cron: str | None = None
    time_zone: str | None = None
    every_ms: float | None = None
    at: float | None = None


class ScheduleSpec(Timing):
    """A schedule to set.

    Attributes:
        name: What it is known by within its tenant.
        tenant: Whose it is, and whose its tasks are; None: default.
        template: What each occurrence submits.
        catch_up: What becomes of missed occurrences.
        overlap: What an occurrence does while the task of the one before has not ended; None: allow.
        jitter_ms: An occurrence is done up to this much later, always the same for the same one; None: 0.
        enabled: None: as it was, and true for a new one.
    """

    name: str
    tenant: str | None = None
    template: Template
    catch_up: CatchUpSpec | None = None
    overlap: Overlap | None = None
    jitter_ms: float | None = None
    enabled: bool | None = None


class Missed(Wire):
    """Occurrences that were given up, from the first to the last."""

    first: float
    last: float


class ScheduleError(Wire):
    """Why the last occurrence could not be submitted."""

    at: float
    code: str
    message: str


class ScheduleView(Wire):
    """A schedule and where it stands; `next_run_at` and `last_run_at` are nominal, without jitter."""

    schedule: str
    tenant: str
    name: str
    cron: str | None
    time_zone: str | None
    every_ms: float | None
    at: float | None
    template: Template
    catch_up: CatchUp
    overlap: Overlap
    jitter_ms: float
    enabled: bool
    next_run_at: float | None
    last_run_at: float | None
    last_task: str | None
    fired: int
    overlapped: int
    missed: Missed | None
    last_error: ScheduleError | None


class ScheduleSet(Wire):
    """What became of a schedule that was set."""

    schedule: str
    changed: bool
    next_run_at: float | None


class SchedulePage(Wire):
    """A page of a list; `cursor` is None on the last."""

    schedules: list[ScheduleView]
    cursor: str | None


class Schedules:
    """`schedules:*`, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def set_schedule(self, spec: ScheduleSpec) -> ScheduleSet:
        """Make the schedule of this tenant and name be as given; the same again changes nothing.

        Raises:
            InvalidArgument: The message names the field and the reason.
        """
        args = {"schedule": spec.model_dump(by_alias=True, exclude_none=True)}
        return ScheduleSet.model_validate(await self._mutation("schedules:set", args))

    async def schedule(self, name: str, *, tenant: str | None = None) -> ScheduleView | None:
        """Return a schedule, or None if there is none."""
        value = await self._query("schedules:get", _named(name, tenant))
        return None if value is None else ScheduleView.model_validate(value)

    async def schedules(
        self, *, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> SchedulePage:
        """Return a page of a tenant's schedules, by name."""
        args: dict[str, Any] = {"limit": limit, "cursor": cursor}
        if tenant is not None:
            args["tenant"] = tenant
        return SchedulePage.model_validate(await self._query("schedules:list", args))

    async def pause_schedule(self, name: str, *, tenant: str | None = None) -> ScheduleView:
        """Let a schedule do nothing until it is resumed."""
        return ScheduleView.model_validate(await self._mutation("schedules:pause", _named(name, tenant)))

    async def resume_schedule(self, name: str, *, tenant: str | None = None) -> ScheduleView:
        """Let a paused schedule go on; what fell due meanwhile is not made up."""
        return ScheduleView.model_validate(await self._mutation("schedules:resume", _named(name, tenant)))

    async def remove_schedule(self, name: str, *, tenant: str | None = None) -> bool:
        """Remove a schedule and return whether there was one; the tasks that it submitted stay."""
        return bool((await self._mutation("schedules:remove", _named(name, tenant)))["removed"])

    async def run_schedule(self, name: str, *, tenant: str | None = None) -> str:
        """Submit a schedule's task now and return its id; its times stay as they are."""
        # A lost answer is asked for again: the request's name lets the second try find the first one's task.
        args = {**_named(name, tenant), "request": str(uuid.uuid4())}
        answer = await self._mutation("schedules:runNow", args)
        if not answer["ok"]:
            raise function_error(answer["code"], answer["message"])
        return str(answer["task"])

    async def preview_schedule(
        self,
        of: str | Timing,
        *,
        tenant: str | None = None,
        count: int = 10,
        after_ms: float | None = None,
    ) -> Sequence[float]:
        """Return the next times of a schedule, or of one that is not set yet, without jitter.

        Args:
            of: A schedule's name, or a timing.
            tenant: Of the schedule.
            count: At most 100.
            after_ms: Behind this time, in milliseconds since the epoch; None: now.
        """
        what = {"name": of} if isinstance(of, str) else of.model_dump(by_alias=True, exclude_none=True)
        args: dict[str, Any] = {"of": what, "count": count}
        if tenant is not None:
            args["tenant"] = tenant
        if after_ms is not None:
            args["after"] = after_ms
        times: list[float] = await self._query("schedules:preview", args)
        return times


def _named(name: str, tenant: str | None) -> dict[str, Any]:
    return {"name": name} if tenant is None else {"name": name, "tenant": tenant}
