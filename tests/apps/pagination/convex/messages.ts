import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const list = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) =>
    await ctx.db.query("messages").order("desc").paginate(paginationOpts),
});

/** Pages are cut before the filter, so they may be short. */
export const listVisible = query({
  args: { author: v.string(), paginationOpts: paginationOptsValidator },
  handler: async (ctx, { author, paginationOpts }) =>
    await ctx.db
      .query("messages")
      .withIndex("by_author", (q) => q.eq("author", author))
      .filter((q) => q.eq(q.field("hidden"), false))
      .paginate(paginationOpts),
});

export const listWithTitles = query({
  args: { paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts }) => {
    const results = await ctx.db.query("messages").paginate(paginationOpts);
    const page = await Promise.all(
      results.page.map(async ({ author, body }) => {
        const found = await ctx.db
          .query("authors")
          .withIndex("by_name", (q) => q.eq("name", author))
          .unique();
        return `${found?.title ?? "?"} ${author}: ${body}`;
      }),
    );
    return { ...results, page };
  },
});

export const send = mutation({
  args: { author: v.string(), body: v.string(), hidden: v.optional(v.boolean()) },
  handler: async (ctx, { hidden = false, ...message }) =>
    await ctx.db.insert("messages", { ...message, hidden }),
});

export const remove = mutation({
  args: { id: v.id("messages") },
  handler: async (ctx, { id }) => {
    await ctx.db.delete(id);
  },
});

export const seed = mutation({
  args: { author: v.string(), count: v.number() },
  handler: async (ctx, { author, count }) => {
    await ctx.db.insert("authors", { name: author, title: "Dr." });
    for (let n = 0; n < count; n++)
      await ctx.db.insert("messages", { author, body: String(n), hidden: n % 3 === 0 });
  },
});
