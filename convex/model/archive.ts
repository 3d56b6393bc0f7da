/** What has ended, for an archive: in the order of the ends, and each task when it has ended for good. */
import { convexToJson, type Value } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { ARCHIVE_BYTES, ARCHIVE_EVENTS, ARCHIVE_ROWS } from "../constants";
import { refuse } from "../errors";
import type { Position } from "../upkeep.validators";
import { OF_TASK, rowsOf } from "./owned";
import { behind, ENDS, eventsFrom, past, START, toCommit } from "./retention";

/** The parts of an archived task, by the names of their tables. */
const PARTS = OF_TASK.filter((owned) => owned.archived);

/** A position as the archive keeps it. */
export const written = ({ at, within }: Position): string => `${at}/${within}`;

export function position(text: string | null): Position {
  if (text === null) return START;
  const found = /^(\d{1,19})\/(\d{1,16}(?:\.\d{1,16})?)$/.exec(text);
  if (found === null) {
    const shown = JSON.stringify(text.slice(0, 80));
    throw refuse("invalid_argument", `after: ${shown} is no position; take it from the archive's last line.`);
  }
  return { at: BigInt(found[1]!), within: Number(found[2]) };
}

const textOf = (row: object): string => JSON.stringify(convexToJson(row as Value));

export type Exported = { task: string; parts: Record<string, string[]>; whole: boolean; position: string };

/**
 * The next tasks that have ended, whole if they are small; of a large one the parts are read by `part`.
 *
 * @param until - milliseconds since the epoch
 * @returns `done`: nothing more had ended by then
 */
export async function exportPage(
  ctx: QueryCtx,
  { after, until, tenant }: { after: string | null; until: number; tenant: string | null },
): Promise<{ tasks: Exported[]; position: string; done: boolean }> {
  const to = toCommit(until);
  let at = position(after);
  const events = await eventsFrom(ctx, at, to, ARCHIVE_EVENTS);
  const tasks: Exported[] = [];
  let bytes = 0;
  for (const event of events) {
    if (bytes >= ARCHIVE_BYTES) return { tasks, position: written(at), done: false };
    at = past(event);
    if (!ENDS.includes(event.type) || (tenant !== null && event.tenant !== tenant)) continue;
    const task = await ctx.db.get("tasks", event.task);
    if (task === null || task.endedAt === null || task.updated !== event.at || task.purging) continue;
    const item = await exported(ctx, task, ARCHIVE_BYTES - bytes);
    tasks.push({ ...item, position: written(at) });
    bytes +=
      item.task.length +
      Object.values(item.parts)
        .flat()
        .reduce((sum, text) => sum + text.length, 0);
  }
  const done = events.length < ARCHIVE_EVENTS;
  return { tasks, position: written(done && to > at.at ? behind(to) : at), done };
}

async function exported(
  ctx: QueryCtx,
  task: Doc<"tasks">,
  room: number,
): Promise<Pick<Exported, "task" | "parts" | "whole">> {
  const parts: Record<string, string[]> = {};
  let left = room;
  for (const owned of PARTS) {
    const rows = await rowsOf(ctx, owned, task._id).take(ARCHIVE_ROWS + 1);
    const texts = rows.map(textOf);
    left -= texts.reduce((sum, text) => sum + text.length, 0);
    if (rows.length > ARCHIVE_ROWS || left < 0) return { task: textOf(task), parts: {}, whole: false };
    parts[owned.table] = texts;
  }
  return { task: textOf(task), parts, whole: true };
}

/** A page of one part of a task that is too large to be told at once. */
export async function part(
  ctx: QueryCtx,
  task: Id<"tasks">,
  table: string,
  cursor: string | null,
): Promise<{ rows: string[]; cursor: string | null }> {
  const owned = PARTS.find((item) => item.table === table);
  if (owned === undefined) {
    const known = PARTS.map((item) => item.table).join(", ");
    throw refuse("invalid_argument", `part: ${JSON.stringify(table.slice(0, 80))}; give one of ${known}.`);
  }
  const page = await rowsOf(ctx, owned, task).paginate({ numItems: ARCHIVE_ROWS, cursor });
  return { rows: page.page.map(textOf), cursor: page.isDone ? null : page.continueCursor };
}

/** A part of a large text, and the ids of those that follow it. */
export async function text(ctx: QueryCtx, id: string): Promise<{ text: string; rest: Id<"outputs">[] }> {
  const known = ctx.db.normalizeId("outputs", id);
  const row = known && (await ctx.db.get("outputs", known));
  if (!row) throw refuse("not_found", `No text ${JSON.stringify(id.slice(0, 80))}.`);
  return { text: row.text, rest: row.rest ?? [] };
}

/** Note how far the archive has come: retention goes no further when it waits for the archive. It never goes back. */
export async function noteArchived(ctx: MutationCtx, to: string): Promise<void> {
  const cursor = position(to);
  const row = await ctx.db
    .query("upkeep")
    .withIndex("by_name", (q) => q.eq("name", "archive"))
    .unique();
  if (cursor.at > toCommit(Date.now())) {
    throw refuse(
      "invalid_argument",
      "position: it lies in the future; take it from the archive's last line.",
    );
  }
  if (row === null) await ctx.db.insert("upkeep", { name: "archive", cursor, generation: 0, busyUntil: 0 });
  else if (isBefore(row.cursor, cursor)) await ctx.db.patch("upkeep", row._id, { cursor });
}

const isBefore = (a: Position, b: Position) => a.at < b.at || (a.at === b.at && a.within < b.within);
