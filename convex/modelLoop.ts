/** The loop that settles what workers tell of models. One pass at a time; it sleeps while there is nothing to settle. */
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, type MutationCtx } from "./_generated/server";
import { MODEL_REPORTS_BATCH, SET_ASIDE_MS } from "./constants";
import { loop, stateOf } from "./model/loops";
import { firstReport, startModels, wakeModels } from "./model/modelReports";
import { reportLater, settleModel } from "./model/models";

const vDue = v.object({ model: v.string(), reports: v.array(v.id("modelReports")) });

/** One pass of the loop; it schedules the next while there is something to do, and falls asleep when there is not. */
export const pass = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    const row = await loop(ctx, "models");
    const state = await stateOf(ctx, row);
    if (state.generation !== generation) return null;
    const now = Date.now();
    const limit = Math.min(MODEL_REPORTS_BATCH, state.batch);
    const due: { model: string; reports: Id<"modelReports">[] }[] = await ctx.runQuery(
      internal.modelLoop.look,
      { now, limit },
      { useStaleSnapshot: true },
    );
    for (const { model, reports } of due) await settleOrSetAside(ctx, model, reports, now);
    const next = { batch: Math.min(MODEL_REPORTS_BATCH, state.batch * 2), setAside: false }; // grows back after a crash
    const first = await firstReport(ctx);
    if (first !== null && first.at <= now) {
      await startModels(ctx, state, next);
      return null;
    }
    await ctx.db.patch("loopState", state._id, { ...next, generation: state.generation + 1, job: null });
    await ctx.db.patch("loops", row._id, { running: false });
    return null;
  },
});

/** What a pass reads from the snapshot at which it began: the first reports that are due, by model. */
export const look = internalQuery({
  args: { now: v.number(), limit: v.number() },
  returns: v.array(vDue),
  handler: async (ctx, { now, limit }) => {
    const rows = await ctx.db
      .query("modelReports")
      .withIndex("by_at", (q) => q.lte("at", now))
      .take(limit);
    const by = new Map<string, Id<"modelReports">[]>();
    for (const { _id, model } of rows) by.set(model, [...(by.get(model) ?? []), _id]);
    return [...by].map(([model, reports]) => ({ model, reports }));
  },
});

/** Something was left for a loop that slept. */
export const wake = internalMutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => {
    await wakeModels(ctx);
    return null;
  },
});

/** The time has come at which a share can be given that could not be before. */
export const again = internalMutation({
  args: { model: v.string() },
  returns: v.null(),
  handler: async (ctx, { model }) => {
    await reportLater(ctx, model, null);
    return null;
  },
});

/** What was told of one model, in a sub-transaction of its own: what throws rolls back alone and comes again later. */
async function settleOrSetAside(
  ctx: MutationCtx,
  model: string,
  reports: Id<"modelReports">[],
  now: number,
): Promise<void> {
  try {
    await ctx.runMutation(internal.modelLoop.settle, { model, reports, now });
  } catch (error) {
    console.error(`models: what was told of ${model} is set aside: ${String(error)}`);
    for (const id of reports) await ctx.db.patch("modelReports", id, { at: now + SET_ASIDE_MS });
  }
}

export const settle = internalMutation({
  args: { model: v.string(), reports: v.array(v.id("modelReports")), now: v.number() },
  returns: v.null(),
  handler: async (ctx, { model, reports, now }) => {
    await settleModel(ctx, model, reports, now);
    return null;
  },
});
