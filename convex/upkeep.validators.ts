/** Validators of statistics, upkeep and the autoscaling signal. */
import { v, type Infer } from "convex/values";

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
  wanted: v.number(), // slots with which nothing would wait for one
});
export type Demand = Infer<typeof vDemand>;
