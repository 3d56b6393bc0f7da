/** Tasks that a run of another task has submitted, and the cancel of all that grows from a task. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { CANCEL_PAGE, LINKS_SHOWN, MAX_LIST } from "../constants";
import { refuse } from "../errors";
import type { Settlement, TaskLinks } from "../group.validators";
import type { TaskStatus, TaskView } from "../validators";
import { cancelApart } from "./cancelling";
import { blockedOf, dependenciesOf, dependentsOf } from "./deps";
import { groupsOf } from "./groups";
import { serves, type Queues } from "./scope";
import { settleLater } from "./settlements";
import { cancel, view } from "./tasks";
import { checkInteger } from "./text";

/** Note a new task as the child of another; under one that was cancelled with all its children it is cancelled at once. */
export async function adopt(ctx: MutationCtx, parent: Doc<"tasks">, child: Id<"tasks">): Promise<void> {
  await ctx.db.insert("children", { parent: parent._id, task: child });
  if (!parent.treeCancelled) return;
  await ctx.db.patch("tasks", child, { treeCancelled: true });
  await cancel(ctx, child);
}

/**
 * Cancel a task with all that its runs have submitted, at whatever depth, and will submit: from here on a child of it is
 * born cancelled. A task that has ended stays as it is, and its children are cancelled all the same.
 */
export async function cancelTree(ctx: MutationCtx, id: Id<"tasks">): Promise<TaskStatus> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  if (!task.treeCancelled) await ctx.db.patch("tasks", id, { treeCancelled: true });
  const status = await cancel(ctx, id);
  if (await hasChildren(ctx, id)) await settleLater(ctx, { kind: "cancelTree", task: id, after: 0 });
  return status;
}

/** The next page of children to cancel; each goes on with its own. @returns what is left */
export async function cancelChildren(
  ctx: MutationCtx,
  { task, after }: Extract<Settlement, { kind: "cancelTree" }>,
): Promise<Settlement | null> {
  const page = await ctx.db
    .query("children")
    .withIndex("by_parent", (q) => q.eq("parent", task).gt("_creationTime", after))
    .take(CANCEL_PAGE);
  for (const child of page) {
    const found = await ctx.db.get("tasks", child.task);
    if (found === null || (await cancelApart(ctx, found, true, Date.now()))) continue;
    // What grows from it is cancelled all the same.
    await ctx.db.patch("tasks", found._id, { treeCancelled: true });
    if (await hasChildren(ctx, found._id))
      await settleLater(ctx, { kind: "cancelTree", task: found._id, after: 0 });
  }
  const last = page.length === CANCEL_PAGE ? page.at(-1)! : null;
  return last === null ? null : { kind: "cancelTree", task, after: last._creationTime };
}

async function hasChildren(ctx: QueryCtx, parent: Id<"tasks">): Promise<boolean> {
  const first = await ctx.db
    .query("children")
    .withIndex("by_parent", (q) => q.eq("parent", parent))
    .first();
  return first !== null;
}

/** The children of a task that a key of `queues` may see, oldest first, a page at a time. */
export async function listChildren(
  ctx: QueryCtx,
  parent: Id<"tasks">,
  limit: number,
  cursor: string | null,
  queues: Queues,
): Promise<{ tasks: TaskView[]; cursor: string | null }> {
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await ctx.db
    .query("children")
    .withIndex("by_parent", (q) => q.eq("parent", parent))
    .paginate({ numItems, cursor });
  const tasks: TaskView[] = [];
  for (const { task } of page.page) {
    const found = await ctx.db.get("tasks", task);
    if (found !== null && serves(queues, found.queue)) tasks.push(view(found, found.output));
  }
  return { tasks, cursor: page.isDone ? null : page.continueCursor };
}

async function parentOf(
  ctx: QueryCtx,
  { parent }: Doc<"tasks">,
  queues: Queues,
): Promise<Id<"tasks"> | null> {
  if (parent === undefined) return null;
  if (queues === null) return parent;
  const row = await ctx.db.get("tasks", parent);
  return row !== null && serves(queues, row.queue) ? parent : null;
}

/** What a task hangs together with, as far as a key of `queues` may see it. */
export async function linksOf(ctx: QueryCtx, id: Id<"tasks">, queues: Queues): Promise<TaskLinks> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  const rows = await ctx.db
    .query("children")
    .withIndex("by_parent", (q) => q.eq("parent", id))
    .take(LINKS_SHOWN + 1);
  const children: TaskLinks["children"] = [];
  for (const row of rows.slice(0, LINKS_SHOWN)) {
    const child = await ctx.db.get("tasks", row.task);
    if (child === null || !serves(queues, child.queue)) continue;
    children.push({ task: child._id, agent: child.agent, status: child.status });
  }
  const { dependents, more } = await dependentsOf(ctx, id, queues);
  return {
    parent: await parentOf(ctx, task, queues),
    waitsFor: (await blockedOf(ctx, id))?.open ?? 0,
    after: await dependenciesOf(ctx, id, queues),
    dependents,
    children,
    groups: await groupsOf(ctx, id),
    more: rows.length > LINKS_SHOWN || more,
  };
}
