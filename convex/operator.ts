/** For people who hold the deployment's admin key: the Convex dashboard, `npx convex run`, `signalbox keys`. */
import { v } from "convex/values";
import { internalMutation, internalQuery } from "./_generated/server";
import { MAX_LIST } from "./constants";
import * as Keys from "./model/keys";
import { vRole } from "./validators";

export const createKey = internalMutation({
  args: {
    hash: v.string(),
    role: vRole,
    label: v.string(),
    queues: v.optional(v.array(v.string())),
    expiresAt: v.optional(v.number()),
  },
  returns: v.id("keys"),
  handler: (ctx, { hash, role, label, queues, expiresAt }) =>
    Keys.store(ctx, { hash, role, label, queues: queues ?? null, expiresAt: expiresAt ?? null }),
});

export const revokeKey = internalMutation({
  args: { key: v.id("keys") },
  returns: v.null(),
  handler: async (ctx, { key }) => {
    await Keys.revoke(ctx, key);
    return null;
  },
});

export const listKeys = internalQuery({
  args: {},
  returns: v.array(
    v.object({
      key: v.id("keys"),
      role: vRole,
      label: v.string(),
      queues: v.union(v.array(v.string()), v.null()),
      expiresAt: v.union(v.number(), v.null()),
      revokedAt: v.union(v.number(), v.null()),
    }),
  ),
  handler: async (ctx) =>
    (await ctx.db.query("keys").order("desc").take(MAX_LIST)).map(
      ({ _id, role, label, queues, expiresAt, revokedAt }) => ({
        key: _id,
        role,
        label,
        queues,
        expiresAt,
        revokedAt,
      }),
    ),
});
