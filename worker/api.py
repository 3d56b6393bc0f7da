"""The control plane as the worker sees it: the one file that knows the names of Convex functions."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from worker.backend import Backend, Json
from worker.errors import ProtocolError
from worker.models import (
    DrainReply,
    Emitted,
    GatheredPage,
    Inbox,
    Registered,
    RegisterRequest,
    Spawned,
    StepsPage,
    SyncReply,
    SyncRequest,
    UpstreamPage,
)

M = TypeVar("M", bound=BaseModel)
INBOX = "worker:inbox"  # the subscription needs the name too


class Api:
    """`worker:*` of one deployment, called with one key.

    Every method makes one attempt, within `timeout` seconds, and raises `worker.errors.BackendError`.

    Attributes:
        key: Sent with the next call; it can be replaced when it has been rotated.
    """

    def __init__(self, backend: Backend, key: SecretStr) -> None:
        self._backend = backend
        self.key = key

    async def register(self, request: RegisterRequest, *, timeout: float) -> Registered:
        """Begin a session; idempotent by (worker, incarnation)."""
        return _parsed(Registered, await self._mutation("worker:register", request, timeout))

    async def sync(self, request: SyncRequest, *, timeout: float) -> SyncReply:
        """Deliver what a session has to say and bring what it must know; idempotent by (session, seq)."""
        return _parsed(SyncReply, await self._mutation("worker:sync", request, timeout))

    async def inbox(self, session: str, *, timeout: float) -> Inbox:
        """Return what waits for a session."""
        return _parsed(Inbox, await self._query(INBOX, {"session": session}, timeout))

    async def input(self, session: str, run: str, *, timeout: float) -> str:
        """Return the JSON text of an input that is too large for an assignment."""
        value = await self._query("worker:input", {"session": session, "run": run}, timeout)
        if not isinstance(value, str):
            raise ProtocolError(
                "worker:input did not answer with text; are worker and control plane of one version?"
            )
        return value

    async def upstream(self, session: str, run: str, after: int, *, timeout: float) -> UpstreamPage:
        """Return how the tasks have ended that a run's task comes after, behind the first `after`."""
        args: dict[str, Json] = {"session": session, "run": run, "after": after}
        return _parsed(UpstreamPage, await self._query("worker:upstream", args, timeout))

    async def spawn(
        self, session: str, run: str, step: str, tasks: list[dict[str, Json]], *, gather: bool, timeout: float
    ) -> Spawned:
        """Submit the children of a run, once for the step."""
        args: dict[str, Json] = {
            "session": session,
            "run": run,
            "step": step,
            "tasks": tasks,
            "gather": gather,
            "key": self.key.get_secret_value(),
        }
        return _parsed(Spawned, await self._backend.mutation("worker:spawn", args, timeout=timeout))

    async def emit(
        self, session: str, run: str, step: str, name: str, data: str, *, timeout: float
    ) -> Emitted:
        """Tell the tenant of a run's task of an event, once for the step; `data` is JSON text."""
        args: dict[str, Json] = {
            "session": session,
            "run": run,
            "step": step,
            "name": name,
            "data": data,
            "key": self.key.get_secret_value(),
        }
        return _parsed(Emitted, await self._backend.mutation("worker:emit", args, timeout=timeout))

    async def gathered(self, session: str, run: str, tasks: list[str], *, timeout: float) -> GatheredPage:
        """Return how children have ended: of those asked for, the first that fit."""
        args: dict[str, Json] = {"session": session, "run": run, "tasks": tasks}
        return _parsed(GatheredPage, await self._query("worker:gathered", args, timeout))

    async def steps(self, session: str, run: str, cursor: str | None, *, timeout: float) -> StepsPage:
        """Return a page of what earlier runs of the task have done."""
        args: dict[str, Json] = {"session": session, "run": run, "cursor": cursor}
        return _parsed(StepsPage, await self._query("worker:steps", args, timeout))

    async def output(self, session: str, run: str, text: str, *, timeout: float) -> None:
        """Keep an output that is too large for a sync, ahead of its run's result; idempotent."""
        args = {"key": self.key.get_secret_value(), "session": session, "run": run, "text": text}
        await self._backend.mutation("worker:output", args, timeout=timeout)

    async def drain(self, session: str, *, final: bool, timeout: float) -> DrainReply:
        """Stop new runs for a session, or sign it off for good."""
        args = {"key": self.key.get_secret_value(), "session": session, "final": final}
        return _parsed(DrainReply, await self._backend.mutation("worker:drain", args, timeout=timeout))

    async def crashed(self, session: str, blamed: str | None, *, timeout: float) -> None:
        """Tell that the session's process is gone, and which run it was executing if that is known."""
        args = {"key": self.key.get_secret_value(), "session": session, "blamed": blamed}
        await self._backend.mutation("worker:crashed", args, timeout=timeout)

    async def _mutation(self, path: str, request: BaseModel, timeout: float) -> Json:
        args = request.model_dump(by_alias=True)
        args["key"] = self.key.get_secret_value()
        return await self._backend.mutation(path, args, timeout=timeout)

    async def _query(self, path: str, args: dict[str, Json], timeout: float) -> Json:
        args["key"] = self.key.get_secret_value()
        return await self._backend.query(path, args, timeout=timeout)


def _parsed(model: type[M], value: Json) -> M:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProtocolError(
            f"The control plane's answer has a shape unknown to this worker ({where}: {first['msg']}); "
            "run the same version on both sides"
        ) from None
