/** Validators of forks: tasks that go on from a step of another one, with something changed. */
import { v, type Infer } from "convex/values";
import { vLlmLimits } from "./llm.validators";
import { vStepUsage } from "./step.validators";

// What the runs of a fork may do to the outside. forbid: nothing; recorded results stand in for it where there are any.
export const vForkEffects = v.union(v.literal("forbid"), v.literal("allow"));
export type ForkEffects = Infer<typeof vForkEffects>;

// What its models are given instead of what the agent says; what is left out stays.
export const vForkChanges = v.object({
  models: v.optional(v.array(v.string())), // an ordered chain
  prompt: v.optional(v.string()),
  temperature: v.optional(v.number()),
  maxOutputTokens: v.optional(v.number()),
  limits: v.optional(vLlmLimits), // each by itself
});
export type ForkChanges = Infer<typeof vForkChanges>;

export const vForkSpec = v.object({
  at: v.optional(v.string()), // the first step that is taken anew; default: all of them are
  input: v.optional(v.string()), // JSON text
  change: v.optional(vForkChanges),
  effects: v.optional(vForkEffects), // default: forbid
  newVersion: v.optional(v.boolean()), // on whatever version of the agent there is now
  request: v.optional(v.string()), // the caller's own: a repeat finds the fork that the first call made
});
export type ForkSpec = Infer<typeof vForkSpec>;

// What a run of a fork is told.
export const vForkTold = v.object({
  task: v.id("tasks"), // where it comes from
  effects: vForkEffects,
  change: v.optional(vForkChanges),
});

// What a task has used and done, as far as its first steps tell; `more`: there are others.
export const vCompared = v.object({
  task: v.id("tasks"),
  agent: v.string(),
  status: v.string(),
  forkOf: v.union(v.object({ task: v.id("tasks"), at: v.union(v.string(), v.null()) }), v.null()),
  effects: v.union(vForkEffects, v.null()),
  ms: v.union(v.number(), v.null()), // from its first run to its end
  runs: v.number(),
  turns: v.number(),
  replayed: v.number(), // of its steps, copied from the task that it was forked from
  tools: v.array(v.object({ tool: v.string(), calls: v.number() })), // by name
  usage: vStepUsage, // of its own turns, without those that were copied
  output: v.union(v.string(), v.null()), // JSON text; null: none, or a large one
  largeOutput: v.boolean(),
  error: v.union(v.object({ code: v.string(), message: v.string() }), v.null()),
  more: v.boolean(),
});
export type Compared = Infer<typeof vCompared>;

export const vComparison = v.object({
  tasks: v.array(vCompared),
  parts: v.union(v.string(), v.null()), // the first step that one has and the other has not, or has with another result
  sameOutput: v.boolean(),
});
export type Comparison = Infer<typeof vComparison>;
