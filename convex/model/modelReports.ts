/** What waits for the loop `models`, and how that loop is woken and brought back. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { FORGET_MODEL_MS, SET_ASIDE_MS, WATCHDOG_BATCH } from "../constants";
import { isDead, loop, stateOf } from "./loops";
import { modelRow } from "./models";

/** The first of all that wait, set aside or not: read inside a transaction, nothing can come unseen in front of it. */
export function firstReport(ctx: QueryCtx): Promise<Doc<"modelReports"> | null> {
  return ctx.db.query("modelReports").withIndex("by_at").first();
}

/** Start the loop unless it runs. */
export async function wakeModels(ctx: MutationCtx): Promise<void> {
  const row = await loop(ctx, "models");
  if (row.running) return;
  await ctx.db.patch("loops", row._id, { running: true });
  await startModels(ctx, await stateOf(ctx, row), {});
}

/** Schedule the next pass; one that was scheduled before is superseded. */
export async function startModels(
  ctx: MutationCtx,
  state: Doc<"loopState">,
  change: Partial<Pick<Doc<"loopState">, "batch" | "setAside">>,
): Promise<void> {
  const generation = state.generation + 1;
  const job = await ctx.scheduler.runAfter(0, internal.modelLoop.pass, { generation });
  await ctx.db.patch("loopState", state._id, { ...change, generation, job });
}

/**
 * For the watchdog: wake a loop that sleeps although something is due, and bring back one that died; it begins with the first
 * report alone, and one on which it died before is set aside. Models that nobody has asked for long are forgotten.
 */
export async function reviveModels(ctx: MutationCtx, now: number): Promise<void> {
  const row = await loop(ctx, "models");
  const first = await firstReport(ctx);
  if (!row.running) {
    if (first !== null && first.at <= now) await wakeModels(ctx);
    await forgetUnused(ctx, now);
    return;
  }
  const state = await stateOf(ctx, row);
  if (!(await isDead(ctx, state))) return;
  console.error(`models: pass ${state.generation} died; starting again`);
  if (first?.suspect === true && !state.setAside) {
    console.error(`models: a report on ${first.model} set aside: the loop died on it`);
    await ctx.db.patch("modelReports", first._id, { at: now + SET_ASIDE_MS, suspect: false });
    await startModels(ctx, state, { batch: 1, setAside: true });
    return;
  }
  if (first !== null) await ctx.db.patch("modelReports", first._id, { suspect: true });
  await startModels(ctx, state, { batch: 1 });
}

async function forgetUnused(ctx: MutationCtx, now: number): Promise<void> {
  const old = await ctx.db
    .query("modelLoads")
    .withIndex("by_at", (q) => q.lt("at", now - FORGET_MODEL_MS))
    .take(WATCHDOG_BATCH);
  for (const load of old)
    if ((await modelRow(ctx, load.model)) === null) await ctx.db.delete("modelLoads", load._id);
}
