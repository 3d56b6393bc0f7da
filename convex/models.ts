/** Models of providers: how they stand, and the limits that the operator sets. */
import { v } from "convex/values";
import { MAX_LIST } from "./constants";
import { operatorMutation, viewerQuery } from "./functions";
import { vModelCall, vModelView } from "./model.validators";
import * as Models from "./model/models";
import { seenTask } from "./model/scope";

/** Set limits of requests and tokens in `perMs` (a minute by default), shared by all workers; null takes one away. */
export const set = operatorMutation({
  args: {
    model: v.string(),
    requests: v.optional(v.union(v.number(), v.null())),
    tokens: v.optional(v.union(v.number(), v.null())),
    perMs: v.optional(v.number()),
  },
  returns: vModelView,
  handler: (ctx, { model, requests, tokens, perMs }) => Models.set(ctx, model, { requests, tokens, perMs }),
});

/** Let a model be asked again at once, by all workers. */
export const clear = operatorMutation({
  args: { model: v.string() },
  returns: vModelView,
  handler: (ctx, { model }) => Models.clear(ctx, model),
});

export const list = viewerQuery({
  args: { limit: v.optional(v.number()), cursor: v.optional(v.union(v.string(), v.null())) },
  returns: v.object({ models: v.array(vModelView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { limit = MAX_LIST, cursor = null }) => Models.list(ctx, { limit, cursor }),
});

/** The attempts of a task's model calls, over all of its runs, a page at a time. */
export const calls = viewerQuery({
  args: { task: v.string(), cursor: v.optional(v.union(v.string(), v.null())) },
  returns: v.object({ calls: v.array(vModelCall), cursor: v.union(v.string(), v.null()) }),
  handler: async (ctx, { task, cursor = null }) =>
    Models.callsOf(ctx, await seenTask(ctx, ctx.caller, task), cursor),
});
