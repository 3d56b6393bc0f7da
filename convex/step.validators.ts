/** What a step of an agent's loop carries beside its result: a turn of a model, a call of a tool. */
import { v, type Infer } from "convex/values";

// How far a tool's effect has come. in_doubt: it may have happened or not, and a person says which. Absent: done.
export const vStepState = v.union(v.literal("intended"), v.literal("done"), v.literal("in_doubt"));
export type StepState = Infer<typeof vStepState>;

// What a second call with the same arguments does. unsafe: everything that has not said otherwise.
export const vEffect = v.union(
  v.literal("pure"),
  v.literal("idempotent"),
  v.literal("keyed"),
  v.literal("reconcilable"),
  v.literal("unsafe"),
);
export type Effect = Infer<typeof vEffect>;

// What a turn has cost, all attempts together; null: not told, or no price is known.
export const vStepUsage = v.object({
  model: v.union(v.string(), v.null()),
  inputTokens: v.union(v.number(), v.null()),
  outputTokens: v.union(v.number(), v.null()),
  cachedInputTokens: v.union(v.number(), v.null()), // a part of inputTokens
  costMicros: v.union(v.number(), v.null()),
});
export type StepUsage = Infer<typeof vStepUsage>;

/** The same optional fields in the report, the row and the view. Absent in steps of other kinds. */
export const stepFields = {
  state: v.optional(vStepState),
  effect: v.optional(vEffect),
  argsHash: v.optional(v.string()), // SHA-256 of the canonical JSON of the arguments, in hexadecimal digits
  tool: v.optional(v.string()), // its name
  usage: v.optional(vStepUsage),
};
