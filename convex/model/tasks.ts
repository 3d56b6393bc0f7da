/** Tasks as their submitters see them. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { CANCEL_GRACE_MS, CAUSE_RUNS, MAX_LIST } from "../constants";
import { refuse } from "../errors";
import type { EventType, EventData, TaskStatus, TaskView } from "../validators";
import { askToStop } from "./controls";
import { clearAlarm } from "./alarms";
import { record } from "./events";
import { wakeTimersBy } from "./loops";
import { partOf } from "./outputs";
import { serves, type Queues } from "./scope";
import { settleLater } from "./settlements";
import { checkInteger } from "./text";
import { leaveLine } from "./waiting";

/**
 * Cancel a task: at once while it waits, through its worker while it runs.
 * Its run is closed after a grace period even if the worker never answers.
 */
export async function cancel(ctx: MutationCtx, id: Id<"tasks">): Promise<TaskStatus> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  if (hasEnded(task)) return task.status;
  if (task.status !== "running") {
    await leaveLine(ctx, task);
    await close(ctx, task, "cancelled", null, { attempt: task.attempt });
    return "cancelled";
  }
  if (!task.cancelRequested) {
    const run = (await ctx.db.get("runs", task.run!))!;
    const grace = Date.now() + CANCEL_GRACE_MS;
    const deadlineAt = run.deadlineAt > 0 ? Math.min(run.deadlineAt, grace) : grace;
    await ctx.db.patch("tasks", id, { cancelRequested: true, updated: ctx.db.vars.commitTs });
    await ctx.db.patch("runs", run._id, { deadlineAt });
    await askToStop(ctx, run, "cancelled by its submitter");
    await record(ctx, task, "cancel_requested", run._id, {});
    await wakeTimersBy(ctx, deadlineAt);
  }
  return task.status;
}

/** Whether a worker has begun with a task: a run that nobody accepted is no beginning. */
export async function hasBegun(ctx: QueryCtx, { _id, attempt }: Doc<"tasks">): Promise<boolean> {
  if (attempt === 0) return false;
  const runs = await ctx.db
    .query("runs")
    .withIndex("by_task_and_attempt", (q) => q.eq("task", _id))
    .take(CAUSE_RUNS);
  return runs.some((run) => run.startedAt !== null);
}

export const hasEnded = (task: Pick<Doc<"tasks">, "endedAt">): boolean => task.endedAt !== null;

const CLOSED = {
  succeeded: "task_succeeded",
  failed: "task_failed",
  cancelled: "task_cancelled",
  skipped: "task_skipped",
} as const satisfies Record<string, EventType>;

/** The end of a task: written once, with the event that tells of it. */
export async function close(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  status: keyof typeof CLOSED,
  run: Id<"runs"> | null,
  data: EventData,
  change: Partial<Doc<"tasks">> = {},
): Promise<void> {
  await ctx.db.patch("tasks", task._id, {
    ...change,
    status,
    endedAt: Date.now(),
    updated: ctx.db.vars.commitTs,
  });
  if (task.startBy !== null) await clearAlarm(ctx, "startBy", task._id);
  if (task.endBy !== null) await clearAlarm(ctx, "endBy", task._id);
  await record(ctx, task, CLOSED[status], run, data);
  if (task.followed) await settleLater(ctx, { kind: "ended", task: task._id, status });
}

/** @param output - null: there is none, or it is too large to be shown in the row of a list, or in one answer */
export function view(task: Doc<"tasks">, output: string | null): TaskView {
  return {
    task: task._id,
    tenant: task.tenant,
    queue: task.queue,
    agent: task.agent,
    status: task.status,
    priority: task.priority,
    attempt: task.attempt,
    maxAttempts: task.retry.maxAttempts,
    run: task.run,
    error: task.error,
    output,
    largeOutput: output === null && task.outputId !== null,
    usage: task.usage,
    submittedAt: task._creationTime,
    dueAt: task.dueAt,
    startedAt: task.startedAt,
    endedAt: task.endedAt,
  };
}

/** @param check - throws when the caller may not see tasks of this queue */
export async function get(
  ctx: QueryCtx,
  id: Id<"tasks">,
  check: (queue: string) => void = () => {},
): Promise<TaskView | null> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) return null;
  check(task.queue);
  const first = await partOf(ctx, task, "output", 0);
  return view(task, first?.parts === 1 ? first.text : null);
}

/**
 * Newest first; with a status, most recently changed first. A page is of `limit` tasks at most, and those of queues that the
 * caller's key does not serve are left out of it, so that it can be short, or empty, and not the last: an index by queue
 * would cost every task a write for each change of its status.
 */
export async function list(
  ctx: QueryCtx,
  {
    tenant,
    status,
    limit,
    cursor,
  }: { tenant: string; status: TaskStatus | null; limit: number; cursor: string | null },
  queues: Queues,
): Promise<{ tasks: TaskView[]; cursor: string | null }> {
  const tasks = ctx.db.query("tasks");
  const scope =
    status === null
      ? tasks.withIndex("by_tenant", (q) => q.eq("tenant", tenant))
      : tasks.withIndex("by_tenant_and_status_and_updated", (q) =>
          q.eq("tenant", tenant).eq("status", status),
        );
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await scope.order("desc").paginate({ numItems, cursor });
  return {
    tasks: page.page.filter(({ queue }) => serves(queues, queue)).map((task) => view(task, task.output)),
    cursor: page.isDone ? null : page.continueCursor,
  };
}
