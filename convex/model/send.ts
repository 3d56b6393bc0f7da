/** Signals: what people and programs tell one task. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_SIGNAL_BYTES, MAX_SIGNALS, SIGNAL_MEMORY_MS } from "../constants";
import { refuse } from "../errors";
import { tell } from "./controls";
import { record } from "./events";
import { resultOf } from "./signals";
import { checkKey, checkSmallJson } from "./text";
import { waitOf, wake } from "./waits";

export type Signal = { name: string; data: string; id: string };

/**
 * Tell a task something. A task that waits for it wakes with it; a live run is told at once; else it lies until a run asks.
 *
 * @returns whether the id was known: then nothing changes
 */
export async function send(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  given: Signal,
  now: number,
): Promise<{ duplicate: boolean }> {
  const name = checkKey("name", given.name);
  const key = checkKey("id", given.id);
  const data = checkSmallJson("data", given.data, MAX_SIGNAL_BYTES);
  const id = task._id;
  if (await isKnown(ctx, id, key)) return { duplicate: true };
  if (task.endedAt !== null) {
    throw refuse("invalid_argument", `task: ${id} has ended (${task.status}); nobody would hear the signal.`);
  }
  await forgetOld(ctx, id, now);
  await record(ctx, task, "task_signalled", null, { name });
  const wait = await waitOf(ctx, task);
  if (wait?.event === name) {
    await ctx.db.insert("signals", { task: id, id: key, name, data: "", taken: true });
    await wake(ctx, wait, resultOf(name, data), now);
    return { duplicate: false };
  }
  const run = task.status === "running" ? await ctx.db.get("runs", task.run!) : null;
  const lying = (task.signals ?? 0) - (run?.consumed ?? 0);
  if (lying >= MAX_SIGNALS) {
    throw refuse("invalid_argument", `task: ${lying} signals wait in ${id} already, at most ${MAX_SIGNALS}.`);
  }
  const row = await ctx.db.insert("signals", { task: id, id: key, name, data, taken: false });
  await ctx.db.patch("tasks", id, { signals: (task.signals ?? 0) + 1 });
  if (run !== null) await tell(ctx, run, { kind: "signal", reason: "a signal", signal: row });
  return { duplicate: false };
}

async function isKnown(ctx: QueryCtx, task: Id<"tasks">, id: string): Promise<boolean> {
  const known = await ctx.db
    .query("signals")
    .withIndex("by_task_and_id", (q) => q.eq("task", task).eq("id", id))
    .unique();
  return known !== null;
}

/** Each signal removes up to two that were taken long ago, so what is remembered stays in proportion. */
async function forgetOld(ctx: MutationCtx, task: Id<"tasks">, now: number): Promise<void> {
  const old = await ctx.db
    .query("signals")
    .withIndex("by_task_and_taken", (q) =>
      q
        .eq("task", task)
        .eq("taken", true)
        .lt("_creationTime", now - SIGNAL_MEMORY_MS),
    )
    .take(2);
  for (const row of old) await ctx.db.delete("signals", row._id);
}
