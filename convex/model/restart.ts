/**
 * A task from scratch: its steps are dropped, a page at a time, and it goes in line for whatever code there is now. Until
 * the last page is gone it is paused, `preparing`, so that no run ever finds half of its steps.
 */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { RESTART_STEPS } from "../constants";
import { refuse } from "../errors";
import type { TaskStatus } from "../validators";
import { record } from "./events";
import { Budget, deleteOfStep } from "./retention";
import { settleLater } from "./settlements";
import { anew, RETRYABLE } from "./steer";
import { hasEnded } from "./tasks";
import { leaveLine, putInLine, wakeFor } from "./waiting";

type Task = Doc<"tasks">;

/**
 * Begin a task again with no steps, on any version of its agent, its attempts and deadlines anew. Signals that it has taken
 * and tasks that it has submitted are not undone.
 *
 * @returns its status now: paused while the settle loop drops the rest of its steps
 */
export async function restart(ctx: MutationCtx, task: Task, now: number): Promise<TaskStatus> {
  if (task.preparing !== undefined) return task.status;
  if (task.status === "running") {
    throw refuse("invalid_argument", `task: ${task._id} runs; pause or cancel it, and restart it then.`);
  }
  if (task.purging) throw refuse("not_found", `task: ${task._id} is past its retention and being deleted.`);
  if (hasEnded(task) && !RETRYABLE.includes(task.status)) {
    throw refuse("invalid_argument", `task: ${task._id} ${task.status}; submit it again, or fork it.`);
  }
  if (task.status === "waiting") return task.status; // it has never run
  if (!hasEnded(task)) await leaveLine(ctx, task);
  const change = {
    ...(await anew(ctx, task, now)),
    status: "paused" as const,
    preparing: "restart" as const,
    pinned: undefined,
    steps: undefined,
    resumeAt: undefined,
  };
  await ctx.db.patch("tasks", task._id, change);
  await record(ctx, task, "retry_requested", null, { attempt: task.attempt, restart: true });
  await continueRestart(ctx, task._id, now);
  return (await ctx.db.get("tasks", task._id))!.status;
}

/** Drop a page of steps, and put the task in line behind the last one. @returns whether there is more */
export async function continueRestart(ctx: MutationCtx, id: Id<"tasks">, now: number): Promise<boolean> {
  const budget = new Budget();
  const steps = await ctx.db
    .query("steps")
    .withIndex("by_task_and_key", (q) => q.eq("task", id))
    .take(RESTART_STEPS);
  for (const step of steps) {
    if (!budget.hasRoom() || !(await deleteOfStep(ctx, step, budget))) return again(ctx, id);
    await ctx.db.delete("steps", step._id);
    budget.spend(step.result?.length ?? 0);
  }
  if (steps.length === RESTART_STEPS) return again(ctx, id);
  const task = await ctx.db.get("tasks", id);
  if (task?.preparing !== "restart") return false;
  await ctx.db.patch("tasks", id, { preparing: undefined });
  if (task.status !== "paused") return false; // it was cancelled meanwhile
  const status = await putInLine(ctx, task, now, now);
  await ctx.db.patch("tasks", id, { status, updated: ctx.db.vars.commitTs });
  await wakeFor(ctx, [now], now);
  return false;
}

async function again(ctx: MutationCtx, task: Id<"tasks">): Promise<true> {
  await settleLater(ctx, { kind: "restart", task });
  return true;
}
