/** Many tasks at once, a page at a time: which match a filter, and what they failed of. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { internal } from "../_generated/api";
import { BULK_PAGE, CAUSE_EXAMPLES, CAUSE_RUNS, FAILURES_PAGE } from "../constants";
import { refuse } from "../errors";
import type { Bulk, Cause, Failures, Filter } from "../bulk.validators";
import type { TaskStatus } from "../validators";
import type { Caller } from "./keys";
import { retry, RETRYABLE } from "./steer";
import { cancel } from "./tasks";
import { checkName } from "./text";

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

/** Whether a filter names this task and `verb` still has something to do on it. Pure. */
export function matches(
  task: Doc<"tasks">,
  verb: Verb,
  { status, queue, agent, code, submittedAfter, submittedBefore }: Filter,
  queues: readonly string[] | null,
): boolean {
  return (
    statusesFor(verb, status).includes(task.status) &&
    !(verb === "cancel" && task.cancelRequested) &&
    (queue === undefined || task.queue === queue) &&
    (queues === null || queues.includes(task.queue)) &&
    (agent === undefined || task.agent === agent) &&
    (code === undefined || task.error?.code === code) &&
    (submittedAfter === undefined || task._creationTime >= submittedAfter) &&
    (submittedBefore === undefined || task._creationTime < submittedBefore)
  );
}

/**
 * Cancel or retry what a filter names, a page at a time. The page is read from a snapshot, and each task again before it is
 * changed, so a busy queue is no conflict. Tasks that change their status meanwhile may be passed over.
 *
 * @param dryRun - only count
 */
export async function applyToPage(
  ctx: MutationCtx,
  caller: Caller,
  verb: Verb,
  filter: Filter,
  cursor: string | null,
  dryRun: boolean,
): Promise<Bulk> {
  const { queues } = caller;
  const page: { tasks: Id<"tasks">[]; cursor: string | null } = await ctx.runQuery(
    internal.tasks.page,
    { verb, filter, queues, cursor },
    { useStaleSnapshot: true },
  );
  let changed = 0;
  const now = Date.now();
  for (const id of dryRun ? [] : page.tasks) {
    const task = await ctx.db.get("tasks", id);
    if (task === null || !matches(task, verb, filter, queues)) continue;
    if (verb === "cancel") await cancel(ctx, id);
    else await retry(ctx, task, now);
    changed += 1;
  }
  return { matched: page.tasks.length, changed, cursor: page.cursor };
}

/** A page of the tasks that a filter names, those that changed last first. */
export async function pageOf(
  ctx: QueryCtx,
  verb: Verb,
  filter: Filter,
  queues: readonly string[] | null,
  cursor: string | null,
): Promise<{ tasks: Id<"tasks">[]; cursor: string | null }> {
  const tenant = checkName("tenant", filter.tenant ?? "default");
  const statuses = statusesFor(verb, filter.status);
  const [at, behind] = cursor === null ? [0, null] : parseCursor(cursor);
  const status = statuses[at];
  if (status === undefined) throw badCursor();
  const found = await ctx.db
    .query("tasks")
    .withIndex("by_tenant_and_status_and_updated", (q) => q.eq("tenant", tenant).eq("status", status))
    .order("desc")
    .paginate({ numItems: BULK_PAGE, cursor: behind });
  const tasks = found.page.filter((task) => matches(task, verb, filter, queues)).map((task) => task._id);
  if (!found.isDone) return { tasks, cursor: JSON.stringify([at, found.continueCursor]) };
  return { tasks, cursor: at + 1 < statuses.length ? JSON.stringify([at + 1, null]) : null };
}

function parseCursor(text: string): [number, string | null] {
  try {
    const [at, behind] = JSON.parse(text) as unknown[];
    if (typeof at === "number" && (behind === null || typeof behind === "string")) return [at, behind];
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
