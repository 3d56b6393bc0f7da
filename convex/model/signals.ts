/** Signals as they lie with their task, each until a run takes it, and taken once. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";

/** What a wait, or a run that asks for signals, finds as the step's result. */
export const resultOf = (name: string, data: string): string =>
  `{"name":${JSON.stringify(name)},"data":${data}}`;

/** The first signal of a name that nobody has taken. */
export function firstSignal(ctx: QueryCtx, task: Id<"tasks">, name: string): Promise<Doc<"signals"> | null> {
  return ctx.db
    .query("signals")
    .withIndex("by_task_and_taken_and_name", (q) => q.eq("task", task).eq("taken", false).eq("name", name))
    .first();
}

/** Signals that nobody has taken, oldest first. */
export async function pendingSignals(ctx: QueryCtx, task: Id<"tasks">, limit: number) {
  const rows = await ctx.db
    .query("signals")
    .withIndex("by_task_and_taken", (q) => q.eq("task", task).eq("taken", false))
    .take(limit);
  return rows.map(({ _id, name, data }) => ({ signal: _id, name, data }));
}

/** Mark a signal as taken. @returns whether it was not taken before */
export async function takeSignal(ctx: MutationCtx, task: Id<"tasks">, id: Id<"signals">): Promise<boolean> {
  const row = await ctx.db.get("signals", id);
  if (row?.task !== task || row.taken) return false;
  await ctx.db.patch("signals", id, { taken: true, data: "" });
  return true;
}
