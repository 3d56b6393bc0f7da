/** Tasks that wait: in a lane (`ready`) or for a time (`delayed`). */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { AGEING_MS } from "../constants";
import { wakeDispatch, wakeTimersBy } from "./loops";

/** All that constrains where a task may run. Names hold no slash, so lanes never run into each other. */
export function laneOf(task: Pick<Doc<"tasks">, "queue" | "tenant" | "agent">): string {
  return `${task.queue}/${task.tenant}/${task.agent}`;
}

/** Lowest first: by due time, where each step of priority is worth some waiting, so nothing starves. */
export function rankOf(dueAt: number, priority: number): number {
  return dueAt - priority * AGEING_MS;
}

/**
 * Put a task in line, now or at `dueAt`, and wake the loop that will take it out.
 * @returns the status that the task now has
 */
export async function putInLine(
  ctx: MutationCtx,
  task: Pick<Doc<"tasks">, "_id" | "queue" | "tenant" | "agent" | "kind" | "priority">,
  dueAt: number,
  now: number,
): Promise<"pending" | "delayed"> {
  const { queue, agent, kind, priority } = task;
  const waiting = { lane: laneOf(task), task: task._id, queue, agent, kind, priority };
  if (dueAt > now) {
    await ctx.db.insert("delayed", { ...waiting, dueAt });
    await wakeTimersBy(ctx, dueAt);
    return "delayed";
  }
  await ctx.db.insert("ready", { ...waiting, rank: rankOf(dueAt, priority) });
  await wakeDispatch(ctx, "work");
  return "pending";
}

/** The time of a delayed task has come. */
export async function moveToReady(ctx: MutationCtx, id: Id<"delayed">): Promise<void> {
  const row = await ctx.db.get("delayed", id);
  if (row === null) return;
  await ctx.db.delete("delayed", id);
  const { lane, task, queue, agent, kind, priority, dueAt } = row;
  await ctx.db.insert("ready", { lane, task, queue, agent, kind, priority, rank: rankOf(dueAt, priority) });
  await ctx.db.patch("tasks", task, { status: "pending", updated: ctx.db.vars.commitTs });
  await wakeDispatch(ctx, "work");
}

/** Take a task out of line, wherever it stands. */
export async function takeOutOfLine(ctx: MutationCtx, task: Doc<"tasks">["_id"]): Promise<void> {
  const ready = await ctx.db
    .query("ready")
    .withIndex("by_task", (q) => q.eq("task", task))
    .unique();
  if (ready !== null) await ctx.db.delete("ready", ready._id);
  const delayed = await ctx.db
    .query("delayed")
    .withIndex("by_task", (q) => q.eq("task", task))
    .unique();
  if (delayed !== null) await ctx.db.delete("delayed", delayed._id);
}
