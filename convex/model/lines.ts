/** What waits, by queue: the gauges of people and autoscalers walk over it. */
import type { Doc } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import type { Queues } from "./scope";

/** A queue in which tasks wait, and the first of these. */
export type Line = { queue: string; take: (most: number) => Promise<Doc<"ready">[]> };

/**
 * The queues in which tasks wait, by name, of those that a key serves: a step over the index for each, and for a key that
 * is bound to queues one for each of these, at most MAX_QUEUES.
 */
export async function* linesOf(ctx: QueryCtx, queues: Queues): AsyncGenerator<Line> {
  if (queues === null) {
    for (let from = ""; ;) {
      const head = await firstIn(ctx, from, null);
      if (head === null) return;
      yield lineOf(ctx, head.queue);
      from = endOf(head.queue);
    }
  }
  for (const queue of [...new Set(queues)].sort()) {
    if ((await firstIn(ctx, `${queue}/`, endOf(queue))) !== null) yield lineOf(ctx, queue);
  }
}

const endOf = (queue: string): string => `${queue}0`; // lanes begin with their queue and "/", which "0" follows

function firstIn(ctx: QueryCtx, from: string, end: string | null): Promise<Doc<"ready"> | null> {
  return ctx.db
    .query("ready")
    .withIndex("by_lane_and_rank", (q) => {
      const behind = q.gte("lane", from);
      return end === null ? behind : behind.lt("lane", end);
    })
    .first();
}

const lineOf = (ctx: QueryCtx, queue: string): Line => ({
  queue,
  take: (most) =>
    ctx.db
      .query("ready")
      .withIndex("by_lane_and_rank", (q) => q.gte("lane", `${queue}/`).lt("lane", endOf(queue)))
      .take(most),
});
