/** What a task has cost so far: its ended runs, and the model calls of the one that runs. */
import { api } from "../../../convex/_generated/api";
import type { CallRow } from "../../../convex/dashboard.validators";
import type { TaskView } from "../../../convex/validators";
import { useLive } from "../live";
import { hasEnded } from "../optimistic";
import { count, dollars } from "../text";

export type Spent = {
  /** Micro-dollars; null: no call had a price. */
  micros: number | null;
  /** There is more that is not counted in it: calls without a price, or too many calls. */
  atLeast: boolean;
  /** Some of it is a worker's own estimate. */
  estimated: boolean;
};

/** Add what the calls of the live run have cost to what its ended runs have. Pure. */
export function spentBy(
  { run, status, usage }: Pick<TaskView, "run" | "status" | "usage">,
  { calls, more }: { calls: readonly CallRow[]; more: boolean },
): Spent {
  const live = status === "running" ? calls.filter((call) => call.run === run) : [];
  const priced = live.filter(({ costMicros }) => costMicros !== null);
  const before = usage.costMicros ?? null;
  const micros =
    before === null && priced.length === 0
      ? null
      : priced.reduce((sum, { costMicros }) => sum + costMicros!, before ?? 0);
  return {
    micros,
    atLeast: live.length > priced.length || (more && live.length === calls.length && live.length > 0),
    estimated: calls.some(({ estimated, costMicros }) => estimated && costMicros !== null),
  };
}

export function Cost({ task }: { task: TaskView }) {
  const { data } = useLive(api.dashboard.calls, { task: task.task });
  const { micros, atLeast, estimated } = spentBy(task, data ?? { calls: [], more: false });
  if (micros !== null)
    return `${atLeast ? "at least " : ""}${dollars(micros)}${estimated ? ", partly estimated" : ""}`;
  if (task.usage.calls > 0 || (data?.calls.length ?? 0) > 0) return "no price is known";
  return hasEnded(task.status) ? "none" : "none yet";
}

/** Tokens of a call or a turn: 1,200 in (200 cached), 80 out. Pure. */
export function tokensOf(usage: {
  inputTokens: number | null;
  outputTokens: number | null;
  cachedInputTokens: number | null;
}): string {
  const { inputTokens, outputTokens, cachedInputTokens } = usage;
  const told = (value: number | null) => (value === null ? "?" : count(value));
  const cached = cachedInputTokens ? ` (${count(cachedInputTokens)} cached)` : "";
  return `${told(inputTokens)} in${cached}, ${told(outputTokens)} out`;
}
