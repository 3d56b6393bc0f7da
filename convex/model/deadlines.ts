/**
 * Deadlines of a task: to have begun, and to be over. They count over all its attempts, from its submission or from when it
 * was last tried again by hand.
 */
import type { Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { askToStop } from "./controls";
import { end, isLive, startFault } from "./runs";
import { fault } from "./sessions";
import { close, hasBegun, hasEnded } from "./tasks";
import { leaveLine } from "./waiting";
import { wakeIfStarved } from "./loops";

/**
 * No run of the task began in time. One that a worker was given in time and has not accepted may still begin; when it does not,
 * its end is the task's.
 */
export async function missStart(ctx: MutationCtx, id: Id<"tasks">): Promise<void> {
  const task = await ctx.db.get("tasks", id);
  if (task === null || hasEnded(task) || task.status === "running" || (await hasBegun(ctx, task))) return;
  const error = startFault(task);
  await leaveLine(ctx, task);
  await close(ctx, task, "failed", null, { attempt: task.attempt, code: error.code }, { error });
}

/** The task was not over in time: a live run of it is stopped, and its worker learns so from its next sync. */
export async function missEnd(ctx: MutationCtx, id: Id<"tasks">, now: number): Promise<void> {
  const task = await ctx.db.get("tasks", id);
  if (task === null || hasEnded(task)) return;
  const had = task.endBy! - (task.retriedAt ?? task._creationTime);
  const error = fault("end_deadline", `it was not over within ${Math.ceil(had)} ms of its submission`);
  const run = task.run === null ? null : await ctx.db.get("runs", task.run);
  if (run !== null && isLive(run)) {
    await askToStop(ctx, run, "out of time");
    await end(ctx, run, { kind: "failed", error, retryable: false, notBeforeMs: null }, null, now);
    await wakeIfStarved(ctx);
    return;
  }
  await leaveLine(ctx, task);
  await close(ctx, task, "failed", task.run, { attempt: task.attempt, code: error.code }, { error });
}
