/** What `why` has to know of a task, and the gauges of the backlog: bounded reads. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import { AHEAD_SHOWN, BACKLOG_QUEUES, BACKLOG_ROWS, LAG_RUNS, LINKS_SHOWN } from "../constants";
import { refuse } from "../errors";
import type { Backlog, Why } from "../limit.validators";
import { openOf as questionsOf } from "./approvals";
import { decideStart, drawsOf } from "./draws";
import { told } from "./budget.text";
import { liveWorkers, standing } from "./look";
import { linesOf } from "./lines";
import { isDead, loopOf } from "./loops";
import { clocksOf } from "./progress";
import { isLive } from "./runs";
import { serves, type Queues } from "./scope";
import { laneOf, versionOf } from "./waiting";
import { groupOf, waitOf } from "./waits";
import { reasons, type Facts } from "./why";

export async function why(ctx: QueryCtx, id: Id<"tasks">, now: number): Promise<Why> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  const lane = laneOf({ ...task, version: versionOf(task) });
  return { task: id, status: task.status, lane, reasons: reasons(await factsOf(ctx, task, lane, now)) };
}

async function factsOf(ctx: QueryCtx, task: Doc<"tasks">, lane: string, now: number): Promise<Facts> {
  const run = await liveRun(ctx, task);
  const delayed = await delayOf(ctx, task);
  const waits = task.endedAt === null && run === null;
  return {
    now,
    task,
    version: versionOf(task),
    lane,
    ahead: task.status === "pending" ? await aheadOf(ctx, task._id) : null,
    delayed,
    budget:
      delayed?.budget === true || task.status === "pending" ? await budgetOf(ctx, task, delayed, now) : null,
    debounced: task.status === "delayed" && task.gathers !== true && (await gathersFor(ctx, task._id)),
    after: task.status === "waiting" ? await openOf(ctx, task._id) : null,
    wait: task.status === "waiting_event" ? await eventOf(ctx, task) : null,
    asked: task.status === "waiting_approval" ? await questionsOfTask(ctx, task._id) : [],
    run,
    ...(waits ? await surroundings(ctx, lane, now) : { blocks: [], workers: [], dead: [] }),
  };
}

async function liveRun(ctx: QueryCtx, task: Doc<"tasks">): Promise<Facts["run"]> {
  const run = task.status === "running" && task.run !== null ? await ctx.db.get("runs", task.run) : null;
  if (run === null || !isLive(run)) return null;
  const worker = await ctx.db.get("workers", run.worker);
  const { silentMs } = await clocksOf(ctx, run);
  return {
    state: run.state === "assigned" ? "assigned" : "running",
    worker: worker?.name ?? "?",
    since: run.startedAt ?? run.assignedAt,
    deadlineAt: run.deadlineAt > 0 ? run.deadlineAt : null,
    silentMs,
  };
}

async function gathersFor(ctx: QueryCtx, task: Id<"tasks">): Promise<boolean> {
  const collector = await ctx.db
    .query("collectors")
    .withIndex("by_task", (q) => q.eq("task", task))
    .first();
  return collector !== null;
}

async function aheadOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Facts["ahead"]> {
  const row = await ctx.db
    .query("ready")
    .withIndex("by_task", (q) => q.eq("task", task))
    .unique();
  if (row === null) return null;
  const line = await ctx.db
    .query("ready")
    .withIndex("by_lane_and_rank", (q) => q.eq("lane", row.lane).lte("rank", row.rank))
    .take(AHEAD_SHOWN + 1);
  const place = line.findIndex(({ _id }) => _id === row._id);
  return place < 0 ? { count: AHEAD_SHOWN, more: true } : { count: place, more: false };
}

async function delayOf(ctx: QueryCtx, task: Doc<"tasks">): Promise<Facts["delayed"]> {
  if (task.status !== "delayed" && task.status !== "sleeping") return null;
  const row = await ctx.db
    .query("delayed")
    .withIndex("by_task", (q) => q.eq("task", task._id))
    .unique();
  if (row === null) return null;
  const last = await ctx.db
    .query("events")
    .withIndex("by_task_and_at", (q) => q.eq("task", task._id))
    .order("desc")
    .first();
  const aside = last?.type === "task_set_aside" ? String(last.data["reason"]) : null;
  return { dueAt: row.dueAt, setAside: aside, budget: row.budget !== undefined };
}

/** The budget that has no room for a task. One that waits for a budget is told of it until it is in line again. */
async function budgetOf(
  ctx: QueryCtx,
  task: Doc<"tasks">,
  delayed: Facts["delayed"],
  now: number,
): Promise<NonNullable<Facts["budget"]> | null> {
  const draws = await drawsOf(ctx, task, now);
  const decision = decideStart(draws);
  if (decision.kind !== "granted") {
    const draw = draws[decision.at]!;
    return { message: told(draw), held: decision.kind === "wait", until: draw.until };
  }
  if (delayed === null) return null;
  return { message: "It waited for a budget that has room now.", held: false, until: null };
}

async function openOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Facts["after"]> {
  const edges = await ctx.db
    .query("deps")
    .withIndex("by_task", (q) => q.eq("task", task))
    .take(LINKS_SHOWN + 1);
  const blocked = await ctx.db
    .query("blocked")
    .withIndex("by_task", (q) => q.eq("task", task))
    .unique();
  const open: Id<"tasks">[] = [];
  for (const edge of edges.slice(0, LINKS_SHOWN)) {
    const on = edge.open ? await ctx.db.get("tasks", edge.on) : null;
    if (on?.endedAt === null) open.push(on._id); // else the settle loop has yet to come to it
  }
  return {
    tasks: open,
    more: edges.length > LINKS_SHOWN,
    mode: blocked?.mode ?? "all",
  };
}

async function questionsOfTask(ctx: QueryCtx, task: Id<"tasks">): Promise<Facts["asked"]> {
  const open = await questionsOf(ctx, task);
  return open.map(({ _id, tool, why, expiresAt }) => ({ approval: _id, tool, why, expiresAt }));
}

async function eventOf(ctx: QueryCtx, task: Doc<"tasks">): Promise<Facts["wait"]> {
  const wait = await waitOf(ctx, task);
  if (wait === null) return null;
  const step = await ctx.db.get("steps", wait.step);
  return { event: wait.event, until: step?.at ?? null, group: groupOf(wait) };
}

/** The limits of a lane, the workers and the loops, as the next pass will find them. */
async function surroundings(
  ctx: QueryCtx,
  lane: string,
  now: number,
): Promise<Pick<Facts, "blocks" | "workers" | "dead">> {
  const { dispatch, state, inUse, ledger } = await standing(ctx, [lane], now);
  const dead: Facts["dead"] = [];
  if (dispatch?.running === true && state !== null && (await isDead(ctx, state))) dead.push("dispatch");
  const timers = await loopOf(ctx, "timers");
  const ticks = timers && (await ctx.db.get("loopState", timers.state));
  if (timers !== null && timers.wakeAt !== null && ticks !== null && (await isDead(ctx, ticks)))
    dead.push("timers");
  const settle = await loopOf(ctx, "settle");
  const settles = settle && (await ctx.db.get("loopState", settle.state));
  if (settle?.running === true && settles !== null && (await isDead(ctx, settles))) dead.push("settle");
  return {
    blocks: ledger.blocks(lane),
    workers: (await liveWorkers(ctx)).map((worker) => ({
      ...worker,
      held: inUse[worker.session ?? ""] ?? 0,
    })),
    dead,
  };
}

/**
 * What waits in each queue that the caller's key serves and since when, and how long the last runs had waited for their start. At most BACKLOG_QUEUES
 * queues and BACKLOG_ROWS tasks over all of them are counted; where a count was cut off it says so.
 */
export async function backlog(ctx: QueryCtx, now: number, served: Queues): Promise<Backlog> {
  const queues: Backlog["queues"] = [];
  let left = BACKLOG_ROWS;
  let more = false;
  for await (const { queue, take } of linesOf(ctx, served)) {
    if (queues.length === BACKLOG_QUEUES || left === 0) {
      more = true;
      break;
    }
    const rows = await take(left + 1);
    const counted = rows.slice(0, left);
    left -= counted.length;
    queues.push({
      queue,
      waiting: counted.length,
      more: rows.length > counted.length,
      oldestMs: counted.reduce((oldest, row) => Math.max(oldest, now - row._creationTime), 0),
    });
  }
  return { queues, more, startLag: await startLag(ctx, served) };
}

/** From when a task was due to its assignment, over the last runs. */
async function startLag(ctx: QueryCtx, served: Queues): Promise<Backlog["startLag"]> {
  const lags: number[] = [];
  for (const run of await ctx.db.query("runs").order("desc").take(LAG_RUNS)) {
    const task = await ctx.db.get("tasks", run.task);
    if (task?.run === run._id && serves(served, task.queue))
      lags.push(Math.max(0, run.assignedAt - Math.max(task.dueAt, task._creationTime)));
  }
  lags.sort((a, b) => a - b);
  const at = (share: number) => lags[Math.min(lags.length - 1, Math.floor(share * lags.length))]!;
  return lags.length === 0
    ? null
    : { runs: lags.length, p50Ms: at(0.5), p95Ms: at(0.95), maxMs: lags.at(-1)! };
}
