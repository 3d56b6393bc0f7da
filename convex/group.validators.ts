/** Validators of groups and of tasks that come after others. */
import { v, type Infer } from "convex/values";
import { vFault, vOnFailure, vTaskStatus, vUsage } from "./validators";

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
export type CallbackState = Infer<typeof vCallbackState>;

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
  v.object({ kind: v.literal("cancelOne"), task: v.id("tasks"), subtree: v.boolean() }), // that could not be, with its page
  v.object({ kind: v.literal("cancelGroup"), group: v.id("groups"), after: v.number() }),
  v.object({ kind: v.literal("restart"), task: v.id("tasks") }), // the next page of its steps goes
  v.object({ kind: v.literal("fork"), task: v.id("tasks") }), // the next page of its steps comes
  v.object({ kind: v.literal("used"), run: v.id("runs"), usage: vUsage }), // told after the run's end
);
export type Settlement = Infer<typeof vSettlement>;

/** How a task stands between its steps. */
