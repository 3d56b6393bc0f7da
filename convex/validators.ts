/** Validators shared by schema, arguments and types. The worker's models are held to them by a contract test. */
import { vModelState } from "./model.validators";
import { v, type Infer } from "convex/values";
import { vAsk } from "./approval.validators";
import { llmFields } from "./llm.validators";
import { vAllotment, vSpending, vTaskBudget } from "./budget.validators";
import { stepFields } from "./step.validators";
import { vForkTold } from "./fork.validators";
import { vVersion } from "./version.validators";

export const vRole = v.union(
  v.literal("worker"),
  v.literal("viewer"),
  v.literal("submit"),
  v.literal("operator"),
);
export type Role = Infer<typeof vRole>;

export const vRunKind = v.union(v.literal("llm"), v.literal("python"));

// waiting: for other tasks. sleeping, waiting_event, waiting_approval: between two runs, holding no worker. skipped: a
// dependency failed.
export const vTaskStatus = v.union(
  v.literal("waiting"),
  v.literal("pending"),
  v.literal("delayed"),
  v.literal("running"),
  v.literal("sleeping"),
  v.literal("waiting_event"),
  v.literal("waiting_approval"), // for people
  v.literal("paused"),
  v.literal("succeeded"),
  v.literal("failed"),
  v.literal("cancelled"),
  v.literal("skipped"),
);
export type TaskStatus = Infer<typeof vTaskStatus>;

export const vRunState = v.union(
  v.literal("assigned"),
  v.literal("running"),
  v.literal("succeeded"),
  v.literal("failed"),
  v.literal("cancelled"),
  v.literal("lost"),
  v.literal("released"),
  v.literal("suspended"),
);
export type RunState = Infer<typeof vRunState>;

export const vFault = v.object({ code: v.string(), message: v.string() });
export type Fault = Infer<typeof vFault>;

export const vUsage = v.object({
  model: v.union(v.string(), v.null()),
  calls: v.number(),
  inputTokens: v.union(v.number(), v.null()), // null: the provider did not tell
  outputTokens: v.union(v.number(), v.null()),
  costMicros: v.optional(v.number()), // micro-dollars, of failed and cancelled calls too; absent: no call had a price
});
export type Usage = Infer<typeof vUsage>;

export const vRetry = v.object({
  maxAttempts: v.number(),
  initialMs: v.number(),
  base: v.number(),
  maxMs: v.number(),
});
export type Retry = Infer<typeof vRetry>;

export const vLlm = v.object({
  model: v.union(v.string(), v.null()), // null: the worker's default model
  prompt: v.string(),
  temperature: v.union(v.number(), v.null()),
  maxOutputTokens: v.union(v.number(), v.null()),
  ...llmFields,
});

// Who plays an agent. poll: workers that hold a session. http: these, and an endpoint to which its runs are pushed.
const vPoll = v.object({ kind: v.literal("poll") });
const http = {
  kind: v.literal("http"),
  endpoint: v.string(), // its name in the operator's list
  concurrency: v.number(), // runs at once; agents of one endpoint share the largest of theirs
  healthEveryMs: v.number(),
  timeoutMs: v.number(), // for the endpoint's answer to a run that it is given
};
export const vExecutor = v.union(vPoll, v.object(http));
export type Executor = Infer<typeof vExecutor>;
export const vExecutorSpec = v.union(
  vPoll,
  v.object({
    kind: http.kind,
    endpoint: http.endpoint,
    concurrency: v.optional(http.concurrency),
    healthEveryMs: v.optional(http.healthEveryMs),
    timeoutMs: v.optional(http.timeoutMs),
  }),
);

export const vAgentSpec = v.object({
  name: v.string(),
  description: v.string(),
  llm: v.optional(vLlm), // left out: an endpoint plays it, with code of its own
  retry: v.optional(vRetry.partial()),
  timeoutMs: v.optional(v.number()),
  capabilities: v.optional(v.array(v.string())), // what a task can ask for instead of its name
  executor: v.optional(vExecutorSpec),
});
export type AgentSpec = Infer<typeof vAgentSpec>;

// What a worker says of each Python agent that it brings.
export const vAgentOffer = v.object({
  name: v.string(),
  description: v.string(),
  capabilities: v.array(v.string()),
  version: v.optional(v.string()), // as its author calls it; default: `code`
  code: v.optional(v.string()), // a hash of its source
});
export type AgentOffer = Infer<typeof vAgentOffer>;

// What becomes of a task when one that it comes after does not succeed. run: as if it had.
export const vOnFailure = v.union(v.literal("fail"), v.literal("skip"), v.literal("run"));
export type OnFailure = Infer<typeof vOnFailure>;

// all: when each of them has. any: when the first has succeeded.
export const vAfterMode = v.union(v.literal("all"), v.literal("any"));
export type AfterMode = Infer<typeof vAfterMode>;

export const vAfter = v.object({
  on: v.string(), // a task, or #NAME for the one of the same call whose ref is NAME
  onFailure: v.optional(vOnFailure), // default: fail
});
export type After = Infer<typeof vAfter>;

// The task that is submitted when a group is complete; the summary is its input.
export const vFollowUp = v.object({
  agent: v.string(),
  queue: v.optional(v.string()),
  priority: v.optional(v.number()),
  timeoutMs: v.optional(v.number()),
  labels: v.optional(v.array(v.string())),
  key: v.optional(v.string()),
});
export type FollowUp = Infer<typeof vFollowUp>;

// context: JSON text, handed on as it is.
export const vOnComplete = v.union(
  v.object({ callback: v.string(), context: v.optional(v.string()) }), // a name of callbacks.ts
  v.object({ task: vFollowUp, context: v.optional(v.string()) }),
);
export type OnComplete = Infer<typeof vOnComplete>;

export const vTaskSpec = v.object({
  agent: v.optional(v.string()), // this or a capability
  capability: v.optional(v.string()),
  input: v.string(), // JSON text
  queue: v.optional(v.string()),
  tenant: v.optional(v.string()),
  priority: v.optional(v.number()),
  dedupKey: v.optional(v.string()),
  dedupForMs: v.optional(v.number()), // how long the key names this task; default: as long as the task is kept
  delayMs: v.optional(v.number()),
  runAt: v.optional(v.number()),
  timeoutMs: v.optional(v.number()),
  retry: v.optional(vRetry.partial()),
  startWithinMs: v.optional(v.number()), // from its submission; else it fails
  endWithinMs: v.optional(v.number()),
  labels: v.optional(v.array(v.string())), // a worker must carry all of them
  key: v.optional(v.string()), // the submitter's own limit key: an account, a customer, a repository
  // Until a task with this key begins, a later submit replaces its input and puts it off, at most maxMs from the first.
  debounce: v.optional(v.object({ key: v.string(), forMs: v.number(), maxMs: v.optional(v.number()) })),
  // What is submitted with this key becomes one task, whose input is the array of inputs: at so many or after so long.
  batch: v.optional(v.object({ key: v.string(), maxItems: v.number(), maxMs: v.number() })),
  ref: v.optional(v.string()), // what other tasks of the same call know it by
  after: v.optional(v.array(vAfter)), // it waits for these
  afterMode: v.optional(vAfterMode), // default: all
  group: v.optional(v.string()), // an open group, which it joins
  onComplete: v.optional(vOnComplete), // called once when it has ended
  sticky: v.optional(v.string()), // prefer the worker that ran a task with this text last
  traceparent: v.optional(v.string()), // of W3C Trace Context: the span under which its runs belong
  stack: v.optional(v.string()), // the application that it belongs to; default: its parent's
  budget: v.optional(vTaskBudget), // of its own, for all of its runs
});
export type TaskSpec = Infer<typeof vTaskSpec>;

// What a limit is for. key: the submitter's own; lane: all that constrains a task, as `tasks:why` names it.
export const vScopeKind = v.union(
  v.literal("system"),
  v.literal("queue"),
  v.literal("agent"),
  v.literal("tenant"),
  v.literal("key"),
  v.literal("lane"),
);
export type ScopeKind = Infer<typeof vScopeKind>;

// A token bucket: `count` starts in `perMs`, and `burst` of them at once when it was idle.
export const vRate = v.object({ count: v.number(), perMs: v.number(), burst: v.number() });
export type Rate = Infer<typeof vRate>;

export const vLimitView = v.object({
  kind: vScopeKind,
  name: v.string(), // "" for the system; "*": a default, for each name by itself
  limit: v.union(v.number(), v.null()), // runs at once; null: no limit of its own
  rate: v.union(vRate, v.null()),
  weight: v.union(v.number(), v.null()),
  paused: v.boolean(),
});
export type LimitView = Infer<typeof vLimitView>;

// Why a task does not run now, what would change that, and when time alone does.
export const vReason = v.object({
  code: v.union(
    ...(
      [
        "ended",
        "running",
        "assigned",
        "cancel_requested",
        "pause_requested",
        "paused",
        "preparing",
        "delayed",
        "set_aside",
        "sleeping",
        "waiting_event",
        "waiting_approval",
        "waiting",
        "loop_dead",
        "scope_paused",
        "scope_counting",
        "scope_limit",
        "scope_rate",
        "budget",
        "no_worker",
        "no_worker_for_queue",
        "no_worker_for_agent",
        "no_worker_for_version",
        "no_worker_for_fork",
        "no_worker_for_labels",
        "draining",
        "full",
        "in_line",
      ] as const
    ).map((code) => v.literal(code)),
  ),
  message: v.string(),
  clears: v.string(),
  at: v.union(v.number(), v.null()), // milliseconds since the epoch; of an ended task, when it ended
});
export type Reason = Infer<typeof vReason>;

export const vWhy = v.object({
  task: v.id("tasks"),
  status: vTaskStatus,
  lane: v.string(), // to be named to limits:pause
  reasons: v.array(vReason),
});
export type Why = Infer<typeof vWhy>;

export const vBacklog = v.object({
  queues: v.array(
    v.object({
      queue: v.string(),
      waiting: v.number(), // in line, `more`: at least
      more: v.boolean(),
      oldestMs: v.number(), // how long the oldest that was counted has been in line
    }),
  ),
  more: v.boolean(), // there are queues that were not counted
  startLag: v.union(
    v.object({ runs: v.number(), p50Ms: v.number(), p95Ms: v.number(), maxMs: v.number() }),
    v.null(), // nothing ever ran
  ),
});
export type Backlog = Infer<typeof vBacklog>;

// What rings at a time, beside delayed tasks, deadlines of runs and leases.
export const vAlarmKind = v.union(
  v.literal("startBy"),
  v.literal("endBy"),
  v.literal("callback"),
  v.literal("wait"),
  v.literal("approval"),
  v.literal("schedule"),
  v.literal("endpoint"),
  v.literal("session"), // the runs of one that ended, if what gives them back has died
);
export type AlarmKind = Infer<typeof vAlarmKind>;

export const vSubmitted = v.union(
  v.object({ ok: v.literal(true), task: v.id("tasks"), duplicate: v.boolean() }),
  v.object({ ok: v.literal(false), code: v.string(), message: v.string() }),
);
export type Submitted = Infer<typeof vSubmitted>;

export const vOutcome = v.union(
  v.object({
    kind: v.literal("succeeded"),
    output: v.union(v.string(), v.null()), // JSON text
    next: v.optional(v.string()), // JSON text: a list of TaskSpec, submitted with the end of the run
  }),
  v.object({
    kind: v.literal("failed"),
    error: vFault,
    retryable: v.boolean(),
    notBeforeMs: v.union(v.number(), v.null()),
  }),
  v.object({ kind: v.literal("cancelled") }),
  v.object({ kind: v.literal("released"), notBeforeMs: v.optional(v.number()) }), // handed back, and not to begin before
  v.object({
    kind: v.literal("suspended"), // it waits without a worker; the next run goes on behind its finished steps
    step: v.string(),
    until: v.union(
      v.object({ ms: v.number() }), // from now
      v.object({ event: v.string(), timeoutMs: v.union(v.number(), v.null()) }),
      v.object({ group: v.string() }), // until it is complete
      v.object({ approvals: v.array(vAsk) }), // until people have decided on all of them; `step` is that of the first
    ),
  }),
);
export type Outcome = Infer<typeof vOutcome>;

export const vChunkKind = v.union(v.literal("text"), v.literal("reasoning"), v.literal("log"));

export const vChunk = v.object({
  run: v.id("runs"),
  seq: v.number(),
  call: v.number(),
  attempt: v.number(),
  kind: vChunkKind,
  text: v.string(),
});
export type Chunk = Infer<typeof vChunk>;

// What a run has done for good. step: a function's result. sleep, event, approval: a wait. spawn: tasks that it submitted.
// turn: a model's message. tool: what a model was given for a call. recorded: a result of the task that a fork comes from.
export const vStepKind = v.union(
  v.literal("step"),
  v.literal("sleep"),
  v.literal("event"),
  v.literal("approval"),
  v.literal("spawn"),
  v.literal("turn"),
  v.literal("tool"),
  v.literal("recorded"),
);
export type StepKind = Infer<typeof vStepKind>;

export const vStepReport = v.object({
  run: v.id("runs"),
  key: v.string(),
  kind: v.union(v.literal("step"), v.literal("event"), v.literal("turn"), v.literal("tool")),
  result: v.union(v.string(), v.null()), // JSON text; null while its state is intended or in_doubt
  signal: v.union(v.id("signals"), v.null()), // event: the signal that is consumed with it
  ...stepFields,
});
export type StepReport = Infer<typeof vStepReport>;

export const vStepView = v.object({
  key: v.string(),
  kind: vStepKind,
  result: v.union(v.string(), v.null()), // null: the wait is not over, or the state is intended or in_doubt
  remainingMs: v.union(v.number(), v.null()), // sleep, and an event with a time limit: until it is over
  ...stepFields,
});

export const vSignal = v.object({ signal: v.id("signals"), name: v.string(), data: v.string() }); // data: JSON text

// The newest of each run; what is null or absent stays as it was.
export const vProgressReport = v.object({
  run: v.id("runs"),
  progress: v.union(
    v.object({ done: v.number(), total: v.union(v.number(), v.null()), message: v.string() }),
    v.null(),
  ),
  state: v.union(v.string(), v.null()), // JSON text
});
export type ProgressReport = Infer<typeof vProgressReport>;

// What a run that says nothing is waiting for. agent: its own code, outside of every step.
export const vWaitsOn = v.union(v.literal("model"), v.literal("step"), v.literal("agent"));

export const vClocks = v.object({
  inboxAgeMs: v.number(), // since the loop that takes assignments last turned
  silent: v.array(
    v.object({
      run: v.id("runs"),
      ms: v.number(), // since its last token or step
      on: vWaitsOn,
      name: v.union(v.string(), v.null()), // the model or the step
      attempt: v.union(v.number(), v.null()), // model: which try of the call
    }),
  ),
});
export type Clocks = Infer<typeof vClocks>;

export const vFinished = v.object({
  run: v.id("runs"),
  outcome: vOutcome,
  usage: v.union(vUsage, v.null()),
  spending: v.optional(vSpending), // of a run that holds an allotment, its last word
});
export type Finished = Infer<typeof vFinished>;

export const vAssignment = v.object({
  run: v.id("runs"),
  task: v.id("tasks"),
  attempt: v.number(),
  agent: v.string(),
  kind: vRunKind,
  input: v.union(v.string(), v.null()),
  llm: v.union(vLlm, v.null()),
  timeoutMs: v.union(v.number(), v.null()),
  isolate: v.boolean(),
  once: v.boolean(),
  steps: v.number(), // kept by earlier runs of the task: worker:steps tells them
  signals: v.number(), // that nobody has taken yet: worker:steps tells them too
  pinned: v.optional(vVersion), // what the steps of earlier runs were taken by
  fork: v.optional(vForkTold), // the task goes on from a step of another one
  traceparent: v.optional(v.string()),
  allotment: v.optional(vAllotment), // none: no budget applies
});
export type Assignment = Infer<typeof vAssignment>;

export const vControlKind = v.union(
  v.literal("cancel"),
  v.literal("drain"),
  v.literal("pause"),
  v.literal("signal"),
  v.literal("allotment"),
);

export const vControl = v.object({
  control: v.id("controls"),
  kind: vControlKind,
  run: v.union(v.id("runs"), v.null()),
  reason: v.string(),
  signal: v.union(vSignal, v.null()), // kind "signal" only
  allotment: v.optional(vAllotment), // kind "allotment" only
});

export const vInbox = v.object({
  live: v.boolean(),
  ended: v.union(v.string(), v.null()),
  assigned: v.array(vAssignment),
  controls: v.array(vControl),
  watched: v.array(v.id("runs")),
  models: v.optional(v.array(vModelState)), // those that cool or are limited
});
export type Inbox = Infer<typeof vInbox>;

export const vRegistered = v.object({
  session: v.id("sessions"),
  leaseMs: v.number(),
  heartbeatMs: v.number(),
  idleLeaseMs: v.number(),
  idleHeartbeatMs: v.number(),
  maxSyncItems: v.number(),
  maxSyncBytes: v.number(),
  maxOutputBytes: v.number(),
});

export const vSynced = v.object({
  live: v.boolean(),
  ended: v.union(v.string(), v.null()),
  assigned: v.array(vAssignment),
  lost: v.array(v.id("runs")),
  controls: v.array(vControl),
  watched: v.array(v.id("runs")),
  results: v.array(
    v.object({ run: v.id("runs"), accepted: v.boolean(), reason: v.union(v.string(), v.null()) }),
  ),
  models: v.optional(v.array(vModelState)),
  leaseMs: v.number(),
  nextSyncMs: v.number(),
});
export type Synced = Infer<typeof vSynced>;

export const vTaskView = v.object({
  task: v.id("tasks"),
  tenant: v.string(),
  queue: v.string(),
  agent: v.string(),
  status: vTaskStatus,
  priority: v.number(),
  attempt: v.number(),
  maxAttempts: v.number(),
  run: v.union(v.id("runs"), v.null()),
  error: v.union(vFault, v.null()),
  output: v.union(v.string(), v.null()), // JSON text; null when it is not here
  largeOutput: v.boolean(), // it is not here: tasks:part brings it
  usage: vUsage,
  submittedAt: v.number(),
  dueAt: v.number(),
  startedAt: v.union(v.number(), v.null()),
  endedAt: v.union(v.number(), v.null()),
});
export type TaskView = Infer<typeof vTaskView>;

// push: it is given runs, and answers or calls back. wake: it is told that work waits, and starts a worker.
export const vEndpointMode = v.union(v.literal("push"), v.literal("wake"));

export const vEndpointSpec = v.object({
  name: v.string(),
  url: v.string(),
  healthUrl: v.optional(v.string()), // left out: `url` is asked, and any answer below 500 counts
  mode: v.optional(vEndpointMode),
  queues: v.optional(v.array(v.string())),
  labels: v.optional(v.array(v.string())), // that it carries, as a worker does
  secretVariable: v.string(), // the deployment's variable that holds the secret of its signatures
  enabled: v.optional(v.boolean()),
});
export type EndpointSpec = Infer<typeof vEndpointSpec>;

export const vEndpointView = v.object({
  name: v.string(),
  url: v.string(),
  healthUrl: v.union(v.string(), v.null()),
  mode: vEndpointMode,
  queues: v.array(v.string()),
  labels: v.array(v.string()),
  secretVariable: v.string(),
  enabled: v.boolean(),
  live: v.boolean(), // runs are pushed to it
  misses: v.number(), // in a row: checks or calls that it did not answer
  error: v.union(v.string(), v.null()), // of the last of these
});
export type EndpointView = Infer<typeof vEndpointView>;

// Which tasks a bulk operation is for; what is left out does not narrow it.
export const vFilter = v.object({
  tenant: v.optional(v.string()), // default: default
  status: v.optional(vTaskStatus),
  queue: v.optional(v.string()),
  agent: v.optional(v.string()),
  code: v.optional(v.string()), // of the error
  submittedAfter: v.optional(v.number()), // milliseconds since the epoch, included
  submittedBefore: v.optional(v.number()), // not included
});
export type Filter = Infer<typeof vFilter>;

export const vBulk = v.object({
  matched: v.number(), // tasks of this page
  changed: v.number(),
  cursor: v.union(v.string(), v.null()), // null: there are no more
});
export type Bulk = Infer<typeof vBulk>;

export const vFailures = v.object({
  causes: v.array(
    v.object({
      code: v.string(),
      count: v.number(),
      newest: v.array(
        v.object({
          task: v.id("tasks"),
          agent: v.string(),
          attempt: v.number(),
          message: v.string(),
          endedAt: v.union(v.number(), v.null()),
        }),
      ),
    }),
  ),
  counted: v.number(), // tasks in this page
  cursor: v.union(v.string(), v.null()),
});
export type Failures = Infer<typeof vFailures>;

export const vCause = v.object({
  code: v.string(),
  count: v.number(), // attempts
  message: v.string(), // of the last of them
  state: vRunState,
  lastAttempt: v.number(),
  lastAt: v.union(v.number(), v.null()),
});
export type Cause = Infer<typeof vCause>;

export const vEventType = v.union(
  v.literal("task_submitted"),
  v.literal("schedule_fired"), // what submitted it, and the next two
  v.literal("trigger_fired"),
  v.literal("webhook_received"),
  v.literal("task_retried"),
  v.literal("task_succeeded"),
  v.literal("task_failed"),
  v.literal("task_cancelled"),
  v.literal("task_skipped"),
  v.literal("task_unblocked"), // nothing that it waited for is open any more
  v.literal("task_set_aside"),
  v.literal("task_paused"),
  v.literal("task_resumed"),
  v.literal("retry_requested"), // by hand: its attempts begin anew
  v.literal("pause_requested"),
  v.literal("input_replaced"),
  v.literal("task_suspended"),
  v.literal("task_woken"),
  v.literal("task_signalled"),
  v.literal("approval_asked"),
  v.literal("approval_decided"), // or expired
  v.literal("budget_breached"), // a budget that its run spends from is spent
  v.literal("cancel_requested"),
  v.literal("run_assigned"),
  v.literal("run_refused"),
);
export type EventType = Infer<typeof vEventType>;

export const vEventData = v.record(v.string(), v.union(v.string(), v.number(), v.boolean(), v.null()));
export type EventData = Infer<typeof vEventData>;

export const vEventView = v.object({
  type: vEventType,
  run: v.union(v.id("runs"), v.null()),
  data: vEventData,
  at: v.number(), // milliseconds, from the commit timestamp
});
export type EventView = Infer<typeof vEventView>;

export const vCounts = v.object({
  total: v.number(),
  succeeded: v.number(),
  failed: v.number(),
  cancelled: v.number(),
  skipped: v.number(),
});
export type Counts = Infer<typeof vCounts>;

// failed: some task of it failed. canceled: none failed, some were cancelled. success: else; skipped tasks count as done.
export const vGroupResult = v.union(v.literal("success"), v.literal("failed"), v.literal("canceled"));
export type GroupResult = Infer<typeof vGroupResult>;

export const vCallbackState = v.union(
  v.literal("none"),
  v.literal("pending"),
  v.literal("done"),
  v.literal("failed"),
);

/** What a callback is told, and the input of a follow-up task. */
export const vGroupSummary = v.object({
  group: v.id("groups"),
  name: v.union(v.string(), v.null()),
  task: v.union(v.id("tasks"), v.null()), // the one task, when the group was made for it
  counts: vCounts,
  result: vGroupResult,
  context: v.union(v.string(), v.null()), // JSON text
});
export type GroupSummary = Infer<typeof vGroupSummary>;

export const vGroupView = v.object({
  group: v.id("groups"),
  tenant: v.string(),
  name: v.union(v.string(), v.null()),
  counts: vCounts, // as far as it has been counted; exact once the group is complete
  sealed: v.boolean(),
  result: v.union(vGroupResult, v.null()), // null until it is complete
  callback: v.object({
    state: vCallbackState,
    name: v.union(v.string(), v.null()), // the callback, or the follow-up task's agent
    tries: v.number(),
    error: v.union(v.string(), v.null()), // of the last try
    task: v.union(v.id("tasks"), v.null()), // the follow-up
  }),
  createdAt: v.number(),
  completedAt: v.union(v.number(), v.null()),
});
export type GroupView = Infer<typeof vGroupView>;

/** A task that another one waits for, or that waits for it. */
export const vDependency = v.object({
  task: v.id("tasks"),
  ref: v.union(v.string(), v.null()),
  agent: v.string(),
  status: vTaskStatus,
  onFailure: vOnFailure,
});
export type Dependency = Infer<typeof vDependency>;

/** What a task hangs together with; of each list the first, `more` says whether something was left out. */
export const vTaskLinks = v.object({
  parent: v.union(v.id("tasks"), v.null()),
  waitsFor: v.number(), // how many of `after` are open, while it waits
  after: v.array(vDependency),
  dependents: v.array(vDependency),
  children: v.array(v.object({ task: v.id("tasks"), agent: v.string(), status: vTaskStatus })),
  groups: v.array(v.id("groups")),
  more: v.boolean(),
});
export type TaskLinks = Infer<typeof vTaskLinks>;

export const vUpstream = v.object({
  task: v.id("tasks"),
  ref: v.union(v.string(), v.null()),
  status: vTaskStatus,
  output: v.union(v.string(), v.null()), // JSON text
  error: v.union(vFault, v.null()),
});
export type Upstream = Infer<typeof vUpstream>;

// What the settle loop is to do. `after`: how far it has come, the creation time of the last row that it took.
export const vSettlement = v.union(
  v.object({ kind: v.literal("ended"), task: v.id("tasks"), status: vTaskStatus }),
  v.object({ kind: v.literal("joined"), group: v.id("groups"), tasks: v.number() }),
  v.object({ kind: v.literal("sealed"), group: v.id("groups") }),
  v.object({
    kind: v.literal("woken"), // the next page of those that wait for an event
    tenant: v.string(),
    name: v.string(),
    inline: v.union(v.string(), v.null()),
    id: v.union(v.id("outputs"), v.null()),
    before: v.number(),
  }),
  v.object({ kind: v.literal("cancelTree"), task: v.id("tasks"), after: v.number() }),
  v.object({ kind: v.literal("cancelGroup"), group: v.id("groups"), after: v.number() }),
  v.object({ kind: v.literal("restart"), task: v.id("tasks") }), // the next page of its steps goes
  v.object({ kind: v.literal("fork"), task: v.id("tasks") }), // the next page of its steps comes
);
export type Settlement = Infer<typeof vSettlement>;

/** How a task stands between its steps. */
export const vTaskState = v.object({
  task: v.id("tasks"),
  status: vTaskStatus,
  run: v.union(v.id("runs"), v.null()),
  progress: v.union(
    v.object({ done: v.number(), total: v.union(v.number(), v.null()), message: v.string() }),
    v.null(),
  ),
  state: v.union(v.string(), v.null()), // JSON text
  at: v.union(v.number(), v.null()), // when these two were last told
  steps: v.number(),
  waitsFor: v.union(v.string(), v.null()), // the event, or what people are to approve, while it waits for it
  // The three clocks of its live run; null when there is none.
  clocks: v.union(
    v.object({
      heartbeatAt: v.number(), // its worker's process
      inboxAgeMs: v.union(v.number(), v.null()), // its worker's inbox loop
      silentMs: v.union(v.number(), v.null()), // its last token or step; null: it moves
      on: v.union(vWaitsOn, v.null()),
      name: v.union(v.string(), v.null()),
      attempt: v.union(v.number(), v.null()),
    }),
    v.null(),
  ),
});
export type TaskState = Infer<typeof vTaskState>;

/** What happened in a minute. Times in milliseconds, summed. */
export const vCounters = v.object({
  submitted: v.number(),
  started: v.number(), // runs that were assigned
  retried: v.number(), // runs after which their task went back in line
  succeeded: v.number(),
  failed: v.number(),
  cancelled: v.number(),
  skipped: v.number(),
  waitMs: v.number(), // of the runs that started: how long they had stood in line
  runMs: v.number(), // of the runs that ended: from their acceptance on
  modelCalls: v.number(),
  inputTokens: v.number(),
  outputTokens: v.number(),
  costMicros: v.optional(v.number()),
});
export type Counters = Infer<typeof vCounters>;

/** A place in the history: behind a commit's first events, up to the one with this creation time. */
export const vPosition = v.object({ at: v.int64(), within: v.number() });
export type Position = Infer<typeof vPosition>;

/** What a queue could use. */
export const vDemand = v.object({
  queue: v.string(),
  waiting: v.number(), // for a worker, now
  more: v.boolean(), // it is at least that
  oldestWaitingMs: v.number(), // of those that were counted
  running: v.number(), // runs that the workers hold which serve the queue
  slots: v.number(), // of these workers, all together
  wanted: v.number(), // slots with which nothing would wait
});
export type Demand = Infer<typeof vDemand>;
