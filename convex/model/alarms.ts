/** Things that ring at a time, set by whoever needs them; the timers ring them (`ring.ts`). */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type { AlarmKind } from "../validators";
import { wakeTimersBy } from "./loops";

/** Ring `kind` for `target` at `at` (milliseconds since the epoch), in place of what was set before. */
export async function setAlarm(ctx: MutationCtx, kind: AlarmKind, target: string, at: number): Promise<void> {
  const known = await find(ctx, kind, target);
  if (known === null) await ctx.db.insert("alarms", { kind, target, at });
  else await ctx.db.patch("alarms", known._id, { at });
  await wakeTimersBy(ctx, at);
}

export async function clearAlarm(ctx: MutationCtx, kind: AlarmKind, target: string): Promise<void> {
  const known = await find(ctx, kind, target);
  if (known !== null) await ctx.db.delete("alarms", known._id);
}

export async function hasAlarm(ctx: QueryCtx, kind: AlarmKind, target: string): Promise<boolean> {
  return (await find(ctx, kind, target)) !== null;
}

function find(ctx: QueryCtx, kind: AlarmKind, target: string): Promise<Doc<"alarms"> | null> {
  return ctx.db
    .query("alarms")
    .withIndex("by_kind_and_target", (q) => q.eq("kind", kind).eq("target", target))
    .unique();
}

/** The first `limit` alarms whose time has come at `now`. */
export function dueAlarms(ctx: QueryCtx, now: number, limit: number): Promise<Doc<"alarms">[]> {
  return ctx.db
    .query("alarms")
    .withIndex("by_at", (q) => q.lte("at", now))
    .take(limit);
}

/** When the next alarm rings, in milliseconds since the epoch; null when none is set. */
export async function nextAlarm(ctx: QueryCtx): Promise<number | null> {
  return (await ctx.db.query("alarms").withIndex("by_at").first())?.at ?? null;
}
