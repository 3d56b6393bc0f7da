/**
 * The one loop that decides. It settles what was freed, looks at the lanes in which tasks wait and at the workers with
 * room, and assigns. Being the only writer of assignments it makes limits exact; being scheduled, a conflict costs it a
 * retry and nothing else.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Doc, Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, type MutationCtx } from "./_generated/server";
import { ACCEPT_MS, BLOCKED_LANES_MS, DISPATCH_BATCH, FREED_BATCH } from "./constants";
import { look as lookAt, withRoom, type Sight } from "./model/look";
import { loop, startDispatch, stateOf, wakeDispatch, wakeTimersBy } from "./model/loops";
import { plan, type Assignable, type Waiting } from "./model/plan";
import { assign } from "./model/runs";
import { setAside } from "./model/waiting";

type InUse = Doc<"loopState">["inUse"];

/** One pass of the loop; it schedules the next while there is something to do, and falls asleep when there is not. */
export const pass = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    const row = await loop(ctx, "dispatch");
    const state = await stateOf(ctx, row);
    if (state.generation !== generation) return null;

    const sight: Sight = await ctx.runQuery(
      internal.dispatch.look,
      { cursor: state.cursor, batch: state.batch },
      { useStaleSnapshot: true },
    );
    const inUse = await settle(ctx, sight, state.inUse);
    const workers = withRoom(sight.workers, inUse);
    const lanes = state.suspect === null ? sight.lanes : await only(ctx, state.suspect);
    const { picks, last } = plan(lanes, workers, state.batch);
    for (const session of await assignEach(ctx, picks)) inUse[session] = (inUse[session] ?? 0) + 1;

    const room = workers.reduce((sum, worker) => sum + worker.free, 0) - picks.length;
    const next = {
      inUse,
      cursor: last ?? state.cursor,
      batch: Math.min(DISPATCH_BATCH, state.batch * 2), // grows back after a crash of the loop
      suspect: null,
      setAside: false,
    };
    const moreFreed = sight.freed.length === FREED_BATCH;
    if (moreFreed || state.suspect !== null || (picks.length > 0 && room > 0 && sight.cutShort)) {
      await startDispatch(ctx, state, next);
    } else if (sight.unseen !== null && room > 0) {
      // More lanes than one pass reads: go round, slowly when all that were seen are blocked.
      const onward = { ...next, cursor: last ?? sight.unseen };
      await startDispatch(ctx, state, onward, picks.length > 0 ? 0 : BLOCKED_LANES_MS);
    } else {
      await sleepOrGoOn(ctx, row, state, next);
    }
    return null;
  },
});

export const look = internalQuery({
  args: { cursor: v.string(), batch: v.number() },
  handler: (ctx, { cursor, batch }): Promise<Sight> => lookAt(ctx, cursor, batch),
});

/** Room has come back to a loop that fell asleep for want of it. */
export const wake = internalMutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => {
    await wakeDispatch(ctx);
    return null;
  },
});

/** Assign a batch of picks, all or none. */
export const assignAll = internalMutation({
  args: {
    picks: v.array(v.object({ ready: v.id("ready"), worker: v.id("workers"), session: v.id("sessions") })),
  },
  returns: v.array(v.id("sessions")),
  handler: async (ctx, { picks }) => {
    const now = Date.now();
    const taken: Id<"sessions">[] = [];
    const workers = new Map<Id<"workers">, Doc<"workers"> | null>();
    for (const pick of picks) {
      if (!workers.has(pick.worker)) workers.set(pick.worker, await ctx.db.get("workers", pick.worker));
      if (await assign(ctx, pick, workers.get(pick.worker)!, now)) taken.push(pick.session);
    }
    if (taken.length > 0) await wakeTimersBy(ctx, now + ACCEPT_MS);
    return taken;
  },
});

/** Count the runs that ended since the last pass out of what each session holds. */
async function settle(ctx: MutationCtx, { freed, workers }: Sight, held: InUse): Promise<InUse> {
  const inUse = new Map(Object.entries(held));
  for (const { _id, session } of freed) {
    if ((await ctx.db.get("freed", _id)) === null) continue;
    await ctx.db.delete("freed", _id);
    const left = (inUse.get(session) ?? 0) - 1;
    if (left > 0) inUse.set(session, left);
    else inUse.delete(session);
  }
  // Nothing is given to a session that has ended, so nobody needs to know what it held.
  const live = new Set<string>(workers.map((worker) => worker.session!));
  return Object.fromEntries([...inUse].filter(([session]) => live.has(session)));
}

/** The one task that the pass after a crash takes. */
async function only(ctx: MutationCtx, id: Id<"ready">): Promise<Waiting[][]> {
  const row = await ctx.db.get("ready", id);
  return row === null ? [] : [[row]];
}

/**
 * Assign in one sub-transaction; if that throws, one by one, so that a bad item rolls back alone and is set aside.
 * @returns the session of each assignment that stands
 */
async function assignEach(ctx: MutationCtx, picks: Assignable[]): Promise<Id<"sessions">[]> {
  if (picks.length === 0) return [];
  try {
    return await ctx.runMutation(internal.dispatch.assignAll, { picks });
  } catch {
    const taken: Id<"sessions">[] = [];
    for (const pick of picks) {
      try {
        taken.push(...(await ctx.runMutation(internal.dispatch.assignAll, { picks: [pick] })));
      } catch (error) {
        await setAside(ctx, pick.ready, String(error));
      }
    }
    return taken;
  }
}

/**
 * Look once more, this time inside the transaction's read set: whatever came since the snapshot conflicts with this pass,
 * which then runs again and sees it. So nothing that arrives while the loop falls asleep is left lying.
 */
async function sleepOrGoOn(
  ctx: MutationCtx,
  row: Doc<"loops">,
  state: Doc<"loopState">,
  next: Pick<Doc<"loopState">, "inUse" | "cursor" | "batch" | "suspect" | "setAside">,
): Promise<void> {
  let starved = false;
  if ((await ctx.db.query("ready").withIndex("by_lane_and_rank").first()) !== null) {
    const sight = await lookAt(ctx, next.cursor, 1, 1);
    const planned = plan(sight.lanes, withRoom(sight.workers, next.inUse), 1);
    if (sight.freed.length > 0 || planned.picks.length > 0) {
      await startDispatch(ctx, state, next);
      return;
    }
    starved = planned.starved || sight.stranded;
  }
  await ctx.db.patch("loopState", state._id, { ...next, generation: state.generation + 1, job: null });
  await ctx.db.patch("loops", row._id, { running: false, starved });
}
