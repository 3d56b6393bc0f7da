/** What the endpoint that holds a run asks for it in mid-run: the same that a worker's session may ask, by the same functions. */
import { parse, validate } from "convex-helpers/validators";
import { v, type Infer } from "convex/values";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { refuse } from "../errors";
import type { ModelStanding } from "../model.validators";
import { vTaskSpec } from "../validators";
import { unfit } from "./answers";
import { upstream } from "./deps";
import { rootOf } from "./forks";
import { statesFor } from "./models";
import { uploadOutput } from "./outputs";
import { emitOnce, outcomesOf, spawn } from "./spawn";
import { readSteps } from "./steps";

/** What only reads. */
export const vQuestion = v.union(
  v.object({ ask: v.literal("steps"), cursor: v.optional(v.union(v.string(), v.null())) }),
  v.object({ ask: v.literal("upstream"), after: v.optional(v.number()) }),
  v.object({ ask: v.literal("gathered"), tasks: v.array(v.string()) }),
  v.object({ ask: v.literal("models") }),
);
export type Question = Infer<typeof vQuestion>;

/** What changes something, once however often it comes: for the step that it names, or for the run. */
export const vDemand = v.union(
  v.object({
    ask: v.literal("spawn"),
    step: v.string(),
    tasks: v.array(vTaskSpec),
    gather: v.optional(v.boolean()),
  }),
  v.object({ ask: v.literal("emit"), step: v.string(), name: v.string(), data: v.string() }),
  v.object({ ask: v.literal("output"), text: v.string() }),
);
export type Demand = Infer<typeof vDemand>;

/** Read what an endpoint asks; a text says what is wrong with it. */
export function readAsked(
  value: unknown,
): { kind: "question"; question: Question } | { kind: "demand"; demand: Demand } | string {
  const unknown = { allowUnknownFields: true };
  if (validate(vQuestion, value, unknown)) {
    const question = parse(vQuestion, value);
    const tasks = question.ask === "gathered" ? question.tasks : [];
    return unfit(question, { tasks }) ?? { kind: "question", question };
  }
  try {
    validate(vDemand, value, { ...unknown, throw: true });
  } catch (error) {
    const why = error instanceof Error ? error.message.slice(0, 300) : "malformed";
    return `ask: expected steps, upstream, gathered, models, spawn, emit or output with its fields: ${why}`;
  }
  const demand = parse(vDemand, value);
  return unfit(demand, { tasks: demand.ask === "spawn" ? demand.tasks : [] }) ?? { kind: "demand", demand };
}

/** @returns what `worker:steps`, `upstream` and `gathered` return; how models stand, as with a run */
export async function answerQuestion(ctx: QueryCtx, run: Doc<"runs">, asked: Question): Promise<unknown> {
  switch (asked.ask) {
    case "steps":
      return readSteps(ctx, run, asked.cursor ?? null, Date.now());
    case "upstream":
      return upstream(ctx, await rootOf(ctx, run.task), asked.after ?? 0);
    case "gathered": {
      const tasks = asked.tasks.map((text) => {
        const id = ctx.db.normalizeId("tasks", text);
        if (id === null) throw refuse("not_found", `tasks: no task ${JSON.stringify(text.slice(0, 80))}.`);
        return id;
      });
      return { items: await outcomesOf(ctx, run.task, tasks) };
    }
    case "models":
      return { session: run.session, models: await statesFor(ctx, run.session) } satisfies ModelStanding;
  }
}

/** @returns what `worker:spawn`, `emit` and `output` return */
export async function meetDemand(ctx: MutationCtx, run: Doc<"runs">, asked: Demand): Promise<unknown> {
  switch (asked.ask) {
    case "spawn":
      return spawn(ctx, run, { key: asked.step, specs: asked.tasks, gather: asked.gather ?? false });
    case "emit":
      return emitOnce(ctx, run, { key: asked.step, name: asked.name, data: asked.data });
    case "output":
      await uploadOutput(ctx, run, asked.text);
      return null;
  }
}
