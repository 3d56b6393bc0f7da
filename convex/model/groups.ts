/** Sets of tasks that are done when all of them have ended, and what is called then. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { CALLBACKS } from "../callbacks";
import {
  CALLBACK_RETRY,
  CALLBACK_TRIES,
  CANCEL_PAGE,
  INLINE_BYTES,
  MAX_GROUPS_OF_TASK,
  MAX_LINE_CHARS,
  MAX_LIST,
} from "../constants";
import { refuse } from "../errors";
import type {
  CallbackState,
  Counts,
  GroupResult,
  GroupSummary,
  GroupView,
  Settlement,
} from "../group.validators";
import type { OnComplete, TaskSpec, TaskStatus } from "../validators";
import { cancelApart } from "./cancelling";
import { clearAlarm, setAlarm } from "./alarms";
import { groupMs, purgeLater } from "./keeping";
import { backoffMs } from "./retry";
import type { Caller } from "./keys";
import { serves, servesAll, type Queues } from "./scope";
import { settleLater } from "./settlements";
import { checkInteger, checkJson, checkKey, checkName, fitsIn, knownId } from "./text";
import { wakeForGroup } from "./waits";

const NO_COUNTS: Counts = { total: 0, succeeded: 0, failed: 0, cancelled: 0, skipped: 0 };

/** Refuses a task that could not be submitted now. */
export type CheckTask = (spec: TaskSpec) => Promise<unknown>;

export type NewGroup = {
  tenant: string;
  queues?: Queues; // of its maker's key; null, or none: every one
  name?: string;
  onComplete?: OnComplete;
  waiter?: Id<"tasks">; // the task to wake when the group is complete
};

/** Make an open group, once for each name of its tenant. */
export async function create(
  ctx: MutationCtx,
  given: NewGroup,
  checkTask: CheckTask,
): Promise<{ group: Id<"groups">; duplicate: boolean }> {
  const tenant = checkName("tenant", given.tenant);
  const name = given.name === undefined ? null : checkKey("name", given.name);
  await checkOnComplete("onComplete", given.onComplete, tenant, checkTask);
  const known =
    name === null
      ? null
      : await ctx.db
          .query("groups")
          .withIndex("by_tenant_and_name", (q) => q.eq("tenant", tenant).eq("name", name))
          .first();
  const { onComplete = null, waiter = null, queues = null } = given;
  if (known !== null) {
    checkSeen(known, queues);
    return { group: known._id, duplicate: true };
  }
  const bound = queues === null ? {} : { queues };
  const group = await insert(ctx, { tenant, ...bound, name, task: null, onComplete, waiter });
  return { group, duplicate: false };
}

/** The group of one that carries a task's own `onComplete`. */
export async function createForTask(
  ctx: MutationCtx,
  task: Pick<Doc<"tasks">, "_id" | "tenant" | "queue">,
  onComplete: OnComplete,
): Promise<void> {
  const { tenant, queue, _id } = task;
  const group = await insert(ctx, {
    tenant,
    queues: [queue],
    name: null,
    task: _id,
    onComplete,
    waiter: null,
  });
  await ctx.db.insert("members", { group, task: _id, ended: false });
}

async function insert(
  ctx: MutationCtx,
  row: Pick<Doc<"groups">, "tenant" | "queues" | "name" | "task" | "onComplete" | "waiter">,
): Promise<Id<"groups">> {
  const total = row.task === null ? 0 : 1;
  return ctx.db.insert("groups", {
    ...row,
    sealed: row.task !== null,
    tally: await ctx.db.insert("tallies", { ...NO_COUNTS, total }),
    result: null,
    completedAt: null,
    callbackState: "none",
    tries: 0,
    callbackError: null,
    followUp: null,
  });
}

/** Refuse an `onComplete` that could not be carried out. */
export async function checkOnComplete(
  field: string,
  onComplete: OnComplete | undefined,
  tenant: string,
  checkTask: CheckTask,
): Promise<void> {
  if (onComplete === undefined) return;
  const { context } = onComplete;
  if (context !== undefined) {
    checkJson(`${field}.context`, context);
    if (!fitsIn(context, INLINE_BYTES)) {
      throw refuse(
        "payload_too_large",
        `${field}.context: over ${INLINE_BYTES} bytes; store it elsewhere and pass a reference.`,
      );
    }
  }
  if ("task" in onComplete) await checkTask({ ...onComplete.task, tenant, input: "null" });
  else if (!Object.hasOwn(CALLBACKS, onComplete.callback)) {
    const known = Object.keys(CALLBACKS).join(", ") || "none";
    throw refuse(
      "invalid_argument",
      `${field}.callback: ${JSON.stringify(onComplete.callback.slice(0, 80))} is not on the list of convex/callbacks.ts (${known}).`,
    );
  }
}

/** A group that somebody named and may see or change: one whose tasks are all of queues that the caller's key serves. */
export async function seenGroup(ctx: QueryCtx, { queues }: Caller, text: string): Promise<Id<"groups">> {
  const id = knownId(ctx, "groups", text);
  if (queues === null) return id;
  const group = await ctx.db.get("groups", id);
  if (group === null) throw refuse("not_found", `No group ${id}.`);
  checkSeen(group, queues);
  return id;
}

function checkSeen(group: Doc<"groups">, queues: Queues): void {
  if (servesAll(queues, group.queues ?? null)) return;
  const whose = group.queues === undefined ? "any queue" : group.queues.join(", ");
  throw refuse("forbidden", `group: its tasks may be of ${whose}; use a key that serves all of that.`);
}

/** The group that a task of this tenant and queue is to join, if it is open. */
export async function openGroup(
  ctx: QueryCtx,
  text: string,
  { tenant, queue }: Pick<Doc<"tasks">, "tenant" | "queue">,
): Promise<Id<"groups">> {
  const id = ctx.db.normalizeId("groups", text);
  const group = id === null ? null : await ctx.db.get("groups", id);
  if (group === null) throw refuse("not_found", `group: no group ${JSON.stringify(text.slice(0, 80))}.`);
  if (group.tenant !== tenant) {
    throw refuse("forbidden", `group: ${group._id} belongs to the tenant ${group.tenant}, not ${tenant}.`);
  }
  if (group.sealed)
    throw refuse("invalid_argument", `group: ${group._id} is sealed; nothing joins it any more.`);
  if (!serves(group.queues ?? null, queue)) {
    const bound = group.queues!.join(", ");
    throw refuse(
      "forbidden",
      `group: tasks of ${bound} join ${group._id}, as its maker's key says, none of ${queue}.`,
    );
  }
  return group._id;
}

export async function join(ctx: MutationCtx, group: Id<"groups">, task: Id<"tasks">): Promise<void> {
  await ctx.db.insert("members", { group, task, ended: false });
}

/** Let nothing join any more: the group is complete when the last of its tasks has ended. */
export async function seal(ctx: MutationCtx, id: Id<"groups">): Promise<void> {
  const group = (await ctx.db.get("groups", id))!;
  if (group.sealed) return;
  await ctx.db.patch("groups", id, { sealed: true });
  await settleLater(ctx, { kind: "sealed", group: id });
}

/** Cancel what has not ended of a group, which is sealed by that. */
export async function cancel(ctx: MutationCtx, id: Id<"groups">): Promise<void> {
  const group = (await ctx.db.get("groups", id))!;
  if (group.completedAt !== null) return;
  await seal(ctx, id);
  await settleLater(ctx, { kind: "cancelGroup", group: id, after: 0 });
}

/** The next page of tasks to cancel. @returns what is left */
export async function cancelMembers(
  ctx: MutationCtx,
  { group, after }: Extract<Settlement, { kind: "cancelGroup" }>,
): Promise<Settlement | null> {
  const page = await ctx.db
    .query("members")
    .withIndex("by_group_and_ended", (q) =>
      q.eq("group", group).eq("ended", false).gt("_creationTime", after),
    )
    .take(CANCEL_PAGE);
  for (const member of page) {
    const task = await ctx.db.get("tasks", member.task);
    if (task !== null) await cancelApart(ctx, task, false, Date.now());
  }
  const last = page.length === CANCEL_PAGE ? page.at(-1)! : null;
  return last === null ? null : { kind: "cancelGroup", group, after: last._creationTime };
}

/** Tasks have joined; a group that was complete before this was counted knows its total already. */
export async function countJoined(ctx: MutationCtx, id: Id<"groups">, tasks: number): Promise<void> {
  const group = await ctx.db.get("groups", id);
  if (group === null || group.completedAt !== null) return;
  const tally = (await ctx.db.get("tallies", group.tally))!;
  await ctx.db.patch("tallies", tally._id, { total: tally.total + tasks });
}

/** A task has ended: count it in each of its groups, once. */
export async function countEnded(
  ctx: MutationCtx,
  { task, status }: { task: Id<"tasks">; status: TaskStatus },
): Promise<void> {
  for (const member of await membershipsOf(ctx, task)) {
    const group = member.ended ? null : await ctx.db.get("groups", member.group);
    if (group === null) continue;
    await ctx.db.patch("members", member._id, { ended: true });
    const { _id, ...counts } = (await ctx.db.get("tallies", group.tally))!;
    const kind = status as Exclude<keyof Counts, "total">; // the statuses in which a task has ended
    await ctx.db.patch("tallies", _id, { [kind]: counts[kind] + 1 });
    await completeIfDone(ctx, group._id);
  }
}

function membershipsOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Doc<"members">[]> {
  return ctx.db
    .query("members")
    .withIndex("by_task", (q) => q.eq("task", task))
    .take(MAX_GROUPS_OF_TASK);
}

export async function groupsOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Id<"groups">[]> {
  return (await membershipsOf(ctx, task)).map((member) => member.group);
}

/** @returns how the group came out; skipped tasks count as done, since their submitter let them be */
export function resultOf({ failed, cancelled }: Counts): GroupResult {
  return failed > 0 ? "failed" : cancelled > 0 ? "canceled" : "success";
}

/** Complete a sealed group whose tasks have all ended: once, since only the settle loop does it, under its own read. */
export async function completeIfDone(ctx: MutationCtx, id: Id<"groups">): Promise<void> {
  const group = await ctx.db.get("groups", id);
  if (group === null || !group.sealed || group.completedAt !== null) return;
  const open = await ctx.db
    .query("members")
    .withIndex("by_group_and_ended", (q) => q.eq("group", id).eq("ended", false))
    .first();
  if (open !== null) return;
  const counts = countsOf((await ctx.db.get("tallies", group.tally))!);
  counts.total = counts.succeeded + counts.failed + counts.cancelled + counts.skipped;
  await ctx.db.patch("tallies", group.tally, { total: counts.total });
  const calls = group.onComplete !== null;
  const complete = {
    result: resultOf(counts),
    completedAt: Date.now(),
    callbackState: calls ? ("pending" as const) : ("none" as const),
  };
  await ctx.db.patch("groups", id, complete);
  if (group.waiter !== null) await wakeForGroup(ctx, id, complete.result);
  if (group.task === null) await purgeLater(ctx, { kind: "group", id }, complete.completedAt + groupMs());
  if (calls) await startCallback(ctx, { ...group, ...complete });
}

function countsOf({ total, succeeded, failed, cancelled, skipped }: Counts): Counts {
  return { total, succeeded, failed, cancelled, skipped };
}

/**
 * Begin a try of the callback, in a transaction of its own, so that one that runs out of time takes no loop with it. The
 * alarm begins the next one, whatever becomes of this.
 */
async function startCallback(ctx: MutationCtx, group: Doc<"groups">): Promise<void> {
  const tries = group.tries + 1;
  await ctx.db.patch("groups", group._id, { tries });
  await ctx.scheduler.runAfter(0, internal.settle.callBack, { group: group._id, attempt: tries });
  const waitMs = backoffMs(CALLBACK_RETRY, tries, 1);
  await setAlarm(ctx, "callback", group._id, Date.now() + waitMs);
}

/** The alarm of a callback that has not been done by now. */
export async function retryCallback(ctx: MutationCtx, id: Id<"groups">): Promise<void> {
  const group = await ctx.db.get("groups", id);
  if (group?.callbackState !== "pending") return;
  if (group.tries < CALLBACK_TRIES) await startCallback(ctx, group);
  else {
    const callbackError = group.callbackError ?? "it did not come to its end in time";
    await ctx.db.patch("groups", id, { callbackState: "failed", callbackError });
  }
}

/**
 * Call a callback anew that was given up, as often as the first time. Any other stays as it is, so a request that is repeated
 * calls nothing twice.
 *
 * @returns how it stands now
 */
export async function callAnew(ctx: MutationCtx, id: Id<"groups">): Promise<CallbackState> {
  const group = (await ctx.db.get("groups", id))!;
  if (group.callbackState !== "failed") return group.callbackState;
  await ctx.db.patch("groups", id, { callbackState: "pending", callbackError: null });
  await startCallback(ctx, { ...group, tries: 0 });
  return "pending";
}

/**
 * One try of a callback: what it writes and the mark that it is done commit together, so it takes effect exactly once. When
 * it throws, all of it is undone, and the alarm tries again.
 */
export async function callBack(ctx: MutationCtx, id: Id<"groups">, attempt: number): Promise<void> {
  const group = await ctx.db.get("groups", id);
  if (group?.callbackState !== "pending" || group.tries !== attempt) return; // another try has overtaken this one
  try {
    const followUp = await deliver(ctx, group.onComplete!, await summaryOf(ctx, group), group.tenant);
    await ctx.db.patch("groups", id, { callbackState: "done", callbackError: null, followUp });
    await clearAlarm(ctx, "callback", id);
  } catch (error) {
    const callbackError = String(error).slice(0, MAX_LINE_CHARS);
    console.error(`groups: callback of ${id}, try ${attempt} of ${CALLBACK_TRIES}: ${callbackError}`);
    const last = attempt >= CALLBACK_TRIES;
    await ctx.db.patch("groups", id, { callbackError, ...(last ? { callbackState: "failed" } : {}) });
    if (last) await clearAlarm(ctx, "callback", id);
  }
}

/** Each way in a sub-transaction of its own, which is undone when it throws. */
async function deliver(
  ctx: MutationCtx,
  onComplete: OnComplete,
  summary: GroupSummary,
  tenant: string,
): Promise<Id<"tasks"> | null> {
  if ("task" in onComplete) {
    const spec = { ...onComplete.task, tenant, input: JSON.stringify(summary) };
    return ctx.runMutation(internal.settle.followUp, { spec });
  }
  const callback = Object.hasOwn(CALLBACKS, onComplete.callback) ? CALLBACKS[onComplete.callback] : undefined;
  if (callback === undefined) {
    throw new Error(`${onComplete.callback} is not on the list of convex/callbacks.ts any more`);
  }
  await ctx.runMutation(callback, summary);
  return null;
}

async function summaryOf(ctx: QueryCtx, group: Doc<"groups">): Promise<GroupSummary> {
  const { _id, name, task, result, onComplete, tally } = group;
  const counts = countsOf((await ctx.db.get("tallies", tally))!);
  return { group: _id, name, task, counts, result: result!, context: onComplete?.context ?? null };
}

async function view(ctx: QueryCtx, group: Doc<"groups">): Promise<GroupView> {
  const { onComplete } = group;
  const called =
    onComplete === null ? null : "task" in onComplete ? onComplete.task.agent : onComplete.callback;
  return {
    group: group._id,
    tenant: group.tenant,
    name: group.name,
    counts: countsOf((await ctx.db.get("tallies", group.tally))!),
    sealed: group.sealed,
    result: group.result,
    callback: {
      state: group.callbackState,
      name: called,
      tries: group.tries,
      error: group.callbackError,
      task: group.followUp,
    },
    createdAt: group._creationTime,
    completedAt: group.completedAt,
  };
}

export async function get(ctx: QueryCtx, id: Id<"groups">): Promise<GroupView | null> {
  const group = await ctx.db.get("groups", id);
  return group === null ? null : view(ctx, group);
}

/** The groups of a tenant, newest first, a page of `limit` at a time, less those that a key of `queues` may not see. */
export async function list(
  ctx: QueryCtx,
  { tenant, limit, cursor }: { tenant: string; limit: number; cursor: string | null },
  queues: Queues,
): Promise<{ groups: GroupView[]; cursor: string | null }> {
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await ctx.db
    .query("groups")
    .withIndex("by_tenant", (q) => q.eq("tenant", tenant))
    .order("desc")
    .paginate({ numItems, cursor });
  const groups: GroupView[] = [];
  for (const group of page.page) {
    if (servesAll(queues, group.queues ?? null)) groups.push(await view(ctx, group));
  }
  return { groups, cursor: page.isDone ? null : page.continueCursor };
}
