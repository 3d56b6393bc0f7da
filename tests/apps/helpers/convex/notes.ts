import { filter } from "convex-helpers/server/filter";
import { mergedStream, stream } from "convex-helpers/server/stream";
import { zid } from "convex-helpers/server/zod4";
import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { z } from "zod";
import { mutation, userMutation, userQuery, zodMutation, zodQuery } from "./functions";
import schema from "./schema";

export const join = mutation({
  args: { subject: v.string(), role: v.union(v.literal("member"), v.literal("admin")) },
  handler: async (ctx, user) => await ctx.db.insert("users", user),
});

export const write = userMutation({
  args: { text: v.string(), shared: v.boolean() },
  handler: async (ctx, note) => await ctx.db.insert("notes", { ...note, owner: ctx.user._id }),
});

/** For whom it is written is the caller's word: the rules look at it. */
export const writeAs = userMutation({
  args: { owner: v.id("users"), text: v.string() },
  handler: async (ctx, { owner, text }) => await ctx.db.insert("notes", { owner, text, shared: false }),
});

export const change = userMutation({
  args: { id: v.id("notes"), text: v.string() },
  handler: async (ctx, { id, text }) => {
    await ctx.db.patch(id, { text });
  },
});

export const remove = userMutation({
  args: { id: v.id("notes") },
  handler: async (ctx, { id }) => {
    await ctx.db.delete(id);
  },
});

export const list = userQuery({
  args: {},
  handler: async (ctx) => (await ctx.db.query("notes").collect()).map(({ text }) => text),
});

export const count = userQuery({
  args: {},
  handler: async (ctx) => {
    const counted = await ctx.db
      .query("counts")
      .withIndex("by_owner", (q) => q.eq("owner", ctx.user._id))
      .unique();
    return counted?.notes ?? 0;
  },
});

/** Filters with any code, after the index. */
export const longOnes = userQuery({
  args: { atLeast: v.number() },
  handler: async (ctx, { atLeast }) => {
    const mine = ctx.db.query("notes").withIndex("by_owner", (q) => q.eq("owner", ctx.user._id));
    return (await filter(mine, async (note) => (note.length ?? 0) >= atLeast).collect()).map(
      ({ text, length }) => [text, length],
    );
  },
});

/** Pages of two index ranges in one order: all that is mine and all that is shared, each note once. */
export const feed = userQuery({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const notes = stream(ctx.db, schema).query("notes");
    const mine = notes.withIndex("by_owner", (q) => q.eq("owner", ctx.user._id)).order("desc");
    const shared = stream(ctx.db, schema)
      .query("notes")
      .withIndex("by_shared", (q) => q.eq("shared", true))
      .order("desc")
      .filterWith(async (note) => note.owner !== ctx.user._id);
    const result = await mergedStream([mine, shared], ["_creationTime"]).paginate(paginationOpts);
    return { ...result, page: result.page.map(({ text }) => text) };
  },
});

export const greet = zodQuery({
  args: { name: z.string().trim().min(1).max(20), times: z.number().int().positive().default(1) },
  returns: z.object({ greeting: z.string() }),
  handler: async (_ctx, { name, times }) => ({ greeting: `${"hello ".repeat(times)}${name}` }),
});

export const rename = zodMutation({
  args: { id: zid("users"), email: z.email() },
  handler: async (ctx, { id, email }) => {
    await ctx.db.patch(id, { subject: email });
    return (await ctx.db.get(id))?.subject;
  },
});
