/** Validators shared by schema, arguments and types. The worker's models are held to them by a contract test. */
import { v, type Infer } from "convex/values";

export const vRole = v.union(v.literal("worker"), v.literal("submit"), v.literal("operator"));
export type Role = Infer<typeof vRole>;

export const vRunKind = v.union(v.literal("llm"), v.literal("python"));

// waiting: for other tasks. sleeping, waiting_event: between two runs, holding no worker. skipped: a dependency failed.
export const vTaskStatus = v.union(
  v.literal("waiting"),
  v.literal("pending"),
  v.literal("delayed"),
  v.literal("running"),
  v.literal("sleeping"),
  v.literal("waiting_event"),
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
);
export type RunState = Infer<typeof vRunState>;

export const vFault = v.object({ code: v.string(), message: v.string() });
export type Fault = Infer<typeof vFault>;

export const vUsage = v.object({
  model: v.union(v.string(), v.null()),
  calls: v.number(),
  inputTokens: v.union(v.number(), v.null()), // null: the provider did not tell
  outputTokens: v.union(v.number(), v.null()),
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
});

export const vAgentSpec = v.object({
  name: v.string(),
  description: v.string(),
  llm: vLlm,
  retry: v.optional(vRetry.partial()),
  timeoutMs: v.optional(v.number()),
  capabilities: v.optional(v.array(v.string())), // what a task can ask for instead of its name
});
export type AgentSpec = Infer<typeof vAgentSpec>;

// What a worker says of each Python agent that it brings.
export const vAgentOffer = v.object({
  name: v.string(),
  description: v.string(),
  capabilities: v.array(v.string()),
});
export type AgentOffer = Infer<typeof vAgentOffer>;

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
});
export type TaskSpec = Infer<typeof vTaskSpec>;

// What rings at a time, beside delayed tasks, deadlines of runs and leases.
export const vAlarmKind = v.union(v.literal("startBy"), v.literal("endBy"));
export type AlarmKind = Infer<typeof vAlarmKind>;

export const vSubmitted = v.union(
  v.object({ ok: v.literal(true), task: v.id("tasks"), duplicate: v.boolean() }),
  v.object({ ok: v.literal(false), code: v.string(), message: v.string() }),
);
export type Submitted = Infer<typeof vSubmitted>;

export const vOutcome = v.union(
  v.object({ kind: v.literal("succeeded"), output: v.union(v.string(), v.null()) }), // JSON text
  v.object({
    kind: v.literal("failed"),
    error: vFault,
    retryable: v.boolean(),
    notBeforeMs: v.union(v.number(), v.null()),
  }),
  v.object({ kind: v.literal("cancelled") }),
  v.object({ kind: v.literal("released") }),
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

export const vFinished = v.object({
  run: v.id("runs"),
  outcome: vOutcome,
  usage: v.union(vUsage, v.null()),
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
});
export type Assignment = Infer<typeof vAssignment>;

export const vControlKind = v.union(v.literal("cancel"), v.literal("pause"), v.literal("drain"));

export const vControl = v.object({
  control: v.id("controls"),
  kind: vControlKind,
  run: v.union(v.id("runs"), v.null()),
  reason: v.string(),
});

export const vInbox = v.object({
  live: v.boolean(),
  ended: v.union(v.string(), v.null()),
  assigned: v.array(vAssignment),
  controls: v.array(vControl),
  watched: v.array(v.id("runs")),
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
  output: v.union(v.string(), v.null()), // JSON text; in a list only when it is small
  usage: vUsage,
  submittedAt: v.number(),
  dueAt: v.number(),
  startedAt: v.union(v.number(), v.null()),
  endedAt: v.union(v.number(), v.null()),
});
export type TaskView = Infer<typeof vTaskView>;

export const vEventType = v.union(
  v.literal("task_submitted"),
  v.literal("task_retried"),
  v.literal("task_succeeded"),
  v.literal("task_failed"),
  v.literal("task_cancelled"),
  v.literal("task_set_aside"),
  v.literal("task_paused"),
  v.literal("task_resumed"),
  v.literal("retry_requested"), // by hand: its attempts begin anew
  v.literal("pause_requested"),
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
