/**
 * The one loop that decides. It settles what was freed, looks at the lanes in which tasks wait and at the workers with
 * room, and assigns. Being the only writer of assignments it makes limits exact; being scheduled, a conflict costs it a
 * retry and nothing else.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Doc, Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, type MutationCtx } from "./_generated/server";
import { ACCEPT_MS, BUDGET_WORK, CIRCLE_MS, DISPATCH_BATCH, FREED_BATCH } from "./constants";
import { wakeEndpoints } from "./model/attending";
import { handleBudgetWork, settleBudgets } from "./model/budget.work";
import * as Counters from "./model/counters";
import { Ledger } from "./model/limits";
import {
  freedFrom,
  lineOf,
  liveWorkers,
  look as lookAt,
  poolsOf,
  roomIn,
  settled,
  standOf,
  type Sight,
} from "./model/look";
import { loop, startDispatch, stateOf, wakeDispatch, wakeTimersBy, type DispatchState } from "./model/loops";
import { earliest, plan, type Assignable, type Line } from "./model/plan";
import { goOn as goOnWithBudgets } from "./model/allot";
import { assign } from "./model/runs";
import { keepSticky } from "./model/stickies";
import { setAside } from "./model/waiting";
import { vScopeKind } from "./limit.validators";

/** One pass of the loop; it schedules the next while there is something to do, and falls asleep when there is not. */
export const pass = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    const row = await loop(ctx, "dispatch");
    const state = await stateOf(ctx, row);
    if (state.generation !== generation) return null;

    const now = Date.now();
    const stand = standOf(row, state, now);
    const sight: Sight = await ctx.runQuery(internal.dispatch.look, { stand }, { useStaleSnapshot: true });
    const ledger = new Ledger(now, sight.limits, sight.counters);
    const inUse = await settle(ctx, sight, ledger, state.inUse);
    const putBack = await settleBudgets(ctx, sight.budgetWork, now);
    const moreFreed = sight.freed.length === FREED_BATCH;
    const counted = moreFreed ? null : await Counters.census(ctx, sight.limits, state.censusAt, now);
    const lines =
      counted?.some === true ? [] : state.suspect === null ? sight.lines : await only(ctx, state.suspect);
    const free = roomIn(sight.pools);
    const { picks, turns, next, nextAt } = plan(lines, sight.pools, ledger, state.turns, state.batch);
    const taken = await assignEach(ctx, picks);
    for (const pick of picks) {
      if (taken.has(pick.ready)) inUse[pick.session] = (inUse[pick.session] ?? 0) + 1;
      else ledger.putBack(pick.lane);
    }
    if (row.limited) await Counters.keepCounters(ctx, ledger, sight.counters);

    const room = free - picks.length;
    const more = sight.unseen !== null || lines.some((line) => line.cut);
    const outcome: Outcome = {
      row,
      state,
      next: {
        inUse,
        turns,
        cursor: next ?? state.cursor,
        freedFrom: sight.freed.at(-1)?.at ?? state.freedFrom,
        censusAt: counted?.againAt ?? 0,
        circle: null,
        circledAt: state.circledAt,
        batch: Math.min(DISPATCH_BATCH, state.batch * 2), // grows back after a crash of the loop
        suspect: null,
        setAside: false,
      },
      nextAt: earliest([sight.nextAt, nextAt, counted?.againAt ?? null, state.circle?.nextAt ?? null]),
      now,
    };
    const moreWork = putBack || sight.budgetWork.length === BUDGET_WORK;
    const goesOn = moreFreed || moreWork || counted?.some === true || state.suspect !== null;
    if (goesOn || (picks.length > 0 && room > 0 && more)) await goOn(ctx, outcome);
    else if (room > 0 && sight.unseen !== null) await goRound(ctx, outcome, sight.unseen);
    else if (room > 0 && picks.length === 0 && state.circle !== null) {
      // It has come all the way round, and whatever came meanwhile has woken the loop.
      await sleep(ctx, { ...outcome, next: { ...outcome.next, circledAt: now } }, true);
    } else await sleepOrGoOn(ctx, outcome, room);
    return null;
  },
});

/** What a pass found, and what it leaves behind. `nextAt`: when time alone lets something start. */
type Outcome = {
  row: Doc<"loops">;
  state: Doc<"loopState">;
  next: DispatchState;
  nextAt: number | null;
  now: number;
};

export const look = internalQuery({
  args: {
    stand: v.object({
      cursor: v.string(),
      end: v.string(),
      around: v.boolean(),
      batch: v.number(),
      inUse: v.record(v.string(), v.number()),
      freedFrom: v.int64(),
      limited: v.boolean(),
      now: v.number(),
    }),
  },
  handler: (ctx, { stand }): Promise<Sight> => lookAt(ctx, stand),
});

/** What the census reads from a snapshot. */
export const lanes = internalQuery({
  args: {},
  returns: v.union(v.array(v.object({ lane: v.string(), runs: v.number() })), v.null()),
  handler: (ctx) => Counters.liveLanes(ctx),
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

/** Remove the counters of scopes that nothing limits any more, a page at a time. */
export const forget = internalMutation({
  args: { kind: vScopeKind, from: v.string(), to: v.union(v.string(), v.null()) },
  returns: v.null(),
  handler: async (ctx, range) => {
    await Counters.forget(ctx, range);
    return null;
  },
});

/** One thing to do about budgets, in a sub-transaction of its own. */
export const budgetWork = internalMutation({
  args: { work: v.id("budgetWork"), now: v.number() },
  returns: v.array(v.id("budgets")),
  handler: (ctx, { work, now }) => handleBudgetWork(ctx, work, now),
});

/** Those go on that wait for something that was given back. */
export const budgetsGoOn = internalMutation({
  args: { touched: v.array(v.id("budgets")), now: v.number() },
  returns: v.number(),
  handler: (ctx, { touched, now }) => goOnWithBudgets(ctx, new Set(touched), now),
});

const vSticky = v.object({ tenant: v.string(), sticky: v.string() });

/** Assign a batch of picks, all or none. */
export const assignAll = internalMutation({
  args: {
    picks: v.array(
      v.object({
        ready: v.id("ready"),
        worker: v.id("workers"),
        session: v.id("sessions"),
        sticky: v.optional(vSticky),
      }),
    ),
  },
  returns: v.array(v.id("ready")),
  handler: async (ctx, { picks }) => {
    const now = Date.now();
    const taken: Id<"ready">[] = [];
    const workers = new Map<Id<"workers">, Doc<"workers"> | null>();
    const known = new Map<string, Doc<"agents"> | null>();
    for (const pick of picks) {
      if (!workers.has(pick.worker)) workers.set(pick.worker, await ctx.db.get("workers", pick.worker));
      if (!(await assign(ctx, pick, workers.get(pick.worker)!, now, known))) continue;
      taken.push(pick.ready);
      if (pick.sticky !== undefined) await keepSticky(ctx, pick.sticky, pick.worker, now);
    }
    if (taken.length > 0) await wakeTimersBy(ctx, now + ACCEPT_MS);
    return taken;
  },
});

/** Count the runs that ended since the last pass out of what each session holds and each limited scope has in use. */
async function settle(
  ctx: MutationCtx,
  { freed, live }: Sight,
  ledger: Ledger,
  held: DispatchState["inUse"],
): Promise<DispatchState["inUse"]> {
  for (const { _id, lane, runs } of freed) {
    await ctx.db.delete("freed", _id); // nobody else removes one
    ledger.release(lane, runs);
  }
  // Nothing is given to a session that has ended, so nobody needs to know what it held.
  const inUse = settled(held, freed);
  return Object.fromEntries(live.flatMap((session) => (inUse[session] ? [[session, inUse[session]]] : [])));
}

/** The one task that the pass after a crash takes. */
async function only(ctx: MutationCtx, id: Id<"ready">): Promise<Line[]> {
  const row = await ctx.db.get("ready", id);
  return row === null ? [] : [lineOf([{ ready: row._id }], row, false)];
}

/**
 * Assign in one sub-transaction; if that throws, one by one, so that a bad item rolls back alone and is set aside.
 * @returns the tasks whose assignment stands
 */
async function assignEach(
  ctx: MutationCtx,
  planned: readonly (Assignable & { lane: string })[],
): Promise<Set<Id<"ready">>> {
  if (planned.length === 0) return new Set();
  const picks = planned.map(({ ready, worker, session, sticky }): Assignable => {
    return { ready, worker, session, ...(sticky && { sticky }) };
  });
  try {
    return new Set(await ctx.runMutation(internal.dispatch.assignAll, { picks }));
  } catch {
    const taken = new Set<Id<"ready">>();
    for (const pick of picks) {
      try {
        for (const id of await ctx.runMutation(internal.dispatch.assignAll, { picks: [pick] })) taken.add(id);
      } catch (error) {
        await setAside(ctx, pick.ready, String(error));
      }
    }
    return taken;
  }
}

async function goOn(ctx: MutationCtx, { row, state, next }: Outcome): Promise<void> {
  if (!row.running) await ctx.db.patch("loops", row._id, { running: true, starved: false, wakeAt: null });
  await startDispatch(ctx, state, next);
}

/**
 * A page of lanes was seen, nothing of it can start, and there are more: go round the whole circle. The loop counts as asleep
 * from where the circle begins, so whatever comes from then on wakes it; when it has come round undisturbed nothing can be
 * left lying. That makes a proof out of many passes, none of which has to be kept in a read set.
 */
async function goRound(
  ctx: MutationCtx,
  outcome: Outcome,
  unseen: { cursor: string; around: boolean },
): Promise<void> {
  const { row, state, nextAt, now } = outcome;
  const next = { ...outcome.next, cursor: unseen.cursor };
  if (state.circle !== null) {
    await startDispatch(ctx, state, { ...next, circle: { ...state.circle, around: unseen.around, nextAt } });
    return;
  }
  const from = state.circledAt + CIRCLE_MS;
  if (now < from) {
    await sleep(ctx, { ...outcome, next, nextAt: earliest([from, nextAt]) }, true);
    return;
  }
  await ctx.db.patch("loops", row._id, { running: false, starved: true, wakeAt: null });
  await startDispatch(ctx, state, { ...next, circle: { end: unseen.cursor, around: false, nextAt: null } });
}

/**
 * Look once more, this time inside the transaction's read set: whatever came since the snapshot conflicts with this pass,
 * which then runs again and sees it. So nothing that arrives while the loop falls asleep is left lying. Where no worker has
 * room, the workers and what was freed are all there is to look at.
 */
async function sleepOrGoOn(ctx: MutationCtx, outcome: Outcome, room: number): Promise<void> {
  const { row, next, now } = outcome;
  if ((await ctx.db.query("budgetWork").first()) !== null) {
    await goOn(ctx, outcome);
    return;
  }
  if ((await ctx.db.query("ready").withIndex("by_lane_and_rank").first()) === null) {
    await sleep(ctx, { ...outcome, nextAt: null }, false);
    return;
  }
  if (room === 0) {
    const workers = await liveWorkers(ctx);
    const freed = await freedFrom(ctx, next.freedFrom, 1);
    if (freed.length > 0 || roomIn(poolsOf(workers, next.inUse)) > 0) await goOn(ctx, outcome);
    else await sleep(ctx, { ...outcome, nextAt: null }, true);
    return;
  }
  const sight = await lookAt(ctx, { ...standOf(row, next, now), batch: 1 }, 1);
  const ledger = new Ledger(now, sight.limits, sight.counters);
  const planned = plan(sight.lines, sight.pools, ledger, next.turns, 1);
  if (sight.freed.length > 0 || planned.picks.length > 0 || sight.unseen !== null) {
    await goOn(ctx, outcome);
    return;
  }
  const nextAt = earliest([sight.nextAt, planned.nextAt, next.censusAt || null]);
  await sleep(ctx, { ...outcome, nextAt }, sight.starved || planned.starved);
}

/** Fall asleep: until something comes, or the first moment at which time alone lets something start. */
async function sleep(
  ctx: MutationCtx,
  { row, state, next, nextAt, now }: Outcome,
  starved: boolean,
): Promise<void> {
  const wakeAt = nextAt === null ? null : Math.max(now, nextAt);
  if (wakeAt !== null) await startDispatch(ctx, state, next, wakeAt);
  else {
    const generation = state.generation + 1;
    await ctx.db.patch("loopState", state._id, { ...next, generation, job: null });
  }
  if (row.running || row.starved !== starved || row.wakeAt !== wakeAt)
    await ctx.db.patch("loops", row._id, { running: false, starved, wakeAt });
  if (starved) await wakeEndpoints(ctx);
}
