/** What people do to a single task: pause it, resume it, try it again. A second time the same changes nothing. */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { refuse } from "../errors";
import type { TaskStatus } from "../validators";
import { setAlarm } from "./alarms";
import { askAnew } from "./approvals";
import { tell } from "./controls";
import { waitAgain } from "./deps";
import { record } from "./events";
import { isNew } from "./nonces";
import { dropRedone } from "./redo";
import { hasBegun, hasEnded } from "./tasks";
import { checkKey } from "./text";
import { leaveLine, putInLine, wakeFor } from "./waiting";

type Task = Doc<"tasks">;

/**
 * Pause a task. In line it is paused at once; a run of it is handed back by its worker first; one that waits for something
 * else is paused when it would come in line. Its deadlines go on.
 *
 * @returns its status now
 */
export async function pause(ctx: MutationCtx, task: Task): Promise<TaskStatus> {
  if (hasEnded(task)) {
    throw refuse("invalid_argument", `task: ${task._id} has ended (${task.status}) and cannot be paused.`);
  }
  const isPaused = task.status === "paused" && task.preparing === undefined; // else it goes in line by itself
  if (isPaused || task.pauseRequested === true) return task.status;
  if (task.status === "pending" || task.status === "delayed" || task.status === "sleeping") {
    const resumeAt = await dueTimeOf(ctx, task);
    await leaveLine(ctx, task);
    await ctx.db.patch("tasks", task._id, { status: "paused", resumeAt, updated: ctx.db.vars.commitTs });
    await record(ctx, task, "task_paused", null, {});
    return "paused";
  }
  await ctx.db.patch("tasks", task._id, { pauseRequested: true, updated: ctx.db.vars.commitTs });
  const run = task.status === "running" ? await ctx.db.get("runs", task.run!) : null;
  if (run !== null) {
    await tell(ctx, run, { kind: "pause", reason: "paused by its submitter" });
  }
  await record(ctx, task, "pause_requested", run?._id ?? null, {});
  return task.status;
}

async function dueTimeOf(ctx: MutationCtx, task: Task): Promise<number> {
  if (task.status === "pending") return task.dueAt;
  const row = await ctx.db
    .query("delayed")
    .withIndex("by_task", (q) => q.eq("task", task._id))
    .unique();
  return row?.dueAt ?? task.dueAt;
}

/** Let a paused task go on from where it stood in line; one whose pause was only asked for is not paused any more. */
export async function resume(ctx: MutationCtx, task: Task, now: number): Promise<TaskStatus> {
  if (hasEnded(task)) {
    throw refuse("invalid_argument", `task: ${task._id} has ended (${task.status}); try it again instead.`);
  }
  if (task.status !== "paused" || task.pauseRequested === true) {
    if (task.pauseRequested === true) {
      await ctx.db.patch("tasks", task._id, { pauseRequested: false, updated: ctx.db.vars.commitTs });
      await record(ctx, task, "task_resumed", null, {});
    }
    return task.status;
  }
  if (task.preparing !== undefined) throw refuse("invalid_argument", `task: ${task._id} is being prepared.`);
  const dueAt = task.resumeAt ?? task.dueAt;
  const inLine = await putInLine(ctx, task, dueAt, now, task.dueAt);
  const status = inLine === "delayed" && (await isAsleep(ctx, task)) ? "sleeping" : inLine;
  await ctx.db.patch("tasks", task._id, { status, resumeAt: undefined, updated: ctx.db.vars.commitTs });
  await record(ctx, task, "task_resumed", null, {});
  await wakeFor(ctx, [dueAt], now);
  return status;
}

/** Whether the time that a task waits for is one that its last run sleeps until. */
async function isAsleep(ctx: MutationCtx, { run }: Task): Promise<boolean> {
  return run !== null && (await ctx.db.get("runs", run))?.state === "suspended";
}

export const RETRYABLE: readonly TaskStatus[] = ["failed", "cancelled", "skipped"];

/**
 * Give a task that did not succeed its attempts anew, and its deadlines from now on. What it failed of, since people did not
 * approve it, they are asked again, and so is a model whose output was refused. One that has not ended stays as it is,
 * and one that has never run waits for those of its dependencies that have not ended.
 *
 * @returns its status now
 */
export async function retry(ctx: MutationCtx, task: Task, now: number): Promise<TaskStatus> {
  if (!hasEnded(task)) return task.status;
  if (task.purging) throw refuse("not_found", `task: ${task._id} is past its retention and being deleted.`);
  if (!RETRYABLE.includes(task.status)) {
    throw refuse("invalid_argument", `task: ${task._id} ${task.status}; there is nothing to try again.`);
  }
  if (task.preparing !== undefined) throw refuse("invalid_argument", `task: ${task._id} is being prepared.`);
  const waits = task.attempt === 0 && (await waitAgain(ctx, task._id));
  const status = waits ? "waiting" : await putInLine(ctx, { ...task, pauseRequested: false }, now, now);
  const change = { ...(await anew(ctx, task, now)), ...(await dropRedone(ctx, task)) };
  await ctx.db.patch("tasks", task._id, { ...change, status });
  await askAnew(ctx, task);
  await record(ctx, task, "retry_requested", null, { attempt: task.attempt });
  if (!waits) await wakeFor(ctx, [now], now);
  return status;
}

/**
 * Do what a request asks of a task, once: sent again within NONCE_KEEP_MS it does nothing, whatever has become of the task.
 *
 * @param request - the caller's name for it; undefined: it is done each time
 * @returns the status of the task now
 */
export async function oncePer(
  ctx: MutationCtx,
  task: Task,
  verb: "retry" | "restart",
  request: string | undefined,
  now: number,
  act: () => Promise<TaskStatus>,
): Promise<TaskStatus> {
  const isRepeat =
    request !== undefined && !(await isNew(ctx, `${verb}:${task._id}:${checkKey("request", request)}`, now));
  return isRepeat ? task.status : act();
}

/** What gives a task its attempts anew; its deadlines count from now on, and their alarms are set. */
export async function anew(ctx: MutationCtx, task: Task, now: number) {
  const { startBy, endBy, retriedAt = task._creationTime } = task;
  // The first run of a task begins by `startBy`, and only one that had none can still miss that.
  const deadlines = {
    startBy: startBy === null || (await hasBegun(ctx, task)) ? null : now + startBy - retriedAt,
    endBy: endBy === null ? null : now + endBy - retriedAt,
  };
  if (deadlines.startBy !== null) await setAlarm(ctx, "startBy", task._id, deadlines.startBy);
  if (deadlines.endBy !== null) await setAlarm(ctx, "endBy", task._id, deadlines.endBy);
  return {
    ...deadlines,
    dueAt: now,
    retriedAt: now,
    failures: 0,
    losses: 0,
    releases: 0,
    cancelRequested: false,
    pauseRequested: false,
    treeCancelled: undefined,
    redo: undefined,
    error: null,
    endedAt: null,
    updated: ctx.db.vars.commitTs,
  };
}
