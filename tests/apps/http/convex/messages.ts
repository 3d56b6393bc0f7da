import { v } from "convex/values";
import { internalMutation, internalQuery } from "./_generated/server";

export const send = internalMutation({
  args: { author: v.string(), body: v.string() },
  handler: async (ctx, message) => await ctx.db.insert("messages", message),
});

export const byAuthor = internalQuery({
  args: { author: v.string() },
  handler: async (ctx, { author }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_author", (q) => q.eq("author", author))
      .collect(),
});
