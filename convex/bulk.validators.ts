/** Validators of what is done to many tasks at once, and of what tasks failed of. */
import { v, type Infer } from "convex/values";
import { vRunState, vTaskStatus } from "./validators";

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
