"""The words of the wire between worker and control plane, as docs/architecture.md states them.

Python says `max_sync_items` where the wire says `maxSyncItems`; one base model translates. Answers ignore
fields they do not know, so that a newer control plane can serve an older worker.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

RunKind = Literal["llm", "python"]
ChunkKind = Literal["text", "reasoning", "log"]
TaskStatus = Literal[
    "waiting",
    "pending",
    "delayed",
    "running",
    "sleeping",
    "waiting_event",
    "waiting_approval",
    "paused",
    "succeeded",
    "failed",
    "cancelled",
    "skipped",
]


class Wire(BaseModel):
    """A value on the wire: camelCase there, snake_case here, never changed once made."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        defer_build=True,  # a command or an isolated run needs few of them, and building all takes 0.2 s
    )


def _is_none(value: object) -> bool:
    return value is None


# A field that is left out on the wire when it is None.
OMITTED: Any = Field(
    default=None, exclude_if=lambda value: value is None, json_schema_extra={"omitted": True}
)


class LlmLimits(Wire):
    """Where a run of a model's loop stops, each with a code of its own; None: the default, or no limit."""

    max_turns: int | None = OMITTED
    max_tool_calls: int | None = OMITTED
    max_repeats: int | None = OMITTED
    max_tokens: int | None = OMITTED
    max_cost_micros: int | None = OMITTED
    max_ms: float | None = OMITTED


FallbackOn = Literal["content_filter", "refusal"]


class LlmSpec(Wire):
    """The registry row of an agent that a model plays.

    `models` is an ordered chain, `model` the form for one; `fallback_on` names what a model may end with so
    that the next is asked; `output_schema` is JSON text.
    """

    model: str | None
    prompt: str
    temperature: float | None
    max_output_tokens: int | None
    models: list[str] | None = OMITTED
    fallback_on: list[FallbackOn] | None = OMITTED
    tools: list[str] | None = OMITTED
    output_schema: str | None = OMITTED
    limits: LlmLimits | None = OMITTED


class AgentVersion(Wire):
    """What plays an agent: `code` is a hash of it, and so is `version` unless its author has named it."""

    version: str
    code: str


class ForkChanges(Wire):
    """What the models of a fork are given instead of what its agent says; None leaves that as it is."""

    models: list[str] | None = OMITTED
    prompt: str | None = OMITTED
    temperature: float | None = OMITTED
    max_output_tokens: int | None = OMITTED
    limits: LlmLimits | None = OMITTED


class Fork(Wire):
    """Where a task was forked from, and what it may do and has changed."""

    task: str
    effects: Literal["forbid", "allow"]
    change: ForkChanges | None = OMITTED


class Amounts(Wire):
    """What is spent: micro-dollars, tokens, calls of models, milliseconds in a worker."""

    micros: int = 0
    tokens: int = 0
    calls: int = 0
    ms: int = 0


class Caps(Wire):
    """Limits of the same; None: not limited."""

    micros: int | None = None
    tokens: int | None = None
    calls: int | None = None
    ms: int | None = None


class Allotment(Wire):
    """What a run may spend, all in all since it began; `why` says which budget is spent, `ask` what to ask.

    `want` is the last wish that this answers. `unpriced` is what a token counts of a model without a price;
    None: such a model is refused where money is limited.
    """

    want: int
    verdict: Literal["granted", "paused", "asked", "exceeded"]
    granted: Caps
    degraded: bool
    unpriced: float | None
    why: str | None
    ask: str | None = OMITTED


class Want(Wire):
    """A wish for so much more."""

    number: int
    need: Amounts


class Spending(Wire):
    """What a run has spent so far, and reserved for calls under way."""

    run: str
    spent: Amounts
    reserved: Amounts
    want: Want | None


class Assignment(Wire):
    """A run given to this worker: one attempt at a task.

    A task that may run only `once` begins when its accept has been acknowledged, so that one which was never
    accepted can safely go to another worker. `pinned` is what the steps of earlier runs were taken by.
    """

    run: str
    task: str
    attempt: int
    agent: str
    kind: RunKind
    input: str | None
    llm: LlmSpec | None
    timeout_ms: float | None
    isolate: bool
    once: bool
    steps: int = 0
    signals: int = 0
    pinned: AgentVersion | None = OMITTED
    fork: Fork | None = OMITTED
    traceparent: str | None = OMITTED
    allotment: Allotment | None = OMITTED


class Signal(Wire):
    """Something that a task was told; `data` is JSON text."""

    signal: str
    name: str
    data: str


class Control(Wire):
    """Something the control plane asks of the worker; it is repeated until a sync acknowledges it.

    No function of the control plane writes a "drain" of its own accord: it is the operator's.
    """

    control: str
    kind: Literal["cancel", "drain", "pause", "signal", "allotment"]
    run: str | None
    reason: str
    signal: Signal | None = None
    allotment: Allotment | None = OMITTED


class AgentOffer(Wire):
    """A Python agent that this worker can play."""

    name: str
    description: str
    capabilities: list[str] = Field(default_factory=list)
    version: str | None = OMITTED
    code: str | None = OMITTED


class RegisterRequest(Wire):
    """What a worker says of itself when a session begins."""

    worker: str
    incarnation: str
    queues: list[str]
    agents: list[AgentOffer]
    labels: list[str]
    llm: bool
    capacity: int
    version: str
    forks: bool | None = OMITTED


class Registered(Wire):
    """A session and the limits it holds to."""

    session: str
    lease_ms: float
    heartbeat_ms: float
    idle_lease_ms: float
    idle_heartbeat_ms: float
    max_sync_items: int
    max_sync_bytes: int
    max_output_bytes: int


class Inbox(Wire):
    """What waits for a worker, as the subscription pushes it; `ended` says why it is no longer live."""

    live: bool
    ended: str | None
    assigned: list[Assignment]
    controls: list[Control]
    watched: list[str]
    models: list[ModelState] | None = OMITTED


class Chunk(Wire):
    """A piece of a run's stream; `seq` counts from 0 within the run."""

    run: str
    seq: int
    call: int
    attempt: int
    kind: ChunkKind
    text: str


class Succeeded(Wire):
    """The agent returned; `output` is JSON text, or None when it returned nothing."""

    kind: Literal["succeeded"] = "succeeded"
    output: str | None
    next: str | None = OMITTED


class RunError(Wire):
    """Why a run failed: a snake_case code and one line for people."""

    code: str
    message: str


class Failed(Wire):
    """The agent failed; `not_before_ms` is the shortest wait before the next attempt.

    `redo` are the steps that it has failed for: a retry by hand makes them anew.
    """

    kind: Literal["failed"] = "failed"
    error: RunError
    retryable: bool
    not_before_ms: float | None = None
    redo: list[str] | None = OMITTED


class Cancelled(Wire):
    """The run was cancelled on request."""

    kind: Literal["cancelled"] = "cancelled"


class Released(Wire):
    """The run is handed back, its attempt not burnt; it begins again in `not_before_ms` at the soonest."""

    kind: Literal["released"] = "released"
    not_before_ms: float | None = OMITTED


class UntilTime(Wire):
    """Some milliseconds from the moment when the control plane hears of it."""

    ms: float


class UntilEvent(Wire):
    """An event of the tenant, or a signal to the task; None: however long that takes."""

    event: str
    timeout_ms: float | None


class UntilGroup(Wire):
    """The end of every task of a group."""

    group: str


ApprovalWhy = Literal["tool", "spend", "in_doubt", "agent"]


class Ask(Wire):
    """A question for people: `args` is canonical JSON text, and the decision is bound to its SHA-256.

    The decision becomes the result of `step`. `about` names the step that is in doubt. Without a time limit
    people have seven days.
    """

    step: str
    tool: str
    args: str
    why: ApprovalWhy
    about: str | None
    timeout_ms: float | None


class UntilApprovals(Wire):
    """People's decisions on all of these."""

    approvals: list[Ask]


class Suspended(Wire):
    """The task waits without a worker; its next run goes on behind its finished steps."""

    kind: Literal["suspended"] = "suspended"
    step: str
    until: UntilTime | UntilEvent | UntilGroup | UntilApprovals


Outcome = Annotated[Succeeded | Failed | Cancelled | Released | Suspended, Field(discriminator="kind")]


class RetryPolicy(Wire):
    """How often and when a task is tried again; None leaves the agent's own rule."""

    max_attempts: int | None = None
    initial_ms: float | None = None
    base: float | None = None
    max_ms: float | None = None


class Usage(Wire):
    """What a run's model calls used; None where the provider did not tell, or no call had a price.

    The cost counts every attempt, also those that failed or were cancelled, as far as it is known or
    estimated.
    """

    model: str | None
    calls: int
    input_tokens: int | None
    output_tokens: int | None
    cost_micros: int | None = OMITTED


class Finished(Wire):
    """The result of a run."""

    run: str
    outcome: Outcome
    usage: Usage | None
    spending: Spending | None = OMITTED


Effect = Literal["pure", "idempotent", "keyed", "reconcilable", "unsafe"]
StepState = Literal["intended", "done", "in_doubt"]


class StepUsage(Wire):
    """What a turn has cost, all attempts together; None: not told, or no price is known."""

    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    cost_micros: int | None


class Entry(Wire):
    """Something that a run has done for good, or is about to do; `result` is JSON text.

    An "event" is a wait that ended in the worker, by the `signal` that it takes. An effect is told as
    "intended", without a result, before it begins; what is told later under the same key resolves it.
    `args_hash` is the SHA-256 of the canonical JSON of the arguments. In a fork, `recorded` is the key of the
    recording that a call was given: it is used up.
    """

    key: str
    kind: Literal["step", "event", "turn", "tool"]
    result: str | None
    signal: str | None = None
    recorded: str | None = OMITTED
    state: StepState | None = OMITTED
    effect: Effect | None = OMITTED
    args_hash: str | None = OMITTED
    tool: str | None = OMITTED
    usage: StepUsage | None = OMITTED


class StepReport(Entry):
    """An entry of a run."""

    run: str
    signal: str | None


class Step(Wire):
    """Something that an earlier run of the task has done.

    A wait that is not over has no `result`, nor has an effect that is intended or in doubt.
    """

    key: str
    kind: Literal["step", "sleep", "event", "approval", "spawn", "turn", "tool", "recorded"]
    result: str | None
    remaining_ms: float | None
    state: StepState | None = OMITTED
    effect: Effect | None = OMITTED
    args_hash: str | None = OMITTED
    tool: str | None = OMITTED
    usage: StepUsage | None = OMITTED


class StepsPage(Wire):
    """A page of a task's steps; the first one brings the signals that nobody has taken."""

    steps: list[Step]
    cursor: str | None
    signals: list[Signal]


class Spawned(Wire):
    """The children of a step; they form a group if they are to be waited for."""

    tasks: list[str]
    group: str | None


class Emitted(Wire):
    """What an event has started: tasks of triggers, and how many tasks that waited for it."""

    tasks: list[str]
    woken: int


class Progress(Wire):
    """How far a run has come."""

    done: float
    total: float | None
    message: str


class ProgressReport(Wire):
    """The newest that a run says of itself; None leaves what it said before. `state` is JSON text."""

    run: str
    progress: Progress | None
    state: str | None


WaitsOn = Literal["model", "step", "agent"]


class Silence(Wire):
    """A run from which nothing has come for `ms`, and what it waits for."""

    run: str
    ms: float
    on: WaitsOn
    name: str | None
    attempt: int | None


class Clocks(Wire):
    """How this worker stands: its inbox loop, and the runs that have been silent for long."""

    inbox_age_ms: float
    silent: list[Silence]


class CallTokens(Wire):
    """The tokens of an attempt; None where the provider did not tell."""

    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int


class CallReport(Wire):
    """An attempt at a model call, whatever became of it; `started_ms` counts from the run's start."""

    run: str
    call: int
    attempt: int
    model: str
    provider: str
    started_ms: float
    ms: float
    state: Literal["succeeded", "failed", "superseded", "cancelled"]
    error: RunError | None
    usage: CallTokens | None
    cost_micros: int | None
    estimated: bool


class ModelShareReport(Wire):
    """Which share of a model's limits a worker obeys from here on, what it has used, and what it lacks."""

    configured: int
    rev: int
    used_requests: int
    used_tokens: int
    waiting: int
    least_tokens: int


class ModelReport(Wire):
    """What happened with a model in this worker since its last report."""

    model: str
    requests: int
    failures: int
    tokens: int
    error: RunError | None
    cool_ms: float | None
    share: ModelShareReport | None


class ModelState(Wire):
    """What all workers are told of a model that cools or is limited, and this one's share of its limits."""

    model: str
    cool_ms: float
    error: RunError | None
    configured: int
    rev: int
    per_ms: float
    requests: int | None
    tokens: int | None
    most_tokens: int | None


class ModelStanding(Wire):
    """How models stand, for the endpoint whose session it is; with another session its shares begin anew."""

    session: str
    models: list[ModelState]


class SyncRequest(Wire):
    """All that a worker has to say, in one mutation; a retry repeats it word for word.

    What is optional is left out while there is nothing to say.
    """

    session: str
    seq: int
    accepted: list[str]
    chunks: list[Chunk]
    finished: list[Finished]
    acknowledged: list[str]
    steps: list[StepReport] | None = OMITTED
    progress: list[ProgressReport] | None = OMITTED
    clocks: Clocks | None = OMITTED
    calls: list[CallReport] | None = OMITTED
    models: list[ModelReport] | None = OMITTED
    spending: list[Spending] | None = OMITTED


class RunResult(Wire):
    """Whether a finished result was taken, and if not, why."""

    run: str
    accepted: bool
    reason: str | None


class SyncReply(Wire):
    """The answer to a sync, computed from state also when the sync is a repeat."""

    live: bool
    ended: str | None
    assigned: list[Assignment]
    lost: list[str]
    controls: list[Control]
    watched: list[str]
    results: list[RunResult]
    lease_ms: float
    next_sync_ms: float
    models: list[ModelState] | None = OMITTED


class DrainReply(Wire):
    """Whether the session is still alive after a drain."""

    live: bool


class Upstream(Wire):
    """How a task has ended that a run's task comes after; `output` is JSON text."""

    task: str
    ref: str | None
    status: TaskStatus
    output: str | None
    error: RunError | None


class GatheredPage(Wire):
    """How children have ended, in the order asked for: as many as fit."""

    items: list[Upstream]


class UpstreamPage(Wire):
    """A page of them; `next` is how many have been given so far, None on the last page."""

    items: list[Upstream]
    next: int | None
