import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { internalMutation, mutation, query } from "./_generated/server";

const message = { channel: v.string(), body: v.string() };

export const send = mutation({
  args: message,
  handler: async (ctx, args) => await ctx.db.insert("messages", args),
});
export const sendInternal = internalMutation({
  args: message,
  handler: async (ctx, args) => await ctx.db.insert("messages", args),
});
export const sendMany = mutation({
  args: { channel: v.string(), bodies: v.array(v.string()) },
  handler: async (ctx, { channel, bodies }) => {
    for (const body of bodies) await ctx.db.insert("messages", { channel, body });
  },
});

export const list = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const messages = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .collect();
    return messages.map(({ body }) => body);
  },
});
export const count = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const messages = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .collect();
    return messages.length;
  },
});
export const page = query({
  args: { channel: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { channel, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .paginate(paginationOpts),
});
/** Pages that are split above three rows. */
export const narrowPage = query({
  args: { channel: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { channel, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .paginate({ ...paginationOpts, maximumRowsRead: 4 }),
});

export const edit = mutation({
  args: { id: v.id("messages"), body: v.string() },
  handler: async (ctx, { id, body }) => await ctx.db.patch(id, { body }),
});
export const remove = mutation({
  args: { channel: v.string(), body: v.string() },
  handler: async (ctx, { channel, body }) => {
    const found = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .filter((q) => q.eq(q.field("body"), body))
      .collect();
    for (const { _id } of found) await ctx.db.delete(_id);
  },
});
export const clear = mutation({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    for await (const { _id } of ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel)))
      await ctx.db.delete(_id);
  },
});
