/** What a retry by hand makes anew: the steps for which a task has failed, as the turn of a model whose output was refused. */
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { Budget, deleteOfStep } from "./retention";
import { findStep } from "./steps";

/**
 * Drop them, so that the next run does not come to the same end. What they said is still in the stream of the run that failed,
 * and their calls in `modelCalls`.
 *
 * @returns how the task's row changes
 */
export async function dropRedone(
  ctx: MutationCtx,
  task: Doc<"tasks">,
): Promise<{ steps: number | undefined; redo: undefined }> {
  let steps = task.steps ?? 0;
  const budget = new Budget();
  for (const key of new Set(task.redo)) {
    const step = await findStep(ctx, task._id, key);
    if (step === null || !(await deleteOfStep(ctx, step, budget))) continue;
    await ctx.db.delete("steps", step._id);
    steps -= 1;
  }
  return { steps: steps > 0 ? steps : undefined, redo: undefined };
}
