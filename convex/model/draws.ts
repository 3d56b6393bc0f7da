/** The budgets that a task spends from, and how each stands. Reads alone. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { BUDGETS_OF_SCOPE, MAX_ANCESTORS } from "../constants";
import { periodAt } from "./periods";
import { NOTHING, spentUnit, start, type Balance, type Decision } from "./purse";

type Task = Doc<"tasks">;

/** A budget that a task spends from, and how it stands; `row`: none while nobody has spent from it. */
export type Draw = {
  budget: Doc<"budgets">;
  scope: string;
  from: number;
  until: number | null;
  row: Doc<"balances"> | null;
  balance: Balance;
};

/** Budgets by their place, each looked up once in a transaction: dispatch asks for those of a hundred tasks. */
const known = new WeakMap<object, Map<string, Doc<"budgets">[]>>();

async function lookedUp(
  ctx: QueryCtx,
  place: string,
  look: () => Promise<Doc<"budgets">[]>,
): Promise<Doc<"budgets">[]> {
  let cache = known.get(ctx);
  if (cache === undefined) known.set(ctx, (cache = new Map<string, Doc<"budgets">[]>()));
  let found = cache.get(place);
  if (found === undefined) cache.set(place, (found = await look()));
  return found;
}

function budgetsAt(
  ctx: QueryCtx,
  task: Id<"tasks"> | undefined,
  kind: Doc<"budgets">["kind"],
  name: string,
): Promise<Doc<"budgets">[]> {
  return lookedUp(ctx, `${task ?? ""}/${kind}/${name}`, () =>
    ctx.db
      .query("budgets")
      .withIndex("by_task_and_kind_and_name", (q) => q.eq("task", task).eq("kind", kind).eq("name", name))
      .take(BUDGETS_OF_SCOPE),
  );
}

async function thereAreNone(ctx: QueryCtx): Promise<boolean> {
  return (await lookedUp(ctx, "anywhere", () => ctx.db.query("budgets").take(1))).length === 0;
}

/** The budgets that hold for a task by what it is, with the name under which it spends from each. */
async function budgetsOf(ctx: QueryCtx, task: Task): Promise<{ budget: Doc<"budgets">; scope: string }[]> {
  const scopes = [
    { kind: "all", name: "" },
    { kind: "tenant", name: task.tenant },
    ...(task.stack === undefined ? [] : [{ kind: "stack", name: task.stack } as const]),
    { kind: "agent", name: task.agent },
  ] as const;
  const found: { budget: Doc<"budgets">; scope: string }[] = [];
  for (const { kind, name } of scopes) {
    for (const rule of kind === "all" ? [""] : [name, "*"]) {
      for (const budget of await budgetsAt(ctx, undefined, kind, rule)) {
        found.push({ budget, scope: budget.period === "run" ? task._id : name });
      }
    }
  }
  if (task.budgeted === true) {
    for (const budget of await budgetsAt(ctx, task._id, "task", "")) found.push({ budget, scope: task._id });
  }
  return found;
}

/** All that a task spends from: its own budgets, and those of the tasks above it that count what they spawn. */
export async function drawsOf(ctx: QueryCtx, task: Task, now: number): Promise<Draw[]> {
  if (await thereAreNone(ctx)) return [];
  const draws = new Map<string, Draw>();
  let at: Task | null = task;
  for (let depth = 0; at !== null && depth <= MAX_ANCESTORS; depth += 1) {
    for (const { budget, scope } of await budgetsOf(ctx, at)) {
      const key = `${budget._id}/${scope}`;
      if ((depth > 0 && !budget.children) || draws.has(key)) continue;
      draws.set(key, await decided(ctx, task, await drawOf(ctx, budget, scope, now)));
    }
    at = at.parent === undefined ? null : await ctx.db.get("tasks", at.parent);
  }
  return [...draws.values()];
}

/** What people are asked for a task under a spent budget: the same for as long as its period. Canonical JSON text. */
export const questionOf = ({ budget, scope, from }: Draw): string =>
  JSON.stringify({ budget: budget._id, scope, since: from });

/** What people have decided about a spent budget that asks: the task goes on without regard to it, or not at all. */
async function decided(ctx: QueryCtx, task: Task, draw: Draw): Promise<Draw> {
  if (draw.budget.onBreach !== "ask" || spentUnit(draw.balance) === null) return draw;
  const asked = await ctx.db
    .query("approvals")
    .withIndex("by_task", (q) => q.eq("task", task._id))
    .order("desc")
    .take(BUDGETS_OF_SCOPE);
  const question = questionOf(draw);
  const last = asked.find(({ why, args }) => why === "spend" && args === question);
  if (last?.state === "approved") return { ...draw, balance: { ...draw.balance, onBreach: "warn" } };
  if (last?.state === "refused" || last?.state === "expired") {
    return { ...draw, balance: { ...draw.balance, onBreach: "stop" } };
  }
  return draw;
}

export async function drawOf(
  ctx: QueryCtx,
  budget: Doc<"budgets">,
  scope: string,
  now: number,
): Promise<Draw> {
  const { from, until } = periodAt(budget.period, budget.zone, now);
  const row = await ctx.db
    .query("balances")
    .withIndex("by_budget_and_scope_and_from", (q) =>
      q.eq("budget", budget._id).eq("scope", scope).eq("from", from),
    )
    .unique();
  return { budget, scope, from, until, row, balance: balanceOf(budget, row) };
}

function balanceOf(budget: Doc<"budgets">, row: Doc<"balances"> | null): Balance {
  const { caps, onBreach, unpriced } = budget;
  const { spent, held, paused } = row ?? { spent: NOTHING, held: NOTHING, paused: false };
  return { caps, onBreach, unpriced, spent, held, paused };
}

/** Whether a run of the task could be allotted something now, and what. */
export function decideStart(draws: readonly Draw[]): Decision {
  return start(draws.map(({ balance }) => balance));
}
