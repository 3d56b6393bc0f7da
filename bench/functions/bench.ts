/** What the host's benchmarks call. */

import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
import { v } from "convex/values";

const payload = "x".repeat(200);

export const noop = mutation({ args: {}, returns: v.null(), handler: async () => null });

export const fill = mutation({
  args: { count: v.number() },
  returns: v.null(),
  handler: async (ctx, { count }) => {
    for (let i = 0; i < count; i++) {
      await ctx.db.insert("tasks", { queue: "q", status: "waiting", priority: Math.random(), payload });
    }
    return null;
  },
});

export const claim = mutation({
  args: { worker: v.string() },
  returns: v.union(v.null(), v.id("tasks")),
  handler: async (ctx, { worker }) => {
    const [task] = await ctx.db
      .query("tasks")
      .withIndex("by_queue_and_status", (q) => q.eq("queue", "q").eq("status", "waiting"))
      .take(1);
    if (task === undefined) return null;
    await ctx.db.patch(task._id, { status: "running" });
    await ctx.db.insert("runs", { task: task._id, worker });
    return task._id;
  },
});

export const count = query({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("counters").first())?.n ?? 0,
});

export const setCount = mutation({
  args: { n: v.number() },
  returns: v.null(),
  handler: async (ctx, { n }) => {
    const counter = await ctx.db.query("counters").first();
    if (counter === null) await ctx.db.insert("counters", { n });
    else await ctx.db.patch(counter._id, { n });
    return null;
  },
});
