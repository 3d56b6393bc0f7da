import { v } from "convex/values";
import { operatorMutation, operatorQuery } from "./functions";
import { MAX_LIST } from "./constants";
import * as Rules from "./model/rules";
import { vLimitView, vRate, vScopeKind } from "./limit.validators";

const scope = { kind: vScopeKind, name: v.optional(v.string()) };

export const set = operatorMutation({
  args: {
    ...scope,
    limit: v.optional(v.union(v.number(), v.null())),
    rate: v.optional(v.union(vRate, v.null())),
    weight: v.optional(v.union(v.number(), v.null())),
  },
  returns: vLimitView,
  handler: (ctx, { kind, name = "", limit, rate, weight }) =>
    Rules.set(ctx, Rules.checkScopeName(kind, name), { limit, rate, weight }),
});

export const pause = operatorMutation({
  args: scope,
  returns: vLimitView,
  handler: (ctx, { kind, name = "" }) => Rules.pause(ctx, Rules.checkScopeName(kind, name)),
});

export const resume = operatorMutation({
  args: scope,
  returns: vLimitView,
  handler: (ctx, { kind, name = "" }) => Rules.resume(ctx, Rules.checkScopeName(kind, name)),
});

export const remove = operatorMutation({
  args: scope,
  returns: v.object({ removed: v.boolean() }),
  handler: async (ctx, { kind, name = "" }) => ({
    removed: await Rules.remove(ctx, Rules.checkScopeName(kind, name)),
  }),
});

export const list = operatorQuery({
  args: { limit: v.optional(v.number()), cursor: v.optional(v.union(v.string(), v.null())) },
  returns: v.object({ limits: v.array(vLimitView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { limit = MAX_LIST, cursor = null }) => Rules.list(ctx, { limit, cursor }),
});
