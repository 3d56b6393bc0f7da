/** What an agent that a model plays may say beside its prompt. Every field is optional: what it lacks is the worker's choice. */
import { v, type Infer } from "convex/values";

// Where a run of it stops, each with a code of its own. Absent: the default, or no limit.
export const vLlmLimits = v.object({
  maxTurns: v.optional(v.number()), // 50
  maxToolCalls: v.optional(v.number()), // 100
  maxRepeats: v.optional(v.number()), // of one call with the same arguments; 10
  maxTokens: v.optional(v.number()), // of all turns, in and out
  maxCostMicros: v.optional(v.number()),
  maxMs: v.optional(v.number()), // in turns and tools; a wait without a worker does not count
});
export type LlmLimits = Infer<typeof vLlmLimits>;

export const llmFields = {
  models: v.optional(v.array(v.string())), // an ordered chain; `model` is then null
  fallbackOn: v.optional(v.array(v.union(v.literal("content_filter"), v.literal("refusal")))), // the next model is asked then too
  tools: v.optional(v.array(v.string())), // names of tools that its workers have
  outputSchema: v.optional(v.string()), // JSON text: the schema that its output fits
  limits: v.optional(vLlmLimits),
};
