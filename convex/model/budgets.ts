/** The budgets that operators set, and how they stand. What is spent is dispatch's to write. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type { BalanceView, Budget, BudgetSpec, BudgetView, Caps, TaskBudget } from "../budget.validators";
import { BUDGETS_OF_SCOPE, MAX_DELAY_MS, MAX_LIMIT, MAX_LIST, MAX_MICROS, MAX_TOKENS } from "../constants";
import { refuse } from "../errors";
import { drawOf } from "./draws";
import { leaveBudgetWork } from "./budget.work";
import { checkZone, periodAt } from "./periods";
import { NOTHING, UNBOUND, UNITS } from "./purse";
import { checkInteger, checkName, checkNumber, knownId } from "./text";

const MOST: Record<(typeof UNITS)[number], number> = {
  micros: MAX_MICROS,
  tokens: MAX_TOKENS,
  calls: MAX_LIMIT,
  ms: MAX_DELAY_MS,
};
const FORGET_PAGE = 200;

/** Which budget is meant: a scope has one for each period and each way to act. */
export type Place = Pick<Budget, "kind" | "name" | "period" | "onBreach" | "task">;

export function placeOf(
  ctx: QueryCtx,
  {
    kind,
    name = "",
    period = "total",
    onBreach = "stop",
  }: Pick<BudgetSpec, "kind" | "name" | "period" | "onBreach">,
): Place {
  if (kind === "all") {
    if (name !== "")
      throw refuse("invalid_argument", "name: the budget of everything has none; leave it out.");
    return { kind, name, period, onBreach };
  }
  if (kind === "task") {
    if (period !== "total")
      throw refuse("invalid_argument", "period: a task's budget is for all of its runs.");
    return { kind, name: "", period, onBreach, task: knownId(ctx, "tasks", name) };
  }
  return { kind, name: name === "*" ? name : checkName("name", name), period, onBreach };
}

/**
 * Set a budget, or change one: the limits that are given, null for none, and the rest stays. What was spent of it stays
 * spent.
 */
export async function set(ctx: MutationCtx, spec: BudgetSpec): Promise<BudgetView> {
  const place = placeOf(ctx, spec);
  const known = await find(ctx, place);
  const caps = checkCaps({ ...(known?.caps ?? UNBOUND), ...given(spec.caps) });
  const budget: Budget = {
    ...place,
    zone: spec.zone === undefined ? (known?.zone ?? "UTC") : checkZone(spec.zone),
    caps,
    children: spec.children ?? known?.children ?? true,
    unpriced: spec.unpriced === undefined ? (known?.unpriced ?? null) : checkPrice(spec.unpriced),
  };
  if (place.task !== undefined) {
    const task = await ctx.db.get("tasks", place.task);
    if (task === null) throw refuse("not_found", `No task ${place.task}.`);
    if (task.budgeted !== true) await ctx.db.patch("tasks", task._id, { budgeted: true });
  }
  if (known === null && (await placed(ctx, place)).length >= BUDGETS_OF_SCOPE) {
    throw refuse("invalid_argument", `budgets: a scope has at most ${BUDGETS_OF_SCOPE}.`);
  }
  const id = known?._id ?? (await ctx.db.insert("budgets", budget));
  if (known !== null) await ctx.db.replace("budgets", id, budget);
  await leaveBudgetWork(ctx, { kind: "changed", budget: id });
  return view({ ...budget, _id: id });
}

/** A task's own budget, as its submitter gives it. */
export function ofTask({ onBreach = "stop", children = true, unpriced, ...caps }: TaskBudget): Budget {
  return {
    ...{ kind: "task", name: "", period: "total", onBreach, zone: "UTC", children },
    caps: checkCaps({ ...UNBOUND, ...given(caps) }),
    unpriced: unpriced === undefined ? null : checkPrice(unpriced),
  };
}

/** What a caller gives, whatever else it says. */
function given(caps: { [unit in keyof Caps]?: number | null | undefined }): Partial<Caps> {
  return Object.fromEntries(Object.entries(caps).filter(([, cap]) => cap !== undefined));
}

function checkCaps(caps: Caps): Caps {
  for (const unit of UNITS) {
    const cap = caps[unit];
    if (cap !== null) checkInteger(`budget ${unit}`, cap, 0, MOST[unit]);
  }
  if (UNITS.every((unit) => caps[unit] === null)) {
    throw refuse("invalid_argument", "budget: give at least one of micros, tokens, calls and ms.");
  }
  return caps;
}

function checkPrice(price: number | null): number | null {
  return price === null ? null : checkNumber("unpriced", price, 0, MAX_MICROS);
}

function placed(ctx: QueryCtx, { task, kind, name }: Place): Promise<Doc<"budgets">[]> {
  return ctx.db
    .query("budgets")
    .withIndex("by_task_and_kind_and_name", (q) => q.eq("task", task).eq("kind", kind).eq("name", name))
    .take(BUDGETS_OF_SCOPE);
}

async function find(ctx: QueryCtx, place: Place): Promise<Doc<"budgets"> | null> {
  const found = await placed(ctx, place);
  return found.find(({ period, onBreach }) => period === place.period && onBreach === place.onBreach) ?? null;
}

async function found(ctx: QueryCtx, place: Place): Promise<Doc<"budgets">> {
  const budget = await find(ctx, place);
  if (budget !== null) return budget;
  const others = (await placed(ctx, place)).map(({ period, onBreach }) => `${period}, ${onBreach}`);
  const hint = others.length === 0 ? "It has none." : `It has: ${others.join("; ")}.`;
  throw refuse(
    "not_found",
    `No budget of this scope for period ${place.period} with ${place.onBreach}. ${hint}`,
  );
}

/** Count from nothing again: a scope that was paused goes on. `scope`: of one who spends from it, else of all. */
export async function clear(ctx: MutationCtx, place: Place, scope: string | null): Promise<void> {
  const { _id: budget } = await found(ctx, place);
  await leaveBudgetWork(ctx, { kind: "clear", budget, scope });
}

/** Take a budget away. What live runs hold of it holds for them; nobody counts it any more. */
export async function remove(ctx: MutationCtx, place: Place): Promise<boolean> {
  const known = await find(ctx, place);
  if (known === null) return false;
  await ctx.db.delete("budgets", known._id);
  await leaveBudgetWork(ctx, { kind: "changed", budget: known._id });
  await ctx.scheduler.runAfter(0, internal.budgets.forget, { budget: known._id });
  return true;
}

/** Remove a page of what was spent of a budget that is gone, and schedule the next. */
export async function forget(ctx: MutationCtx, budget: Id<"budgets">): Promise<void> {
  const rows = await ctx.db
    .query("balances")
    .withIndex("by_budget_and_scope_and_from", (q) => q.eq("budget", budget))
    .take(FORGET_PAGE);
  for (const { _id } of rows) await ctx.db.delete("balances", _id);
  if (rows.length === FORGET_PAGE) await ctx.scheduler.runAfter(0, internal.budgets.forget, { budget });
}

/** All but those of tasks, by kind and name, a page at a time, each as it stands now. */
export async function list(
  ctx: QueryCtx,
  { limit, cursor }: { limit: number; cursor: string | null },
  now: number,
): Promise<{ budgets: { budget: BudgetView; balance: BalanceView | null }[]; cursor: string | null }> {
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await ctx.db
    .query("budgets")
    .withIndex("by_task_and_kind_and_name", (q) => q.eq("task", undefined))
    .paginate({ numItems, cursor });
  const budgets = [];
  for (const budget of page.page) {
    const single = budget.name !== "*" && budget.period !== "run";
    const balance = single ? balanceView(await drawOf(ctx, budget, budget.name, now)) : null;
    budgets.push({ budget: view(budget), balance });
  }
  return { budgets, cursor: page.isDone ? null : page.continueCursor };
}

/** One budget with the balances of all who spend from it, the newest period of each first, a page at a time. */
export async function show(
  ctx: QueryCtx,
  place: Place,
  { limit, cursor }: { limit: number; cursor: string | null },
  now: number,
): Promise<{ budget: BudgetView; balances: BalanceView[]; cursor: string | null }> {
  const budget = await found(ctx, place);
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await ctx.db
    .query("balances")
    .withIndex("by_budget_and_scope_and_from", (q) => q.eq("budget", budget._id))
    .order("desc")
    .paginate({ numItems, cursor });
  const balances = page.page.map((row) => {
    const current = row.from === 0 ? { until: null } : periodAtOf(budget, row.from);
    return balanceView({ scope: row.scope, from: row.from, until: current.until, row });
  });
  const alone = budget.name !== "*" && budget.period !== "run";
  if (balances.length === 0 && alone && cursor === null) {
    balances.push(balanceView(await drawOf(ctx, budget, budget.task ?? budget.name, now)));
  }
  return { budget: view(budget), balances, cursor: page.isDone ? null : page.continueCursor };
}

const periodAtOf = (budget: Doc<"budgets">, at: number) => periodAt(budget.period, budget.zone, at);

function balanceView({
  scope,
  from,
  until,
  row,
}: {
  scope: string;
  from: number;
  until: number | null;
  row: Doc<"balances"> | null;
}): BalanceView {
  const { spent, held, paused } = row ?? { spent: NOTHING, held: NOTHING, paused: false };
  return { scope, since: from, until, spent, held, paused };
}

function view({ _id, task, ...budget }: Budget & { _id: Id<"budgets"> }): BudgetView {
  const { kind, name, period, onBreach, zone, caps, children, unpriced } = budget;
  return { budget: _id, kind, name, period, onBreach, zone, caps, children, unpriced, task: task ?? null };
}
