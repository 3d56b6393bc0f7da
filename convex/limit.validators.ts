/** Validators of limits, and of why a task waits. */
import { v, type Infer } from "convex/values";
import { vTaskStatus } from "./validators";

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
