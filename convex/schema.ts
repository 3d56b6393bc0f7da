import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
import { vApprovalState, vApprovalWhy } from "./approval.validators";
import { vAllotment, vAmounts, vBudget, vBudgetWork, vCaps, vSpending } from "./budget.validators";
import { vCondition, vEventTemplate, vWebhookScheme, vWebhookTarget } from "./trigger.validators";
import { vModelCall, vModelReport } from "./model.validators";
import { vCatchUp, vOverlap, vTemplate, vWhen } from "./schedule.validators";
import { stepFields } from "./step.validators";
import { vForkChanges, vForkEffects } from "./fork.validators";
import { vVersion } from "./version.validators";
import { endpointFields } from "./endpoint.validators";
import { vCallbackState, vGroupResult, vSettlement } from "./group.validators";
import { vRate, vScopeKind } from "./limit.validators";
import { vCounters, vPosition } from "./upkeep.validators";
import {
  vAfterMode,
  vAlarmKind,
  vChunk,
  vClocks,
  vControlKind,
  vEventData,
  vEventType,
  vExecutor,
  vFault,
  vLlm,
  vOnComplete,
  vOnFailure,
  vRetry,
  vRole,
  vRunKind,
  vRunState,
  vStepKind,
  vTaskStatus,
  vUsage,
} from "./validators";

// What waits for a worker. `lane` is all that constrains where it may run; within a lane the lowest rank goes first:
// from when its waiting counts, less its priority times an ageing step.
const waiting = {
  lane: v.string(),
  task: v.id("tasks"),
  tenant: v.string(),
  queue: v.string(),
  agent: v.string(),
  kind: vRunKind,
  labels: v.array(v.string()),
  key: v.union(v.string(), v.null()),
  sticky: v.optional(v.string()),
  version: v.optional(v.string()), // of its agent's code: a worker must have it
  fork: v.optional(v.literal(true)), // a worker must know how to keep it from effects
  rank: v.number(),
};

const vCounts = v.object({ requests: v.number(), failures: v.number(), tokens: v.number() });
const vTurn = v.object({ lane: v.string(), used: v.number() }); // used: tasks taken in a turn that is not over, else 0

// What a worker tells of itself when it registers.
const workerProfile = {
  queues: v.array(v.string()),
  agents: v.array(v.string()),
  versions: v.optional(v.record(v.string(), vVersion)), // of its agents, where it tells
  forks: v.optional(v.boolean()), // it keeps forks from effects
  labels: v.array(v.string()),
  llm: v.boolean(),
  capacity: v.number(),
  version: v.string(),
};

export default defineSchema({
  // Written by: the operator. Only the SHA-256 of a key is stored.
  keys: defineTable({
    hash: v.string(),
    role: vRole,
    label: v.string(),
    queues: v.union(v.array(v.string()), v.null()), // null: every queue
    expiresAt: v.union(v.number(), v.null()),
    revokedAt: v.union(v.number(), v.null()),
  }).index("by_hash", ["hash"]),

  // Written by: the operator (llm), and register for the code that a worker brings (python).
  agents: defineTable({
    name: v.string(),
    kind: vRunKind,
    description: v.string(),
    llm: v.union(vLlm, v.null()),
    retry: vRetry,
    timeoutMs: v.union(v.number(), v.null()),
    capabilities: v.optional(v.array(v.string())), // sorted
    configHash: v.string(),
    executor: v.optional(vExecutor), // none: poll
  })
    .index("by_name", ["name"])
    .index("by_endpoint", ["executor.endpoint"]),

  // What an agent of the registry was before it changed: tasks that began with it go on with it. In: agents:sync. Out: the
  // same, the oldest of an agent when there are too many.
  agentVersions: defineTable({ agent: v.string(), version: v.string(), llm: vLlm }).index(
    "by_agent_and_version",
    ["agent", "version"],
  ),

  // Which agents can do what; as their rows say. Written with them.
  capabilities: defineTable({ capability: v.string(), agent: v.string() }).index("by_capability_and_agent", [
    "capability",
    "agent",
  ]),

  // Written by: submit, dispatch, and the end of a run. Three writes for each attempt; never by a heartbeat.
  tasks: defineTable({
    tenant: v.string(),
    queue: v.string(),
    agent: v.string(),
    kind: vRunKind,
    input: v.union(v.string(), v.null()), // JSON text; null when it is in `outputs`
    inputId: v.union(v.id("outputs"), v.null()),
    status: vTaskStatus,
    priority: v.number(),
    attempt: v.number(), // runs so far; grows by one with each
    failures: v.number(), // attempts burnt, compared with retry.maxAttempts
    losses: v.number(), // runs that went down with their worker
    releases: v.number(), // runs handed back, in a row
    isolate: v.boolean(), // a run of it took its process down
    retry: vRetry,
    timeoutMs: v.union(v.number(), v.null()),
    startBy: v.union(v.number(), v.null()), // the first run begins by then, or the task fails
    endBy: v.union(v.number(), v.null()),
    labels: v.array(v.string()), // sorted; a worker must carry all of them
    key: v.union(v.string(), v.null()), // the submitter's own limit key
    sticky: v.optional(v.string()), // prefer the worker that ran a task with this text last
    dedupKey: v.optional(v.string()),
    dedupUntil: v.optional(v.number()), // from then on the key is free again
    gathers: v.optional(v.boolean()), // its input is the array of its batchItems
    parent: v.optional(v.id("tasks")), // the task that spawned it
    stack: v.optional(v.string()), // the application that it belongs to; budgets know it
    budgeted: v.optional(v.literal(true)), // it has a budget of its own
    run: v.union(v.id("runs"), v.null()), // the live or the last run
    cancelRequested: v.boolean(),
    pauseRequested: v.optional(v.boolean()), // it is paused when it next comes in line
    resumeAt: v.optional(v.number()), // paused: when it is due once it is resumed
    retriedAt: v.optional(v.number()), // by hand, the last time: its deadlines count from then
    steps: v.optional(v.number()), // kept by the runs that have ended
    redo: v.optional(v.array(v.string())), // failed: the steps that a retry by hand makes anew
    pinned: v.optional(vVersion), // what its first steps were taken by, and so has to play what comes behind them
    preparing: v.optional(v.union(v.literal("restart"), v.literal("fork"))), // paused until its steps are dropped, or copied
    fork: v.optional(v.id("forks")), // it goes on from a step of another task
    traceparent: v.optional(v.string()), // the span of whoever submitted it
    signals: v.optional(v.number()), // sent and not taken by a run that has ended
    output: v.union(v.string(), v.null()), // JSON text; null when it is in `outputs`, or there is none
    outputId: v.union(v.id("outputs"), v.null()),
    error: v.union(vFault, v.null()),
    usage: vUsage, // summed over all runs
    dueAt: v.number(),
    startedAt: v.union(v.number(), v.null()),
    endedAt: v.union(v.number(), v.null()),
    updated: v.commitTs(),
    // Absent in a task that uses none of it.
    followed: v.optional(v.literal(true)), // something waits for its end: a dependent or a group
    purging: v.optional(v.literal(true)), // retention has deleted some of it
    treeCancelled: v.optional(v.literal(true)), // cancelled with all its children, also those still to come
  })
    // eslint-disable-next-line @convex-dev/no-duplicate-indexes -- newest first, and no rewrite when the status changes
    .index("by_tenant", ["tenant"])
    .index("by_tenant_and_status_and_updated", ["tenant", "status", "updated"])
    .index("by_tenant_and_dedupKey", ["tenant", "dedupKey"]),

  // The task that gathers under a key, by what it shares: kind/queue/agent/tenant/key. Written by: submit.
  collectors: defineTable({
    name: v.string(),
    task: v.id("tasks"),
    until: v.union(v.number(), v.null()), // debounce: it is due by then, whatever comes
    keys: v.optional(v.array(v.string())), // of rows from before: not read any more
    items: v.number(), // batch: so far, and their bytes as one array
    bytes: v.number(),
    maxItems: v.number(),
  })
    .index("by_name", ["name"])
    .index("by_task", ["task"]),

  // What a batched task has gathered; of a debounced one the dedup keys of what has joined it, without a text. Insert only, by
  // submit; they go with their task.
  batchItems: defineTable({
    task: v.id("tasks"),
    tenant: v.string(),
    text: v.string(), // JSON
    dedupKey: v.optional(v.string()),
    dedupUntil: v.optional(v.number()),
  })
    .index("by_task", ["task"])
    .index("by_tenant_and_dedupKey", ["tenant", "dedupKey"]),

  // In: submit, timers, the end of a run. Out: dispatch, cancel.
  ready: defineTable(waiting).index("by_lane_and_rank", ["lane", "rank"]).index("by_task", ["task"]),

  // In: submit, the end of a run, dispatch for want of a budget. Out: timers, cancel, dispatch.
  delayed: defineTable({
    ...waiting,
    dueAt: v.number(),
    budget: v.optional(v.id("budgets")), // it waits for this one, and comes again at `dueAt` to look
  })
    .index("by_dueAt", ["dueAt"])
    .index("by_budget_and_rank", ["budget", "rank"])
    .index("by_task", ["task"]),

  // What is to be done at which times. Written by: whoever sets, pauses, resumes or removes it.
  schedules: defineTable({
    tenant: v.string(),
    name: v.string(),
    when: vWhen,
    template: vTemplate,
    catchUp: vCatchUp,
    overlap: vOverlap,
    jitterMs: v.number(),
    enabled: v.boolean(),
  }).index("by_tenant_and_name", ["tenant", "name"]),

  // Where a schedule stands. Written by: timers with each occurrence, and by whoever changes when the next one is.
  scheduleStates: defineTable({
    schedule: v.id("schedules"),
    nextAt: v.union(v.number(), v.null()), // nominal; the alarm rings then or a jitter later
    lastAt: v.union(v.number(), v.null()),
    lastTask: v.union(v.id("tasks"), v.null()),
    before: v.optional(v.array(v.id("tasks"))), // older ones that had not ended when the last was submitted: what `overlap` looks at too
    fired: v.number(),
    overlapped: v.number(),
    missed: v.union(v.object({ first: v.number(), last: v.number() }), v.null()),
    lastError: v.union(v.object({ at: v.number(), code: v.string(), message: v.string() }), v.null()),
  }).index("by_schedule", ["schedule"]),

  // What an event starts. Written by: whoever sets, pauses, resumes or removes it; emit, when its task begins or ceases to be refused.
  triggers: defineTable({
    tenant: v.string(),
    name: v.string(),
    event: v.string(),
    template: vEventTemplate,
    filter: v.array(vCondition),
    enabled: v.boolean(),
    lastError: v.union(vFault, v.null()),
  })
    .index("by_tenant_and_name", ["tenant", "name"])
    .index("by_tenant_and_event", ["tenant", "event"]),

  // Who may call from outside, and what a call does. Written by: the operator.
  webhooks: defineTable({
    name: v.string(),
    tenant: v.string(),
    scheme: vWebhookScheme,
    secretVariables: v.array(v.string()), // names only
    target: vWebhookTarget,
    enabled: v.boolean(),
  }).index("by_name", ["name"]),

  // Ids that have been seen. In: emit, webhooks, retries, with what they stand for. Out: the watchdog, when they have expired.
  nonces: defineTable({
    key: v.string(),
    expiresAt: v.number(),
    refused: v.optional(v.array(v.string())), // triggers of an event that could not start their tasks
  })
    .index("by_key", ["key"])
    .index("by_expiresAt", ["expiresAt"]),

  // What rings at a time. In: whoever sets it. Out: timers when it has rung, or whoever set it.
  alarms: defineTable({ kind: vAlarmKind, target: v.string(), at: v.number() })
    .index("by_at", ["at"])
    .index("by_kind_and_target", ["kind", "target"]),

  // Written when a loop falls asleep or wakes. Every submit reads it, so nothing busy stands here.
  loops: defineTable({
    name: v.union(v.literal("dispatch"), v.literal("timers"), v.literal("settle"), v.literal("models")),
    state: v.id("loopState"),
    running: v.boolean(),
    starved: v.boolean(), // dispatch: asleep although work waits, for want of room in a worker or under a limit
    wakeAt: v.union(v.number(), v.null()), // timers: when it is due; dispatch: asleep until then at the latest
    limited: v.boolean(), // dispatch: there are limits. Written whenever one changes, so that a pass under way begins anew
  }).index("by_name", ["name"]),

  // Written by: that loop only, on every pass, and by whoever wakes it from sleep.
  loopState: defineTable({
    generation: v.number(), // a scheduled pass of another generation is superseded and does nothing
    job: v.union(v.id("_scheduled_functions"), v.null()),
    batch: v.number(), // dispatch: assignments of a pass; 1 after a crash of the loop
    suspect: v.union(v.id("ready"), v.null()), // dispatch: the one item that the pass after a crash takes
    setAside: v.boolean(), // dispatch: an item was set aside since the last pass that came to its end
    cursor: v.string(), // dispatch: where in the circle of lanes the next pass begins
    turns: v.record(v.string(), vTurn), // dispatch: kind of worker -> the lane that had its last turn
    // dispatch, while it goes round all lanes: where it began, whether it has passed the last one, and `nextAt` so far
    circle: v.union(
      v.object({ end: v.string(), around: v.boolean(), nextAt: v.union(v.number(), v.null()) }),
      v.null(),
    ),
    circledAt: v.number(), // dispatch: when it last came round
    censusAt: v.number(), // dispatch: runs are not counted for new limits before then
    freedFrom: v.int64(), // dispatch: what was freed before this commit is settled
    inUse: v.record(v.string(), v.number()), // dispatch: session -> runs it holds
  }),

  // Written by: register, the first sync of a session that takes the worker over, drain, the end of a session (all rare).
  workers: defineTable({
    name: v.string(),
    ...workerProfile,
    session: v.union(v.id("sessions"), v.null()),
    live: v.boolean(),
    draining: v.boolean(),
    endpoint: v.optional(v.id("endpoints")), // a stand-in for this endpoint; the control plane owns its sessions
  })
    .index("by_name", ["name"])
    .index("by_live", ["live"]),

  // One incarnation of a worker. Written by: register, and once when it takes its worker over and when it ends. The worker's
  // open inbox reads it, so its heartbeat stands apart.
  sessions: defineTable({
    worker: v.id("workers"),
    incarnation: v.string(),
    key: v.union(v.id("keys"), v.null()), // only its holder speaks for the session; null: nobody, it is an endpoint's
    ended: v.union(v.string(), v.null()), // the reason
    // It registered while another session held the worker, which that one holds until this one is heard.
    announced: v.optional(v.object(workerProfile)),
  }).index("by_worker_and_incarnation", ["worker", "incarnation"]),

  // Written by: that worker's sync only, until the session is ended; an endpoint's alarm and checks.
  heartbeats: defineTable({
    session: v.id("sessions"),
    seq: v.number(),
    state: v.union(v.literal("idle"), v.literal("busy"), v.literal("ended")),
    expiresAt: v.number(),
    clocks: v.optional(vClocks), // as the last sync told them, or the last check of an endpoint
    heardAt: v.optional(v.number()), // of an endpoint: when it last answered a check, or began to count as alive
  })
    .index("by_session", ["session"])
    .index("by_state_and_expiresAt", ["state", "expiresAt"]),

  // One attempt. Written by: dispatch (insert), its worker's sync, timers, cancel, and the end of its session.
  runs: defineTable({
    task: v.id("tasks"),
    attempt: v.number(),
    worker: v.id("workers"),
    session: v.id("sessions"),
    lane: v.string(), // whose limits it counts for
    state: vRunState,
    deadlineAt: v.number(), // assigned: to be accepted by; running: to be over by; 0 when there is none or it ended
    assignedAt: v.number(),
    startedAt: v.union(v.number(), v.null()),
    endedAt: v.union(v.number(), v.null()),
    usage: v.union(vUsage, v.null()), // while it is live: as far as its worker has told
    error: v.union(vFault, v.null()),
    steps: v.optional(v.number()), // of its task, with those of earlier runs
    pinned: v.optional(vVersion), // what it is played by; absent: its worker does not tell
    sandboxed: v.optional(v.literal(true)), // of a fork: it has no effects
    consumed: v.optional(v.number()), // signals that this run has taken
    outputId: v.optional(v.id("outputs")), // uploaded before its end, being too large for a sync
    budgeted: v.optional(v.literal(true)), // it holds a reservation
  })
    .index("by_session_and_state", ["session", "state"])
    .index("by_task_and_attempt", ["task", "attempt"])
    .index("by_state_and_deadlineAt", ["state", "deadlineAt"]),

  // Runs have ended and their worker has room again. Inserted with the end of the runs, settled and removed by dispatch. Read
  // in the order of commits, so that a cursor passes by what is settled.
  freed: defineTable({
    session: v.id("sessions"),
    lane: v.string(),
    runs: v.optional(v.number()), // absent: one
    at: v.commitTs(),
  }).index("by_at", ["at"]),

  // Written by: the operator (rare); `uncounted` by dispatch too.
  limits: defineTable({
    kind: vScopeKind,
    name: v.string(), // "*": a default, for each name by itself
    limit: v.union(v.number(), v.null()), // runs at once
    rate: v.union(vRate, v.null()),
    weight: v.union(v.number(), v.null()),
    paused: v.boolean(),
    uncounted: v.union(v.string(), v.null()), // runs of scopes from this name on are still to be counted
  }).index("by_kind_and_name", ["kind", "name"]),

  // Written by: dispatch only. A scope under a limit or rate that is not at rest; there is none while nothing is limited.
  counters: defineTable({
    kind: vScopeKind,
    name: v.string(),
    inUse: v.number(),
    tokens: v.union(v.number(), v.null()), // null: the bucket is full
    tokensAt: v.number(),
    restsAt: v.union(v.number(), v.null()), // nothing is in use, and from then on the bucket is full
  })
    .index("by_kind_and_name", ["kind", "name"])
    .index("by_restsAt", ["restsAt"]),

  // How much may be spent. Written by: the operator, and submit for a task's own.
  budgets: defineTable(vBudget).index("by_task_and_kind_and_name", ["task", "kind", "name"]),

  // Written by: dispatch only. What is spent of a budget in a period, and what live runs hold of it. `scope`: who spends it,
  // for a budget that each spends by itself.
  balances: defineTable({
    budget: v.id("budgets"),
    scope: v.string(),
    from: v.number(),
    task: v.optional(v.id("tasks")), // whose run alone it is for
    spent: vAmounts,
    held: vAmounts,
    paused: v.boolean(),
    told: v.boolean(), // an event has told that it is spent
  })
    .index("by_budget_and_scope_and_from", ["budget", "scope", "from"])
    .index("by_task", ["task"]),

  // Written by: dispatch only. What a live run holds of its budgets.
  reservations: defineTable({
    run: v.id("runs"),
    balances: v.array(v.id("balances")),
    held: vAmounts,
    settled: vAmounts, // counted in the balances already
    granted: vCaps, // all in all, as the run was told
    want: v.number(), // the last that was answered
    degraded: v.boolean(),
    unpriced: v.union(v.number(), v.null()),
    waiting: v.optional(vSpending), // a wish that waits until others give back
    since: v.optional(v.number()),
  })
    .index("by_run", ["run"])
    .index("by_since", ["since"]),

  // Written by: the owner's sync only. What a run has spent, and reserved for calls under way. Removed by dispatch with the
  // run's reservation.
  spendings: defineTable({ run: v.id("runs"), spent: vAmounts, reserved: vAmounts }).index("by_run", ["run"]),

  // In: the owner's sync, the end of a run, the operator. Out: dispatch.
  budgetWork: defineTable({ work: vBudgetWork }),

  // Written by: dispatch only. Which worker ran a sticky key last.
  stickies: defineTable({ tenant: v.string(), sticky: v.string(), worker: v.id("workers"), at: v.number() })
    .index("by_tenant_and_sticky", ["tenant", "sticky"])
    .index("by_at", ["at"]),

  // What a worker is told. Inserted by the API and timers, removed when its sync acknowledges it or its session ends.
  controls: defineTable({
    session: v.id("sessions"),
    kind: vControlKind,
    run: v.union(v.id("runs"), v.null()),
    reason: v.string(),
    signal: v.optional(v.id("signals")),
    allotment: v.optional(vAllotment),
  })
    .index("by_session", ["session"])
    .index("by_run_and_kind", ["run", "kind"]),

  // What a task has done for good. In: the owner's sync, the end of a run that waits. The result of a wait is filled in by
  // whatever ends it, that of an intended effect by a later sync of the owner. Kept until the task ends.
  steps: defineTable({
    task: v.id("tasks"),
    key: v.string(),
    kind: vStepKind,
    result: v.union(v.string(), v.null()), // JSON text; null when it is in `outputs`, or the wait is not over
    resultId: v.union(v.id("outputs"), v.null()),
    at: v.union(v.number(), v.null()), // sleep, and an event with a time limit: when it is over
    copied: v.optional(v.literal(true)), // from the task that this one was forked from
    ...stepFields,
  })
    // eslint-disable-next-line @convex-dev/no-duplicate-indexes -- in the order in which they were taken
    .index("by_task", ["task"])
    .index("by_task_and_key", ["task", "key"]),

  // What a task was forked from. In: tasks:fork. Written by: the same and the settle loop, until its steps are copied.
  forks: defineTable({
    task: v.id("tasks"),
    of: v.id("tasks"),
    at: v.union(v.string(), v.null()), // the first step that is taken anew; null: all are
    before: v.number(), // steps created before this are copied
    copied: v.number(), // up to this creation time all is done
    kept: v.number(), // steps copied
    recorded: v.number(), // results behind the fork point, which its calls may find
    depth: v.number(), // 1: of a task that is no fork
    effects: vForkEffects,
    change: v.optional(vForkChanges),
    pinned: v.optional(vVersion), // what has to play it
    code: v.optional(vVersion), // what the copied steps were taken by
  })
    .index("by_task", ["task"])
    .index("by_of", ["of"]),

  // A task that waits for an event. In: the end of its run. Out: the event, a signal, the time limit, or what ends the task.
  waits: defineTable({
    tenant: v.string(),
    event: v.string(),
    task: v.id("tasks"),
    step: v.id("steps"),
    limited: v.boolean(), // an alarm is set
  })
    .index("by_tenant_and_event", ["tenant", "event"])
    .index("by_task", ["task"]),

  // What people are to decide, and what they decided. In: the end of a run that waits for it. Written once: by approvals:decide,
  // by its alarm, or by what ends the task.
  approvals: defineTable({
    tenant: v.string(),
    task: v.id("tasks"),
    run: v.id("runs"), // that asked
    step: v.string(), // its key; the decision becomes its result
    tool: v.string(),
    args: v.string(), // canonical JSON text, as people are shown it
    argsHash: v.string(), // its SHA-256
    why: vApprovalWhy,
    about: v.union(v.string(), v.null()), // in_doubt: the key of the step that is in doubt
    state: vApprovalState,
    expiresAt: v.number(),
    decidedAt: v.union(v.number(), v.null()),
    decidedBy: v.union(v.id("keys"), v.null()),
    decidedByLabel: v.union(v.string(), v.null()),
    note: v.union(v.string(), v.null()),
    request: v.optional(v.string()), // of the decision
  })
    // eslint-disable-next-line @convex-dev/no-duplicate-indexes -- newest first, whatever the state
    .index("by_tenant", ["tenant"])
    .index("by_tenant_and_state", ["tenant", "state"])
    // eslint-disable-next-line @convex-dev/no-duplicate-indexes -- newest first, whatever the state
    .index("by_task", ["task"])
    .index("by_task_and_state", ["task", "state"])
    .index("by_task_and_step", ["task", "step"]),

  // Sent to one task. In: tasks:signal. Written when a run takes it. A taken one is remembered for a while by its id.
  signals: defineTable({
    task: v.id("tasks"),
    id: v.string(), // the sender's
    name: v.string(),
    data: v.string(), // JSON text; empty once it is taken
    taken: v.boolean(),
  })
    .index("by_task_and_id", ["task", "id"])
    // eslint-disable-next-line @convex-dev/no-duplicate-indexes -- in the order in which they came
    .index("by_task_and_taken", ["task", "taken"])
    .index("by_task_and_taken_and_name", ["task", "taken", "name"]),

  // What a run says of itself, the newest alone. Written by: the owner's sync.
  progress: defineTable({
    run: v.id("runs"),
    done: v.union(v.number(), v.null()),
    total: v.union(v.number(), v.null()),
    message: v.string(),
    state: v.union(v.string(), v.null()), // JSON text
    at: v.number(),
  }).index("by_run", ["run"]),

  // Somebody looks at a run, until when. Written by viewers, removed by the watchdog.
  watches: defineTable({ session: v.id("sessions"), run: v.id("runs"), until: v.number() })
    .index("by_session_and_until", ["session", "until"])
    .index("by_run", ["run"])
    .index("by_until", ["until"]),

  // A model that cools or is limited, and what all workers are told of it: each open inbox reads it. Written by: the operator, the
  // models loop; rows that say nothing any more are removed by that loop.
  models: defineTable({
    name: v.string(), // provider/model
    requests: v.union(v.number(), v.null()), // limits of all workers together, in perMs
    tokens: v.union(v.number(), v.null()),
    perMs: v.number(),
    configured: v.number(), // grows with each change by the operator
    coolUntil: v.union(v.number(), v.null()), // nobody is to ask it before then
    error: v.union(vFault, v.null()), // why it cools
  }).index("by_name", ["name"]),

  // How a model does. Written by: the models loop; an operator's setting begins it.
  modelLoads: defineTable({
    model: v.string(),
    minute: v.object({ start: v.number(), ...vCounts.fields }), // the minute of the last report
    before: vCounts, // the minute before that
    total: vCounts,
    recent: v.array(v.object({ at: v.number(), requests: v.number(), failures: v.number() })),
    error: v.union(vFault, v.null()), // the last failure
    errorAt: v.union(v.number(), v.null()),
    againAt: v.union(v.number(), v.null()), // when it is looked at again for the sake of its shares
    at: v.number(), // of the last report
  })
    .index("by_model", ["model"])
    .index("by_at", ["at"]),

  // A session's share of a model's limits (model/shares.ts). Written by: the models loop only. Each session's inbox reads its own.
  modelShares: defineTable({
    model: v.string(),
    session: v.id("sessions"),
    requests: v.number(),
    tokens: v.number(),
    heldRequests: v.number(), // what of the limit is set apart for it
    heldTokens: v.number(),
    heldUntil: v.union(v.number(), v.null()),
    rev: v.number(),
    wantedAt: v.number(),
    waiting: v.boolean(),
    least: v.number(),
  })
    .index("by_model", ["model"])
    .index("by_session", ["session"]),

  // What the models loop is to settle. In: sync, the end of a session, the operator. Out: that loop.
  modelReports: defineTable({
    model: v.string(),
    session: v.union(v.id("sessions"), v.null()),
    report: v.union(vModelReport, v.null()), // null: the model is to be looked at
    at: v.number(), // 0: at once; else not before, for one that was set aside
    suspect: v.boolean(), // the loop died on it once
  }).index("by_at", ["at"]),

  // Each attempt at a model call. Insert only, by the owner's sync.
  modelCalls: defineTable(vModelCall)
    .index("by_task", ["task"])
    .index("by_run_and_call_and_attempt", ["run", "call", "attempt"]),

  // Stream text. Inserted by the owner's sync.
  chunks: defineTable(vChunk).index("by_run_and_seq", ["run", "seq"]),

  // Inputs and outputs too large for their task's row, a row for each part; the first names the others. Insert only.
  outputs: defineTable({ text: v.string(), rest: v.optional(v.array(v.id("outputs"))) }),

  // The history. Insert only, in the transaction that it tells of.
  events: defineTable({
    tenant: v.string(),
    task: v.id("tasks"),
    run: v.union(v.id("runs"), v.null()),
    type: vEventType,
    data: vEventData,
    at: v.commitTs(),
  })
    .index("by_task_and_at", ["task", "at"])
    .index("by_at", ["at"]),

  // An edge: `task` comes after `on`. In: submit. Settled by: submit when `on` has ended already, else the settle loop.
  deps: defineTable({
    task: v.id("tasks"),
    on: v.id("tasks"),
    ref: v.union(v.string(), v.null()), // the name that the submitter gave to `on`
    onFailure: vOnFailure,
    blocked: v.union(v.id("blocked"), v.null()), // null: `task` waited for nothing when it was submitted
    open: v.boolean(),
    any: v.optional(v.literal(true)), // `task` waits for one of its edges, not for all
  })
    .index("by_on_and_open", ["on", "open"])
    .index("by_task", ["task"]),

  // A task that waits for others. In: submit. Written by: the settle loop. Out: that loop, or what ends the task.
  blocked: defineTable({ task: v.id("tasks"), mode: vAfterMode, open: v.number() }).index("by_task", [
    "task",
  ]),

  // `task` was submitted by a run of `parent`. Insert only.
  children: defineTable({ parent: v.id("tasks"), task: v.id("tasks") }).index("by_parent", ["parent"]),

  // Written when a group is made, sealed, completed, and by its callback. Every submit into it reads it, so its counts stand apart.
  groups: defineTable({
    tenant: v.string(),
    name: v.union(v.string(), v.null()), // the submitter's own, once for each tenant
    task: v.union(v.id("tasks"), v.null()), // the one task, when the group was made for it
    queues: v.optional(v.array(v.string())), // its maker's key is bound to these: no other tasks join; absent: any
    sealed: v.boolean(), // nothing joins any more
    tally: v.id("tallies"),
    onComplete: v.union(vOnComplete, v.null()),
    waiter: v.union(v.id("tasks"), v.null()), // the task to wake when it is complete
    result: v.union(vGroupResult, v.null()),
    completedAt: v.union(v.number(), v.null()),
    callbackState: vCallbackState,
    tries: v.number(), // calls of the callback that were begun
    callbackError: v.union(v.string(), v.null()),
    followUp: v.union(v.id("tasks"), v.null()),
  })
    // eslint-disable-next-line @convex-dev/no-duplicate-indexes -- newest first
    .index("by_tenant", ["tenant"])
    .index("by_tenant_and_name", ["tenant", "name"]),

  // The counts of a group. Written by: the settle loop only, after the group was made.
  tallies: defineTable({
    total: v.number(),
    succeeded: v.number(),
    failed: v.number(),
    cancelled: v.number(),
    skipped: v.number(),
  }),

  // A task of a group. In: submit. Written by: the settle loop, once, when the task has ended.
  members: defineTable({ group: v.id("groups"), task: v.id("tasks"), ended: v.boolean() })
    .index("by_group_and_ended", ["group", "ended"])
    .index("by_task", ["task"]),

  // What the settle loop is to do. In: whatever ends a task that something waits for, submits, the API. Out: that loop.
  settlements: defineTable({
    work: vSettlement,
    at: v.number(), // 0: at once; else not before, for one that was set aside
    suspect: v.boolean(), // the loop died on it once
  }).index("by_at", ["at"]),

  // Addresses that the control plane may call. Written by: the operator.
  endpoints: defineTable(endpointFields).index("by_name", ["name"]),

  // How an endpoint does. Written by: the operator's changes, its alarm, and what its calls bring back.
  endpointStates: defineTable({
    endpoint: v.id("endpoints"),
    worker: v.union(v.id("workers"), v.null()), // its stand-in, once it has agents
    healthEveryMs: v.number(), // the shortest that its agents ask for
    misses: v.number(), // in a row
    asked: v.number(), // checks and wake-up calls so far
    askedAt: v.number(),
    answered: v.number(), // the last of them that ended
    error: v.union(v.string(), v.null()),
  }).index("by_endpoint", ["endpoint"]),

  // Runs that an endpoint has been given. In: dispatch. Out: the endpoint's alarm, once they have ended.
  pushes: defineTable({
    run: v.id("runs"),
    endpoint: v.id("endpoints"),
    answerBy: v.union(v.number(), v.null()), // null: not sent yet
    takenAt: v.union(v.number(), v.null()), // it said that the result will follow
    heardAt: v.number(),
  })
    .index("by_run", ["run"])
    .index("by_endpoint", ["endpoint"]),

  // Ids of messages from endpoints, so that each counts once. In: callbacks. Out: the endpoint's alarm, past their tolerance.
  endpointMessages: defineTable({
    endpoint: v.id("endpoints"),
    message: v.string(),
    until: v.number(),
    ended: v.optional(v.literal(true)), // it brought the outcome with which its run ended
  })
    .index("by_endpoint_and_message", ["endpoint", "message"])
    .index("by_endpoint_and_until", ["endpoint", "until"]),

  // A large result that several steps share, or an input that several tasks do (`step` is then the task). In: the event that
  // woke them, forks. Out: retention, with the step or task.
  shares: defineTable({
    output: v.id("outputs"),
    step: v.union(v.id("steps"), v.id("tasks")),
  }).index("by_output_and_step", ["output", "step"]),

  // How far each kind of upkeep has come. Written by: its chain of pages, and the watchdog that begins one; archive: the
  // operator.
  upkeep: defineTable({
    name: v.union(v.literal("retention"), v.literal("rollup"), v.literal("archive")),
    cursor: vPosition, // the history up to here is done
    generation: v.number(), // a page of another generation is superseded and does nothing
    busyUntil: v.number(), // a chain of pages is under way; one that was not heard of by then has died
  }).index("by_name", ["name"]),

  // What happened in a minute: rows for all of it, each tenant, each queue, each agent. Written by: the rollup; retention
  // removes old ones.
  stats: defineTable({
    scope: v.string(), // all, tenant:NAME, queue:NAME, agent:NAME, stack:NAME
    bucket: v.number(), // when the minute began
    ...vCounters.fields,
  }).index("by_scope_and_bucket", ["scope", "bucket"]),

  // What retention has yet to delete. In: retention, for a task of many pages or one that is still needed; the settle loop,
  // for a group that is complete. Out: retention.
  purges: defineTable({
    target: v.union(
      v.object({ kind: v.literal("task"), id: v.id("tasks") }),
      v.object({ kind: v.literal("group"), id: v.id("groups") }),
    ),
    at: v.number(), // not before
  }).index("by_at", ["at"]),
});
