/** Waking the loops. Each runs as a chain of scheduled passes; the generation makes it one chain. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { DISPATCH_BATCH, LONGEST_SLEEP_MS } from "../constants";

export type LoopName = Doc<"loops">["name"];

/** What a pass leaves behind for the next. */
export type DispatchState = Omit<Doc<"loopState">, "_id" | "_creationTime" | "generation" | "job">;

/** The loop's row, made at first use. */
export async function loop(ctx: MutationCtx, name: LoopName): Promise<Doc<"loops">> {
  const row = await loopOf(ctx, name);
  if (row !== null) return row;
  const state = await ctx.db.insert("loopState", {
    generation: 0,
    job: null,
    batch: DISPATCH_BATCH,
    suspect: null,
    setAside: false,
    cursor: "",
    turns: {},
    circle: null,
    circledAt: 0,
    censusAt: 0,
    freedFrom: 0n,
    inUse: {},
  });
  const id = await ctx.db.insert("loops", {
    name,
    state,
    running: false,
    starved: false,
    wakeAt: null,
    limited: false,
  });
  return (await ctx.db.get("loops", id))!;
}

/** The busy half of a loop's row; only the loop itself, and whoever wakes it from sleep, may read it. */
/** The row of a loop, for readers; null: it never ran. */
export function loopOf(ctx: QueryCtx, name: LoopName): Promise<Doc<"loops"> | null> {
  return ctx.db
    .query("loops")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

export async function stateOf(ctx: MutationCtx, row: Doc<"loops">): Promise<Doc<"loopState">> {
  return (await ctx.db.get("loopState", row.state))!;
}

/** Whether a loop that should have a pass has none: it ran out of time or memory, or was cancelled by hand. */
export async function isDead(ctx: QueryCtx, state: Doc<"loopState">): Promise<boolean> {
  const job = state.job && (await ctx.db.system.get("_scheduled_functions", state.job));
  return !job || (job.state.kind !== "pending" && job.state.kind !== "inProgress");
}

/** Transactions that leave the rows of the loops alone, and what they have had woken so far. */
const apart = new WeakMap<MutationCtx, { dispatch: boolean; timersBy: number }>();

/**
 * From here on this transaction wakes a loop by scheduling that: it reads the loop's row and does not write it. For what many
 * do at the same time, such as syncs, so that none makes another run again.
 */
export function leaveLoopsAlone(ctx: MutationCtx): void {
  apart.set(ctx, { dispatch: false, timersBy: Infinity });
}

/** Wake dispatch because there is new work. While the loop runs this is one read. */
export async function wakeDispatch(ctx: MutationCtx): Promise<void> {
  const row = await loop(ctx, "dispatch");
  if (row.running) return;
  const woken = apart.get(ctx);
  if (woken === undefined) await rouse(ctx, row);
  else if (!woken.dispatch) {
    woken.dispatch = true;
    await ctx.scheduler.runAfter(0, internal.dispatch.wake, {});
  }
}

async function rouse(ctx: MutationCtx, row: Doc<"loops">): Promise<void> {
  const state = await stateOf(ctx, row);
  if (row.wakeAt !== null && state.job !== null) await ctx.scheduler.cancel(state.job);
  await ctx.db.patch("loops", row._id, { running: true, starved: false, wakeAt: null });
  await startDispatch(ctx, state, { circle: null });
}

/**
 * Tell dispatch that a limit has changed. A pass that is under way has read this row: it conflicts, runs again and sees the
 * change, so no run starts under a limit that stood no more.
 *
 * @param limited - whether there are limits now
 */
export async function limitsChanged(ctx: MutationCtx, limited: boolean): Promise<void> {
  const row = await loop(ctx, "dispatch");
  await ctx.db.patch("loops", row._id, { limited });
  if (!row.running) await rouse(ctx, row);
}

/**
 * Tell dispatch that there is room again; it matters only to a loop that fell asleep for want of it. The wake-up is
 * scheduled, so that syncs which free room at the same time write no common row.
 */
export async function wakeIfStarved(ctx: MutationCtx): Promise<void> {
  const row = await loop(ctx, "dispatch");
  const woken = apart.get(ctx);
  if (row.running || !row.starved || woken?.dispatch === true) return;
  if (woken !== undefined) woken.dispatch = true;
  await ctx.scheduler.runAfter(0, internal.dispatch.wake, {});
}

/** Schedule the next pass of dispatch; one that was scheduled before is superseded. */
export async function startDispatch(
  ctx: MutationCtx,
  state: Doc<"loopState">,
  change: Partial<DispatchState>,
  at: number = Date.now(),
): Promise<void> {
  const generation = state.generation + 1;
  const job = await ctx.scheduler.runAt(at, internal.dispatch.pass, { generation });
  await ctx.db.patch("loopState", state._id, { ...change, generation, job });
}

/** See to it that the timers run at `due` (milliseconds since the epoch) or before, and within a day in any case. */
export async function wakeTimersBy(ctx: MutationCtx, due: number): Promise<void> {
  const at = Math.min(due, Date.now() + LONGEST_SLEEP_MS);
  const row = await loop(ctx, "timers");
  if (row.wakeAt !== null && row.wakeAt <= at) return;
  const woken = apart.get(ctx);
  if (woken !== undefined) {
    if (woken.timersBy <= at) return;
    woken.timersBy = at;
    await ctx.scheduler.runAfter(0, internal.timers.wake, { by: at });
    return;
  }
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
