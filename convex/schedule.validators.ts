/** Validators of schedules, shared by schema, arguments and types. */
import { v, type Infer } from "convex/values";
import { vTaskSpec } from "./validators";

// An interval's occurrences are its anchor plus whole multiples of it, so it does not drift.
export const vWhen = v.union(
  v.object({ kind: v.literal("cron"), cron: v.string(), timeZone: v.string() }),
  v.object({ kind: v.literal("interval"), everyMs: v.number(), anchor: v.number() }),
  v.object({ kind: v.literal("once"), at: v.number() }),
);

export const vCatchUp = v.object({
  policy: v.union(v.literal("skip"), v.literal("once"), v.literal("all")),
  windowMs: v.number(), // how late a missed occurrence is still made up
});

// What an occurrence does while the task of the one before it has not ended. queue: waits for it, one at a time.
export const vOverlap = v.union(
  v.literal("allow"),
  v.literal("skip"),
  v.literal("queue"),
  v.literal("cancel_other"),
);

// What each occurrence submits.
export const vTemplate = vTaskSpec.pick(
  "agent",
  "capability",
  "input",
  "queue",
  "priority",
  "timeoutMs",
  "retry",
  "startWithinMs",
  "endWithinMs",
  "labels",
  "key",
  "onComplete",
  "stack",
  "budget",
);
export type Template = Infer<typeof vTemplate>;

export const vTiming = v.object({
  cron: v.optional(v.string()), // five fields, or a nickname such as @daily
  timeZone: v.optional(v.string()), // IANA name, with cron only; default: UTC
  everyMs: v.optional(v.number()),
  at: v.optional(v.number()), // milliseconds since the epoch
});

export const vScheduleSpec = vTiming.extend({
  name: v.string(),
  tenant: v.optional(v.string()),
  template: vTemplate,
  catchUp: v.optional(vCatchUp.partial()),
  overlap: v.optional(vOverlap), // default: allow
  jitterMs: v.optional(v.number()), // default: 0
  enabled: v.optional(v.boolean()), // default: as it was, and true for a new one
});
export type ScheduleSpec = Infer<typeof vScheduleSpec>;

export const vScheduleView = v.object({
  schedule: v.id("schedules"),
  tenant: v.string(),
  name: v.string(),
  cron: v.union(v.string(), v.null()),
  timeZone: v.union(v.string(), v.null()),
  everyMs: v.union(v.number(), v.null()),
  at: v.union(v.number(), v.null()),
  template: vTemplate,
  catchUp: vCatchUp,
  overlap: vOverlap,
  jitterMs: v.number(),
  enabled: v.boolean(),
  nextRunAt: v.union(v.number(), v.null()), // nominal, without jitter; null when paused or over
  lastRunAt: v.union(v.number(), v.null()), // nominal
  lastTask: v.union(v.id("tasks"), v.null()),
  fired: v.number(),
  overlapped: v.number(), // occurrences that were dropped because of an earlier one
  missed: v.union(v.object({ first: v.number(), last: v.number() }), v.null()), // the last ones that were given up
  lastError: v.union(v.object({ at: v.number(), code: v.string(), message: v.string() }), v.null()), // null once one succeeds
});
export type ScheduleView = Infer<typeof vScheduleView>;
