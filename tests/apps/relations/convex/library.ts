import { getAll, getManyFrom, getManyVia, getOneFrom } from "convex-helpers/server/relationships";
import { asyncMap } from "convex-helpers";
import { v } from "convex/values";
import { mutation, query } from "./_generated/server";

export const join = mutation({
  args: { name: v.string(), bio: v.string() },
  handler: async (ctx, { name, bio }) => {
    const user = await ctx.db.insert("users", { name });
    const profile = await ctx.db.insert("profiles", { user, bio });
    await ctx.db.patch(user, { profile });
    return user;
  },
});

export const publish = mutation({
  args: { author: v.id("users"), title: v.string(), tags: v.array(v.string()) },
  handler: async (ctx, { author, title, tags }) => {
    const ids = await asyncMap(tags, async (name) => {
      const known = await ctx.db
        .query("tags")
        .filter((q) => q.eq(q.field("name"), name))
        .first();
      return known?._id ?? (await ctx.db.insert("tags", { name }));
    });
    return await ctx.db.insert("books", { author, title, tags: ids });
  },
});

export const read = mutation({
  args: { user: v.id("users"), book: v.id("books"), stars: v.optional(v.number()) },
  handler: async (ctx, { user, book, stars }) => {
    const known = await ctx.db
      .query("readings")
      .withIndex("by_user_and_book", (q) => q.eq("user", user).eq("book", book))
      .unique();
    if (known === null) return await ctx.db.insert("readings", { user, book, stars });
    await ctx.db.patch(known._id, { stars });
    return known._id;
  },
});

/** One to one, one to many, many to many over a table between, and many to many over an array. */
export const profile = query({
  args: { user: v.id("users") },
  handler: async (ctx, { user }) => {
    const written = await getManyFrom(ctx.db, "books", "by_author", user, "author");
    const readBooks = await getManyVia(ctx.db, "readings", "book", "by_user", user, "user");
    return {
      bio: (await getOneFrom(ctx.db, "profiles", "by_user", user, "user"))?.bio ?? null,
      written: await asyncMap(written, async ({ title, tags }) => ({
        title,
        tags: (await getAll(ctx.db, tags)).map((tag) => tag?.name ?? null),
      })),
      read: readBooks.map((book) => book?.title ?? null),
    };
  },
});

/** Readers of a book by their stars; who has not said comes first. */
export const readers = query({
  args: { book: v.id("books"), atLeast: v.optional(v.number()) },
  handler: async (ctx, { book, atLeast }) => {
    const readings = await ctx.db
      .query("readings")
      .withIndex("by_book", (q) =>
        atLeast === undefined ? q.eq("book", book) : q.eq("book", book).gte("stars", atLeast),
      )
      .collect();
    return await asyncMap(readings, async ({ user, stars }) => [
      (await ctx.db.get(user))?.name ?? null,
      stars ?? null,
    ]);
  },
});

export const titles = query({
  args: { author: v.id("users"), from: v.string(), before: v.string() },
  handler: async (ctx, { author, from, before }) => {
    const books = await ctx.db
      .query("books")
      .withIndex("by_author_and_title", (q) => q.eq("author", author).gte("title", from).lt("title", before))
      .order("desc")
      .collect();
    return books.map(({ title }) => title);
  },
});

/** A user goes with all that hangs on it. */
export const leave = mutation({
  args: { user: v.id("users") },
  handler: async (ctx, { user }) => {
    for (const reading of await getManyFrom(ctx.db, "readings", "by_user", user, "user"))
      await ctx.db.delete(reading._id);
    for (const book of await getManyFrom(ctx.db, "books", "by_author", user, "author")) {
      const readings = ctx.db.query("readings").withIndex("by_book", (q) => q.eq("book", book._id));
      for await (const { _id } of readings) await ctx.db.delete(_id);
      await ctx.db.delete(book._id);
    }
    const profile = await getOneFrom(ctx.db, "profiles", "by_user", user, "user");
    if (profile !== null) await ctx.db.delete(profile._id);
    await ctx.db.delete(user);
  },
});

/** An id that comes as text, such as from an address line. */
export const byText = query({
  args: { id: v.string() },
  handler: async (ctx, { id }) => {
    const user = ctx.db.normalizeId("users", id);
    return user === null ? null : ((await ctx.db.get(user))?.name ?? null);
  },
});
