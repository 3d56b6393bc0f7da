import { v } from "convex/values";
import { vApprovalState, vApprovalView, vVerdict } from "./approval.validators";
import { operatorMutation, viewerQuery } from "./functions";
import * as Approvals from "./model/approvals";
import { seenTask } from "./model/scope";
import { knownId } from "./model/text";

export const list = viewerQuery({
  args: {
    tenant: v.optional(v.string()),
    task: v.optional(v.string()), // instead of a tenant
    state: v.optional(vApprovalState),
    limit: v.optional(v.number()),
    cursor: v.optional(v.union(v.string(), v.null())),
  },
  returns: v.object({ approvals: v.array(vApprovalView), cursor: v.union(v.string(), v.null()) }),
  handler: async (ctx, { tenant = "default", task, state = null, limit = 50, cursor = null }) =>
    Approvals.list(ctx, {
      tenant,
      task: task === undefined ? null : await seenTask(ctx, ctx.caller, task),
      state,
      limit,
      cursor,
      queues: ctx.caller.queues,
    }),
});

export const get = viewerQuery({
  args: { approval: v.string() },
  returns: vApprovalView,
  handler: (ctx, { approval }) => Approvals.get(ctx, ctx.caller, knownId(ctx, "approvals", approval)),
});

/** Decide, for exactly the arguments whose hash is given; a second decision is refused. */
export const decide = operatorMutation({
  args: {
    approval: v.string(),
    argsHash: v.string(),
    decision: vVerdict,
    result: v.optional(v.string()), // JSON text; in_doubt: it happened, and this came of it
    note: v.optional(v.string()),
    request: v.optional(v.string()), // makes a repeat of this call harmless
  },
  returns: vApprovalView,
  handler: (ctx, { approval, ...decision }) =>
    Approvals.decide(ctx, ctx.caller, knownId(ctx, "approvals", approval), decision, Date.now()),
});
