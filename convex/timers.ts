/**
 * What is due: delayed tasks, deadlines of runs, leases. One scheduled pass stands at the earliest due time and none while
 * nothing is due; the watchdog cron brings back a loop that died.
 */
import { v, type Infer } from "convex/values";
import { internal } from "./_generated/api";
import { internalMutation, internalQuery, type MutationCtx } from "./_generated/server";
import { ACCEPT_MS, SET_ASIDE_MS, TIMER_BATCH, WATCHDOG_BATCH } from "./constants";
import { nextAlarm } from "./model/alarms";
import { reviveModels } from "./model/modelReports";
import { due, expired, expireRun, expireSession, nextDelayed, nextLease } from "./model/expiry";
import { Ledger } from "./model/limits";
import { look, standOf } from "./model/look";
import { isDead, loop, startDispatch, startTimers, stateOf, wakeDispatch, wakeTimersBy } from "./model/loops";
import { forgetExpired } from "./model/nonces";
import { plan } from "./model/plan";
import { ring } from "./model/ring";
import { endRun as endRunOf, endRuns as endRunsPage, leaseMs } from "./model/sessions";
import { reviveSettle } from "./model/settlements";
import { startUpkeep } from "./model/upkeep";
import { moveToReady, setAside } from "./model/waiting";
import { vFault } from "./validators";

const vDue = v.union(
  v.object({ kind: v.literal("delayed"), id: v.id("delayed") }),
  v.object({ kind: v.literal("run"), id: v.id("runs") }),
  v.object({ kind: v.literal("session"), id: v.id("sessions") }),
  v.object({ kind: v.literal("alarm"), id: v.id("alarms") }),
);
type Due = Infer<typeof vDue>;

/** Handle a page of what is due, and schedule the next pass for the earliest of what is not. */
export const tick = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    const row = await loop(ctx, "timers");
    const state = await stateOf(ctx, row);
    if (state.generation !== generation) return null;
    const now = Date.now();
    await ctx.db.patch("loops", row._id, { wakeAt: null });
    const batch = Math.min(TIMER_BATCH, state.batch * 2); // grows back after a crash of the loop
    await ctx.db.patch("loopState", state._id, { job: null, batch });
    const { delayed, alarms, runs, sessions } = await due(ctx, now, Math.min(state.batch, TIMER_BATCH));
    for (const id of delayed) await handleOrSetAside(ctx, { kind: "delayed", id }, now);
    for (const id of alarms) await handleOrSetAside(ctx, { kind: "alarm", id }, now);
    for (const id of runs) await handleOrSetAside(ctx, { kind: "run", id }, now);
    for (const id of sessions) await handleOrSetAside(ctx, { kind: "session", id }, now);
    await sleepUntilDue(ctx, now);
    return null;
  },
});

/** What `tick` reads from a snapshot. */
export const lease = internalQuery({
  args: {},
  returns: v.union(v.number(), v.null()),
  handler: (ctx) => nextLease(ctx),
});

/**
 * While there are leases their earliest is read from a snapshot, since accepts and heartbeats move them all the time; one
 * that begins meanwhile ends no sooner than a lease from now, and by then the timers have looked again.
 */
async function sleepUntilDue(ctx: MutationCtx, now: number): Promise<void> {
  const seen: number | null = await ctx.runQuery(internal.timers.lease, {}, { useStaleSnapshot: true });
  const leased = seen === null ? await nextLease(ctx) : Math.min(seen, now + Math.min(leaseMs(), ACCEPT_MS));
  const due = [await nextDelayed(ctx), await nextAlarm(ctx), leased].filter((at) => at !== null);
  if (due.length > 0) await wakeTimersBy(ctx, Math.max(now, Math.min(...due)));
}

/** Something falls due at `by`, says a transaction that leaves the row of this loop alone. */
export const wake = internalMutation({
  args: { by: v.number() },
  returns: v.null(),
  handler: async (ctx, { by }) => {
    await wakeTimersBy(ctx, by);
    return null;
  },
});

/** One thing whose time has come, in a sub-transaction of its own. */
export const handle = internalMutation({
  args: { due: vDue, now: v.number() },
  returns: v.null(),
  handler: async (ctx, { due: { kind, id }, now }) => {
    if (kind === "delayed") await moveToReady(ctx, id);
    else if (kind === "alarm") await ring(ctx, id, now);
    else if (kind === "run") await expireRun(ctx, id, now);
    else await expireSession(ctx, id, now);
    return null;
  },
});

/** An item that throws rolls back alone and comes again later, so it cannot hold up the others. */
async function handleOrSetAside(ctx: MutationCtx, item: Due, now: number): Promise<void> {
  try {
    await ctx.runMutation(internal.timers.handle, { due: item, now });
  } catch (error) {
    console.error(`timers: ${item.kind} ${item.id} set aside: ${String(error)}`);
    const later = now + SET_ASIDE_MS;
    if (item.kind === "delayed") await ctx.db.patch("delayed", item.id, { dueAt: later });
    else if (item.kind === "alarm") await ctx.db.patch("alarms", item.id, { at: later });
    else if (item.kind === "run") await ctx.db.patch("runs", item.id, { deadlineAt: later });
    else {
      const heartbeat = await ctx.db
        .query("heartbeats")
        .withIndex("by_session", (q) => q.eq("session", item.id))
        .unique();
      if (heartbeat !== null) await ctx.db.patch("heartbeats", heartbeat._id, { expiresAt: later });
    }
  }
}

/** One run of a session that ended, in a sub-transaction of its own. */
export const endRun = internalMutation({
  args: { run: v.id("runs"), why: v.union(vFault, v.null()), blamed: v.boolean() },
  returns: v.null(),
  handler: async (ctx, { run, why, blamed }) => {
    await endRunOf(ctx, run, why, blamed);
    return null;
  },
});

/** The next page of the runs of a session that ended. */
export const endRuns = internalMutation({
  args: {
    session: v.id("sessions"),
    why: v.union(vFault, v.null()),
    blamed: v.union(v.id("runs"), v.null()),
  },
  returns: v.null(),
  handler: async (ctx, { session, why, blamed }) => {
    await endRunsPage(ctx, session, why, blamed);
    return null;
  },
});

const LOOPS = ["timers", "settle", "models", "dispatch", "upkeep"] as const;

/** Once a minute: idle workers that went away, watches that ran out, loops that died. */
export const watchdog = internalMutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => {
    const now = Date.now();
    for (const heartbeat of await expired(ctx, "idle", now, WATCHDOG_BATCH)) {
      await handleOrSetAside(ctx, { kind: "session", id: heartbeat.session }, now);
    }
    const watches = await ctx.db
      .query("watches")
      .withIndex("by_until", (q) => q.lte("until", now))
      .take(WATCHDOG_BATCH);
    for (const watch of watches) await ctx.db.delete("watches", watch._id);
    await forgetExpired(ctx, now);
    for (const name of LOOPS) {
      try {
        await ctx.runMutation(internal.timers.revive, { loop: name, now });
      } catch (error) {
        console.error(`watchdog: ${name} could not be looked after: ${String(error)}`);
      }
    }
    return null;
  },
});

/** Look after one loop, in a sub-transaction of its own: what makes one of them throw must not keep the others dead. */
export const revive = internalMutation({
  args: { loop: v.union(...LOOPS.map((name) => v.literal(name))), now: v.number() },
  returns: v.null(),
  handler: async (ctx, { loop: name, now }) => {
    if (name === "timers") await reviveTimers(ctx, now);
    else if (name === "settle") await reviveSettle(ctx, now);
    else if (name === "models") await reviveModels(ctx, now);
    else if (name === "dispatch") await reviveDispatch(ctx);
    else await startUpkeep(ctx, now);
    return null;
  },
});

/**
 * A pass that ran out of time or memory cannot catch that itself. It is started again for one item alone, and if it dies on
 * that too, the item is set aside; but only one until a pass has come to its end, since it may be no item's fault.
 */
async function reviveDispatch(ctx: MutationCtx): Promise<void> {
  const row = await loop(ctx, "dispatch");
  if (!row.running) {
    // Asleep, and rightly so: but a wake-up that got lost, by whatever defect, costs no more than a minute.
    const waits = await ctx.db.query("ready").withIndex("by_lane_and_rank").first();
    if (waits !== null || (await ctx.db.query("budgetWork").first()) !== null) await wakeDispatch(ctx);
    return;
  }
  const state = await stateOf(ctx, row);
  if (!(await isDead(ctx, state))) return;
  console.error(`dispatch: pass ${state.generation} died; starting again`);
  if (state.suspect !== null && !state.setAside) {
    await setAside(ctx, state.suspect, "the dispatch loop died on it");
    await startDispatch(ctx, state, { batch: 1, suspect: null, setAside: true });
    return;
  }
  const now = Date.now();
  const sight = await look(ctx, { ...standOf(row, state, now), batch: 1 });
  const ledger = new Ledger(now, sight.limits, sight.counters);
  const [suspect] = plan(sight.lines, sight.pools, ledger, state.turns, 1).picks;
  await startDispatch(ctx, state, { batch: 1, suspect: suspect?.ready ?? null });
}

async function reviveTimers(ctx: MutationCtx, now: number): Promise<void> {
  const row = await loop(ctx, "timers");
  const state = await stateOf(ctx, row);
  if (row.wakeAt === null || !(await isDead(ctx, state))) {
    await sleepUntilDue(ctx, now); // a wake-up that got lost costs no more than a minute
    return;
  }
  console.error(`timers: pass ${state.generation} died; starting again`);
  await ctx.db.patch("loopState", state._id, { batch: 1 });
  await startTimers(ctx, { ...state, batch: 1 }, now);
}
