import { v } from "convex/values";
import { submitMutation, viewerQuery } from "./functions";
import * as Groups from "./model/groups";
import { checkTask } from "./model/submit";
import { vCallbackState, vGroupView } from "./group.validators";
import { vOnComplete } from "./validators";

export const create = submitMutation({
  args: {
    tenant: v.optional(v.string()),
    name: v.optional(v.string()),
    onComplete: v.optional(vOnComplete),
  },
  returns: v.object({ group: v.id("groups"), duplicate: v.boolean() }),
  handler: (ctx, { tenant = "default", ...given }) =>
    Groups.create(ctx, { tenant, queues: ctx.caller.queues, ...given }, (spec) =>
      checkTask(ctx, ctx.caller, spec),
    ),
});

export const seal = submitMutation({
  args: { group: v.string() },
  returns: v.null(),
  handler: async (ctx, { group }) => {
    await Groups.seal(ctx, await Groups.seenGroup(ctx, ctx.caller, group));
    return null;
  },
});

export const cancel = submitMutation({
  args: { group: v.string() },
  returns: v.null(),
  handler: async (ctx, { group }) => {
    await Groups.cancel(ctx, await Groups.seenGroup(ctx, ctx.caller, group));
    return null;
  },
});

export const retryCallback = submitMutation({
  args: { group: v.string() },
  returns: vCallbackState,
  handler: async (ctx, { group }) => Groups.callAnew(ctx, await Groups.seenGroup(ctx, ctx.caller, group)),
});

export const get = viewerQuery({
  args: { group: v.string() },
  returns: v.union(vGroupView, v.null()),
  handler: async (ctx, { group }) => {
    const id = ctx.db.normalizeId("groups", group);
    return id === null || (await ctx.db.get("groups", id)) === null
      ? null
      : Groups.get(ctx, await Groups.seenGroup(ctx, ctx.caller, group));
  },
});

export const list = viewerQuery({
  args: {
    tenant: v.optional(v.string()),
    limit: v.optional(v.number()),
    cursor: v.optional(v.union(v.string(), v.null())),
  },
  returns: v.object({ groups: v.array(vGroupView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { tenant = "default", limit = 50, cursor = null }) =>
    Groups.list(ctx, { tenant, limit, cursor }, ctx.caller.queues),
});
