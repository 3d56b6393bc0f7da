/**
 * What a key that is bound to queues may see: tasks of these and what belongs to them, and nothing that is told of all
 * queues together. A key that serves every queue costs no read here.
 */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { refuse } from "../errors";
import { checkScope, type Caller } from "./keys";
import { knownId } from "./text";

/** The queues of a key; null: every one. */
export type Queues = Caller["queues"];

/** Whether a key of these queues serves this one. */
export const serves = (queues: Queues, queue: string): boolean => queues === null || queues.includes(queue);

/** Whether a key of these queues serves all of those. */
export const servesAll = (queues: Queues, those: Queues): boolean =>
  queues === null || (those !== null && those.every((queue) => queues.includes(queue)));

/** A task that somebody named and may change, or see with its row. */
export async function taskInScope(ctx: QueryCtx, caller: Caller, text: string): Promise<Doc<"tasks">> {
  const task = await ctx.db.get("tasks", knownId(ctx, "tasks", text));
  if (task === null) throw refuse("not_found", `No task ${text}.`);
  checkScope(caller, task.queue);
  return task;
}

/**
 * The id of a task that somebody named and may see. Of a key that serves every queue nothing is read, so that its
 * subscriptions to what belongs to a task do not run again with each change of the task's row.
 */
export async function seenTask(ctx: QueryCtx, caller: Caller, text: string): Promise<Id<"tasks">> {
  return caller.queues === null ? knownId(ctx, "tasks", text) : (await taskInScope(ctx, caller, text))._id;
}

/** The id of a run that somebody named and may see: as its task. */
export async function seenRun(ctx: QueryCtx, caller: Caller, text: string): Promise<Id<"runs">> {
  const id = knownId(ctx, "runs", text);
  if (caller.queues === null) return id;
  const run = await ctx.db.get("runs", id);
  if (run === null) throw refuse("not_found", `No run ${id}.`);
  await taskInScope(ctx, caller, run.task);
  return id;
}

/** Refuse what is told of all queues together. `what` begins the line: "budgets: they count all queues" */
export function needsEveryQueue({ queues }: Caller, what: string): void {
  if (queues === null) return;
  throw refuse("forbidden", `${what}; use a key that serves all, and not ${queues.join(", ")} alone.`);
}
