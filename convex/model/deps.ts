/** Tasks that come after others: their edges, and what follows when a task that they wait for has ended. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { LINKS_SHOWN, MAX_AFTER, UPSTREAM_BYTES } from "../constants";
import { refuse } from "../errors";
import type { Dependency, Upstream } from "../group.validators";
import type { AfterMode, OnFailure, TaskStatus } from "../validators";
import { standing, type Standing } from "./after";
import { record } from "./events";
import { serves, type Queues } from "./scope";
import { close } from "./tasks";
import { readText } from "./text";
import { putInLine, wakeFor } from "./waiting";

/** An edge as it is submitted: `on` as this transaction reads it. */
export type Edge = { on: Doc<"tasks">; ref: string | null; onFailure: OnFailure };

/** Where a task stands that is submitted with these edges: what it waits for may have ended already. */
export function standingOf(mode: AfterMode, edges: readonly Edge[]): Standing {
  return standing(
    mode,
    edges.map(({ on, onFailure }) => ({ onFailure, status: on.endedAt === null ? null : on.status })),
  );
}

/**
 * Write the edges of a new task. Those of tasks that have not ended are settled by the settle loop: whoever ends one of them
 * conflicts with this transaction or finds its edges.
 */
export async function insertEdges(
  ctx: MutationCtx,
  task: Id<"tasks">,
  mode: AfterMode,
  edges: readonly Edge[],
  open: number,
): Promise<void> {
  const blocked = open === 0 ? null : await ctx.db.insert("blocked", { task, mode, open });
  for (const { on, ref, onFailure } of edges) {
    const isOpen = blocked !== null && on.endedAt === null;
    const any = mode === "any" ? { any: true as const } : {};
    await ctx.db.insert("deps", { task, on: on._id, ref, onFailure, blocked, open: isOpen, ...any });
  }
}

/**
 * A task that has never run is tried again by hand: it waits anew for those of its dependencies that have not ended, such as
 * one that was tried again before it. How the others ended counts no more, since somebody has decided that it is to run.
 *
 * @returns whether it waits
 */
export async function waitAgain(ctx: MutationCtx, task: Id<"tasks">): Promise<boolean> {
  const open: { edge: Id<"deps">; on: Doc<"tasks"> }[] = [];
  const edges = await edgesOf(ctx, task);
  for (const edge of edges) {
    const on = await ctx.db.get("tasks", edge.on);
    if (edge.any && on?.status === "succeeded") return false;
    if (on?.endedAt === null) open.push({ edge: edge._id, on });
  }
  if (open.length === 0) return false;
  const mode = edges[0]!.any ? "any" : "all";
  const blocked = await ctx.db.insert("blocked", { task, mode, open: open.length });
  for (const { edge, on } of open) {
    await ctx.db.patch("deps", edge, { blocked, open: true });
    if (!on.followed) await ctx.db.patch("tasks", on._id, { followed: true });
  }
  return true;
}

/** The row of a task whose dependencies are open; null when it waits for none. */
export function blockedOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Doc<"blocked"> | null> {
  return ctx.db
    .query("blocked")
    .withIndex("by_task", (q) => q.eq("task", task))
    .unique();
}

/**
 * Settle the open edges of a task that has ended, as much as there is room for.
 * @returns how much it took: an edge, or an edge that was read to judge another; from `room` on there may be more
 */
export async function settleEdges(
  ctx: MutationCtx,
  ended: { task: Id<"tasks">; status: TaskStatus },
  room: number,
): Promise<number> {
  const edges = await ctx.db
    .query("deps")
    .withIndex("by_on_and_open", (q) => q.eq("on", ended.task).eq("open", true))
    .take(room);
  const now = Date.now();
  const dueAts: number[] = [];
  let used = 0;
  for (const edge of edges) {
    if (used >= room) break;
    await ctx.db.patch("deps", edge._id, { open: false });
    const { released, read } = await settleEdge(ctx, edge, ended.status, now);
    if (released !== null) dueAts.push(released);
    used += 1 + read;
  }
  await wakeFor(ctx, dueAts, now);
  return used;
}

/** @returns when the dependent is due, if it is in line now, and how many other edges were read */
async function settleEdge(
  ctx: MutationCtx,
  edge: Doc<"deps">,
  status: TaskStatus,
  now: number,
): Promise<{ released: number | null; read: number }> {
  const blocked = edge.blocked && (await ctx.db.get("blocked", edge.blocked));
  if (!blocked) return { released: null, read: 0 }; // it was decided by another edge, or cancelled
  const open = blocked.open - 1;
  const { verdict, because, read } = await judge(ctx, blocked, edge, status, open);
  if (verdict === "wait") {
    await ctx.db.patch("blocked", blocked._id, { open });
    return { released: null, read };
  }
  await ctx.db.delete("blocked", blocked._id);
  const task = await ctx.db.get("tasks", edge.task);
  if (task?.status !== "waiting") return { released: null, read }; // removed by hand
  if (verdict === "run") return { released: await release(ctx, task, now), read };
  await dropDependent(ctx, task, verdict, because);
  return { released: null, read };
}

async function judge(
  ctx: QueryCtx,
  blocked: Doc<"blocked">,
  edge: Doc<"deps">,
  status: TaskStatus,
  open: number,
): Promise<{ verdict: Standing["now"]; because: Doc<"deps">; read: number }> {
  if (blocked.mode === "any" && status !== "succeeded" && open === 0) {
    // None has succeeded: each edge has its say.
    const edges = await edgesOf(ctx, edge.task);
    const last = standing(
      "any",
      edges.map(({ onFailure }) => ({ onFailure, status: "failed" as const })),
    );
    return {
      verdict: last.now,
      because: "because" in last ? edges[last.because]! : edge,
      read: edges.length,
    };
  }
  const { now } = standing(blocked.mode, [{ onFailure: edge.onFailure, status }]);
  // Alone this edge would let the task run; the others have not said so yet.
  const others = blocked.mode === "all" ? now === "run" && open > 0 : now !== "run" || status !== "succeeded";
  return { verdict: others ? "wait" : now, because: edge, read: 0 };
}

function edgesOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Doc<"deps">[]> {
  return ctx.db
    .query("deps")
    .withIndex("by_task", (q) => q.eq("task", task))
    .take(MAX_AFTER);
}

/** What a task comes after, whatever became of it. */
export const dependencyIds = async (ctx: QueryCtx, task: Id<"tasks">): Promise<Id<"tasks">[]> =>
  (await edgesOf(ctx, task)).map((edge) => edge.on);

/** Nothing keeps the task any more; its waiting for a worker counts from now. */
async function release(ctx: MutationCtx, task: Doc<"tasks">, now: number): Promise<number> {
  const dueAt = Math.max(now, task.dueAt);
  const status = await putInLine(ctx, task, dueAt, now);
  await ctx.db.patch("tasks", task._id, { status, dueAt, updated: ctx.db.vars.commitTs });
  await record(ctx, task, "task_unblocked", null, {});
  return dueAt;
}

/** The task ends without a run, because one that it comes after did not succeed. */
export async function dropDependent(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  verdict: "fail" | "skip",
  because: Pick<Doc<"deps">, "on" | "ref">,
): Promise<void> {
  const on = await ctx.db.get("tasks", because.on);
  const name = because.ref === null ? "" : ` (#${because.ref})`;
  const error = {
    code: "dependency_failed",
    message: `task ${because.on}${name}, which it comes after, ${on?.status ?? "is gone"}`,
  };
  const status = verdict === "fail" ? "failed" : "skipped";
  await close(ctx, task, status, null, { attempt: 0, code: error.code, on: because.on }, { error });
}

/** What a task waits or waited for, in the order in which it was submitted, as far as a key of `queues` may see it. */
export async function dependenciesOf(
  ctx: QueryCtx,
  task: Id<"tasks">,
  queues: Queues,
): Promise<Dependency[]> {
  return dependencies(ctx, await edgesOf(ctx, task), "on", queues);
}

/** The first LINKS_SHOWN of those that come after a task, as far as a key of `queues` may see them. */
export async function dependentsOf(
  ctx: QueryCtx,
  on: Id<"tasks">,
  queues: Queues,
): Promise<{ dependents: Dependency[]; more: boolean }> {
  const edges = await ctx.db
    .query("deps")
    .withIndex("by_on_and_open", (q) => q.eq("on", on))
    .take(LINKS_SHOWN + 1);
  const dependents = await dependencies(ctx, edges.slice(0, LINKS_SHOWN), "task", queues);
  return { dependents, more: edges.length > LINKS_SHOWN };
}

async function dependencies(
  ctx: QueryCtx,
  edges: readonly Doc<"deps">[],
  end: "on" | "task",
  queues: Queues,
): Promise<Dependency[]> {
  const found: Dependency[] = [];
  for (const edge of edges) {
    const task = await ctx.db.get("tasks", edge[end]);
    if (task === null || !serves(queues, task.queue)) continue;
    const { ref, onFailure } = edge;
    found.push({ task: task._id, ref, agent: task.agent, status: task.status, onFailure });
  }
  return found;
}

/**
 * What the tasks that `task` comes after have produced, in the order in which they were submitted, a page at a time.
 *
 * @param after - how many the caller has had
 * @returns the page, and how many the caller has had then; null on the last page
 */
export async function upstream(
  ctx: QueryCtx,
  task: Id<"tasks">,
  after: number,
): Promise<{ items: Upstream[]; next: number | null }> {
  if (!Number.isInteger(after) || after < 0) {
    throw refuse("invalid_argument", `after: ${after} is not a whole number from 0 on.`);
  }
  const edges = (await edgesOf(ctx, task)).slice(after);
  const items: Upstream[] = [];
  let bytes = 0;
  for (const { on, ref } of edges) {
    const found = await ctx.db.get("tasks", on);
    if (found === null) items.push({ task: on, ref, status: "failed", output: null, error: null });
    else {
      const output = await readText(ctx, { inline: found.output, id: found.outputId });
      items.push({ task: on, ref, status: found.status, output, error: found.error });
      bytes += output?.length ?? 0;
    }
    if (bytes >= UPSTREAM_BYTES) break;
  }
  return { items, next: items.length < edges.length ? after + items.length : null };
}
