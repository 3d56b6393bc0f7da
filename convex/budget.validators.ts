/** Validators of budgets, shared by schema, arguments and types. */
import { v, type Infer } from "convex/values";

// What is spent. micros: micro-dollars; tokens: input and output; calls: of models, each attempt; ms: time in a worker.
const amounts = { micros: v.number(), tokens: v.number(), calls: v.number(), ms: v.number() };
export const vAmounts = v.object(amounts);
export type Amounts = Infer<typeof vAmounts>;

const cap = v.union(v.number(), v.null()); // null: not limited
export const vCaps = v.object({ micros: cap, tokens: cap, calls: cap, ms: cap });
export type Caps = Infer<typeof vCaps>;

// What spends from a budget. all: every task. task: one task and what it spawns.
export const vBudgetKind = v.union(
  v.literal("all"),
  v.literal("tenant"),
  v.literal("stack"),
  v.literal("agent"),
  v.literal("task"),
);
export type BudgetKind = Infer<typeof vBudgetKind>;

// For how long what is spent counts. run: each task has the whole of it for itself and its retries.
export const vPeriod = v.union(v.literal("total"), v.literal("day"), v.literal("month"), v.literal("run"));
export type Period = Infer<typeof vPeriod>;

// What follows when it is spent. warn and degrade let runs go on: the event tells, and the cheapest model is taken.
export const vOnBreach = v.union(
  v.literal("warn"),
  v.literal("degrade"),
  v.literal("pause"),
  v.literal("ask"),
  v.literal("stop"),
);
export type OnBreach = Infer<typeof vOnBreach>;

const rule = {
  kind: vBudgetKind,
  name: v.string(), // "" for all and task; "*": each name of the kind by itself
  period: vPeriod,
  onBreach: vOnBreach,
};
const terms = {
  zone: v.string(), // IANA name: where days and months begin
  caps: vCaps,
  children: v.boolean(), // what a task spawns spends from it too
  unpriced: v.union(v.number(), v.null()), // micro-dollars for each token of a model without a price; null: refused
};

// `task`: of kind "task" only.
export const vBudget = v.object({ ...rule, ...terms, task: v.optional(v.id("tasks")) });
export type Budget = Infer<typeof vBudget>;

/** How a task's own budget is given with it. */
export const vTaskBudget = v.object({
  micros: v.optional(v.number()),
  tokens: v.optional(v.number()),
  calls: v.optional(v.number()),
  ms: v.optional(v.number()),
  onBreach: v.optional(vOnBreach), // default: stop
  children: v.optional(v.boolean()), // default: true
  unpriced: v.optional(v.number()),
});
export type TaskBudget = Infer<typeof vTaskBudget>;

export const vBudgetSpec = v.object({
  kind: vBudgetKind,
  name: v.optional(v.string()), // kind task: its id
  period: v.optional(vPeriod), // default: total
  onBreach: v.optional(vOnBreach), // default: stop
  zone: v.optional(v.string()), // default: UTC
  caps: vCaps.partial(),
  children: v.optional(v.boolean()), // default: true
  unpriced: v.optional(v.union(v.number(), v.null())),
});
export type BudgetSpec = Infer<typeof vBudgetSpec>;

export const vBudgetView = v.object({
  budget: v.id("budgets"),
  ...rule,
  ...terms,
  task: v.union(v.id("tasks"), v.null()),
});
export type BudgetView = Infer<typeof vBudgetView>;

export const vBalanceView = v.object({
  scope: v.string(), // the name that spends: a tenant, a stack, an agent; of a budget for each run, the task
  since: v.number(), // when its period began; 0: it has none
  until: v.union(v.number(), v.null()), // when it is over
  spent: vAmounts,
  held: vAmounts, // by live runs
  paused: v.boolean(), // until it is cleared or its period is over
});
export type BalanceView = Infer<typeof vBalanceView>;

// What a run may spend, all in all since it began; null: as much as it likes. `want`: the last wish that this answers.
export const vAllotment = v.object({
  want: v.number(),
  verdict: v.union(v.literal("granted"), v.literal("paused"), v.literal("asked"), v.literal("exceeded")),
  granted: vCaps,
  degraded: v.boolean(), // take the cheapest model of a chain
  unpriced: v.union(v.number(), v.null()),
  why: v.union(v.string(), v.null()), // not granted: which budget is spent, in a line
  ask: v.optional(v.string()), // asked: canonical JSON text of what people are to approve
});
export type Allotment = Infer<typeof vAllotment>;

// What a run has spent so far, and reserved for calls under way. `want`: it waits until so much more is allotted.
export const vSpending = v.object({
  run: v.id("runs"),
  spent: vAmounts,
  reserved: vAmounts,
  want: v.union(v.object({ number: v.number(), need: vAmounts }), v.null()),
});
export type Spending = Infer<typeof vSpending>;

// What dispatch is to do about budgets.
export const vBudgetWork = v.union(
  v.object({ kind: v.literal("want"), spending: vSpending }),
  v.object({ kind: v.literal("ended"), run: v.id("runs") }),
  v.object({ kind: v.literal("clear"), budget: v.id("budgets"), scope: v.union(v.string(), v.null()) }),
  v.object({ kind: v.literal("changed"), budget: v.id("budgets") }), // its caps: those that wait may go on
);
export type BudgetWork = Infer<typeof vBudgetWork>;
