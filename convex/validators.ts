/**
 * Validators of tasks, runs and the wire, shared by schema, arguments and types; each other area has a file of its own. The
 * worker's models are held to them by a contract test.
 */
import { v, type Infer } from "convex/values";
import { vAsk } from "./approval.validators";
import { llmFields } from "./llm.validators";
import { vAllotment, vSpending, vTaskBudget } from "./budget.validators";
import { vModelState } from "./model.validators";
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
  ref: v.optional(v.string()), // with a task's id: what the one that waits knows it by, as if it had come in the same call
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

// Handed back, and not to begin before.
export const vReleased = v.object({ kind: v.literal("released"), notBeforeMs: v.optional(v.number()) });

// It waits without a worker; the next run goes on behind its finished steps.
export const vSuspended = v.object({
  kind: v.literal("suspended"),
  step: v.string(),
  until: v.union(
    v.object({ ms: v.number() }), // from now
    v.object({ event: v.string(), timeoutMs: v.union(v.number(), v.null()) }),
    v.object({ group: v.string() }), // until it is complete
    v.object({ approvals: v.array(vAsk) }), // until people have decided on all of them; `step` is that of the first
  ),
});

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
    redo: v.optional(v.array(v.string())), // the steps that it has failed for: a retry by hand makes them anew
  }),
  v.object({ kind: v.literal("cancelled") }),
  vReleased,
  vSuspended,
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
  recorded: v.optional(v.string()), // tool, of a fork: the key of the recording that it was given, which is used up
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

/** A run from which nothing has come for long. */
export const vSilence = v.object({
  run: v.id("runs"),
  ms: v.number(), // since its last token or step
  on: vWaitsOn,
  name: v.union(v.string(), v.null()), // the model or the step
  attempt: v.union(v.number(), v.null()), // model: which try of the call
});

export const vClocks = v.object({
  inboxAgeMs: v.number(), // since the loop that takes assignments last turned; of an endpoint: that its last check took
  silent: v.array(vSilence),
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

export const vEventType = v.union(
  v.literal("task_submitted"),
  v.literal("schedule_fired"), // what submitted it, and the next two
  v.literal("trigger_fired"),
  v.literal("webhook_received"),
  v.literal("trigger_refused"), // its agent told an event, and a trigger could not start its task
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
