/** Two tasks side by side: what they have cost, how long they took, what they did, and where they part. Bounded reads. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { COMPARED_BYTES, COMPARED_STEPS } from "../constants";
import { refuse } from "../errors";
import type { Compared, Comparison } from "../fork.validators";
import { partOf } from "./outputs";

/** @param ids - two, or more */
export async function compare(ctx: QueryCtx, ids: readonly Id<"tasks">[]): Promise<Comparison> {
  const sides = [];
  for (const id of ids) sides.push(await sideOf(ctx, id));
  const [first, second] = sides;
  return {
    tasks: sides.map(({ told }) => told),
    parts: first === undefined || second === undefined ? null : whereTheyPart(first.steps, second.steps),
    sameOutput: sides.every(({ told }) => told.output !== null && told.output === first?.told.output),
  };
}

type Side = { told: Compared; steps: Doc<"steps">[] };

async function sideOf(ctx: QueryCtx, id: Id<"tasks">): Promise<Side> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  const row = task.fork === undefined ? null : await ctx.db.get("forks", task.fork);
  const { steps, more } = await firstSteps(ctx, id);
  const output = await partOf(ctx, task, "output", 0);
  const whole = output?.parts === 1 ? output.text : null;
  return {
    steps,
    told: {
      task: id,
      agent: task.agent,
      status: task.status,
      forkOf: row && { task: row.of, at: row.at },
      effects: row && row.effects,
      ms: task.startedAt === null || task.endedAt === null ? null : task.endedAt - task.startedAt,
      runs: task.attempt,
      turns: steps.filter(({ kind }) => kind === "turn").length,
      replayed: steps.filter(({ copied }) => copied).length,
      tools: toolsOf(steps),
      usage: usageOf(steps),
      output: whole,
      largeOutput: output !== null && whole === null,
      error: task.error,
      more,
    },
  };
}

/** In the order in which they were taken, without recordings. */
async function firstSteps(
  ctx: QueryCtx,
  task: Id<"tasks">,
): Promise<{ steps: Doc<"steps">[]; more: boolean }> {
  const steps: Doc<"steps">[] = [];
  let bytes = 0;
  let seen = 0;
  for await (const step of ctx.db.query("steps").withIndex("by_task", (q) => q.eq("task", task))) {
    if (seen === COMPARED_STEPS || bytes > COMPARED_BYTES) return { steps, more: true };
    seen += 1;
    bytes += step.result?.length ?? 0;
    if (step.kind !== "recorded") steps.push(step);
  }
  return { steps, more: false };
}

function toolsOf(steps: readonly Doc<"steps">[]): Compared["tools"] {
  const calls = new Map<string, number>();
  for (const { kind, tool } of steps) {
    if (kind === "tool" && tool !== undefined) calls.set(tool, (calls.get(tool) ?? 0) + 1);
  }
  return [...calls].sort(([a], [b]) => (a < b ? -1 : 1)).map(([tool, calls]) => ({ tool, calls }));
}

/** What its own turns have used; null for what none of them tells. */
function usageOf(steps: readonly Doc<"steps">[]): Compared["usage"] {
  const turns = steps.flatMap(({ copied, usage }) => (copied || usage === undefined ? [] : [usage]));
  const sum = (field: "inputTokens" | "outputTokens" | "cachedInputTokens" | "costMicros") => {
    const told = turns.map((usage) => usage[field]).filter((value) => value !== null);
    return told.length === 0 ? null : told.reduce((total, value) => total + value, 0);
  };
  return {
    model: turns.at(-1)?.model ?? null,
    inputTokens: sum("inputTokens"),
    outputTokens: sum("outputTokens"),
    cachedInputTokens: sum("cachedInputTokens"),
    costMicros: sum("costMicros"),
  };
}

/** The first step that one has and the other has not, or has with another result. */
function whereTheyPart(ours: readonly Doc<"steps">[], theirs: readonly Doc<"steps">[]): string | null {
  const result = ({ result, resultId }: Doc<"steps">) => result ?? resultId ?? null;
  const known = new Map(theirs.map((step) => [step.key, result(step)]));
  for (const step of ours) {
    if (!known.has(step.key) || known.get(step.key) !== result(step)) return step.key;
  }
  const own = new Set(ours.map(({ key }) => key));
  return theirs.find(({ key }) => !own.has(key))?.key ?? null;
}
