/** What runs and tasks have used: sums of what workers tell, each call of a model once. */
import type { Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import type { CallReport } from "../model.validators";
import type { Usage } from "../validators";

export const NO_USAGE: Usage = { model: null, calls: 0, inputTokens: null, outputTokens: null };

/** Both together; what is unknown of one is that of the other. Pure. */
export function added(total: Usage, more: Usage | null): Usage {
  if (more === null) return total;
  const sum = (a: number | null, b: number | null) => (a === null ? b : b === null ? a : a + b);
  const cost = sum(total.costMicros ?? null, more.costMicros ?? null);
  return {
    model: more.model?.slice(0, 200) ?? total.model,
    calls: total.calls + more.calls,
    inputTokens: sum(total.inputTokens, more.inputTokens),
    outputTokens: sum(total.outputTokens, more.outputTokens),
    ...(cost !== null && { costMicros: cost }),
  };
}

/**
 * What an attempt at a call adds. Pure. A call counts with its first attempt; tokens that a worker has estimated count in its
 * cost alone.
 */
export function usageOf({ model, attempt, state, usage, costMicros, estimated }: CallReport): Usage {
  const told = estimated ? null : usage;
  return {
    model: state === "succeeded" ? model : null,
    calls: attempt === 1 ? 1 : 0,
    inputTokens: told?.inputTokens ?? null,
    outputTokens: told?.outputTokens ?? null,
    ...(costMicros !== null && { costMicros }),
  };
}

/** For the settle loop: count in a run and its task what was told after the run's end. */
export async function countLate(ctx: MutationCtx, id: Id<"runs">, usage: Usage): Promise<void> {
  const run = await ctx.db.get("runs", id);
  if (run === null) return;
  await ctx.db.patch("runs", id, { usage: added(run.usage ?? NO_USAGE, usage) });
  const task = await ctx.db.get("tasks", run.task);
  if (task !== null) await ctx.db.patch("tasks", task._id, { usage: added(task.usage, usage) });
}
