/** Runs of forks that have no effects: what the control plane refuses them, whatever their worker does. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { refuse } from "../errors";
import type { Fault } from "../validators";

/** Whether the runs of a task that was forked have no effects. */
export async function isSandboxed(ctx: QueryCtx, fork: Id<"forks">): Promise<boolean> {
  return (await ctx.db.get("forks", fork))?.effects !== "allow";
}

type Run = Pick<Doc<"runs">, "sandboxed">;

/** Why a run cannot do something on the outside; null when it can. */
export const objectionTo = ({ sandboxed }: Run, what: string): Fault | null =>
  sandboxed === true
    ? {
        code: "effect_forbidden",
        message: `This is a fork without effects, and ${what}. Fork it with effects allowed to let it do that`,
      }
    : null;

/** Refuse a call of a run that has no effects. */
export function refuseSandboxed(run: Run, what: string): void {
  const fault = objectionTo(run, what);
  if (fault !== null) throw refuse("invalid_argument", `${fault.message}.`);
}
