import { v } from "convex/values";
import type { Infer } from "convex/values";
import { action, mutation, query } from "./_generated/server";

const shape = {
  name: v.string(),
  size: v.optional(v.number()),
  inner: v.optional(v.object({ deep: v.object({ flag: v.boolean() }) })),
  either: v.optional(v.union(v.string(), v.int64())),
  list: v.optional(v.array(v.number())),
  user: v.optional(v.id("users")),
  scores: v.optional(v.record(v.string(), v.number())),
  byUser: v.optional(v.record(v.id("users"), v.null())),
  kind: v.optional(v.literal("fixed")),
  bytes: v.optional(v.bytes()),
};

export const aQuery = query({ args: shape, handler: async (_ctx, args) => args });
export const anAction = action({ args: shape, handler: async (_ctx, args) => args });
/** Writes a message for each call that gets past the validator. */
export const aMutation = mutation({
  args: shape,
  handler: async (ctx, args) => {
    await ctx.db.insert("messages", { channel: "validated", body: args.name });
    return args;
  },
});

const returned = v.object({ ok: v.boolean() });
type Returned = Infer<typeof returned>;

export const returnsQuery = query({
  args: { value: v.any() },
  returns: returned,
  handler: async (_ctx, { value }) => value as Returned,
});
export const returnsAction = action({
  args: { value: v.any() },
  returns: returned,
  handler: async (_ctx, { value }) => value as Returned,
});
export const returnsMutation = mutation({
  args: { value: v.any() },
  returns: returned,
  handler: async (ctx, { value }) => {
    await ctx.db.insert("messages", { channel: "returned", body: "written before the check" });
    return value as Returned;
  },
});

/** Writes whatever comes: only the schema stands in its way. */
export const writeUser = mutation({
  handler: async (ctx, { user }: { user: never }) => await ctx.db.insert("users", user),
});
export const patchUser = mutation({
  handler: async (ctx, { id, patch }: { id: never; patch: never }) => await ctx.db.patch(id, patch),
});
export const replaceUser = mutation({
  handler: async (ctx, { id, user }: { id: never; user: never }) => await ctx.db.replace(id, user),
});
export const users = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) =>
    await ctx.db
      .query("users")
      .withIndex("by_name", (q) => q.eq("name", name))
      .collect(),
});
