import { v } from "convex/values";
import { internalMutation } from "./_generated/server";
import { vBalanceView, vBudgetKind, vBudgetSpec, vBudgetView, vOnBreach, vPeriod } from "./budget.validators";
import { MAX_LIST } from "./constants";
import { operatorMutation, viewerQuery } from "./functions";
import * as Budgets from "./model/budgets";
import { needsEveryQueue } from "./model/scope";

const COUNTED = "budgets: what is spent is counted over all queues";

const place = {
  kind: vBudgetKind,
  name: v.optional(v.string()),
  period: v.optional(vPeriod),
  onBreach: v.optional(vOnBreach),
};
const page = { limit: v.optional(v.number()), cursor: v.optional(v.union(v.string(), v.null())) };

export const set = operatorMutation({
  args: vBudgetSpec.fields,
  returns: vBudgetView,
  handler: (ctx, spec) => Budgets.set(ctx, spec),
});

export const clear = operatorMutation({
  args: { ...place, scope: v.optional(v.string()) }, // of a budget that each spends by itself: who
  returns: v.null(),
  handler: async (ctx, { scope, ...given }) => {
    await Budgets.clear(ctx, Budgets.placeOf(ctx, given), scope ?? null);
    return null;
  },
});

export const remove = operatorMutation({
  args: place,
  returns: v.object({ removed: v.boolean() }),
  handler: async (ctx, given) => ({ removed: await Budgets.remove(ctx, Budgets.placeOf(ctx, given)) }),
});

export const list = viewerQuery({
  args: page,
  returns: v.object({
    budgets: v.array(v.object({ budget: vBudgetView, balance: v.union(vBalanceView, v.null()) })),
    cursor: v.union(v.string(), v.null()),
  }),
  handler: (ctx, { limit = MAX_LIST, cursor = null }) => {
    needsEveryQueue(ctx.caller, COUNTED);
    return Budgets.list(ctx, { limit, cursor }, Date.now());
  },
});

export const get = viewerQuery({
  args: { ...place, ...page },
  returns: v.object({
    budget: vBudgetView,
    balances: v.array(vBalanceView),
    cursor: v.union(v.string(), v.null()),
  }),
  handler: (ctx, { limit = MAX_LIST, cursor = null, ...given }) => {
    needsEveryQueue(ctx.caller, COUNTED);
    return Budgets.show(ctx, Budgets.placeOf(ctx, given), { limit, cursor }, Date.now());
  },
});

/** Remove the balances of a budget that is gone, a page at a time. */
export const forget = internalMutation({
  args: { budget: v.id("budgets") },
  returns: v.null(),
  handler: async (ctx, { budget }) => {
    await Budgets.forget(ctx, budget);
    return null;
  },
});
