/** What a dispatch pass sees: bounded, whatever waits. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { DISPATCH_LANES, FREED_BATCH, MAX_LIVE_WORKERS } from "../constants";
import { canRun, type Roster, type Waiting } from "./plan";
import { behindAgent } from "./waiting";

export type Sight = {
  freed: { _id: Id<"freed">; session: Id<"sessions"> }[];
  lanes: Waiting[][]; // the head of each lane, in the order in which they take their turns
  cutShort: boolean; // some lane has more waiting than was read
  unseen: string | null; // lanes lie behind this one that were not read
  stranded: boolean; // there are lanes that no live worker can run
  workers: Doc<"workers">[];
};

/**
 * @param cursor - the lane that had the last turn; the circle of lanes begins behind it
 * @param batch - how many tasks to read over all lanes together
 */
export async function look(
  ctx: QueryCtx,
  cursor: string,
  batch: number,
  freed: number = FREED_BATCH,
): Promise<Sight> {
  const workers = await liveWorkers(ctx);
  return {
    freed: await ctx.db.query("freed").take(freed),
    ...(await lanesInUse(ctx, cursor, batch, workers)),
    workers,
  };
}

export function liveWorkers(ctx: QueryCtx): Promise<Doc<"workers">[]> {
  return ctx.db
    .query("workers")
    .withIndex("by_live", (q) => q.eq("live", true))
    .take(MAX_LIVE_WORKERS);
}

/** What waits: all of it if that is less than `batch`, else an equal share of each lane that somebody can run. */
async function lanesInUse(
  ctx: QueryCtx,
  cursor: string,
  batch: number,
  workers: Doc<"workers">[],
): Promise<Pick<Sight, "lanes" | "cutShort" | "unseen" | "stranded">> {
  const rows = await ctx.db.query("ready").withIndex("by_lane_and_rank").take(batch);
  if (rows.length < batch) {
    return { lanes: inTurn(rows, cursor), cutShort: false, unseen: null, stranded: false };
  }
  const { heads, unseen, stranded } = await headsOfLanes(ctx, cursor, workers);
  const share = Math.ceil(batch / Math.max(1, heads.length));
  const lanes: Waiting[][] = [];
  for (const head of heads) {
    if (share === 1) lanes.push([head]);
    else if (rows[0]?.lane === head.lane && rows.at(share - 1)?.lane === head.lane)
      lanes.push(rows.slice(0, share));
    else {
      const line = ctx.db.query("ready").withIndex("by_lane_and_rank", (q) => q.eq("lane", head.lane));
      lanes.push(await line.take(share));
    }
  }
  return { lanes, cutShort: lanes.some((line) => line.length === share), unseen, stranded };
}

function inTurn(rows: Doc<"ready">[], cursor: string): Waiting[][] {
  const lanes = new Map<string, Waiting[]>();
  for (const row of rows) {
    const line = lanes.get(row.lane);
    if (line === undefined) lanes.set(row.lane, [row]);
    else line.push(row);
  }
  const order = [...lanes.keys()];
  const begin = order.findIndex((lane) => lane > cursor);
  const turned = begin < 0 ? order : [...order.slice(begin), ...order.slice(0, begin)];
  return turned.map((lane) => lanes.get(lane)!);
}

/**
 * One step over the index for each lane in use, so no table of lanes has to be kept up with; and one step over all the
 * lanes of an agent that no live worker plays, so that these hide nothing.
 */
async function headsOfLanes(
  ctx: QueryCtx,
  cursor: string,
  workers: Doc<"workers">[],
): Promise<{ heads: Doc<"ready">[]; unseen: string | null; stranded: boolean }> {
  const able = withRoom(workers, {});
  const heads: Doc<"ready">[] = [];
  let behind = cursor;
  let around = cursor === "";
  let stranded = false;
  for (let steps = 0; steps < 2 * DISPATCH_LANES; steps++) {
    const head = await ctx.db
      .query("ready")
      .withIndex("by_lane_and_rank", (q) => q.gt("lane", behind))
      .first();
    if (head === null && !around) {
      around = true;
      behind = "";
      continue;
    }
    if (head === null || (around && cursor !== "" && head.lane > cursor))
      return { heads, unseen: null, stranded };
    if (heads.length === DISPATCH_LANES) break;
    if (able.some((worker) => canRun(worker, head))) {
      heads.push(head);
      behind = head.lane;
    } else {
      stranded = true;
      behind = behindAgent(head);
    }
  }
  return { heads, unseen: behind, stranded };
}

/** The workers that may be given work, each with the room it has left. */
export function withRoom(workers: Doc<"workers">[], inUse: Readonly<Record<string, number>>): Roster[] {
  return workers.flatMap(({ _id, session, queues, agents, labels, llm, capacity, draining }) => {
    if (session === null || draining) return [];
    const free = Math.max(0, capacity - (inUse[session] ?? 0));
    return [{ worker: _id, session, queues, agents, labels, llm, free }];
  });
}
