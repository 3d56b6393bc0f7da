/** What a dispatch pass sees: bounded, whatever waits. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { DISPATCH_LANES, FREED_BATCH, MAX_LIVE_WORKERS } from "../constants";
import type { Roster, Waiting } from "./plan";

export type Sight = {
  freed: { _id: Id<"freed">; session: Id<"sessions"> }[];
  lanes: Waiting[][];
  cutShort: boolean; // some lane has more waiting than was read
  unseen: string | null; // lanes lie behind this one that were not read
  workers: Doc<"workers">[];
};

/**
 * @param cursor - the lane behind which to begin; lanes are read in a circle
 * @param batch - how many tasks to read over all lanes together
 */
export async function look(ctx: QueryCtx, cursor: string, batch: number): Promise<Sight> {
  return {
    freed: await ctx.db.query("freed").take(FREED_BATCH),
    ...(await lanesInUse(ctx, cursor, batch)),
    workers: await liveWorkers(ctx),
  };
}

export function liveWorkers(ctx: QueryCtx): Promise<Doc<"workers">[]> {
  return ctx.db
    .query("workers")
    .withIndex("by_live", (q) => q.eq("live", true))
    .take(MAX_LIVE_WORKERS);
}

/** The head of each lane: all that waits if that is less than `batch`, else an equal share of every lane. */
export async function lanesInUse(
  ctx: QueryCtx,
  cursor: string,
  batch: number,
): Promise<Pick<Sight, "lanes" | "cutShort" | "unseen">> {
  const rows = await ctx.db.query("ready").withIndex("by_lane_and_rank").take(batch);
  if (rows.length < batch) return { lanes: byLane(rows), cutShort: false, unseen: null };
  const { heads, unseen } = await headsOfLanes(ctx, cursor);
  if (heads.length === 1) return { lanes: [rows], cutShort: true, unseen };
  const share = Math.ceil(batch / heads.length);
  const lanes: Waiting[][] = [];
  for (const head of heads) {
    const line = ctx.db.query("ready").withIndex("by_lane_and_rank", (q) => q.eq("lane", head.lane));
    lanes.push(share === 1 ? [head] : await line.take(share));
  }
  return { lanes, cutShort: lanes.some((line) => line.length === share), unseen };
}

function byLane(rows: Doc<"ready">[]): Waiting[][] {
  const lanes = new Map<string, Waiting[]>();
  for (const row of rows) {
    const line = lanes.get(row.lane);
    if (line === undefined) lanes.set(row.lane, [row]);
    else line.push(row);
  }
  return [...lanes.values()];
}

/** One step over the index for each lane in use, so no table of lanes has to be kept up with. */
async function headsOfLanes(
  ctx: QueryCtx,
  cursor: string,
): Promise<{ heads: Doc<"ready">[]; unseen: string | null }> {
  const heads: Doc<"ready">[] = [];
  let behind = cursor;
  let around = cursor === "";
  for (;;) {
    const head = await ctx.db
      .query("ready")
      .withIndex("by_lane_and_rank", (q) => q.gt("lane", behind))
      .first();
    if (head === null && !around) {
      around = true;
      behind = "";
      continue;
    }
    if (head === null || (around && cursor !== "" && head.lane > cursor)) return { heads, unseen: null };
    if (heads.length === DISPATCH_LANES) return { heads, unseen: behind };
    heads.push(head);
    behind = head.lane;
  }
}

/** The workers that may be given work, each with the room it has left. */
export function withRoom(workers: Doc<"workers">[], inUse: Readonly<Record<string, number>>): Roster[] {
  return workers.flatMap(({ _id, session, queues, agents, llm, capacity, draining }) => {
    if (session === null || draining) return [];
    return [
      { worker: _id, session, queues, agents, llm, free: Math.max(0, capacity - (inUse[session] ?? 0)) },
    ];
  });
}
