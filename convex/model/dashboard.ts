/** What the dashboard reads: rows for people, each query within bounds that do not grow with the deployment. */
import type { PaginationOptions, PaginationResult } from "convex/server";
import {
  DASHBOARD_ATTEMPTS,
  DASHBOARD_CALLS,
  DASHBOARD_FAILURES,
  DASHBOARD_FORKS,
  DASHBOARD_PAGE,
  DASHBOARD_QUEUE_ROWS,
  DASHBOARD_QUEUES,
  DASHBOARD_STEP_CHARS,
  DASHBOARD_STEPS,
  DASHBOARD_WORKERS,
} from "../constants";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import type {
  AttemptView,
  Beat,
  CallRow,
  ForkLinks,
  ListFilter,
  StepRow,
  TaskRow,
  WorkerRow,
} from "../dashboard.validators";
import { refuse } from "../errors";
import type { Failures } from "../bulk.validators";
import type { Backlog } from "../limit.validators";
import { failures as failuresOf } from "./bulk";
import { checkScope, type Caller } from "./keys";
import { linesOf } from "./lines";
import { liveWorkers } from "./look";
import { serves, type Queues } from "./scope";
import { beatAt, drain as drainSession, heartbeatOf } from "./sessions";
import { checkName } from "./text";

/**
 * A page of tasks: newest first, or with a status those that changed last first. What the other fields of the filter leave
 * out, and queues that the caller's key does not serve, has been read all the same, so a page can be short, or empty, and not the last.
 */
export async function listTasks(
  ctx: QueryCtx,
  filter: ListFilter,
  { numItems, ...options }: PaginationOptions,
  queues: Queues,
): Promise<PaginationResult<TaskRow>> {
  const tenant = checkName("tenant", filter.tenant ?? "default");
  const { status } = filter;
  const tasks = ctx.db.query("tasks");
  const scope =
    status === undefined
      ? tasks.withIndex("by_tenant", (q) => q.eq("tenant", tenant))
      : tasks.withIndex("by_tenant_and_status_and_updated", (q) =>
          q.eq("tenant", tenant).eq("status", status),
        );
  const found = await scope.order("desc").paginate({
    ...options,
    numItems: Math.min(numItems, DASHBOARD_PAGE),
    maximumRowsRead: DASHBOARD_PAGE,
  });
  return { ...found, page: found.page.filter((task) => isListed(task, filter, queues)).map(rowOf) };
}

function isListed(task: Doc<"tasks">, { queue, agent, code }: ListFilter, queues: Queues): boolean {
  return (
    serves(queues, task.queue) &&
    (queue === undefined || task.queue === queue) &&
    (agent === undefined || task.agent === agent) &&
    (code === undefined || task.error?.code === code)
  );
}

function rowOf(task: Doc<"tasks">): TaskRow {
  const { agent, queue, status, priority, attempt, cancelRequested, error, dueAt, startedAt, endedAt } = task;
  return {
    task: task._id,
    ...{ agent, queue, status, priority, attempt, cancelRequested, error, dueAt, startedAt, endedAt },
    maxAttempts: task.retry.maxAttempts,
    submittedAt: task._creationTime,
  };
}

/** The newest runs of a task, newest first. */
export async function attemptsOf(
  ctx: QueryCtx,
  task: Id<"tasks">,
): Promise<{ attempts: AttemptView[]; more: boolean }> {
  const runs = await ctx.db
    .query("runs")
    .withIndex("by_task_and_attempt", (q) => q.eq("task", task))
    .order("desc")
    .take(DASHBOARD_ATTEMPTS + 1);
  const attempts: AttemptView[] = [];
  for (const run of runs.slice(0, DASHBOARD_ATTEMPTS)) {
    const { attempt, state, assignedAt, startedAt, endedAt, usage, error } = run;
    const worker = (await ctx.db.get("workers", run.worker))?.name ?? null;
    attempts.push({ run: run._id, attempt, worker, state, assignedAt, startedAt, endedAt, usage, error });
  }
  return { attempts, more: runs.length > DASHBOARD_ATTEMPTS };
}

/** The last DASHBOARD_STEPS of a task, in the order in which they were kept. What a fork may find there is no step of its own. */
export async function stepsOf(
  ctx: QueryCtx,
  task: Id<"tasks">,
): Promise<{ steps: StepRow[]; more: boolean }> {
  const rows = await ctx.db
    .query("steps")
    .withIndex("by_task", (q) => q.eq("task", task))
    .order("desc")
    .take(DASHBOARD_STEPS + 1);
  const shown = rows.slice(0, DASHBOARD_STEPS).reverse();
  const steps = shown.filter(({ kind }) => kind !== "recorded").map(stepRow);
  return { steps, more: rows.length > DASHBOARD_STEPS };
}

function stepRow(step: Doc<"steps">): StepRow {
  const { key, kind, result, resultId, at, tool = null, effect = null, state = null, usage = null } = step;
  return {
    ...{ key, kind, endsAt: at, keptAt: step._creationTime, tool, effect, state, usage },
    over: result !== null || resultId !== null,
    result: result?.slice(0, DASHBOARD_STEP_CHARS) ?? null,
    cut: resultId !== null || (result?.length ?? 0) > DASHBOARD_STEP_CHARS,
    copied: step.copied === true,
  };
}

/** The last DASHBOARD_CALLS attempts at model calls of a task. */
export async function callsOf(
  ctx: QueryCtx,
  task: Id<"tasks">,
): Promise<{ calls: CallRow[]; more: boolean }> {
  const rows = await ctx.db
    .query("modelCalls")
    .withIndex("by_task", (q) => q.eq("task", task))
    .order("desc")
    .take(DASHBOARD_CALLS + 1);
  const calls = rows.slice(0, DASHBOARD_CALLS).reverse().map(callRow);
  return { calls, more: rows.length > DASHBOARD_CALLS };
}

function callRow({ _creationTime, ...row }: Doc<"modelCalls">): CallRow {
  const { run, call, attempt, model, startedMs, ms, state, error, usage, costMicros, estimated } = row;
  return {
    ...{ run, call, attempt, model, startedMs, ms, state, error, usage, costMicros, estimated },
    keptAt: _creationTime,
  };
}

/** What a task was forked from, and the newest DASHBOARD_FORKS that were forked from it, as far as a key of `queues` may see them. */
export async function forksOf(ctx: QueryCtx, id: Id<"tasks">, queues: Queues): Promise<ForkLinks> {
  const task = await ctx.db.get("tasks", id);
  const own = task?.fork === undefined ? null : await ctx.db.get("forks", task.fork);
  const rows = await ctx.db
    .query("forks")
    .withIndex("by_of", (q) => q.eq("of", id))
    .order("desc")
    .take(DASHBOARD_FORKS + 1);
  const forks: ForkLinks["forks"] = [];
  for (const row of rows.slice(0, DASHBOARD_FORKS)) {
    const fork = await ctx.db.get("tasks", row.task);
    if (fork !== null && serves(queues, fork.queue))
      forks.push({ task: row.task, status: fork.status, at: row.at });
  }
  return { of: own && (await originOf(ctx, own, queues)), forks, more: rows.length > DASHBOARD_FORKS };
}

async function originOf(
  ctx: QueryCtx,
  { of, at, effects, change = {} }: Doc<"forks">,
  queues: Queues,
): Promise<NonNullable<ForkLinks["of"]>> {
  const origin = await ctx.db.get("tasks", of);
  const status = origin !== null && serves(queues, origin.queue) ? origin.status : null;
  return { task: of, status, at, effects, changed: Object.keys(change).sort() };
}

/**
 * Those that live, and beside them the last that are gone; of them those that serve a queue of the caller's key. It reads no
 * heartbeat, so a subscription to it sleeps while workers merely live and work.
 */
export async function workers(
  ctx: QueryCtx,
  queues: Queues,
): Promise<{ workers: WorkerRow[]; more: boolean }> {
  const live = await liveWorkers(ctx, DASHBOARD_WORKERS + 1);
  const gone = await ctx.db
    .query("workers")
    .withIndex("by_live", (q) => q.eq("live", false))
    .order("desc")
    .take(Math.max(0, DASHBOARD_WORKERS - live.length) + 1);
  const found = [...live, ...gone];
  return {
    workers: found
      .slice(0, DASHBOARD_WORKERS)
      .filter((worker) => servesOne(queues, worker))
      .map(workerRow),
    more: found.length > DASHBOARD_WORKERS,
  };
}

const servesOne = (queues: Queues, worker: Doc<"workers">): boolean =>
  worker.queues.some((queue) => serves(queues, queue));

function workerRow(worker: Doc<"workers">): WorkerRow {
  const { name, version, queues, labels, llm, capacity, live, draining, agents } = worker;
  const endpoint = worker.endpoint !== undefined;
  return {
    ...{ name, version, queues, labels, llm, capacity, live, draining, endpoint },
    agents: agents.length,
  };
}

/** When each worker that lives was last heard, and what it told then. Of endpoints each run's page tells. */
export async function beats(ctx: QueryCtx, queues: Queues): Promise<Beat[]> {
  const found: Beat[] = [];
  for (const worker of await liveWorkers(ctx, DASHBOARD_WORKERS)) {
    const { name, session, endpoint } = worker;
    if (session === null || endpoint !== undefined || !servesOne(queues, worker)) continue;
    const heartbeat = await heartbeatOf(ctx, session);
    const { state, clocks = null } = heartbeat;
    found.push({ name, busy: state === "busy", at: beatAt(heartbeat), clocks });
  }
  return found;
}

/** What waits in each queue that the caller's key serves, and since when. At most DASHBOARD_QUEUE_ROWS tasks of a queue are counted. */
export async function queues(
  ctx: QueryCtx,
  served: Queues,
): Promise<{
  queues: (Pick<Backlog["queues"][number], "queue" | "waiting" | "more"> & { oldestAt: number })[];
  more: boolean;
}> {
  const found = [];
  for await (const { queue, take } of linesOf(ctx, served)) {
    if (found.length === DASHBOARD_QUEUES) return { queues: found, more: true };
    const rows = await take(DASHBOARD_QUEUE_ROWS + 1);
    const counted = rows.slice(0, DASHBOARD_QUEUE_ROWS);
    found.push({
      queue,
      waiting: counted.length,
      more: rows.length > counted.length,
      oldestAt: Math.min(...counted.map((row) => row._creationTime)),
    });
  }
  return { queues: found, more: false };
}

/** What the last failed tasks failed of. */
export async function failures(
  ctx: QueryCtx,
  tenant: string,
  queues: Queues,
): Promise<Pick<Failures, "causes" | "counted">> {
  const of = checkName("tenant", tenant);
  const { causes, counted } = await failuresOf(ctx, of, null, queues, DASHBOARD_FAILURES);
  return { causes, counted };
}

/**
 * Ask a worker to leave: dispatch passes it by from now on, and the worker ends once it has finished what it holds.
 * Again, it changes nothing.
 */
export async function drain(ctx: MutationCtx, caller: Caller, name: string): Promise<void> {
  const worker = await ctx.db
    .query("workers")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
  if (worker === null) throw refuse("not_found", `No worker ${JSON.stringify(name.slice(0, 80))}.`);
  for (const queue of worker.queues) checkScope(caller, queue);
  if (worker.endpoint !== undefined) {
    throw refuse("invalid_argument", `${name} stands for an endpoint: disable that instead.`);
  }
  const session = worker.session === null ? null : await ctx.db.get("sessions", worker.session);
  if (session === null) throw refuse("invalid_argument", `The worker ${name} is gone already.`);
  if (worker.draining) return;
  await drainSession(ctx, session);
  const reason = "drained by an operator";
  await ctx.db.insert("controls", { session: session._id, kind: "drain", run: null, reason });
}
