import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type { EventData, EventType, EventView } from "../validators";

/** Add to the history, in the transaction that it tells of. A blind insert: it conflicts with nothing. */
export async function record(
  ctx: MutationCtx,
  task: Pick<Doc<"tasks">, "_id" | "tenant">,
  type: EventType,
  run: Id<"runs"> | null,
  data: EventData,
): Promise<void> {
  await ctx.db.insert("events", {
    tenant: task.tenant,
    task: task._id,
    run,
    type,
    data,
    at: ctx.db.vars.commitTs,
  });
}

/** A task's history, oldest first, a page at a time. */
export async function history(
  ctx: QueryCtx,
  task: Id<"tasks">,
  page: { cursor: string | null; numItems: number },
): Promise<{ events: EventView[]; cursor: string | null }> {
  const found = await ctx.db
    .query("events")
    .withIndex("by_task_and_at", (q) => q.eq("task", task))
    .paginate(page);
  return {
    events: found.page.map(({ type, run, data, at }) => ({
      type,
      run,
      data,
      at: Number(at as bigint) / 1e6,
    })),
    cursor: found.isDone ? null : found.continueCursor,
  };
}
