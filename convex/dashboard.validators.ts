/** What the dashboard is shown, beside what everybody can read of tasks, schedules, agents and statistics. */
import { v, type Infer } from "convex/values";
import { vFilter } from "./bulk.validators";
import { vForkEffects } from "./fork.validators";
import { vModelCall } from "./model.validators";
import { vEffect, vStepState, vStepUsage } from "./step.validators";
import { vClocks, vFault, vRole, vRunState, vStepKind, vTaskStatus, vUsage } from "./validators";

export const vCallerView = v.object({
  role: vRole,
  label: v.string(),
  queues: v.union(v.array(v.string()), v.null()), // null: every queue
  version: v.string(), // of the control plane
});

/** A task as a row of a list: nothing that can be large. */
export const vTaskRow = v.object({
  task: v.id("tasks"),
  agent: v.string(),
  queue: v.string(),
  status: vTaskStatus,
  priority: v.number(),
  attempt: v.number(),
  maxAttempts: v.number(),
  cancelRequested: v.boolean(),
  error: v.union(vFault, v.null()),
  submittedAt: v.number(), // this and the next three: milliseconds since the epoch
  dueAt: v.number(),
  startedAt: v.union(v.number(), v.null()),
  endedAt: v.union(v.number(), v.null()),
});
export type TaskRow = Infer<typeof vTaskRow>;

export const vListFilter = vFilter.pick("tenant", "status", "queue", "agent", "code");
export type ListFilter = Infer<typeof vListFilter>;

export const vAttempt = v.object({
  run: v.id("runs"),
  attempt: v.number(),
  worker: v.union(v.string(), v.null()), // null: it is forgotten
  state: vRunState,
  assignedAt: v.number(),
  startedAt: v.union(v.number(), v.null()),
  endedAt: v.union(v.number(), v.null()),
  usage: v.union(vUsage, v.null()),
  error: v.union(vFault, v.null()),
});
export type AttemptView = Infer<typeof vAttempt>;

export const vStepRow = v.object({
  key: v.string(),
  kind: vStepKind,
  keptAt: v.number(),
  over: v.boolean(), // false: a wait that is not over
  endsAt: v.union(v.number(), v.null()), // of a sleep, and of an event with a time limit
  result: v.union(v.string(), v.null()), // JSON text, its beginning; null: too large to be shown in a list, or none yet
  cut: v.boolean(), // there is more of it
  tool: v.union(v.string(), v.null()), // this and the next three: null where the kind of step has none
  effect: v.union(vEffect, v.null()),
  state: v.union(vStepState, v.null()),
  usage: v.union(vStepUsage, v.null()),
  copied: v.boolean(), // from the task that this one was forked from
});
export type StepRow = Infer<typeof vStepRow>;

export const vCallRow = vModelCall.omit("task", "provider").extend({
  keptAt: v.number(), // when its worker told of it, after its end; milliseconds since the epoch
});
export type CallRow = Infer<typeof vCallRow>;

/** What a task was forked from, and what was forked from it. */
export const vForkLinks = v.object({
  of: v.union(
    v.object({
      task: v.id("tasks"),
      status: v.union(vTaskStatus, v.null()), // null: it is gone
      at: v.union(v.string(), v.null()), // the first step that is taken anew; null: all are
      effects: vForkEffects,
      changed: v.array(v.string()), // models, prompt, temperature, maxOutputTokens, limits
    }),
    v.null(), // it is no fork
  ),
  forks: v.array(
    v.object({ task: v.id("tasks"), status: vTaskStatus, at: v.union(v.string(), v.null()) }), // newest first
  ),
  more: v.boolean(),
});
export type ForkLinks = Infer<typeof vForkLinks>;

export const vWorkerRow = v.object({
  name: v.string(),
  version: v.string(),
  queues: v.array(v.string()),
  agents: v.number(),
  labels: v.array(v.string()),
  llm: v.boolean(),
  capacity: v.number(),
  live: v.boolean(),
  draining: v.boolean(),
  endpoint: v.boolean(), // a stand-in for an address that runs are pushed to
});
export type WorkerRow = Infer<typeof vWorkerRow>;

/** What changes with each sync of a worker that lives. */
export const vBeat = v.object({
  name: v.string(),
  busy: v.boolean(), // it holds runs
  at: v.number(), // its process was last heard
  clocks: v.union(vClocks, v.null()), // as its last sync told them
});
export type Beat = Infer<typeof vBeat>;

export const vQueueRow = v.object({
  queue: v.string(),
  waiting: v.number(), // in line for a worker; with `more`: at least
  more: v.boolean(),
  oldestAt: v.number(), // since when the oldest of those counted has been in line
});
