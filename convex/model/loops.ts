/** Waking the loops. Each runs as a chain of scheduled passes; the generation makes it one chain. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { DISPATCH_BATCH } from "../constants";

export type LoopName = Doc<"loops">["name"];

/** The loop's row, made at first use. */
export async function loop(ctx: MutationCtx, name: LoopName): Promise<Doc<"loops">> {
  const row = await ctx.db
    .query("loops")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
  if (row !== null) return row;
  const state = await ctx.db.insert("loopState", {
    generation: 0,
    job: null,
    batch: DISPATCH_BATCH,
    suspect: null,
    cursor: "",
    inUse: {},
  });
  const id = await ctx.db.insert("loops", { name, state, running: false, starved: false, wakeAt: null });
  return (await ctx.db.get("loops", id))!;
}

/** The busy half of a loop's row; only the loop itself, and whoever wakes it from sleep, may read it. */
export async function stateOf(ctx: MutationCtx, row: Doc<"loops">): Promise<Doc<"loopState">> {
  return (await ctx.db.get("loopState", row.state))!;
}

/**
 * Wake dispatch because there is new work, or room for work that waits.
 * While the loop runs this is one read; room matters only to a loop that fell asleep for want of it.
 */
export async function wakeDispatch(ctx: MutationCtx, because: "work" | "room"): Promise<void> {
  const row = await loop(ctx, "dispatch");
  if (row.running || (because === "room" && !row.starved)) return;
  await ctx.db.patch("loops", row._id, { running: true, starved: false });
  await startDispatch(ctx, await stateOf(ctx, row), {});
}

/** Schedule the next pass of dispatch; one that was scheduled before is superseded. */
export async function startDispatch(
  ctx: MutationCtx,
  state: Doc<"loopState">,
  change: Partial<Pick<Doc<"loopState">, "batch" | "suspect" | "inUse" | "cursor">>,
  delayMs = 0,
): Promise<void> {
  const generation = state.generation + 1;
  const job = await ctx.scheduler.runAfter(delayMs, internal.dispatch.pass, { generation });
  await ctx.db.patch("loopState", state._id, { ...change, generation, job });
}

/** See to it that the timers run at `at` (milliseconds since the epoch) or before. */
export async function wakeTimersBy(ctx: MutationCtx, at: number): Promise<void> {
  const row = await loop(ctx, "timers");
  if (row.wakeAt !== null && row.wakeAt <= at) return;
  await ctx.db.patch("loops", row._id, { wakeAt: at });
  const current = await stateOf(ctx, row);
  if (current.job !== null) await ctx.scheduler.cancel(current.job);
  await startTimers(ctx, current, at);
}

export async function startTimers(ctx: MutationCtx, state: Doc<"loopState">, at: number): Promise<void> {
  const generation = state.generation + 1;
  const job = await ctx.scheduler.runAt(at, internal.timers.tick, { generation });
  await ctx.db.patch("loopState", state._id, { generation, job });
}
