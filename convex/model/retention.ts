/**
 * Deletes what has ended long ago. It walks the history in the order of commits: behind its cursor every task whose last end
 * is older than the retention time is gone, or stands in `purges`.
 */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  KEEP_STATS_MS,
  RECHECK_MS,
  RETENTION_BYTES,
  RETENTION_EVENTS,
  RETENTION_MARGIN_MS,
  RETENTION_ROWS,
  RETENTION_TOUCHES,
} from "../constants";
import type { Position } from "../upkeep.validators";
import type { EventType } from "../validators";
import { archiveFirst, duePurges, keepMs, purgeLater } from "./keeping";
import { OF_RUN, OF_TASK, rowsOf } from "./owned";
import { unshare } from "./sharedTexts";
import { hasEnded } from "./tasks";

export const ENDS: readonly EventType[] = ["task_succeeded", "task_failed", "task_cancelled", "task_skipped"];

/** What a page may still do. */
export class Budget {
  constructor(
    public touches: number = RETENTION_TOUCHES,
    public bytes: number = RETENTION_BYTES,
  ) {}

  spend(bytes = 0): void {
    this.touches -= 1;
    this.bytes -= bytes;
  }

  hasRoom(): boolean {
    return this.touches > 0 && this.bytes > 0;
  }
}

/** Milliseconds as a commit timestamp. */
export const toCommit = (ms: number): bigint => BigInt(Math.floor(ms)) * 1_000_000n;

type Cutoff = {
  endedBy: number; // what ended later is kept
  walkTo: bigint; // how far the history may be walked
  archivedTo: bigint | null; // null: it does not matter
};

/** What may go now; null: nothing, ever. */
async function cutoffAt(ctx: QueryCtx, now: number): Promise<Cutoff | null> {
  const keep = keepMs();
  if (keep === Infinity || keep >= now) return null;
  const endedBy = now - keep;
  const walkTo = toCommit(endedBy - RETENTION_MARGIN_MS);
  if (!archiveFirst()) return { endedBy, walkTo, archivedTo: null };
  const archive = await ctx.db
    .query("upkeep")
    .withIndex("by_name", (q) => q.eq("name", "archive"))
    .unique();
  const { at, within } = archive?.cursor ?? START;
  const archivedTo = within === START.within ? at : at - 1n; // not a commit that was archived in part
  return { endedBy, walkTo: archivedTo < walkTo ? archivedTo : walkTo, archivedTo };
}

/** Whether a page would find something, in a few reads. */
export async function hasOldRows(ctx: QueryCtx, cursor: Position, now: number): Promise<boolean> {
  if ((await oldStats(ctx, now, 1)).length > 0) return true;
  const cutoff = await cutoffAt(ctx, now);
  if (cutoff === null) return false;
  const found = [
    ...(await duePurges(ctx, now, 1)),
    ...(await eventsFrom(ctx, cursor, cutoff.walkTo, 1)),
    ...(await endedSessions(ctx, cutoff.endedBy, 1)),
  ];
  return found.length > 0;
}

/** Behind every event of the commits before `at`, and of that one. */
export const behind = (at: bigint): Position => ({ at, within: Number.MAX_SAFE_INTEGER });
export const START: Position = behind(0n);

/** The events behind a position, in the order of commits and within each as they were written. */
export async function eventsFrom(
  ctx: QueryCtx,
  { at, within }: Position,
  to: bigint,
  limit: number,
): Promise<Doc<"events">[]> {
  const same = await ctx.db
    .query("events")
    .withIndex("by_at", (q) => q.eq("at", at).gt("_creationTime", within))
    .take(limit);
  if (same.length === limit || to <= at) return same;
  const later = await ctx.db
    .query("events")
    .withIndex("by_at", (q) => q.gt("at", at).lte("at", to))
    .take(limit - same.length);
  return [...same, ...later];
}

/** Behind an event. */
export const past = (event: Doc<"events">): Position => ({
  at: event.at as bigint,
  within: event._creationTime,
});

function endedSessions(ctx: QueryCtx, by: number, limit: number): Promise<Doc<"heartbeats">[]> {
  return ctx.db
    .query("heartbeats")
    .withIndex("by_state_and_expiresAt", (q) => q.eq("state", "ended").lte("expiresAt", by))
    .take(limit);
}

/** Rows of `stats` come in the order of their minutes. */
function oldStats(ctx: QueryCtx, now: number, limit: number): Promise<Doc<"stats">[]> {
  return ctx.db
    .query("stats")
    .withIndex("by_creation_time", (q) => q.lt("_creationTime", now - KEEP_STATS_MS))
    .take(limit);
}

/** One page of retention. */
export async function retain(
  ctx: MutationCtx,
  cursor: Position,
  now: number,
): Promise<{ cursor: Position; more: boolean }> {
  const budget = new Budget();
  for (const row of await oldStats(ctx, now, RETENTION_ROWS)) {
    await ctx.db.delete("stats", row._id);
    budget.spend();
  }
  let at = cursor;
  const cutoff = await cutoffAt(ctx, now);
  if (cutoff !== null) {
    await purgeDue(ctx, budget, cutoff, now);
    at = await walk(ctx, cursor, budget, cutoff, now);
    for (const heartbeat of await endedSessions(ctx, cutoff.endedBy, RETENTION_ROWS)) {
      if (!budget.hasRoom()) break;
      await purgeSession(ctx, heartbeat, cutoff, budget);
    }
  }
  return { cursor: at, more: await hasOldRows(ctx, at, now) };
}

async function purgeDue(ctx: MutationCtx, budget: Budget, cutoff: Cutoff, now: number): Promise<void> {
  for (const purge of await duePurges(ctx, now, RETENTION_ROWS)) {
    if (!budget.hasRoom()) return;
    const { target } = purge;
    const next =
      target.kind === "task"
        ? await purgeOrSetAside(ctx, target.id, budget, cutoff, now)
        : await purgeGroup(ctx, target.id, budget, cutoff, now);
    if (next === null) await ctx.db.delete("purges", purge._id);
    else if (next !== purge.at) await ctx.db.patch("purges", purge._id, { at: next });
  }
}

/** Go along the history, and delete each task that has ended for good before the cutoff. */
async function walk(
  ctx: MutationCtx,
  cursor: Position,
  budget: Budget,
  cutoff: Cutoff,
  now: number,
): Promise<Position> {
  let at = cursor;
  for (const event of await eventsFrom(ctx, cursor, cutoff.walkTo, RETENTION_EVENTS)) {
    if (!budget.hasRoom()) break;
    if (ENDS.includes(event.type)) {
      const next = await purgeOrSetAside(ctx, event.task, budget, cutoff, now);
      if (next !== null) await purgeLater(ctx, { kind: "task", id: event.task }, next);
    }
    at = past(event);
  }
  return at;
}

/**
 * Delete a task, or as much of it as the page has room for. One that throws is left for another day and holds up nothing.
 * @returns when to come back to it; null: it is gone, or its end is still to come in the history
 */
async function purgeOrSetAside(
  ctx: MutationCtx,
  task: Id<"tasks">,
  budget: Budget,
  cutoff: Cutoff,
  now: number,
): Promise<number | null> {
  const { touches, bytes } = budget;
  const { endedBy, archivedTo } = cutoff;
  try {
    const done: { next: number | null; touches: number; bytes: number } = await ctx.runMutation(
      internal.upkeep.purge,
      { task, touches, bytes, endedBy, archivedTo, now },
    );
    budget.touches = done.touches;
    budget.bytes = done.bytes;
    return done.next;
  } catch (error) {
    console.error(`upkeep: task ${task} is kept for another day: ${String(error)}`);
    budget.spend();
    return now + RECHECK_MS;
  }
}

/** @returns as `purgeOrSetAside` does; 0: at once, there is more of it */
export async function purgeTask(
  ctx: MutationCtx,
  id: Id<"tasks">,
  budget: Budget,
  { endedBy, archivedTo }: Pick<Cutoff, "endedBy" | "archivedTo">,
  now: number,
): Promise<number | null> {
  budget.spend();
  const task = await ctx.db.get("tasks", id);
  if (task === null || !hasEnded(task) || task.endedAt! > endedBy) return null; // its next end is still to come
  if (!task.purging) {
    if (archivedTo !== null && (task.updated as bigint) > archivedTo) return now + RECHECK_MS;
    const needed = await isNeeded(ctx, task, budget, now);
    if (needed !== "no") return needed === "yes" ? now + RECHECK_MS : 0;
  }
  if (!(await deleteOwned(ctx, task, budget))) {
    if (!task.purging) await ctx.db.patch("tasks", id, { purging: true });
    return 0;
  }
  await ctx.db.delete("tasks", id);
  budget.spend();
  return null;
}

/** Whether a task that has not ended may still ask for this one, or a dedup key names it for longer. */
async function isNeeded(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  budget: Budget,
  now: number,
): Promise<"yes" | "no" | "look on"> {
  if (task.dedupUntil !== undefined && task.dedupUntil > now) return "yes";
  if (task.parent !== undefined && (await isOpen(ctx, task.parent, budget))) return "yes";
  for (;;) {
    budget.spend();
    const page = await ctx.db
      .query("deps")
      .withIndex("by_on_and_open", (q) => q.eq("on", task._id))
      .take(RETENTION_ROWS);
    for (const edge of page) if (await isOpen(ctx, edge.task, budget)) return "yes";
    if (page.length < RETENTION_ROWS) return "no";
    for (const edge of page) {
      await ctx.db.delete("deps", edge._id);
      budget.spend();
    }
    if (!budget.hasRoom()) return "look on";
  }
}

async function isOpen(ctx: QueryCtx, id: Id<"tasks">, budget: Budget): Promise<boolean> {
  budget.spend();
  const task = await ctx.db.get("tasks", id);
  return task !== null && !hasEnded(task);
}

/** Delete what belongs to a task. @returns whether all of it is gone; the rest is for another page */
async function deleteOwned(ctx: MutationCtx, task: Doc<"tasks">, budget: Budget): Promise<boolean> {
  for (const owned of OF_TASK) {
    for (let more = true; more;) {
      if (!budget.hasRoom()) return false;
      budget.spend();
      const rows = await rowsOf(ctx, owned, task._id).take(RETENTION_ROWS);
      for (const row of rows) {
        if (!budget.hasRoom() || !(await deleteHanging(ctx, owned.table, row, task._id, budget)))
          return false;
        await ctx.db.delete(owned.table, row._id as Id<typeof owned.table>);
        budget.spend(bytesOf(row));
      }
      more = rows.length === RETENTION_ROWS;
    }
  }
  const input = task.inputId === null || (await deleteShared(ctx, task.inputId, task._id, budget));
  return input && (await deleteText(ctx, task.outputId, budget));
}

/** Delete what hangs on a row that belongs to a task. @returns whether all of it is gone */
async function deleteHanging(
  ctx: MutationCtx,
  table: string,
  row: object,
  task: Id<"tasks">,
  budget: Budget,
): Promise<boolean> {
  if (table === "runs") return deleteOfRun(ctx, row as Doc<"runs">, budget);
  if (table === "steps") return deleteOfStep(ctx, row as Doc<"steps">, budget);
  if (table === "members") await deleteOwnGroup(ctx, row as Doc<"members">, task, budget);
  return true;
}

async function deleteOfRun(ctx: MutationCtx, run: Doc<"runs">, budget: Budget): Promise<boolean> {
  for (const owned of OF_RUN) {
    for (let more = true; more;) {
      if (!budget.hasRoom()) return false;
      budget.spend();
      const rows = await rowsOf(ctx, owned, run._id).take(RETENTION_ROWS);
      for (const row of rows) {
        await ctx.db.delete(owned.table, row._id as Id<typeof owned.table>);
        budget.spend(bytesOf(row));
      }
      more = rows.length === RETENTION_ROWS;
    }
  }
  return deleteText(ctx, run.outputId ?? null, budget); // the task's output, or of a run that was lost after all
}

/** A text that an event or a fork gave to several steps goes with the last of them. */
export async function deleteOfStep(ctx: MutationCtx, step: Doc<"steps">, budget: Budget): Promise<boolean> {
  return step.resultId === null || deleteShared(ctx, step.resultId, step._id, budget);
}

/** Delete a text, unless others share it; with the last of them it goes. @returns whether all of it is gone */
async function deleteShared(
  ctx: MutationCtx,
  text: Id<"outputs">,
  owner: Id<"steps"> | Id<"tasks">,
  budget: Budget,
): Promise<boolean> {
  budget.spend();
  return (await unshare(ctx, text, owner)) ? deleteText(ctx, text, budget) : true;
}

/** Delete a text with its parts, the first last, since it names the others. @returns whether all of it is gone */
async function deleteText(ctx: MutationCtx, id: Id<"outputs"> | null, budget: Budget): Promise<boolean> {
  const first = id === null ? null : await ctx.db.get("outputs", id);
  if (first === null) return true;
  budget.spend(first.text.length);
  const parts = [...(first.rest ?? [])].reverse();
  for (const part of parts) {
    if (!budget.hasRoom()) return false;
    const row = await ctx.db.get("outputs", part);
    budget.spend(row?.text.length ?? 0);
    if (row !== null) await ctx.db.delete("outputs", part);
  }
  await ctx.db.delete("outputs", first._id);
  return true;
}

/** The group that carries a task's own callback goes with the task. */
async function deleteOwnGroup(
  ctx: MutationCtx,
  member: Doc<"members">,
  task: Id<"tasks">,
  budget: Budget,
): Promise<void> {
  const group = await ctx.db.get("groups", member.group);
  if (group?.task !== task) return;
  await ctx.db.delete("tallies", group.tally);
  await ctx.db.delete("groups", group._id);
  budget.spend();
  budget.spend();
}

/** A group that has been complete for long enough, once none of its tasks is left. @returns when to come back to it */
async function purgeGroup(
  ctx: MutationCtx,
  id: Id<"groups">,
  budget: Budget,
  { endedBy }: Cutoff,
  now: number,
): Promise<number | null> {
  budget.spend();
  const group = await ctx.db.get("groups", id);
  if (group === null) return null;
  const { completedAt } = group;
  if (completedAt === null || completedAt > endedBy) return now + (completedAt ?? now) - endedBy;
  if (group.callbackState === "pending") return now + RECHECK_MS;
  budget.spend();
  const member = await ctx.db
    .query("members")
    .withIndex("by_group_and_ended", (q) => q.eq("group", id))
    .first();
  if (member !== null) return now + RECHECK_MS;
  await ctx.db.delete("tallies", group.tally);
  await ctx.db.delete("groups", id);
  return null;
}

/** A session that ended long ago, once no run is its own; with its worker's last one the worker goes too. */
async function purgeSession(
  ctx: MutationCtx,
  heartbeat: Doc<"heartbeats">,
  { endedBy }: Cutoff,
  budget: Budget,
): Promise<void> {
  const { session: id } = heartbeat;
  budget.spend();
  const run = await ctx.db
    .query("runs")
    .withIndex("by_session_and_state", (q) => q.eq("session", id))
    .first();
  if (run !== null) {
    // Nothing but this reads the expiry of a session that has ended: look again when a day more has passed.
    await ctx.db.patch("heartbeats", heartbeat._id, { expiresAt: endedBy + RECHECK_MS });
    return;
  }
  const session = await ctx.db.get("sessions", id);
  await ctx.db.delete("heartbeats", heartbeat._id);
  if (session === null) return;
  await ctx.db.delete("sessions", id);
  const worker = await ctx.db.get("workers", session.worker);
  budget.spend();
  const standIn = worker?.endpoint !== undefined;
  if (worker === null || worker.live || worker.session !== null || standIn) return;
  const other = await ctx.db
    .query("sessions")
    .withIndex("by_worker_and_incarnation", (q) => q.eq("worker", worker._id))
    .first();
  if (other === null) await ctx.db.delete("workers", worker._id);
}

/** Roughly what a row weighs: its texts. */
function bytesOf(row: object): number {
  let bytes = 0;
  for (const value of Object.values(row)) if (typeof value === "string") bytes += value.length;
  return bytes;
}
