/** Cancels one task of many: one that cannot be cancelled keeps no other from it. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { SET_ASIDE_MS } from "../constants";
import { record } from "./events";

/**
 * Cancel a task in a sub-transaction. If that throws it alone is rolled back: the history of the task says why, and the settle
 * loop tries again every `SET_ASIDE_MS`.
 *
 * @param subtree - with all that grows from it
 * @returns whether it was cancelled
 */
export async function cancelApart(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  subtree: boolean,
  now: number,
): Promise<boolean> {
  const work = { kind: "cancelOne" as const, task: task._id, subtree };
  try {
    await ctx.runMutation(internal.settle.cancelOne, { task: task._id, subtree });
    return true;
  } catch (error) {
    const reason = `it could not be cancelled: ${String(error)}`.slice(0, 500);
    console.error(`settle: cancel of ${task._id} set aside: ${String(error)}`);
    await record(ctx, task, "task_set_aside", null, { reason, forMs: SET_ASIDE_MS });
    await ctx.db.insert("settlements", { work, at: now + SET_ASIDE_MS, suspect: false });
    return false;
  }
}
