import { api } from "./_generated/api";
import { paginationOptsValidator } from "convex/server";
import { v } from "convex/values";
import type { GenericId } from "convex/values";
import { action, internalQuery, mutation, query } from "./_generated/server";
import type { QueryCtx } from "./_generated/server";

const { searching } = api;

export const addArticles = mutation({
  args: {
    articles: v.array(
      v.object({ title: v.string(), body: v.string(), topic: v.string(), draft: v.boolean() }),
    ),
  },
  handler: async (ctx, { articles }) => {
    for (const article of articles) await ctx.db.insert("articles", article);
  },
});

const searchArgs = { text: v.string(), topic: v.optional(v.string()), draft: v.optional(v.boolean()) };

function found(ctx: QueryCtx, { text, topic, draft }: { text: string; topic?: string; draft?: boolean }) {
  return ctx.db.query("articles").withSearchIndex("search_body", (q) => {
    let search = q.search("body", text);
    if (topic !== undefined) search = search.eq("topic", topic);
    if (draft !== undefined) search = search.eq("draft", draft);
    return search;
  });
}

export const search = query({
  args: searchArgs,
  handler: async (ctx, args) => (await found(ctx, args).collect()).map(({ title }) => title),
});
export const searchPage = query({
  args: { ...searchArgs, paginationOpts: paginationOptsValidator },
  handler: async (ctx, { paginationOpts, ...args }) => {
    const page = await found(ctx, args).paginate(paginationOpts);
    return { ...page, page: page.page.map(({ title }) => title) };
  },
});
export const writeAndSearch = mutation({
  args: { title: v.string(), body: v.string() },
  handler: async (ctx, { title, body }) => {
    const titles = async () => (await found(ctx, { text: body }).collect()).map((article) => article.title);
    const id = await ctx.db.insert("articles", { title, body, topic: "own", draft: false });
    const inserted = await titles();
    await ctx.db.patch(id, { body: "changed entirely" });
    const patched = await titles();
    await ctx.db.delete(id);
    return { inserted, patched, changed: (await found(ctx, { text: "entirely" }).collect()).length };
  },
});
export const orderedSearch = query({
  args: { text: v.string() },
  handler: async (ctx, args) =>
    await (found(ctx, args) as unknown as { order(order: string): QueryCtx }).order("desc"),
});
export const byStagedIndex = query({
  args: {},
  handler: async (ctx) =>
    await ctx.db
      .query("articles")
      .withIndex("by_topic_staged" as never)
      .collect(),
});

export const addPoints = mutation({
  args: { points: v.array(v.object({ label: v.string(), color: v.string(), at: v.array(v.number()) })) },
  handler: async (ctx, { points }) => {
    for (const point of points) await ctx.db.insert("points", point);
  },
});
export const labels = internalQuery({
  args: { ids: v.array(v.id("points")) },
  handler: async (ctx, { ids }) => {
    const labels: string[] = [];
    for (const id of ids) labels.push((await ctx.db.get(id))?.label ?? "gone");
    return labels;
  },
});
export const near = action({
  args: {
    at: v.array(v.number()),
    limit: v.optional(v.number()),
    colors: v.optional(v.array(v.string())),
  },
  handler: async (ctx, { at, limit, colors }): Promise<{ label: string; score: number }[]> => {
    const results = await ctx.vectorSearch("points", "by_at", {
      vector: at,
      ...(limit === undefined ? {} : { limit }),
      ...(colors === undefined
        ? {}
        : {
            filter: (q) =>
              colors.length === 1
                ? q.eq("color", colors[0]!)
                : q.or(...colors.map((color) => q.eq("color", color))),
          }),
    });
    const ids = results.map(({ _id }: { _id: GenericId<"points"> }) => _id);
    const named = (await ctx.runQuery(searching.labels, { ids })) as string[];
    return results.map(({ _score }, index) => ({ label: named[index]!, score: _score }));
  },
});
