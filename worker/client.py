"""The control plane as those see it who submit tasks and watch them: programs, the command line, the demo."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import anyio
from pydantic import Field, SecretStr

from worker.approvals import Approvals
from worker.backend import Backend, Json, retry
from worker.budgets import Budgets
from worker.bulk import Bulk
from worker.collecting import Batch as Batch  # noqa: PLC0414 - who submits takes them from here
from worker.collecting import Debounce as Debounce  # noqa: PLC0414
from worker.endpoints import Endpoints, Executor
from worker.errors import function_error
from worker.forks import Forks
from worker.groups import Groups
from worker.limits import Limits
from worker.model_limits import Models
from worker.models import Chunk, LlmSpec, Progress, RunError, RunKind, TaskStatus, Usage, WaitsOn, Wire
from worker.models import RetryPolicy as RetryPolicy  # noqa: PLC0414 - who submits takes it from here
from worker.paging import pages
from worker.schedules import Schedules
from worker.specs import Submitted as Submitted  # noqa: PLC0414
from worker.specs import TaskSpec as TaskSpec  # noqa: PLC0414
from worker.submits import Submits
from worker.triggers import Triggers
from worker.upkeep import Upkeep
from worker.why import Backlog, Why

ENDED: frozenset[TaskStatus] = frozenset({"succeeded", "failed", "cancelled", "skipped"})
_CALL_S = 10.0  # for one attempt
_WATCH_S = 30.0  # how long a look lasts before it is renewed
_SHORTEST_PAUSE_S = 0.15  # between two looks at a stream: text is on the screen well within a second
_LONGEST_PAUSE_S = 1.0  # while nothing comes: each look is a call that Convex bills
_FULL_PAGE = 64  # chunks in an answer: there are more


class _Call(Protocol):
    def __call__(self, path: str, args: dict[str, Json], *, timeout: float) -> Awaitable[Json]: ...


class TaskView(Wire):
    """A task as its submitter sees it. Instants in milliseconds since the epoch.

    With a `large_output` its output is not here: `Client.get` and `Client.output` bring it.
    """

    task: str
    tenant: str
    queue: str
    agent: str
    status: TaskStatus
    priority: float
    attempt: int
    max_attempts: int
    run: str | None
    error: RunError | None
    output: str | None
    large_output: bool = False
    usage: Usage
    submitted_at: float
    due_at: float
    started_at: float | None
    ended_at: float | None


class RunClocks(Wire):
    """The three clocks of a live run: its worker's heartbeat and inbox loop, its own last token or step.

    `silent_ms` is None while it moves; else `on` says what it waits for, `name` which model or step.
    """

    heartbeat_at: float
    inbox_age_ms: float | None
    silent_ms: float | None
    on: WaitsOn | None
    name: str | None
    attempt: int | None


class TaskState(Wire):
    """How a task stands between its steps; `state` is JSON text that its run has set."""

    task: str
    status: TaskStatus
    run: str | None
    progress: Progress | None
    state: str | None
    at: float | None
    steps: int
    waits_for: str | None
    clocks: RunClocks | None


class Event(Wire):
    """One line of a task's history."""

    type: str
    run: str | None
    data: dict[str, str | float | bool | None]
    at: float


class Dependency(Wire):
    """A task that another one waits for, or that waits for it."""

    task: str
    ref: str | None
    agent: str
    status: TaskStatus
    on_failure: Literal["fail", "skip", "run"]


class Child(Wire):
    """A task that a run of another one submitted."""

    task: str
    agent: str
    status: TaskStatus


class TaskLinks(Wire):
    """What a task hangs together with; `more` if a list was cut."""

    parent: str | None
    waits_for: int
    after: list[Dependency]
    dependents: list[Dependency]
    children: list[Child]
    groups: list[str]
    more: bool


class AgentSpec(Wire):
    """An agent that a model plays, as the registry keeps it; without `llm` it is an endpoint's own code."""

    name: str
    description: str
    llm: LlmSpec | None = None
    retry: RetryPolicy | None = None
    timeout_ms: float | None = None
    capabilities: list[str] | None = None
    executor: Executor | None = None


class AgentView(Wire):
    """An agent of the registry."""

    name: str
    kind: RunKind
    description: str
    llm: LlmSpec | None
    timeout_ms: float | None
    capabilities: list[str]


class TaskPage(Wire):
    """A page of a list; `cursor` is None on the last."""

    tasks: list[TaskView]
    cursor: str | None


class _Tail(Wire):
    chunks: list[Chunk]
    state: str


class _Follow(Wire):
    task: TaskView
    chunks: list[Chunk]


class _History(Wire):
    events: list[Event]
    cursor: str | None


class StreamUpdate(Wire):
    """Text of a run, in order; a `run` other than the last one supersedes what came before."""

    run: str
    attempt: int
    chunks: list[Chunk] = Field(default_factory=list)


class Client(Submits, Bulk, Forks, Groups, Schedules, Triggers, Endpoints, Upkeep):
    """`tasks:*`, `groups:*`, `schedules:*`, `runs:*` and `agents:*` of one deployment.

    It calls with a submit or operator key; with a viewer key it can only look.

    Every call that changes something is idempotent, and is repeated within its deadline when the
    connection fails.

    Raises:
        FunctionFailed: The control plane refused; the message is one line.
        TransportError: It could not be reached in time.
    """

    def __init__(self, backend: Backend, key: SecretStr, *, deadline_s: float = 30.0) -> None:
        self._backend = backend
        self._key = key
        self._deadline_s = deadline_s

    @classmethod
    def connect(cls, url: str, key: SecretStr, *, deadline_s: float = 30.0) -> Self:
        """Return a client of the deployment at `url`; close it by leaving its `async with` block.

        Args:
            url: The deployment's address.
            key: A submit or operator key.
            deadline_s: For a call with all its repetitions.
        """
        return cls(Backend(url), key, deadline_s=deadline_s)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close its connections."""
        await self._backend.aclose()

    async def get(self, task: str) -> TaskView | None:
        """Return a task with its output, or None if there is none."""
        value = await self._query("tasks:get", {"task": task})
        return None if value is None else await self._whole(TaskView.model_validate(value))

    async def input(self, task: str) -> str | None:
        """Return the JSON text of a task's input, however large; None if there is no such task."""
        return await self._text(task, "input")

    async def output(self, task: str) -> str | None:
        """Return the JSON text of a task's output, however large; None if it has none."""
        return await self._text(task, "output")

    async def _text(self, task: str, of: Literal["input", "output"]) -> str | None:
        texts: list[str] = []
        parts = 1
        while len(texts) < parts:
            part = await self._query("tasks:part", {"task": task, "of": of, "index": len(texts)})
            if part is None:
                return None
            texts.append(part["text"])
            parts = part["parts"]
        return "".join(texts)

    async def _whole(self, view: TaskView) -> TaskView:
        if not view.large_output:
            return view
        return view.model_copy(update={"output": await self.output(view.task), "large_output": False})

    async def tasks(
        self,
        *,
        tenant: str | None = None,
        status: TaskStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> TaskPage:
        """Return a page of tasks: newest first, or last changed first for one status."""
        args = {"tenant": tenant, "status": status, "limit": limit, "cursor": cursor}
        return TaskPage.model_validate(
            await self._query("tasks:list", {k: v for k, v in args.items() if v is not None})
        )

    async def cancel(self, task: str, *, subtree: bool = False) -> TaskStatus:
        """Cancel a task, at once while it waits, else through its worker; return its status now.

        Args:
            task: Its id.
            subtree: With all that its runs have submitted and will submit, at whatever depth.
        """
        args = {"task": task, "subtree": subtree}
        status: TaskStatus = (await self._mutation("tasks:cancel", args))["status"]
        return status

    async def signal(self, task: str, name: str, data: Json = None, *, id: str | None = None) -> bool:
        """Tell a task something; one that waits for it wakes. Return whether it was new.

        Args:
            task: Whom to tell.
            name: What it asks for.
            data: What it gets: any JSON.
            id: Makes a repeat harmless; each call without one is a signal of its own.
        """
        args = {"task": task, "name": name, "data": json.dumps(data), "id": id or str(uuid.uuid4())}
        return not (await self._mutation("tasks:signal", args))["duplicate"]

    async def state(self, task: str) -> TaskState:
        """Return what a task's last run says of itself, and how a live one stands."""
        return TaskState.model_validate(await self._query("tasks:state", {"task": task}))

    async def pause(self, task: str) -> TaskStatus:
        """Pause a task: at once in line, else when its run is handed back; return its status now."""
        status: TaskStatus = (await self._mutation("tasks:pause", {"task": task}))["status"]
        return status

    async def resume(self, task: str) -> TaskStatus:
        """Let a paused task go on from where it stood in line; return its status now."""
        status: TaskStatus = (await self._mutation("tasks:resume", {"task": task}))["status"]
        return status

    async def retry(self, task: str, *, request: str | None = None) -> TaskStatus:
        """Give a failed, cancelled or skipped task its attempts anew; return its status now.

        Args:
            task: Its id.
            request: The same within seven days does nothing; None: each call is a retry of its own.
        """
        # A lost answer is asked for again: without a request what has failed since would be retried twice.
        args = {"task": task, "request": request or f"call-{uuid.uuid4()}"}
        status: TaskStatus = (await self._mutation("tasks:retry", args))["status"]
        return status

    async def links(self, task: str) -> TaskLinks:
        """Return what a task hangs together with: dependencies, dependents, parent, children, groups."""
        return TaskLinks.model_validate(await self._query("tasks:links", {"task": task}))

    async def children(self, task: str, *, limit: int = 50, cursor: str | None = None) -> TaskPage:
        """Return a page of the tasks that runs of a task have submitted, oldest first."""
        args = {"task": task, "limit": limit, "cursor": cursor}
        return TaskPage.model_validate(await self._query("tasks:children", args))

    async def history(self, task: str) -> list[Event]:
        """Return everything that happened to a task, oldest first."""

        async def fetch(at: str | None) -> _History:
            return _History.model_validate(await self._query("tasks:history", {"task": task, "cursor": at}))

        return [event for page in await pages(fetch) for event in page.events]

    async def run_state(self, run: str) -> str:
        """Return whether a run is assigned, running, or how it ended."""
        return (await self._tail(run, -1)).state

    async def tail(self, run: str, after: int = -1) -> list[Chunk]:
        """Return what a run has streamed so far behind chunk `after`."""
        chunks: list[Chunk] = []
        while page := (await self._tail(run, after)).chunks:
            chunks.extend(page)
            after = page[-1].seq
        return chunks

    async def follow(self, task: str) -> AsyncIterator[StreamUpdate | TaskView]:
        """Yield a task's text as it is produced, and the task itself once it has ended.

        A run that replaces another starts over: drop what the earlier one said.
        """
        run: str | None = None
        after = -1
        look_again_at = 0.0
        pause_s = _SHORTEST_PAUSE_S
        while True:
            found = await self._query("runs:follow", {"task": task, "run": run, "after": after})
            if found is None:
                raise function_error("not_found", f"No task {task}")
            look = _Follow.model_validate(found)
            view, chunks = look.task, look.chunks
            pause_s = _SHORTEST_PAUSE_S if chunks or view.run != run else min(pause_s * 1.5, _LONGEST_PAUSE_S)
            if view.run is not None and view.run != run:
                run, after, look_again_at = view.run, -1, 0.0
                yield StreamUpdate(run=run, attempt=view.attempt)
            if run is not None and chunks:
                after = chunks[-1].seq
                yield StreamUpdate(run=run, attempt=view.attempt, chunks=chunks)
                if len(chunks) >= _FULL_PAGE:
                    continue
            if view.status in ENDED:
                yield await self._whole(view)
                return
            if view.status == "running" and anyio.current_time() >= look_again_at:
                await self._mutation("runs:watch", {"task": task, "forMs": _WATCH_S * 1000})
                look_again_at = anyio.current_time() + _WATCH_S / 2
            await anyio.sleep(pause_s)

    async def sync_agents(self, specs: Sequence[AgentSpec]) -> dict[str, bool]:
        """Make the registry's LLM and pushed agents be as given; return for each name whether it changed."""
        agents = [_as_given(spec) for spec in specs]
        answer = await self._mutation("agents:sync", {"agents": agents})
        return {item["name"]: item["changed"] for item in answer}

    async def agents(self) -> list[AgentView]:
        """Return the registry."""
        return [AgentView.model_validate(item) for item in await self._query("agents:list", {})]

    async def why(self, task: str) -> Why:
        """Return all true reasons why a task does not run now."""
        return Why.model_validate(await self._query("tasks:why", {"task": task}))

    async def backlog(self) -> Backlog:
        """Return what waits in each queue, and how long the last runs had waited for their start."""
        return Backlog.model_validate(await self._query("tasks:backlog", {}))

    @property
    def approvals(self) -> Approvals:
        """What tasks ask of people; deciding needs an operator key."""
        return Approvals(self._query, self._mutation)

    @property
    def budgets(self) -> Budgets:
        """The budgets of the deployment; changing them needs an operator key."""
        return Budgets(self._query, self._mutation)

    @property
    def limits(self) -> Limits:
        """The limits of the deployment; changing them needs an operator key."""
        return Limits(self._query, self._mutation)

    @property
    def models(self) -> Models:
        """Models of providers: how they stand, what is kept of each call; limits need an operator key."""
        return Models(self._query, self._mutation)

    async def _tail(self, run: str, after: int) -> _Tail:
        return _Tail.model_validate(await self._query("runs:tail", {"run": run, "after": after}))

    async def _query(self, path: str, args: dict[str, Any]) -> Json:
        return await self._call(self._backend.query, path, args)

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        return await self._call(self._backend.mutation, path, args)

    async def _call(self, kind: _Call, path: str, args: dict[str, Any]) -> Json:
        keyed = {**args, "key": self._key.get_secret_value()}
        return await retry(
            lambda timeout: kind(path, keyed, timeout=timeout), deadline_s=self._deadline_s, attempt_s=_CALL_S
        )


class Admin:
    """What needs the deployment's admin key: internal functions that people run by hand."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def create_key(
        self,
        *,
        digest: str,
        role: str,
        label: str,
        queues: Sequence[str] = (),
        expires_at_ms: float | None = None,
    ) -> str:
        """Store the SHA-256 of a key and return its id; the same hash again is the same key."""
        args: dict[str, Any] = {"hash": digest, "role": role, "label": label}
        if queues:
            args["queues"] = list(queues)
        if expires_at_ms is not None:
            args["expiresAt"] = expires_at_ms
        return str(await self._mutation("operator:createKey", args))

    async def revoke_key(self, key: str) -> None:
        """End a key; open subscriptions that used it end too."""
        await self._mutation("operator:revokeKey", {"key": key})

    async def keys(self) -> list[dict[str, Any]]:
        """Return the keys, newest first, without their hashes."""
        value: list[dict[str, Any]] = await self._call(self._backend.query, "operator:listKeys", {})
        return value

    async def _mutation(self, path: str, args: dict[str, Any]) -> Json:
        return await self._call(self._backend.mutation, path, args)

    @staticmethod
    async def _call(kind: _Call, path: str, args: dict[str, Any]) -> Json:
        return await retry(
            lambda timeout: kind(path, args, timeout=timeout), deadline_s=_CALL_S, attempt_s=_CALL_S
        )


def _as_given(spec: AgentSpec) -> dict[str, Any]:
    agent = {k: v for k, v in spec.model_dump(by_alias=True).items() if v is not None}
    if spec.executor is not None:
        agent["executor"] = spec.executor.model_dump(by_alias=True, exclude_none=True)
    return agent
