/** What a run says of itself while it runs, and what its worker says of it. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_LINE_CHARS, MAX_SILENT, MAX_STATE_BYTES } from "../constants";
import { refuse } from "../errors";
import { openOf } from "./approvals";
import type { Clocks, ProgressReport, TaskState } from "../validators";
import { isLive } from "./runs";
import { beatAt, heartbeatOf } from "./sessions";
import { fitsIn } from "./text";
import { groupOf, waitOf } from "./waits";

/** Keep the newest that a live run says of itself: one row for each run. A state that is too large is left out. */
export async function keepProgress(ctx: MutationCtx, report: ProgressReport, now: number): Promise<void> {
  const { run, progress } = report;
  const state = report.state !== null && fitsIn(report.state, MAX_STATE_BYTES) ? report.state : null;
  const change = {
    ...(progress === null ? {} : { ...progress, message: progress.message.slice(0, MAX_LINE_CHARS) }),
    ...(state === null ? {} : { state }),
    at: now,
  };
  const known = await progressOf(ctx, run);
  if (known !== null) await ctx.db.patch("progress", known._id, change);
  else await ctx.db.insert("progress", { run, done: null, total: null, message: "", state: null, ...change });
}

const progressOf = (ctx: QueryCtx, run: Id<"runs">): Promise<Doc<"progress"> | null> =>
  ctx.db
    .query("progress")
    .withIndex("by_run", (q) => q.eq("run", run))
    .unique();

/** How a task stands: what its last run said of itself, and the three clocks of a live one, if they are wanted. */
export async function stateOf(ctx: QueryCtx, id: Id<"tasks">, clocks: boolean): Promise<TaskState> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  const run = task.run === null ? null : await ctx.db.get("runs", task.run);
  const said = run === null ? null : await progressOf(ctx, run._id);
  const waitsFor = await waitedFor(ctx, task);
  const told = said?.done ?? null;
  return {
    task: id,
    status: task.status,
    run: task.run,
    progress: told === null ? null : { done: told, total: said!.total, message: said!.message },
    state: said?.state ?? null,
    at: said?.at ?? null,
    steps: run !== null && isLive(run) ? (run.steps ?? 0) : (task.steps ?? 0),
    waitsFor,
    clocks: clocks && run !== null && isLive(run) ? await clocksOf(ctx, run) : null,
  };
}

async function waitedFor(ctx: QueryCtx, task: Doc<"tasks">): Promise<string | null> {
  if (task.status !== "waiting_approval") {
    const wait = await waitOf(ctx, task);
    return (
      wait && (groupOf(wait) === null ? wait.event : `the tasks that it has submitted (group ${wait.event})`)
    );
  }
  const open = await openOf(ctx, task._id);
  return open.map(({ _id, tool }) => `approval of ${tool} (${_id})`).join(", ") || null;
}

/** Refuse more silent runs than a heartbeat is to hold. */
export function checkSilent(silent: Clocks["silent"] | { run: string }[]): void {
  if (silent.length > MAX_SILENT)
    throw refuse("invalid_argument", `clocks: at most ${MAX_SILENT} silent runs are told.`);
}

/** The three clocks of a live run: its worker's process, its worker's inbox loop, its own last token or step. */
export async function clocksOf(ctx: QueryCtx, run: Doc<"runs">): Promise<NonNullable<TaskState["clocks"]>> {
  const heartbeat = await heartbeatOf(ctx, run.session);
  const { clocks } = heartbeat;
  const silent = clocks?.silent.find((item) => item.run === run._id);
  return {
    heartbeatAt: beatAt(heartbeat),
    inboxAgeMs: clocks?.inboxAgeMs ?? null,
    silentMs: silent?.ms ?? null,
    on: silent?.on ?? null,
    name: silent?.name ?? null,
    attempt: silent?.attempt ?? null,
  };
}
