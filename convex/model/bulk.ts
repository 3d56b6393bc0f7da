/** Many tasks at once, a page at a time: which match a filter, and what they failed of. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { internal } from "../_generated/api";
import { BULK_EDGES, BULK_PAGE, CAUSE_EXAMPLES, CAUSE_RUNS, FAILURES_PAGE } from "../constants";
import { refuse } from "../errors";
import type { Bulk, Cause, Failures, Filter } from "../bulk.validators";
import type { TaskStatus } from "../validators";
import { dependencyIds } from "./deps";
import type { Caller } from "./keys";
import { firstNoted } from "./nonces";
import { retry, RETRYABLE } from "./steer";
import { cancel } from "./tasks";
import { checkKey, checkName } from "./text";

export type Verb = "cancel" | "retry";

// In the order in which a task goes through them, so that few slip past a page that has been.
const OPEN = [
  "waiting",
  "sleeping",
  "waiting_event",
  "waiting_approval",
  "paused",
  "delayed",
  "pending",
  "running",
] as const;

/** The statuses in which `verb` finds something to do; without one in the filter, those that it goes through. */
function statusesFor(verb: Verb, status: TaskStatus | undefined): readonly TaskStatus[] {
  const possible: readonly TaskStatus[] = verb === "cancel" ? OPEN : RETRYABLE;
  if (status === undefined) return verb === "cancel" ? OPEN : ["failed"];
  if (possible.includes(status)) return [status];
  throw refuse("invalid_argument", `status: to ${verb}, one of ${possible.join(", ")}.`);
}

/** Whether a filter names this task and `verb` still has something to do on it, and can. Pure. */
export function matches(
  task: Doc<"tasks">,
  verb: Verb,
  { status, queue, agent, code, submittedAfter, submittedBefore }: Filter,
  queues: readonly string[] | null,
): boolean {
  return (
    statusesFor(verb, status).includes(task.status) &&
    !(verb === "cancel" ? task.cancelRequested : task.purging === true || task.preparing !== undefined) &&
    (queue === undefined || task.queue === queue) &&
    (queues === null || queues.includes(task.queue)) &&
    (agent === undefined || task.agent === agent) &&
    (code === undefined || task.error?.code === code) &&
    (submittedAfter === undefined || task._creationTime >= submittedAfter) &&
    (submittedBefore === undefined || task._creationTime < submittedBefore)
  );
}

/** How far a bulk operation has come. */
type Place = {
  status: number; // of those that it goes through
  behind: string | null; // in the list of that one
  since: number; // when it began: what it has retried, and failed again, it leaves alone
};

/**
 * Cancel or retry what a filter names, a page at a time. The page is read from a snapshot, and each task again before it is
 * changed, so a busy queue is no conflict. Tasks that change their status meanwhile may be passed over. Retried, a task
 * stands behind those of its dependencies that the filter names too, so that it waits for them.
 *
 * @param dryRun - only count
 * @param request - the caller's name for the first page: asked for again, what has been retried since is left alone
 */
export async function applyToPage(
  ctx: MutationCtx,
  caller: Caller,
  verb: Verb,
  filter: Filter,
  cursor: string | null,
  dryRun: boolean,
  request?: string,
): Promise<Bulk> {
  const { queues } = caller;
  const now = Date.now();
  const isNamed = cursor === null && request !== undefined && !dryRun;
  const named = isNamed ? `${verb}-many:${caller.key}:${checkKey("request", request)}` : null;
  const { since } = placeOf(cursor, named === null ? now : await firstNoted(ctx, named, now));
  const begins = cursor === null && since === now;
  const page = (rows: number): Promise<Page> =>
    ctx.runQuery(
      internal.tasks.page,
      { verb, filter, queues, cursor, rows, now: since },
      { useStaleSnapshot: true },
    );
  const whole = await page(BULK_PAGE);
  const chosen = (task: Doc<"tasks">) =>
    matches(task, verb, filter, queues) && (begins || (task.retriedAt ?? 0) < since);
  const listed = new Set(whole.tasks.map(({ task }) => task));
  let changed = 0;
  let besides = 0; // tasks of other pages that others come after
  let room = BULK_EDGES;
  for (const [i, { task: id }] of dryRun ? [] : whole.tasks.entries()) {
    const task = await ctx.db.get("tasks", id);
    if (task === null || !chosen(task)) continue;
    if (verb === "cancel") {
      await cancel(ctx, id);
      changed += 1;
      continue;
    }
    const { order, read } = await inOrder(ctx, task, chosen, room);
    room -= read;
    if (order === null && i > 0) {
      // The next call has room enough, or says that there is none.
      const { row } = whole.tasks[i - 1]!;
      return { matched: i + besides, changed, cursor: (await page(row)).cursor };
    }
    for (const one of order ?? []) {
      await retry(ctx, one, now);
      changed += 1;
      if (!listed.has(one._id)) besides += 1;
    }
  }
  return { matched: whole.tasks.length + besides, changed, cursor: whole.cursor };
}

/**
 * A task that has never run, behind those that it comes after, at whatever distance, and that are to be retried with it.
 *
 * @param chosen - whether a task is to be retried
 * @param room - for how many edges there is room
 * @returns the tasks in the order in which they are to be retried, and how many edges were read; null: there are more
 */
async function inOrder(
  ctx: QueryCtx,
  task: Doc<"tasks">,
  chosen: (task: Doc<"tasks">) => boolean,
  room: number,
): Promise<{ order: Doc<"tasks">[] | null; read: number }> {
  const order: Doc<"tasks">[] = [];
  const seen = new Set([task._id]);
  const open: { task: Doc<"tasks">; on: Id<"tasks">[] | null }[] = [{ task, on: null }];
  let read = 0;
  for (let last = open.at(-1); last !== undefined; last = open.at(-1)) {
    last.on ??= last.task.attempt > 0 ? [] : await dependencyIds(ctx, last.task._id);
    const id = last.on.pop();
    if (id === undefined) {
      order.push(last.task);
      open.pop();
      continue;
    }
    if (++read > room) return { order: null, read };
    if (seen.has(id)) continue;
    seen.add(id);
    const on = await ctx.db.get("tasks", id);
    if (on !== null && chosen(on)) open.push({ task: on, on: null });
  }
  return { order, read };
}

type Page = { tasks: { task: Id<"tasks">; row: number }[]; cursor: string | null };

/**
 * A page of the tasks that a filter names, those that changed last first; to be retried, those that failed first, since what
 * failed because of others failed behind them.
 *
 * @param rows - how many tasks it looks at
 * @returns with each task how many were looked at with it
 */
export async function pageOf(
  ctx: QueryCtx,
  verb: Verb,
  filter: Filter,
  queues: readonly string[] | null,
  { cursor, rows, now }: { cursor: string | null; rows: number; now: number },
): Promise<Page> {
  const tenant = checkName("tenant", filter.tenant ?? "default");
  const statuses = statusesFor(verb, filter.status);
  const { status: at, behind, since } = placeOf(cursor, now);
  const status = statuses[at];
  if (status === undefined) throw badCursor();
  const found = await ctx.db
    .query("tasks")
    .withIndex("by_tenant_and_status_and_updated", (q) => q.eq("tenant", tenant).eq("status", status))
    .order(verb === "retry" ? "asc" : "desc")
    .paginate({ numItems: rows, cursor: behind });
  const tasks = found.page.flatMap((task, i) =>
    matches(task, verb, filter, queues) ? [{ task: task._id, row: i + 1 }] : [],
  );
  if (!found.isDone) return { tasks, cursor: cursorOf({ status: at, behind: found.continueCursor, since }) };
  const next = { status: at + 1, behind: null, since };
  return { tasks, cursor: next.status < statuses.length ? cursorOf(next) : null };
}

const cursorOf = ({ status, behind, since }: Place): string => JSON.stringify([status, behind, since]);

function placeOf(cursor: string | null, now: number): Place {
  return cursor === null ? { status: 0, behind: null, since: now } : parseCursor(cursor);
}

function parseCursor(text: string): Place {
  try {
    const [status, behind, since] = JSON.parse(text) as unknown[];
    const isPlace = typeof status === "number" && (behind === null || typeof behind === "string");
    if (isPlace && typeof since === "number") return { status, behind, since };
  } catch {
    // said below
  }
  throw badCursor();
}

function badCursor() {
  return refuse("invalid_argument", "cursor: not one that this function gave; begin without one.");
}

/**
 * What the tasks of a tenant failed of, most frequent first, over a page of those that failed last; those of queues that are
 * not of `queues` are read and not counted.
 */
export async function failures(
  ctx: QueryCtx,
  tenant: string,
  cursor: string | null,
  queues: readonly string[] | null,
  numItems = FAILURES_PAGE,
): Promise<Failures> {
  const found = await ctx.db
    .query("tasks")
    .withIndex("by_tenant_and_status_and_updated", (q) => q.eq("tenant", tenant).eq("status", "failed"))
    .order("desc")
    .paginate({ numItems, cursor });
  const causes = new Map<string, Failures["causes"][number]>();
  const seen = found.page.filter(({ queue }) => queues === null || queues.includes(queue));
  for (const { _id, agent, error, attempt, endedAt } of seen) {
    const code = error?.code ?? "unknown";
    const cause = causes.get(code) ?? { code, count: 0, newest: [] };
    cause.count += 1;
    if (cause.newest.length < CAUSE_EXAMPLES) {
      cause.newest.push({ task: _id, agent, attempt, message: error?.message ?? "", endedAt });
    }
    causes.set(code, cause);
  }
  return {
    causes: [...causes.values()].sort((a, b) => b.count - a.count),
    counted: seen.length,
    cursor: found.isDone ? null : found.continueCursor,
  };
}

/** What the attempts of a task came to grief over, the last cause first; of its newest runs. */
export async function causesOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Cause[]> {
  const runs = await ctx.db
    .query("runs")
    .withIndex("by_task_and_attempt", (q) => q.eq("task", task))
    .order("desc")
    .take(CAUSE_RUNS);
  const causes = new Map<string, Cause>();
  for (const { error, attempt, state, endedAt } of runs) {
    if (error === null) continue;
    const known = causes.get(error.code);
    if (known !== undefined) known.count += 1;
    else
      causes.set(error.code, {
        code: error.code,
        count: 1,
        message: error.message,
        state,
        lastAttempt: attempt,
        lastAt: endedAt,
      });
  }
  return [...causes.values()];
}
