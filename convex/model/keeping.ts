/** How long what has ended is kept, and the list of what is to be deleted later. */
import type { Doc } from "../_generated/dataModel";
import { env, type MutationCtx, type QueryCtx } from "../_generated/server";
import { KEEP_DAYS, MAX_KEEP_DAYS } from "../constants";

const DAY_MS = 24 * 3_600_000;

/** What a deployment's variable means, in milliseconds; Infinity: for ever. Null when it is no number of days. */
export function keepMsOf(days: string): number | null {
  if (days.trim() === "") return KEEP_DAYS * DAY_MS;
  const given = Number(days);
  if (given === 0) return Infinity;
  return given >= 1 && given <= MAX_KEEP_DAYS ? given * DAY_MS : null;
}

/** How long an ended task is kept. A setting that is no use keeps everything: what is deleted does not come back. */
export function keepMs(): number {
  const days = env.SIGNALBOX_KEEP_DAYS ?? "";
  const ms = keepMsOf(days);
  if (ms !== null) return ms;
  console.error(
    `upkeep: SIGNALBOX_KEEP_DAYS of the deployment: ${JSON.stringify(days)} is neither 0 nor 1 to ${MAX_KEEP_DAYS}; nothing is deleted`,
  );
  return Infinity;
}

/** When retention first looks at a group that is complete now: the setting may change until then. */
export const groupMs = (): number =>
  Math.min(keepMsOf(env.SIGNALBOX_KEEP_DAYS ?? "") ?? Infinity, KEEP_DAYS * DAY_MS);

/** Whether only what was archived may be deleted. */
export const archiveFirst = (): boolean => !["", "0"].includes(env.SIGNALBOX_ARCHIVE_FIRST ?? "");

type Target = Doc<"purges">["target"];

/** Let retention look at something at `at` (milliseconds since the epoch). */
export async function purgeLater(ctx: MutationCtx, target: Target, at: number): Promise<void> {
  await ctx.db.insert("purges", { target, at });
}

/** The first that retention is to look at by `now`. */
export function duePurges(ctx: QueryCtx, now: number, limit: number): Promise<Doc<"purges">[]> {
  return ctx.db
    .query("purges")
    .withIndex("by_at", (q) => q.lte("at", now))
    .take(limit);
}
