/** What is left for the settle loop: rows that anybody may insert, and how the loop is woken and brought back. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { SET_ASIDE_MS } from "../constants";
import type { Settlement } from "../group.validators";
import { isDead, loop, stateOf } from "./loops";

/** The transactions that have seen to the wake-up already. */
const woken = new WeakSet<MutationCtx>();

/**
 * Leave work to the settle loop: an insert, and while the loop sleeps a scheduled wake-up. So the syncs of workers whose
 * runs end at the same time write no common row.
 */
export async function settleLater(ctx: MutationCtx, work: Settlement): Promise<void> {
  await ctx.db.insert("settlements", { work, at: 0, suspect: false });
  if (woken.has(ctx)) return;
  woken.add(ctx);
  const row = await loop(ctx, "settle");
  if (!row.running) await ctx.scheduler.runAfter(0, internal.settle.wake, {});
}

/** The first settlements that are due at `now`. */
export async function dueSettlements(
  ctx: QueryCtx,
  now: number,
  limit: number,
): Promise<Id<"settlements">[]> {
  const rows = await ctx.db
    .query("settlements")
    .withIndex("by_at", (q) => q.lte("at", now))
    .take(limit);
  return rows.map((row) => row._id);
}

/** The first of all that wait, set aside or not: read inside a transaction, nothing can come unseen in front of it. */
export function firstSettlement(ctx: QueryCtx): Promise<Doc<"settlements"> | null> {
  return ctx.db.query("settlements").withIndex("by_at").first();
}

/** Start the loop unless it runs. */
export async function wakeSettle(ctx: MutationCtx): Promise<void> {
  const row = await loop(ctx, "settle");
  if (row.running) return;
  await ctx.db.patch("loops", row._id, { running: true });
  await startSettle(ctx, await stateOf(ctx, row), {});
}

/** Schedule the next pass; one that was scheduled before is superseded. */
export async function startSettle(
  ctx: MutationCtx,
  state: Doc<"loopState">,
  change: Partial<Pick<Doc<"loopState">, "batch" | "setAside">>,
): Promise<void> {
  const generation = state.generation + 1;
  const job = await ctx.scheduler.runAfter(0, internal.settle.pass, { generation });
  await ctx.db.patch("loopState", state._id, { ...change, generation, job });
}

/** Put a settlement back for a while. */
export async function setSettlementAside(
  ctx: MutationCtx,
  id: Id<"settlements">,
  now: number,
): Promise<void> {
  await ctx.db.patch("settlements", id, { at: now + SET_ASIDE_MS, suspect: false });
}

/**
 * For the watchdog: wake a loop that sleeps although something is due, and bring back one that died. That begins with the
 * first item alone; if the loop died on it before, the item is set aside, but only one until a pass has come to its end.
 */
export async function reviveSettle(ctx: MutationCtx, now: number): Promise<void> {
  const row = await loop(ctx, "settle");
  const first = await firstSettlement(ctx);
  if (!row.running) {
    if (first !== null && first.at <= now) await wakeSettle(ctx);
    return;
  }
  const state = await stateOf(ctx, row);
  if (!(await isDead(ctx, state))) return;
  console.error(`settle: pass ${state.generation} died; starting again`);
  if (first?.suspect && !state.setAside) {
    console.error(`settle: ${first.work.kind} ${first._id} set aside: the loop died on it`);
    await setSettlementAside(ctx, first._id, now);
    await startSettle(ctx, state, { batch: 1, setAside: true });
    return;
  }
  if (first !== null) await ctx.db.patch("settlements", first._id, { suspect: true });
  await startSettle(ctx, state, { batch: 1 });
}
