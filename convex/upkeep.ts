/** Upkeep in the background, and what the operator asks of it. */
import { v } from "convex/values";
import { internalMutation } from "./_generated/server";
import { Budget, purgeTask, retain as retainPage } from "./model/retention";
import { rollUp as rollUpPage } from "./model/rollup";
import { page } from "./model/upkeep";

/** A page of what is to be deleted. */
export const retain = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    await page(ctx, "retention", generation, (cursor, now) => retainPage(ctx, cursor, now));
    return null;
  },
});

/** One task of it, in a sub-transaction of its own. */
export const purge = internalMutation({
  args: {
    task: v.id("tasks"),
    touches: v.number(),
    bytes: v.number(),
    endedBy: v.number(),
    archivedTo: v.union(v.int64(), v.null()),
    now: v.number(),
  },
  returns: v.object({ next: v.union(v.number(), v.null()), touches: v.number(), bytes: v.number() }),
  handler: async (ctx, { task, now, touches, bytes, ...cutoff }) => {
    const budget = new Budget(touches, bytes);
    const next = await purgeTask(ctx, task, budget, cutoff, now);
    return { next, touches: budget.touches, bytes: budget.bytes };
  },
});

/** A page of what is to be counted. */
export const rollUp = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    await page(ctx, "rollup", generation, (cursor, now) => rollUpPage(ctx, cursor, now));
    return null;
  },
});
