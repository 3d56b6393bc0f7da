/** Tasks that wait without a worker: for a time, for an event, or for people. The next run goes on behind their finished steps. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_DELAY_MS, MAX_KEY_CHARS, WAKE_BATCH } from "../constants";
import type { Fault, Outcome } from "../validators";
import { clearAlarm, setAlarm } from "./alarms";
import { ask, askRefusal } from "./approvals";
import { record } from "./events";
import { objectionTo } from "./sandbox";
import { settleLater } from "./settlements";
import { firstSignal, resultOf, takeSignal } from "./signals";
import { findStep, hasResult, insertStep, objection, resolveStep } from "./steps";
import { keepText } from "./text";
import { putInLine, wakeFor } from "./waiting";

export type Suspension = Extract<Outcome, { kind: "suspended" }>;

const TIMED_OUT = '{"timeout":true}';
/** Groups have a tenant of their own, whose name no tenant can have. */
const groupTenant = (group: string) => `group/${group}`;

/** The group for which a task waits; null when it waits for an event. */
export const groupOf = ({ tenant, event }: Doc<"waits">): string | null =>
  tenant === groupTenant(event) ? event : null;

/** What a task waits for that has no questions for people. */
type Until = Exclude<Suspension["until"], { approvals: unknown }>;

const kindOf = ({ until }: Suspension) => ("ms" in until ? "sleep" : "event");

/** Why a run cannot wait as it asks to; null when it can. */
export async function refusal(ctx: QueryCtx, run: Doc<"runs">, asked: Suspension): Promise<Fault | null> {
  const { step, until } = asked;
  const sandboxed = objectionTo(run, `step ${JSON.stringify(step.slice(0, 80))} waits`);
  if (sandboxed !== null) return sandboxed;
  if ("approvals" in until) return askRefusal(ctx, run, until.approvals);
  if ("event" in until && (until.event.length < 1 || until.event.length > MAX_KEY_CHARS)) {
    return { code: "invalid_wait", message: `An event's name has 1 to ${MAX_KEY_CHARS} characters` };
  }
  if ("group" in until && ctx.db.normalizeId("groups", until.group) === null) {
    return { code: "invalid_wait", message: `No group ${until.group.slice(0, 80)}` };
  }
  const ms = limitOf(until);
  if (ms !== null && !(ms >= 0 && ms <= MAX_DELAY_MS)) {
    return { code: "invalid_wait", message: `A wait lasts 0 to ${MAX_DELAY_MS} ms, not ${ms}` };
  }
  return objection(step, kindOf(asked), await findStep(ctx, run.task, step), run.steps ?? 0);
}

/**
 * A run has ended because its task waits. The wait is a step: it begins once, however many runs come to it, and what ends it
 * becomes its result. The task comes back with its old rank.
 *
 * @param change - what the end of the run changes in the task's row
 */
export async function suspend(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  run: Doc<"runs">,
  asked: Suspension,
  change: Partial<Doc<"tasks">>,
  now: number,
): Promise<void> {
  const { step: key, until } = asked;
  if ("approvals" in until) {
    const { open, steps } = await ask(ctx, task, run, until.approvals, now);
    const what = until.approvals.map(({ tool }) => tool).join(", ");
    await record(ctx, task, "task_suspended", run._id, { step: key, what: what.slice(0, 500), until: null });
    const kept = { ...change, steps: (run.steps ?? 0) + steps, updated: ctx.db.vars.commitTs };
    await ctx.db.patch("tasks", task._id, { ...kept, status: "waiting_approval" });
    if (open === 0) await comeBack(ctx, { ...task, ...kept }, now); // all was decided in an earlier run
    return;
  }
  const known = await findStep(ctx, task._id, key);
  const ms = limitOf(until);
  const at = known === null ? (ms === null ? null : now + ms) : known.at;
  const step =
    known?._id ??
    (await insertStep(ctx, task._id, { key, kind: kindOf(asked), result: null, resultId: null, at }));
  const whole = { ...change, steps: (run.steps ?? 0) + (known === null ? 1 : 0) };
  const what = "ms" in until ? "sleep" : "group" in until ? until.group : until.event;
  await record(ctx, task, "task_suspended", run._id, { step: key, what, until: at });
  let status: Doc<"tasks">["status"];
  if ("ms" in until) {
    const due = Math.max(now, at ?? now);
    const line = await putInLine(ctx, { ...task, ...whole }, due, now, task.dueAt);
    status = line === "delayed" ? "sleeping" : line;
    await wakeFor(ctx, [due], now);
  } else if (await isOver(ctx, task, step, known, until, whole)) {
    status = await putInLine(ctx, { ...task, ...whole }, now, now, task.dueAt);
    await wakeFor(ctx, [now], now);
  } else {
    const tenant = "group" in until ? groupTenant(until.group) : task.tenant;
    await ctx.db.insert("waits", { tenant, event: what, task: task._id, step, limited: at !== null });
    if (at !== null) await setAlarm(ctx, "wait", task._id, at);
    status = "waiting_event";
  }
  await ctx.db.patch("tasks", task._id, { ...whole, status, updated: ctx.db.vars.commitTs });
}

/** Whether the wait is over before it begins: it was over in an earlier run, or a signal lies there. */
async function isOver(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  step: Id<"steps">,
  known: Doc<"steps"> | null,
  until: Exclude<Until, { ms: number }>,
  change: Partial<Doc<"tasks">>,
): Promise<boolean> {
  if (known !== null && hasResult(known)) return true;
  if ("group" in until) {
    const group = await ctx.db.get("groups", ctx.db.normalizeId("groups", until.group)!);
    if (group !== null && group.completedAt === null) return false;
    await resolveStep(ctx, step, resultOf(until.group, JSON.stringify(group?.result ?? null)));
    return true;
  }
  const { event } = until;
  const signals = change.signals ?? task.signals ?? 0;
  const lying = signals > 0 ? await firstSignal(ctx, task._id, event) : null;
  if (lying === null) return false;
  await resolveStep(ctx, step, resultOf(event, lying.data));
  await takeSignal(ctx, task._id, lying._id);
  change.signals = signals - 1;
  return true;
}

const limitOf = (until: Until): number | null =>
  "ms" in until ? until.ms : "group" in until ? null : until.timeoutMs;

/** A group that a task may wait for is complete. */
export const wakeForGroup = (ctx: MutationCtx, group: Id<"groups">, result: string): Promise<number> =>
  wakeWaiters(ctx, groupTenant(group), group, JSON.stringify(result));

/** What a task waits for, if it waits for an event. */
export async function waitOf(
  ctx: QueryCtx,
  task: Pick<Doc<"tasks">, "_id" | "status">,
): Promise<Doc<"waits"> | null> {
  if (task.status !== "waiting_event") return null;
  return ctx.db
    .query("waits")
    .withIndex("by_task", (q) => q.eq("task", task._id))
    .unique();
}

/** What a task waits for has come: `result` (JSON text) becomes its step's, and the task goes back in line. */
export async function wake(ctx: MutationCtx, wait: Doc<"waits">, result: string, now: number): Promise<void> {
  const { inline, id } = await keepText(ctx, result);
  await wakeWith(ctx, wait, { result: inline, resultId: id }, now);
}

async function wakeWith(
  ctx: MutationCtx,
  wait: Doc<"waits">,
  result: Pick<Doc<"steps">, "result" | "resultId">,
  now: number,
): Promise<void> {
  await forget(ctx, wait);
  const task = await ctx.db.get("tasks", wait.task);
  if (task === null) return; // removed by hand; the others that wait are woken all the same
  await ctx.db.patch("steps", wait.step, result);
  await record(ctx, task, "task_woken", null, { by: wait.event, timeout: result.result === TIMED_OUT });
  await comeBack(ctx, task, now);
}

/** Put a task that waited back in line, in its old place. */
export async function comeBack(ctx: MutationCtx, task: Doc<"tasks">, now: number): Promise<void> {
  const status = await putInLine(ctx, task, now, now, task.dueAt);
  await ctx.db.patch("tasks", task._id, { status, updated: ctx.db.vars.commitTs });
  await wakeFor(ctx, [now], now);
}

/** The wait is over, or its task has ended. */
export async function forget(ctx: MutationCtx, wait: Doc<"waits">): Promise<void> {
  await ctx.db.delete("waits", wait._id);
  if (wait.limited) await clearAlarm(ctx, "wait", wait.task);
}

/** The time limit of a wait has come. */
export async function timeOut(ctx: MutationCtx, id: Id<"tasks">, now: number): Promise<void> {
  const task = await ctx.db.get("tasks", id);
  const wait = task && (await waitOf(ctx, task));
  if (wait) await wakeWith(ctx, { ...wait, limited: false }, { result: TIMED_OUT, resultId: null }, now);
}

/**
 * An event of a tenant has come: wake every task that waits for it by now. A large result is kept once for all of them.
 * Beyond a page the others are left to the settle loop.
 *
 * @param data - JSON text
 * @returns how many were woken in this transaction
 */
export async function wakeWaiters(
  ctx: MutationCtx,
  tenant: string,
  name: string,
  data: string,
): Promise<number> {
  const first = await ctx.db
    .query("waits")
    .withIndex("by_tenant_and_event", (q) => q.eq("tenant", tenant).eq("event", name))
    .first();
  if (first === null) return 0;
  const kept = await keepText(ctx, resultOf(name, data));
  return wakePage(ctx, { tenant, name, ...kept, before: Date.now() + 1 }); // creation times have fractions
}

export type WakePage = {
  tenant: string;
  name: string;
  inline: string | null;
  id: Id<"outputs"> | null;
  before: number; // who began to wait later waits for the next event
};

export async function wakePage(ctx: MutationCtx, page: WakePage): Promise<number> {
  const waits = await ctx.db
    .query("waits")
    .withIndex("by_tenant_and_event", (q) =>
      q.eq("tenant", page.tenant).eq("event", page.name).lte("_creationTime", page.before),
    )
    .take(WAKE_BATCH);
  const now = Date.now();
  for (const wait of waits) {
    await wakeWith(ctx, wait, { result: page.inline, resultId: page.id }, now);
    if (page.id !== null) await ctx.db.insert("shares", { output: page.id, step: wait.step });
  }
  if (waits.length === WAKE_BATCH) await settleLater(ctx, { kind: "woken", ...page });
  return waits.length;
}
