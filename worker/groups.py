"""Tasks that hang together: what they come after, and groups that are done when all of them have ended."""

from __future__ import annotations

import uuid
from typing import Any, Literal

from worker.backend import Json
from worker.models import Wire


class After(Wire):
    """A task that another one waits for: its id, or `#NAME` for the one of the same call whose ref is NAME.

    `on_failure` says what becomes of the one that waits when it does not succeed: it fails (the default), is
    skipped, or runs all the same. `ref` is what the one that waits knows it by, if `on` is an id.
    """

    on: str
    on_failure: Literal["fail", "skip", "run"] | None = None
    ref: str | None = None


class FollowUp(Wire):
    """The task that is submitted when a group is complete, with the group's summary as its input."""

    agent: str
    queue: str | None = None
    priority: float | None = None
    timeout_ms: float | None = None
    labels: list[str] | None = None
    key: str | None = None


class Callback(Wire):
    """A function of the deployment that is called once, by its name in convex/callbacks.ts."""

    callback: str
    context: str | None = None


class FollowUpTask(Wire):
    """A task that is submitted once."""

    task: FollowUp
    context: str | None = None


OnComplete = Callback | FollowUpTask  # `context` is JSON text, handed on as it is


class Counts(Wire):
    """How many tasks a group has, and how those that have ended did."""

    total: int
    succeeded: int
    failed: int
    cancelled: int
    skipped: int


CallbackState = Literal["none", "pending", "done", "failed"]


class CallbackView(Wire):
    """What has become of a group's callback; `name` is the callback, or the agent of the follow-up `task`."""

    state: CallbackState
    name: str | None
    tries: int
    error: str | None
    task: str | None


class GroupView(Wire):
    """A group; its `result` is None until it is complete, and its counts may lag until then."""

    group: str
    tenant: str
    name: str | None
    counts: Counts
    sealed: bool
    result: Literal["success", "failed", "canceled"] | None
    callback: CallbackView
    created_at: float
    completed_at: float | None


class GroupPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    groups: list[GroupView]
    cursor: str | None


class Groups:
    """`groups:*`, for a client that can call functions."""

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        raise NotImplementedError

    async def create_group(
        self, *, tenant: str | None = None, name: str | None = None, on_complete: OnComplete | None = None
    ) -> str:
        """Make an open group that tasks may join, and return its id.

        Args:
            tenant: Whose tasks it is for; default: default.
            name: The same name is the same group; without one each call makes a group.
            on_complete: Called once, when the group is sealed and all its tasks have ended.
        """
        # A lost answer is asked for again: without a name the second try would make a second group.
        args: dict[str, Any] = {"name": name or f"call-{uuid.uuid4()}"}
        if tenant is not None:
            args["tenant"] = tenant
        if on_complete is not None:
            args["onComplete"] = on_complete.model_dump(by_alias=True, exclude_none=True)
        return str((await self._mutation("groups:create", args))["group"])

    async def seal_group(self, group: str) -> None:
        """Let nothing join a group any more: it is complete when the last of its tasks has ended."""
        await self._mutation("groups:seal", {"group": group})

    async def cancel_group(self, group: str) -> None:
        """Seal a group and cancel what has not ended of it."""
        await self._mutation("groups:cancel", {"group": group})

    async def retry_callback(self, group: str) -> CallbackState:
        """Have a callback that was given up called anew, and return how it stands.

        Any other stays as it is; it is `none` where there is nothing to call, or the group is not complete.
        """
        state: CallbackState = await self._mutation("groups:retryCallback", {"group": group})
        return state

    async def group(self, group: str) -> GroupView | None:
        """Return a group, or None if there is none."""
        value = await self._query("groups:get", {"group": group})
        return None if value is None else GroupView.model_validate(value)

    async def groups(
        self, *, tenant: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> GroupPage:
        """Return a page of a tenant's groups, newest first."""
        args = {"tenant": tenant, "limit": limit, "cursor": cursor}
        found = await self._query("groups:list", {k: v for k, v in args.items() if v is not None})
        return GroupPage.model_validate(found)
