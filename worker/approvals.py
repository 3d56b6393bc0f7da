"""What tasks ask of people, and what people decide."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from worker.backend import Json
from worker.models import ApprovalWhy, Wire

ApprovalState = Literal["asked", "approved", "refused", "expired", "withdrawn"]
Verdict = Literal["approve", "refuse"]
UNSAID: Any = object()  # a result of None is one, too

_Call = Callable[[str, dict[str, Any]], Awaitable[Json]]


class ApprovalView(Wire):
    """A question for people and what became of it. Instants in milliseconds since the epoch.

    `args` is the JSON text that `args_hash` is the SHA-256 of; None in a list when it is over 8 KB.
    `decided_by` is the id of the key that decided, `decided_by_label` its label.
    """

    approval: str
    task: str
    tenant: str
    agent: str
    run: str
    step: str
    tool: str
    args: str | None
    args_hash: str
    why: ApprovalWhy
    state: ApprovalState
    asked_at: float
    expires_at: float
    decided_at: float | None
    decided_by: str | None
    decided_by_label: str | None
    note: str | None


class ApprovalPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    approvals: list[ApprovalView]
    cursor: str | None


class Approvals:
    """`approvals:*` of one deployment. Who submits may look; deciding needs an operator key.

    Raises:
        AlreadyDecided: It was decided before, has expired, or its task has ended; the message says by whom.
        ArgumentsChanged: The hash given is not that of the arguments that were asked for.
        FunctionFailed: The control plane refused; the message is one line.
        TransportError: It could not be reached in time.
    """

    def __init__(self, query: _Call, mutation: _Call) -> None:
        self._query = query
        self._mutation = mutation

    async def list(
        self,
        *,
        tenant: str | None = None,
        task: str | None = None,
        state: ApprovalState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> ApprovalPage:
        """Return a page, newest first: of a task, else of a tenant; of all states unless one is given."""
        args = {"tenant": tenant, "task": task, "state": state, "limit": limit, "cursor": cursor}
        return ApprovalPage.model_validate(
            await self._query("approvals:list", {k: v for k, v in args.items() if v is not None})
        )

    async def get(self, approval: str) -> ApprovalView:
        """Return one, with its arguments."""
        return ApprovalView.model_validate(await self._query("approvals:get", {"approval": approval}))

    async def decide(
        self,
        approval: str,
        decision: Verdict,
        *,
        args_hash: str,
        note: str | None = None,
        result: Json = UNSAID,
        request: str | None = None,
    ) -> ApprovalView:
        """Decide, once, and return it as it then is.

        Args:
            approval: Its id.
            decision: "approve": go on; of what is in doubt: it did not happen, run it. "refuse": do not; of
                what is in doubt: fail the task.
            args_hash: Of the arguments that were looked at; others are refused.
            note: For whoever reads it later, the agent included.
            result: Of what is in doubt: it happened, and this came of it.
            request: Makes a repeat harmless; each call without one is a decision of its own.
        """
        args = {
            "approval": approval,
            "argsHash": args_hash,
            "decision": decision,
            "note": note,
            "result": None if result is UNSAID else json.dumps(result),
            "request": request or str(uuid.uuid4()),
        }
        given = {k: v for k, v in args.items() if v is not None}
        return ApprovalView.model_validate(await self._mutation("approvals:decide", given))
