import { v } from "convex/values";
import { refuse } from "./errors";
import { submitMutation, viewerQuery } from "./functions";
import * as Groups from "./model/groups";
import { checkTask } from "./model/submit";
import { knownId } from "./model/text";
import { vGroupView } from "./group.validators";
import { vOnComplete } from "./validators";

export const create = submitMutation({
  args: {
    tenant: v.optional(v.string()),
    name: v.optional(v.string()),
    onComplete: v.optional(vOnComplete),
  },
  returns: v.object({ group: v.id("groups"), duplicate: v.boolean() }),
  handler: (ctx, { tenant = "default", ...given }) =>
    Groups.create(ctx, { tenant, ...given }, (spec) => checkTask(ctx, ctx.caller, spec)),
});

export const seal = submitMutation({
  args: { group: v.string() },
  returns: v.null(),
  handler: async (ctx, { group }) => {
    await Groups.seal(ctx, knownId(ctx, "groups", group));
    return null;
  },
});

export const cancel = submitMutation({
  args: { group: v.string() },
  returns: v.null(),
  handler: async (ctx, { group }) => {
    if (ctx.caller.queues !== null) {
      throw refuse(
        "forbidden",
        "group: its tasks may be of any queue; cancel it with a key that serves all.",
      );
    }
    await Groups.cancel(ctx, knownId(ctx, "groups", group));
    return null;
  },
});

export const get = viewerQuery({
  args: { group: v.string() },
  returns: v.union(vGroupView, v.null()),
  handler: async (ctx, { group }) => {
    const id = ctx.db.normalizeId("groups", group);
    return id === null ? null : Groups.get(ctx, id);
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
    Groups.list(ctx, { tenant, limit, cursor }),
});
