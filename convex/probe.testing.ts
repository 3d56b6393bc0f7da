/** What tests look at and break from the inside; part of no deployment, since its name has two dots. */
import { v } from "convex/values";
import { internalMutation, internalQuery } from "./_generated/server";

export const removeTask = internalMutation({
  args: { task: v.id("tasks") },
  returns: v.null(),
  handler: async (ctx, { task }) => {
    await ctx.db.delete("tasks", task);
    return null;
  },
});

export const countTasks = internalQuery({
  args: {},
  returns: v.number(),
  handler: async (ctx) => (await ctx.db.query("tasks").take(1_000)).length,
});

/** Every key's row as one text. */
export const keyRows = internalQuery({
  args: {},
  returns: v.string(),
  handler: async (ctx) => JSON.stringify(await ctx.db.query("keys").take(100)),
});

export const pendingJobs = internalQuery({
  args: {},
  returns: v.array(v.string()),
  handler: async (ctx) => {
    const jobs = await ctx.db.system.query("_scheduled_functions").take(1_000);
    return jobs.filter((job) => job.state.kind === "pending").map((job) => job.name);
  },
});

/**
 * Leave the dispatch loop as a pass that ran out of time leaves it: it counts as running and its job is over.
 * `again`: it was the pass that the watchdog had started with one item.
 */
export const strandDispatch = internalMutation({
  args: { again: v.boolean() },
  returns: v.null(),
  handler: async (ctx, { again }) => {
    const row = (await ctx.db
      .query("loops")
      .withIndex("by_name", (q) => q.eq("name", "dispatch"))
      .unique())!;
    const state = (await ctx.db.get("loopState", row.state))!;
    const { generation } = state;
    await ctx.db.patch("loops", row._id, { running: true, starved: false });
    await ctx.db.patch("loopState", state._id, {
      job: null,
      ...(again ? { batch: 1, suspect: generation } : {}),
    });
    return null;
  },
});
