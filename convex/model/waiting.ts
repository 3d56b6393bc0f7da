/** Tasks that wait: in a lane (`ready`) or for a time (`delayed`). */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { AGEING_MS, SET_ASIDE_MS } from "../constants";
import { withdraw } from "./approvals";
import { record } from "./events";
import { wakeDispatch, wakeTimersBy } from "./loops";
import { forget, waitOf } from "./waits";

type Constraints = Pick<Doc<"tasks">, "queue" | "agent" | "labels" | "tenant" | "key"> & {
  version?: string | undefined;
  fork?: unknown; // whatever it is
};

/**
 * All that constrains when and where a task may run. Names hold no slash and the key comes last, so lanes never run into
 * each other; what decides which workers can run it comes first, so that a look over the lanes can pass by those that
 * nobody can.
 */
export function laneOf(task: Constraints): string {
  return `${demandsOf(task)}/${task.tenant}/${task.key ?? ""}`;
}

type Demands = Pick<Constraints, "queue" | "agent" | "labels" | "version" | "fork">;

/** What a worker must have: the beginning of a lane. No label holds an "@". */
function demandsOf({ queue, agent, labels, version, fork }: Demands): string {
  const code = `${fork === undefined ? "" : "@fork"}${version === undefined ? "" : `@${version}`}`;
  return `${queue}/${agent}/${labels.join(",")}${code}`;
}

/** Behind every lane that asks the same of a worker. */
export const behindAgent = (task: Demands): string => `${demandsOf(task)}0`; // "0" follows "/"

type Pinned = Pick<Doc<"tasks">, "kind" | "pinned">;

/** The version that a task's worker must have. What a model plays is the control plane's to remember, so any will do. */
export const versionOf = ({ kind, pinned }: Pinned): string | undefined =>
  kind === "python" ? pinned?.version : undefined;

/** Lowest first: by due time, where each step of priority is worth some waiting, so nothing starves. */
export function rankOf(dueAt: number, priority: number): number {
  return dueAt - priority * AGEING_MS;
}

/**
 * Put a task in line, now or at `dueAt`; one that is to be paused is paused instead. The caller then wakes the loop that will
 * take it out (`wakeFor`), once for all the tasks of its transaction.
 *
 * @param since - from when its waiting counts: a task that comes back through no fault of its own keeps its place
 * @returns the status that the task now has
 */
export async function putInLine(
  ctx: MutationCtx,
  task: Pick<
    Doc<"tasks">,
    | "_id"
    | "priority"
    | "pauseRequested"
    | "sticky"
    | "fork"
    | keyof Pinned
    | Exclude<keyof Constraints, "version">
  >,
  dueAt: number,
  now: number,
  since: number = dueAt,
): Promise<"pending" | "delayed" | "paused"> {
  if (task.pauseRequested === true) {
    await ctx.db.patch("tasks", task._id, { pauseRequested: false, resumeAt: dueAt });
    await record(ctx, task, "task_paused", null, {});
    return "paused";
  }
  const rank = rankOf(since, task.priority);
  const version = versionOf(task);
  const lane = laneOf({ ...task, version });
  const fork = task.fork === undefined ? undefined : (true as const);
  const waiting = waitingOf({ ...task, version, fork, lane, task: task._id, rank });
  if (dueAt > now) {
    await ctx.db.insert("delayed", { ...waiting, dueAt });
    return "delayed";
  }
  await ctx.db.insert("ready", waiting);
  return "pending";
}

/** Wake the loops for tasks that were put in line, due at these times. */
export async function wakeFor(ctx: MutationCtx, dueAts: readonly number[], now: number): Promise<void> {
  if (dueAts.some((dueAt) => dueAt <= now)) await wakeDispatch(ctx);
  const later = dueAts.filter((dueAt) => dueAt > now);
  if (later.length > 0) await wakeTimersBy(ctx, Math.min(...later));
}

/** The time of a delayed task has come. */
export async function moveToReady(ctx: MutationCtx, id: Id<"delayed">): Promise<void> {
  const row = await ctx.db.get("delayed", id);
  if (row === null) return;
  await putBack(ctx, row);
  await wakeDispatch(ctx);
}

/** The same for dispatch itself, which is awake. */
export async function putBack(ctx: MutationCtx, row: Doc<"delayed">): Promise<void> {
  await ctx.db.delete("delayed", row._id);
  await ctx.db.insert("ready", waitingOf(row));
  await ctx.db.patch("tasks", row.task, { status: "pending", updated: ctx.db.vars.commitTs });
}

/** A task leaves the line until a budget has room for it, and looks again at `dueAt`. */
export async function delayFor(
  ctx: MutationCtx,
  ready: Doc<"ready">,
  budget: Id<"budgets">,
  dueAt: number,
): Promise<void> {
  await ctx.db.delete("ready", ready._id);
  await ctx.db.insert("delayed", { ...waitingOf(ready), dueAt, budget });
  await ctx.db.patch("tasks", ready.task, { status: "delayed", updated: ctx.db.vars.commitTs });
}

type Row = Omit<Doc<"ready">, "_id" | "_creationTime" | "version" | "fork"> & {
  version?: string | undefined;
  fork?: true | undefined;
};

/** What a row of `ready` and one of `delayed` have in common. */
function waitingOf(from: Row): Omit<Doc<"ready">, "_id" | "_creationTime"> {
  const { lane, task, tenant, queue, agent, kind, labels, key, sticky, version, fork, rank } = from;
  return {
    ...{ lane, task, tenant, queue, agent, kind, labels, key, rank },
    ...(sticky !== undefined && { sticky }),
    ...(version !== undefined && { version }),
    ...(fork !== undefined && { fork }),
  };
}

/** Take a task that dispatch cannot handle out of line for a while, so that the loop goes on; its history tells why. */
export async function setAside(ctx: MutationCtx, id: Id<"ready">, reason: string): Promise<void> {
  const row = await ctx.db.get("ready", id);
  if (row === null) return;
  await ctx.db.delete("ready", id);
  const task = await ctx.db.get("tasks", row.task);
  if (task === null) return; // removed by hand: then there is nothing to wait for
  const dueAt = Date.now() + SET_ASIDE_MS;
  await ctx.db.insert("delayed", { ...waitingOf(row), dueAt });
  await ctx.db.patch("tasks", task._id, { status: "delayed", updated: ctx.db.vars.commitTs });
  await record(ctx, task, "task_set_aside", null, { reason: reason.slice(0, 500), forMs: SET_ASIDE_MS });
  await wakeTimersBy(ctx, dueAt);
}

/**
 * Take a task out of wherever it waits; one that runs or has ended waits nowhere. Each way to wait has its case here. The
 * task's own row is the caller's to write.
 */
export async function leaveLine(ctx: MutationCtx, task: Pick<Doc<"tasks">, "_id" | "status">): Promise<void> {
  switch (task.status) {
    case "pending":
      await deleteRow(ctx, "ready", task._id);
      return;
    case "delayed":
      await deleteRow(ctx, "delayed", task._id);
      return;
    case "waiting":
      await deleteRow(ctx, "blocked", task._id);
      return;
    case "sleeping":
      await deleteRow(ctx, "delayed", task._id);
      return;
    case "waiting_event": {
      const wait = await waitOf(ctx, task);
      if (wait !== null) await forget(ctx, wait);
      return;
    }
    case "waiting_approval":
      await withdraw(ctx, task._id);
      return;
    case "paused":
      return;
    case "running":
    case "succeeded":
    case "failed":
    case "cancelled":
    case "skipped":
      return;
  }
}

async function deleteRow(
  ctx: MutationCtx,
  table: "ready" | "delayed" | "blocked",
  task: Id<"tasks">,
): Promise<void> {
  const row = await ctx.db
    .query(table)
    .withIndex("by_task", (q) => q.eq("task", task))
    .unique();
  if (row !== null) await ctx.db.delete(table, row._id);
}
