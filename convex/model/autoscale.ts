/** What a queue could use, for whoever starts and stops workers. */
import type { QueryCtx } from "../_generated/server";
import { BACKLOG_ROWS } from "../constants";
import type { Demand } from "../upkeep.validators";
import { checkScope, type Caller } from "./keys";
import { liveWorkers } from "./look";
import { checkName } from "./text";

/** Bounded reads: what waits is counted up to BACKLOG_ROWS, and `more` says that it is at least that. */
export async function demandOf(ctx: QueryCtx, caller: Caller, name: string, now: number): Promise<Demand> {
  const queue = checkName("queue", name);
  checkScope(caller, queue);
  const rows = await ctx.db
    .query("ready")
    .withIndex("by_lane_and_rank", (q) => q.gte("lane", `${queue}/`).lt("lane", `${queue}0`)) // "0" follows "/"
    .take(BACKLOG_ROWS + 1);
  const counted = rows.slice(0, BACKLOG_ROWS);
  const serving = (await liveWorkers(ctx)).filter(
    ({ session, draining, queues }) => session !== null && !draining && queues.includes(queue),
  );
  const inUse = await runsHeld(ctx);
  const running = serving.reduce((sum, worker) => sum + (inUse[worker.session!] ?? 0), 0);
  return {
    queue,
    waiting: counted.length,
    more: rows.length > counted.length,
    oldestWaitingMs: counted.reduce((oldest, row) => Math.max(oldest, now - row._creationTime), 0),
    running,
    slots: serving.reduce((sum, worker) => sum + worker.capacity, 0),
    wanted: running + counted.length,
  };
}

/** How many runs each session holds, as dispatch counted them in its last pass. */
async function runsHeld(ctx: QueryCtx): Promise<Record<string, number>> {
  const loop = await ctx.db
    .query("loops")
    .withIndex("by_name", (q) => q.eq("name", "dispatch"))
    .unique();
  return (loop && (await ctx.db.get("loopState", loop.state)))?.inUse ?? {};
}
