import { v } from "convex/values";
import { submitMutation, viewerQuery } from "./functions";
import * as Triggers from "./model/triggers";
import { vTriggerSpec, vTriggerView } from "./trigger.validators";

const vName = { tenant: v.optional(v.string()), name: v.string() };

export const set = submitMutation({
  args: { trigger: vTriggerSpec },
  returns: v.object({ changed: v.boolean() }),
  handler: (ctx, { trigger }) => Triggers.set(ctx, ctx.caller, trigger),
});

export const list = viewerQuery({
  args: {
    tenant: v.optional(v.string()),
    limit: v.optional(v.number()),
    cursor: v.optional(v.union(v.string(), v.null())),
  },
  returns: v.object({ triggers: v.array(vTriggerView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { tenant = "default", limit = 50, cursor = null }) =>
    Triggers.list(ctx, ctx.caller, { tenant, limit, cursor }),
});

export const pause = submitMutation({
  args: vName,
  returns: vTriggerView,
  handler: (ctx, { tenant = "default", name }) => Triggers.enable(ctx, ctx.caller, { tenant, name }, false),
});

export const resume = submitMutation({
  args: vName,
  returns: vTriggerView,
  handler: (ctx, { tenant = "default", name }) => Triggers.enable(ctx, ctx.caller, { tenant, name }, true),
});

export const remove = submitMutation({
  args: vName,
  returns: v.object({ removed: v.boolean() }),
  handler: async (ctx, { tenant = "default", name }) => ({
    removed: await Triggers.remove(ctx, ctx.caller, { tenant, name }),
  }),
});
