/** What people are asked before a task goes on. */
import { v, type Infer } from "convex/values";

// tool: a call of a tool that needs approval. spend: money beyond a budget. in_doubt: nobody knows whether an effect happened.
// agent: an agent's own code asks.
export const vApprovalWhy = v.union(
  v.literal("tool"),
  v.literal("spend"),
  v.literal("in_doubt"),
  v.literal("agent"),
);
export type ApprovalWhy = Infer<typeof vApprovalWhy>;

// expired: nobody decided in time. withdrawn: the task ended first.
export const vApprovalState = v.union(
  v.literal("asked"),
  v.literal("approved"),
  v.literal("refused"),
  v.literal("expired"),
  v.literal("withdrawn"),
);
export type ApprovalState = Infer<typeof vApprovalState>;

/** What a run asks when it ends to wait for people. */
export const vAsk = v.object({
  step: v.string(), // the key under which the next run finds the decision
  tool: v.string(), // what is to be done: a tool's name, or the agent's own words
  args: v.string(), // canonical JSON text; the decision is bound to its SHA-256
  why: vApprovalWhy,
  about: v.union(v.string(), v.null()), // in_doubt: the key of the step that is in doubt
  timeoutMs: v.union(v.number(), v.null()), // null: APPROVAL_MS
});
export type Ask = Infer<typeof vAsk>;

// approve: go on; of what is in doubt: it did not happen, run it. With a result: it happened, and this came of it.
// refuse: do not; of what is in doubt: fail the task.
export const vVerdict = v.union(v.literal("approve"), v.literal("refuse"));
export type Verdict = Infer<typeof vVerdict>;

export const vApprovalView = v.object({
  approval: v.id("approvals"),
  task: v.id("tasks"),
  tenant: v.string(),
  agent: v.string(),
  run: v.id("runs"), // that asked
  step: v.string(),
  tool: v.string(),
  args: v.union(v.string(), v.null()), // JSON text; null in a list when it is over 8 KB
  argsHash: v.string(), // 64 hexadecimal digits
  why: vApprovalWhy,
  state: vApprovalState,
  askedAt: v.number(), // milliseconds since the epoch, as the next two
  expiresAt: v.number(),
  decidedAt: v.union(v.number(), v.null()), // also when it expired or was withdrawn
  decidedBy: v.union(v.id("keys"), v.null()),
  decidedByLabel: v.union(v.string(), v.null()), // of that key
  note: v.union(v.string(), v.null()),
});
export type ApprovalView = Infer<typeof vApprovalView>;
