/**
 * What is done in the background, page by page: retention and rollups. No loop of its own: the watchdog looks whether there
 * is something to do and begins a chain of pages, which ends when it has caught up.
 */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { UPKEEP_BUSY_MS, UPKEEP_PAUSE_MS } from "../constants";
import type { Position } from "../upkeep.validators";
import { hasOldRows, START } from "./retention";
import { hasUncounted } from "./rollup";

export type Chain = "retention" | "rollup";
type UpkeepName = Doc<"upkeep">["name"];

const PAGES = { retention: internal.upkeep.retain, rollup: internal.upkeep.rollUp } as const;

export function upkeepOf(ctx: QueryCtx, name: UpkeepName): Promise<Doc<"upkeep"> | null> {
  return ctx.db
    .query("upkeep")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

/** For the watchdog: begin what is due, unless it is under way. Reads alone while nothing is. */
export async function startUpkeep(ctx: MutationCtx, now: number): Promise<void> {
  const retention = await upkeepOf(ctx, "retention");
  if (isFree(retention, now) && (await hasOldRows(ctx, retention?.cursor ?? START, now)))
    await begin(ctx, "retention", retention, now);
  const rollup = await upkeepOf(ctx, "rollup");
  if (isFree(rollup, now) && (await hasUncounted(ctx, rollup?.cursor ?? START, now)))
    await begin(ctx, "rollup", rollup, now);
}

const isFree = (row: Doc<"upkeep"> | null, now: number) => row === null || row.busyUntil <= now;

/** Begin a chain: a page of an older one, should it still come, finds another generation and does nothing. */
async function begin(ctx: MutationCtx, name: Chain, row: Doc<"upkeep"> | null, now: number): Promise<void> {
  const generation = (row?.generation ?? 0) + 1;
  const busyUntil = now + UPKEEP_BUSY_MS;
  if (row === null) await ctx.db.insert("upkeep", { name, cursor: START, generation, busyUntil });
  else await ctx.db.patch("upkeep", row._id, { generation, busyUntil });
  await ctx.scheduler.runAfter(0, PAGES[name], { generation });
}

/**
 * One page of a chain. What it did and how far it came commit together, so nothing is done twice and nothing left out,
 * wherever the chain breaks.
 *
 * @param work - does a page from the cursor on; `more`: there is another page to do now
 */
export async function page(
  ctx: MutationCtx,
  name: Chain,
  generation: number,
  work: (cursor: Position, now: number) => Promise<{ cursor: Position; more: boolean }>,
): Promise<void> {
  const row = await upkeepOf(ctx, name);
  if (row?.generation !== generation) return;
  const now = Date.now();
  const { cursor, more } = await work(row.cursor, now);
  await ctx.db.patch("upkeep", row._id, { cursor, busyUntil: more ? now + UPKEEP_BUSY_MS : 0 });
  if (more) await ctx.scheduler.runAfter(UPKEEP_PAUSE_MS, PAGES[name], { generation });
}
