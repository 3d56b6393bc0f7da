/** The books of budgets: what runs are allotted, hold and have spent. Dispatch alone calls what writes here. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type { Allotment, Amounts, Spending } from "../budget.validators";
import {
  BUDGET_LOOK_MS,
  BUDGET_RELEASES,
  BUDGET_WAITERS,
  FORGOTTEN_PERIODS,
  KEEP_PERIODS_MS,
} from "../constants";
import { told } from "./budget.text";
import { tell as tellHolder } from "./controls";
import { drawOf, drawsOf, questionOf, type Draw } from "./draws";
import { record } from "./events";
import { wakeTimersBy } from "./loops";
import {
  added,
  finalSpend,
  isDegraded,
  isSoft,
  NOTHING,
  roomFor,
  spentUnit,
  top,
  UNBOUND,
  UNITS,
  unpricedOf,
  without,
  type Decision,
} from "./purse";
import { close } from "./tasks";
import { delayFor, putBack } from "./waiting";

type Task = Doc<"tasks">;

/**
 * A task cannot be allotted anything: it waits until something is given back, its period is over, or somebody changes the
 * budget. When its very own budget says stop, it has failed.
 *
 * @param ready - its row, which goes
 */
export async function holdBack(
  ctx: MutationCtx,
  ready: Doc<"ready">,
  task: Task,
  draws: readonly Draw[],
  decision: Exclude<Decision, { kind: "granted" }>,
  now: number,
): Promise<void> {
  const draw = draws[decision.at]!;
  const { budget, until } = draw;
  const own = budget.period === "run" || budget.kind === "task" || budget.onBreach === "ask"; // refused for this task
  if (decision.kind === "spent" && own && draw.balance.onBreach === "stop") {
    await ctx.db.delete("ready", ready._id);
    const error = { code: "budget_exceeded", message: told(draw) };
    await close(ctx, task, "failed", null, { attempt: task.attempt, code: error.code }, { error });
    return;
  }
  const dueAt = Math.min(until ?? Infinity, now + BUDGET_LOOK_MS);
  await delayFor(ctx, ready, budget._id, dueAt);
  await wakeTimersBy(ctx, dueAt);
}

/** Note what a run that was just made holds of its budgets. */
export async function reserve(
  ctx: MutationCtx,
  task: Task,
  run: Id<"runs">,
  draws: Draw[],
  { more }: Extract<Decision, { kind: "granted" }>,
): Promise<void> {
  const held = amounts(more);
  const balances = await hold(ctx, draws, held);
  await tellOfSoft(ctx, task, run, draws);
  const state = draws.map(({ balance }) => balance);
  await ctx.db.insert("reservations", {
    run,
    balances,
    held,
    settled: NOTHING,
    granted: more,
    want: 0,
    degraded: isDegraded(state),
    unpriced: unpricedOf(state),
  });
}

const amounts = (caps: Doc<"reservations">["granted"]): Amounts => ({
  micros: caps.micros ?? 0,
  tokens: caps.tokens ?? 0,
  calls: caps.calls ?? 0,
  ms: caps.ms ?? 0,
});

/** Hold so much more of each; what nobody has spent from gets its row. */
async function hold(ctx: MutationCtx, draws: Draw[], more: Amounts): Promise<Id<"balances">[]> {
  const ids: Id<"balances">[] = [];
  for (const draw of draws) {
    const held = added(draw.balance.held, more);
    draw.balance = { ...draw.balance, held };
    if (draw.row === null) {
      const { budget, scope, from } = draw;
      const own = budget.period === "run" || budget.kind === "task";
      const id = await ctx.db.insert("balances", {
        ...{ budget: budget._id, scope, from, spent: NOTHING, held, paused: false, told: false },
        ...(own && { task: scope as Id<"tasks"> }),
      });
      draw.row = await ctx.db.get("balances", id);
      if (from > 0) await forgetOld(ctx, draw);
    } else await ctx.db.patch("balances", draw.row._id, { held });
    ids.push(draw.row!._id);
  }
  return ids;
}

/** A new period has begun: remove the oldest of those that nobody will ask for. */
async function forgetOld(ctx: MutationCtx, { budget, scope, from }: Draw): Promise<void> {
  const old = await ctx.db
    .query("balances")
    .withIndex("by_budget_and_scope_and_from", (q) =>
      q
        .eq("budget", budget._id)
        .eq("scope", scope)
        .lt("from", from - KEEP_PERIODS_MS),
    )
    .take(FORGOTTEN_PERIODS);
  for (const { _id } of old) await ctx.db.delete("balances", _id);
}

/** Tell once that a budget is spent with which runs go on. */
async function tellOfSoft(ctx: MutationCtx, task: Task, run: Id<"runs">, draws: Draw[]): Promise<void> {
  for (const draw of draws) if (isSoft(draw.budget)) await tell(ctx, task, run, draw);
}

async function tell(ctx: MutationCtx, task: Task, run: Id<"runs">, draw: Draw): Promise<void> {
  const unit = spentUnit(draw.balance);
  if (unit === null || draw.row === null || draw.row.told) return;
  await ctx.db.patch("balances", draw.row._id, { told: true });
  draw.row = { ...draw.row, told: true };
  await recordBreach(ctx, task, run, draw);
}

async function recordBreach(ctx: MutationCtx, task: Task, run: Id<"runs">, draw: Draw): Promise<void> {
  const { budget } = draw;
  await record(ctx, task, "budget_breached", run, {
    budget: budget._id,
    policy: budget.onBreach,
    message: told(draw),
  });
}

/** What a run that was just assigned may spend; none when no budget applies. */
export async function allotmentOf(ctx: QueryCtx, run: Doc<"runs">): Promise<Allotment | undefined> {
  if (run.budgeted !== true) return undefined;
  const held = await reservationOf(ctx, run._id);
  if (held === null) return undefined;
  const { want, granted, degraded, unpriced } = held;
  return { want, verdict: "granted", granted, degraded, unpriced, why: null };
}

function reservationOf(ctx: QueryCtx, run: Id<"runs">): Promise<Doc<"reservations"> | null> {
  return ctx.db
    .query("reservations")
    .withIndex("by_run", (q) => q.eq("run", run))
    .unique();
}

export function spendingOf(ctx: QueryCtx, run: Id<"runs">): Promise<Doc<"spendings"> | null> {
  return ctx.db
    .query("spendings")
    .withIndex("by_run", (q) => q.eq("run", run))
    .unique();
}

/** The budgets of which something was given back, or that were changed: those that wait for them may go on. */
export type Touched = Set<Id<"budgets">>;

/**
 * A run asks for more. What it has spent is counted, what it has not reserved is given back, and then it is given what it
 * needs; or it waits; or it learns that a budget is spent.
 */
export async function answer(
  ctx: MutationCtx,
  asked: Spending,
  touched: Touched,
  now: number,
): Promise<void> {
  const reservation = await reservationOf(ctx, asked.run);
  const run = await ctx.db.get("runs", asked.run);
  if (reservation === null || run === null || run.endedAt !== null || asked.want === null) return;
  const newest = reservation.waiting?.want?.number ?? reservation.want;
  if (asked.want.number < newest || asked.want.number <= reservation.want) return;
  const task = await ctx.db.get("tasks", run.task);
  if (task === null) return;
  await count(ctx, reservation, without(asked.spent, reservation.settled), touched);
  const draws = await drawsOf(ctx, task, now);
  const balances = await hold(ctx, draws, asked.reserved);
  const state = draws.map(({ balance }) => balance);
  const decision = top(state, asked.want.need);
  const change = { balances, held: asked.reserved, settled: asked.spent };
  if (decision.kind === "wait") {
    const since = reservation.since ?? now;
    await ctx.db.patch("reservations", reservation._id, { ...change, waiting: asked, since });
    return;
  }
  const want = asked.want.number;
  const common = { want, degraded: isDegraded(state), unpriced: unpricedOf(state) };
  const rest = { ...common, waiting: undefined, since: undefined };
  if (decision.kind === "granted") {
    const more = amounts(decision.more);
    await hold(ctx, draws, more);
    await tellOfSoft(ctx, task, run._id, draws);
    const sum = added(added(asked.spent, asked.reserved), more);
    const granted = { ...UNBOUND };
    for (const unit of UNITS) granted[unit] = decision.more[unit] === null ? null : sum[unit];
    const held = added(asked.reserved, more);
    await ctx.db.patch("reservations", reservation._id, { ...change, ...rest, held, granted });
    await send(ctx, run, { ...common, verdict: "granted", granted, why: null });
    return;
  }
  const draw = draws[decision.at]!;
  await ctx.db.patch("reservations", reservation._id, { ...change, ...rest });
  if (draw.row?.told === false) {
    await ctx.db.patch("balances", draw.row._id, { told: true });
    await recordBreach(ctx, task, run._id, draw);
  }
  const policy = draw.balance.onBreach;
  if (policy === "pause" && draw.row !== null) await ctx.db.patch("balances", draw.row._id, { paused: true });
  const verdict = policy === "stop" ? "exceeded" : policy === "ask" ? "asked" : "paused";
  const granted = { ...UNBOUND };
  const sum = added(asked.spent, asked.reserved);
  for (const unit of UNITS) granted[unit] = reservation.granted[unit] === null ? null : sum[unit];
  const ask = verdict === "asked" ? { ask: questionOf(draw) } : {};
  await send(ctx, run, { ...common, verdict, granted, why: told(draw), ...ask });
}

/** Tell a run what it may spend. */
const send = (ctx: MutationCtx, run: Doc<"runs">, allotment: Allotment): Promise<void> =>
  tellHolder(ctx, run, { kind: "allotment", reason: allotment.verdict, allotment });

/** Count what a run has spent where it was allotted, and give back all that it holds there. */
async function count(
  ctx: MutationCtx,
  { balances, held }: Doc<"reservations">,
  spent: Amounts,
  touched: Touched,
): Promise<void> {
  for (const id of balances) {
    const row = await ctx.db.get("balances", id);
    if (row === null) continue; // its budget was removed
    await ctx.db.patch("balances", id, { spent: added(row.spent, spent), held: without(row.held, held) });
    touched.add(row.budget);
  }
}

/** A run has ended: what it has spent is counted, and the rest of what it held is given back. */
export async function settleRun(ctx: MutationCtx, id: Id<"runs">, touched: Touched): Promise<void> {
  const reservation = await reservationOf(ctx, id);
  const run = await ctx.db.get("runs", id);
  if (reservation === null || run === null) return;
  const told = await spendingOf(ctx, id);
  const ran = run.startedAt === null || run.endedAt === null ? 0 : Math.max(0, run.endedAt - run.startedAt);
  const total = told === null ? withoutWord(run, ran) : finalSpend(told, run.state === "lost", ran);
  await count(ctx, reservation, without(total, reservation.settled), touched);
  await ctx.db.delete("reservations", reservation._id);
  if (told !== null) await ctx.db.delete("spendings", told._id);
}

/** A run that kept no books, such as one that was pushed: what it says that it used. */
function withoutWord({ usage }: Doc<"runs">, ms: number): Amounts {
  const tokens = (usage?.inputTokens ?? 0) + (usage?.outputTokens ?? 0);
  return { micros: usage?.costMicros ?? 0, tokens, calls: usage?.calls ?? 0, ms };
}

/** The operator forgives what was spent: of one who spends from a budget, or of all of them. */
export async function clear(
  ctx: MutationCtx,
  id: Id<"budgets">,
  scope: string | null,
  now: number,
): Promise<void> {
  const budget = await ctx.db.get("budgets", id);
  if (budget === null) return;
  const rows =
    scope === null
      ? await ctx.db
          .query("balances")
          .withIndex("by_budget_and_scope_and_from", (q) => q.eq("budget", id))
          .order("desc")
          .take(BUDGET_WAITERS)
      : [(await drawOf(ctx, budget, scope, now)).row];
  for (const row of rows) {
    if (row !== null) {
      await ctx.db.patch("balances", row._id, { spent: NOTHING, paused: false, told: false });
    }
  }
}

/**
 * Let those go on that wait for what was given back: first the runs that hold a worker, the longest waiting first.
 * @returns how many tasks were put back in line
 */
export async function goOn(ctx: MutationCtx, touched: Touched, now: number): Promise<number> {
  const waiting = await ctx.db
    .query("reservations")
    .withIndex("by_since", (q) => q.gt("since", 0))
    .take(BUDGET_WAITERS);
  for (const { waiting: asked } of waiting) {
    if (asked !== undefined) await answer(ctx, asked, new Set(), now);
  }
  let released = 0;
  for (const budget of touched) {
    const page = await release(ctx, budget, now);
    if (page === BUDGET_RELEASES) await ctx.db.insert("budgetWork", { work: { kind: "changed", budget } });
    released += page;
  }
  return released;
}

/**
 * Put back in line as many of the tasks that wait for a budget as it has room for.
 * @returns how many
 */
async function release(ctx: MutationCtx, id: Id<"budgets">, now: number): Promise<number> {
  let released = 0;
  const budget = await ctx.db.get("budgets", id);
  const rows = await ctx.db
    .query("delayed")
    .withIndex("by_budget_and_rank", (q) => q.eq("budget", id))
    .take(BUDGET_RELEASES);
  const room = new Map<string, number>();
  for (const row of rows) {
    const scope = budget === null ? null : await scopeOf(ctx, budget, row);
    if (budget !== null && scope !== null) {
      if (!room.has(scope)) room.set(scope, roomFor((await drawOf(ctx, budget, scope, now)).balance));
      const left = room.get(scope)!;
      if (left <= 0) continue;
      room.set(scope, left - 1);
    }
    await putBack(ctx, row);
    released += 1;
  }
  return released;
}

/** Under which name a waiting task spends from a budget; null when that is one above it. */
async function scopeOf(ctx: QueryCtx, budget: Doc<"budgets">, row: Doc<"delayed">): Promise<string | null> {
  if (budget.period === "run" || budget.kind === "task") return null;
  if (budget.kind === "all") return "";
  if (budget.name !== "*") return budget.name;
  if (budget.kind === "tenant") return row.tenant;
  const task = await ctx.db.get("tasks", row.task);
  const name = budget.kind === "agent" ? task?.agent : task?.stack;
  return name ?? null;
}
