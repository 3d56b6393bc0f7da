import { internalQueryGeneric, mutationGeneric, paginationOptsValidator, queryGeneric } from "convex/server";
import { ConvexError, v } from "convex/values";

export const add = mutationGeneric({
  args: { list: v.string(), text: v.string() },
  returns: v.null(),
  handler: async (ctx, note) => {
    await ctx.db.insert("notes", note);
    return null;
  },
});

export const list = queryGeneric({
  args: { list: v.string() },
  returns: v.array(v.string()),
  handler: async (ctx, { list }) => {
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_list", (q) => q.eq("list", list))
      .collect();
    return notes.map(({ text }) => text);
  },
});

export const count = internalQueryGeneric({
  args: { list: v.string() },
  returns: v.number(),
  handler: async (ctx, { list }) => {
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_list", (q) => q.eq("list", list))
      .collect();
    return notes.length;
  },
});

/** Writes and then refuses: nothing of it may stay. */
export const refuse = mutationGeneric({
  args: { list: v.string() },
  returns: v.null(),
  handler: async (ctx, { list }) => {
    await ctx.db.insert("notes", { list, text: "refused" });
    throw new ConvexError({ code: "refused", size: 7n });
  },
});

/** Adds the number of notes that are there. */
export const number = mutationGeneric({
  args: { list: v.string() },
  returns: v.null(),
  handler: async (ctx, { list }) => {
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_list", (q) => q.eq("list", list))
      .collect();
    await ctx.db.insert("notes", { list, text: String(notes.length) });
    return null;
  },
});

/** The texts of a page, in their order. */
export const page = queryGeneric({
  args: { list: v.string(), paginationOpts: paginationOptsValidator },
  returns: v.array(v.string()),
  handler: async (ctx, { list, paginationOpts }) => {
    const notes = await ctx.db
      .query("notes")
      .withIndex("by_list_and_text", (q) => q.eq("list", list))
      .paginate(paginationOpts);
    return notes.page.map(({ text }) => text);
  },
});

/** Fails while the list has notes. */
export const emptyOnly = queryGeneric({
  args: { list: v.string() },
  returns: v.null(),
  handler: async (ctx, { list }) => {
    const first = await ctx.db
      .query("notes")
      .withIndex("by_list", (q) => q.eq("list", list))
      .first();
    if (first !== null) throw new ConvexError({ first: first.text });
    return null;
  },
});
