/** What is left for dispatch about budgets: rows that anybody may insert, so that no two syncs write the same. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import type { Amounts, BudgetWork, Spending } from "../budget.validators";
import { answer, clear, settleRun, spendingOf, type Touched } from "./allot";
import { wakeDispatch } from "./loops";
import { UNITS } from "./purse";

/** Leave something to dispatch, and wake it. */
export async function leaveBudgetWork(ctx: MutationCtx, work: BudgetWork): Promise<void> {
  await ctx.db.insert("budgetWork", { work });
  await wakeDispatch(ctx);
}

/** A live run tells what it has spent, and may ask for more. */
export async function tellSpending(ctx: MutationCtx, run: Doc<"runs">, told: Spending): Promise<void> {
  if (run.budgeted !== true) return;
  const kept = await keepSpending(ctx, run, told);
  if (told.want === null) return;
  const want = { number: told.want.number, need: sound(told.want.need) };
  await leaveBudgetWork(ctx, { kind: "want", spending: { run: run._id, ...kept, want } });
}

/** Keep what a run has spent and reserved. What it says never shrinks: a fault of a worker must not give anything back. */
export async function keepSpending(
  ctx: MutationCtx,
  run: Doc<"runs">,
  told: Spending,
): Promise<{ spent: Amounts; reserved: Amounts }> {
  const known = await spendingOf(ctx, run._id);
  const spent = sound(told.spent);
  for (const unit of UNITS) spent[unit] = Math.max(spent[unit], known?.spent[unit] ?? 0);
  const kept = { spent, reserved: sound(told.reserved) };
  if (run.budgeted !== true) return kept;
  if (known === null) await ctx.db.insert("spendings", { run: run._id, ...kept });
  else await ctx.db.patch("spendings", known._id, kept);
  return kept;
}

/** Whole numbers from 0 on, whatever was sent. */
function sound(told: Amounts): Amounts {
  const amounts = { ...told };
  for (const unit of UNITS) {
    const value = Math.ceil(told[unit]);
    amounts[unit] = value > 0 ? Math.min(value, Number.MAX_SAFE_INTEGER) : 0;
  }
  return amounts;
}

/**
 * For a pass of dispatch: do what was left, then let those go on that wait for what was given back.
 * @returns whether tasks were put back in line, which the pass has not seen
 */
export async function settleBudgets(
  ctx: MutationCtx,
  work: readonly Id<"budgetWork">[],
  now: number,
): Promise<boolean> {
  if (work.length === 0) return false;
  const touched: Touched = new Set();
  for (const id of work) {
    try {
      for (const budget of await ctx.runMutation(internal.dispatch.budgetWork, { work: id, now })) {
        touched.add(budget);
      }
    } catch (error) {
      // What it was about is settled with the end of its run, or asked for again.
      console.error(`dispatch: ${id} about a budget is dropped: ${String(error)}`);
      await ctx.db.delete("budgetWork", id);
    }
  }
  try {
    return (await ctx.runMutation(internal.dispatch.budgetsGoOn, { touched: [...touched], now })) > 0;
  } catch (error) {
    console.error(`dispatch: those that wait for budgets look again later: ${String(error)}`);
    return false;
  }
}

/** @returns the budgets of which something was given back, or that were changed */
export async function handleBudgetWork(
  ctx: MutationCtx,
  id: Id<"budgetWork">,
  now: number,
): Promise<Id<"budgets">[]> {
  const row = await ctx.db.get("budgetWork", id);
  if (row === null) return [];
  await ctx.db.delete("budgetWork", id);
  const { work } = row;
  const touched: Touched = new Set();
  switch (work.kind) {
    case "want":
      await answer(ctx, work.spending, touched, now);
      break;
    case "ended":
      await settleRun(ctx, work.run, touched);
      break;
    case "clear":
      await clear(ctx, work.budget, work.scope, now);
      touched.add(work.budget);
      break;
    case "changed":
      touched.add(work.budget);
  }
  return [...touched];
}
