import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const send = mutation({
  args: { body: v.string(), channel: v.string(), bot: v.optional(v.boolean()) },
  handler: async (ctx, { body, channel, bot = false }) =>
    await ctx.db.insert("messages", { body, channel, author: { name: bot ? "bot" : "Ada", bot } }),
});

export const edit = mutation({
  args: { id: v.id("messages"), body: v.string() },
  handler: async (ctx, { id, body }) => {
    await ctx.db.patch(id, { body });
  },
});

export const find = query({
  args: { words: v.string(), channel: v.string(), people: v.optional(v.boolean()) },
  handler: async (ctx, { words, channel, people = false }) => {
    const found = await ctx.db
      .query("messages")
      .withSearchIndex("search_body", (q) => {
        const search = q.search("body", words).eq("channel", channel);
        return people ? search.eq("author.bot", false) : search;
      })
      .take(10);
    return found.map(({ body }) => body);
  },
});

export const findRecent = query({
  args: { words: v.string(), channel: v.string(), after: v.number() },
  handler: async (ctx, { words, channel, after }) => {
    const found = await ctx.db
      .query("messages")
      .withSearchIndex("search_body", (q) => q.search("body", words).eq("channel", channel))
      .filter((q) => q.gt(q.field("_creationTime"), after))
      .collect();
    return found.map(({ body }) => body);
  },
});

export const page = query({
  args: { words: v.string(), channel: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { words, channel, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withSearchIndex("search_body", (q) => q.search("body", words).eq("channel", channel))
      .paginate(paginationOpts),
});

/** A mutation finds what it has just written. */
export const sendAndFind = mutation({
  args: { body: v.string(), channel: v.string(), words: v.string() },
  handler: async (ctx, { body, channel, words }) => {
    await ctx.db.insert("messages", { body, channel, author: { name: "Ada", bot: false } });
    const found = await ctx.db
      .query("messages")
      .withSearchIndex("search_body", (q) => q.search("body", words).eq("channel", channel))
      .collect();
    return found.length;
  },
});
