/**
 * The loop that settles what follows from the end of a task: its dependents are released, failed or skipped, its groups
 * count it, and a group that is complete calls back. It is the only writer of these rows, so the end of a run costs its
 * worker one insert, and fan-in and fan-out of any size go in pages.
 */
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { internalMutation, internalQuery, type MutationCtx } from "./_generated/server";
import { SETTLE_BATCH, SETTLE_EDGES } from "./constants";
import { cancelChildren, cancelTree } from "./model/children";
import { settleEdges } from "./model/deps";
import {
  callBack as callBackOf,
  cancelMembers,
  completeIfDone,
  countEnded,
  countJoined,
} from "./model/groups";
import { loop, stateOf } from "./model/loops";
import {
  dueSettlements,
  firstSettlement,
  setSettlementAside,
  settleLater,
  startSettle,
  wakeSettle,
} from "./model/settlements";
import { continueFork } from "./model/forks";
import { continueRestart } from "./model/restart";
import { submit } from "./model/submit";
import { cancel } from "./model/tasks";
import { countLate } from "./model/usage";
import { wakePage } from "./model/waits";
import { type Settlement } from "./group.validators";
import { vTaskSpec } from "./validators";

/** One pass of the loop; it schedules the next while there is something to do, and falls asleep when there is not. */
export const pass = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    const row = await loop(ctx, "settle");
    const state = await stateOf(ctx, row);
    if (state.generation !== generation) return null;
    const now = Date.now();
    const limit = Math.min(SETTLE_BATCH, state.batch);
    const due: Id<"settlements">[] = await ctx.runQuery(
      internal.settle.look,
      { now, limit },
      { useStaleSnapshot: true },
    );
    let room = SETTLE_EDGES;
    for (const settlement of due) {
      if (room <= 0) break;
      room -= await handleOrSetAside(ctx, settlement, room, now);
    }
    const next = { batch: Math.min(SETTLE_BATCH, state.batch * 2), setAside: false }; // grows back after a crash
    const first = await firstSettlement(ctx);
    if (first !== null && first.at <= now) {
      await startSettle(ctx, state, next);
      return null;
    }
    await ctx.db.patch("loopState", state._id, { ...next, generation: state.generation + 1, job: null });
    await ctx.db.patch("loops", row._id, { running: false });
    return null;
  },
});

/** What a pass reads from the snapshot at which it began. */
export const look = internalQuery({
  args: { now: v.number(), limit: v.number() },
  returns: v.array(v.id("settlements")),
  handler: (ctx, { now, limit }) => dueSettlements(ctx, now, limit),
});

/** Something was left for a loop that slept. */
export const wake = internalMutation({
  args: {},
  returns: v.null(),
  handler: async (ctx) => {
    await wakeSettle(ctx);
    return null;
  },
});

/** An item that throws rolls back alone and comes again later. */
async function handleOrSetAside(
  ctx: MutationCtx,
  settlement: Id<"settlements">,
  room: number,
  now: number,
): Promise<number> {
  try {
    return await ctx.runMutation(internal.settle.handle, { settlement, room });
  } catch (error) {
    console.error(`settle: ${settlement} set aside: ${String(error)}`);
    await setSettlementAside(ctx, settlement, now);
    return 1;
  }
}

/**
 * One settlement, or a page of it: what is left goes to the end of the line, behind those that wait for less.
 * @returns how many edges it took, or what is as much work
 */
export const handle = internalMutation({
  args: { settlement: v.id("settlements"), room: v.number() },
  returns: v.number(),
  handler: async (ctx, { settlement, room }) => {
    const row = await ctx.db.get("settlements", settlement);
    if (row === null) return 0;
    await ctx.db.delete("settlements", settlement);
    const { used, rest } = await settle(ctx, row.work, room);
    if (rest !== null) await settleLater(ctx, rest);
    return used;
  },
});

async function settle(
  ctx: MutationCtx,
  work: Settlement,
  room: number,
): Promise<{ used: number; rest: Settlement | null }> {
  switch (work.kind) {
    case "ended": {
      const edges = await settleEdges(ctx, work, room);
      await countEnded(ctx, work);
      return { used: edges + 1, rest: edges >= room ? work : null };
    }
    case "joined":
      await countJoined(ctx, work.group, work.tasks);
      return { used: 1, rest: null };
    case "sealed":
      await completeIfDone(ctx, work.group);
      return { used: 1, rest: null };
    case "cancelTree":
      return { used: room, rest: await cancelChildren(ctx, work) };
    case "woken":
      await wakePage(ctx, work); // it leaves the next page to this loop
      return { used: room, rest: null };
    case "restart":
      await continueRestart(ctx, work.task, Date.now()); // it leaves the next page to this loop
      return { used: room, rest: null };
    case "fork":
      await continueFork(ctx, work.task, Date.now()); // it leaves the next page to this loop
      return { used: room, rest: null };
    case "used":
      await countLate(ctx, work.run, work.usage);
      return { used: 1, rest: null };
    case "cancelOne":
      await cancelTask(ctx, work);
      return { used: 1, rest: null };
    case "cancelGroup":
      return { used: room, rest: await cancelMembers(ctx, work) };
  }
}

/** One task of a page that is cancelled. */
export const cancelOne = internalMutation({
  args: { task: v.id("tasks"), subtree: v.boolean() },
  returns: v.null(),
  handler: async (ctx, given) => {
    await cancelTask(ctx, given);
    return null;
  },
});

async function cancelTask(ctx: MutationCtx, given: { task: Id<"tasks">; subtree: boolean }): Promise<void> {
  if ((await ctx.db.get("tasks", given.task)) === null) return; // removed meanwhile
  if (given.subtree) await cancelTree(ctx, given.task);
  else await cancel(ctx, given.task);
}

/** Call back for a group that is complete, and mark it done, in one transaction. */
export const callBack = internalMutation({
  args: { group: v.id("groups"), attempt: v.number() },
  returns: v.null(),
  handler: async (ctx, { group, attempt }) => {
    await callBackOf(ctx, group, attempt);
    return null;
  },
});

/** Submit the follow-up task of a group, or throw: it is refused as a whole. */
export const followUp = internalMutation({
  args: { spec: vTaskSpec },
  returns: v.id("tasks"),
  handler: async (ctx, { spec }) => {
    const [answer] = await submit(ctx, null, [spec]);
    if (!answer?.ok) throw new Error(answer?.message ?? "nothing was submitted");
    return answer.task;
  },
});
