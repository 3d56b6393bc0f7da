/** What a queue could use, for whoever starts and stops workers. */
import type { QueryCtx } from "../_generated/server";
import { BACKLOG_ROWS, DEMAND_LANES } from "../constants";
import type { Demand } from "../upkeep.validators";
import { checkScope, type Caller } from "./keys";
import type { Ledger } from "./limits";
import { liveWorkers, standing } from "./look";
import { checkName } from "./text";

/**
 * Bounded reads: what waits is counted up to BACKLOG_ROWS, and `more` says that it is at least that. The limits of
 * DEMAND_LANES lanes are looked at; those behind them are held to what they share with these.
 */
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
  const lanes = new Map<string, number>();
  for (const { lane } of counted) lanes.set(lane, (lanes.get(lane) ?? 0) + 1);
  const { inUse, ledger } = await standing(ctx, [...lanes.keys()].slice(0, DEMAND_LANES), now, BACKLOG_ROWS);
  const running = serving.reduce((sum, worker) => sum + (inUse[worker.session!] ?? 0), 0);
  return {
    queue,
    waiting: counted.length,
    more: rows.length > counted.length,
    oldestWaitingMs: counted.reduce((oldest, row) => Math.max(oldest, now - row._creationTime), 0),
    running,
    slots: serving.reduce((sum, worker) => sum + worker.capacity, 0),
    wanted: running + startable(ledger, lanes),
  };
}

/**
 * How many of the tasks in each lane could run beside what runs: pauses and limits count. A rate does not: what it holds back
 * now starts with its next token, and a worker that went meanwhile would have to come again.
 */
function startable(ledger: Ledger, lanes: ReadonlyMap<string, number>): number {
  let total = 0;
  for (const [lane, waiting] of lanes) {
    for (let i = 0; i < waiting; i++) {
      if (ledger.blocks(lane).some(({ code }) => code !== "rate")) break;
      ledger.take(lane);
      total += 1;
    }
  }
  return total;
}
