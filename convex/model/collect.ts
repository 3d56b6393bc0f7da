/**
 * Submits that share a task: debounced, the last input counts; batched, the task's input is the array of all. Who submits to
 * the same key at the same time conflicts, and Convex runs one of them again.
 */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_BATCH_ITEMS, MAX_DELAY_MS, MAX_PAYLOAD_BYTES, MAX_TEXT_BYTES } from "../constants";
import { refuse } from "../errors";
import type { TaskSpec } from "../validators";
import { record } from "./events";
import { unshare } from "./sharedTexts";
import { checkInteger, checkKey, checkNumber, dropText, keepText, utf8Bytes } from "./text";
import { leaveLine, putInLine, wakeFor } from "./waiting";

export type Wish =
  | { kind: "debounce"; key: string; forMs: number; maxMs: number | null }
  | { kind: "batch"; key: string; maxItems: number; maxMs: number };

type Submit = Pick<Doc<"tasks">, "tenant" | "queue" | "agent" | "dedupKey" | "dedupUntil"> & {
  input: string;
};

/** What a spec asks for, within its bounds; null when it shares with nobody. */
export function checkWish(spec: TaskSpec): Wish | null {
  const { debounce, batch } = spec;
  if (debounce === undefined && batch === undefined) return null;
  const field = debounce === undefined ? "batch" : "debounce";
  for (const other of ["batch", "delayMs", "runAt", "after", "group", "onComplete"] as const) {
    if (other === field || spec[other] === undefined) continue;
    throw refuse("invalid_argument", `${field}: not together with ${other}.`);
  }
  if (debounce !== undefined) {
    const forMs = checkNumber("debounce.forMs", debounce.forMs, 1, MAX_DELAY_MS);
    const maxMs =
      debounce.maxMs === undefined
        ? null
        : checkNumber("debounce.maxMs", debounce.maxMs, forMs, MAX_DELAY_MS);
    return { kind: "debounce", key: checkKey("debounce.key", debounce.key), forMs, maxMs };
  }
  const bytes = utf8Bytes(spec.input);
  if (bytes > MAX_TEXT_BYTES) {
    throw refuse(
      "payload_too_large",
      `input: ${bytes} bytes; an item of a batch has at most ${MAX_TEXT_BYTES}. Submit it on its own.`,
    );
  }
  return {
    kind: "batch",
    key: checkKey("batch.key", batch!.key),
    maxItems: checkInteger("batch.maxItems", batch!.maxItems, 1, MAX_BATCH_ITEMS),
    maxMs: checkNumber("batch.maxMs", batch!.maxMs, 1, MAX_DELAY_MS),
  };
}

/** When the first task of its kind is due. */
export function dueTimeOf(wish: Wish, now: number): number {
  if (wish.kind === "debounce") return now + wish.forMs;
  return wish.maxItems === 1 ? now : now + wish.maxMs;
}

/**
 * Add a submit to the task that gathers under its key.
 * @returns that task, and whether it had this submit already; null when none gathers any more
 */
export async function join(
  ctx: MutationCtx,
  submit: Submit,
  wish: Wish,
  now: number,
): Promise<{ task: Id<"tasks">; duplicate: boolean } | null> {
  const item = await knownItem(ctx, submit, now);
  if (item !== null) return { task: item, duplicate: true };
  const collector = await collectorOf(ctx, submit, wish);
  const task = collector && (await ctx.db.get("tasks", collector.task));
  if (!task || task.attempt > 0) return null;
  return wish.kind === "batch"
    ? gather(ctx, collector, task, submit, now)
    : replace(ctx, collector, task, submit, wish, now);
}

/** The first submit of a key has made a task: what follows joins it. */
export async function begin(
  ctx: MutationCtx,
  task: Id<"tasks">,
  submit: Submit,
  wish: Wish,
  now: number,
): Promise<void> {
  const row = {
    name: nameOf(submit, wish),
    task,
    until: wish.maxMs === null ? null : now + wish.maxMs,
    items: 1,
    bytes: utf8Bytes(submit.input) + 2,
    maxItems: wish.kind === "batch" ? wish.maxItems : 0,
  };
  const known = await collectorOf(ctx, submit, wish);
  if (known === null) await ctx.db.insert("collectors", row);
  else await ctx.db.replace("collectors", known._id, row);
  if (wish.kind === "batch") await keepItem(ctx, task, submit, submit.input);
}

/** The inputs that a batched task has gathered, as one JSON array. */
export async function gathered(ctx: QueryCtx, task: Id<"tasks">): Promise<string> {
  const items = await ctx.db
    .query("batchItems")
    .withIndex("by_task", (q) => q.eq("task", task))
    .take(MAX_BATCH_ITEMS);
  return `[${items.map((item) => item.text).join(",")}]`;
}

async function gather(
  ctx: MutationCtx,
  collector: Doc<"collectors">,
  task: Doc<"tasks">,
  submit: Submit,
  now: number,
): Promise<{ task: Id<"tasks">; duplicate: boolean } | null> {
  // Released, cancelled or paused: the next batch begins. One that was released can be delayed again, for want of a budget.
  if (task.status !== "delayed" || task.dueAt <= now) return null;
  const bytes = collector.bytes + utf8Bytes(submit.input) + 1;
  if (bytes > MAX_PAYLOAD_BYTES) {
    await move(ctx, task, now, now);
    return null;
  }
  await keepItem(ctx, task._id, submit, submit.input);
  const items = collector.items + 1;
  await ctx.db.patch("collectors", collector._id, { items, bytes });
  if (items >= collector.maxItems) await move(ctx, task, now, now);
  return { task: task._id, duplicate: false };
}

async function replace(
  ctx: MutationCtx,
  collector: Doc<"collectors">,
  task: Doc<"tasks">,
  submit: Submit,
  { forMs }: Extract<Wish, { kind: "debounce" }>,
  now: number,
): Promise<{ task: Id<"tasks">; duplicate: boolean } | null> {
  const isPaused = task.status === "paused";
  if (task.status !== "delayed" && task.status !== "pending" && !isPaused) return null;
  const dueAt = Math.min(now + forMs, collector.until ?? Infinity);
  const kept = await keepText(ctx, submit.input);
  const { inputId } = task;
  if (inputId !== null && (await unshare(ctx, inputId, task._id))) await dropText(ctx, inputId);
  await ctx.db.patch("tasks", task._id, { input: kept.inline, inputId: kept.id });
  if (isPaused) await ctx.db.patch("tasks", task._id, { resumeAt: dueAt, updated: ctx.db.vars.commitTs });
  else await move(ctx, task, dueAt, now);
  // Known again under its key, also when this task has begun: else a repeat would begin another one.
  if (submit.dedupKey !== undefined) await keepItem(ctx, task._id, submit, "");
  await record(ctx, task, "input_replaced", null, { dueInMs: Math.max(0, dueAt - now) });
  return { task: task._id, duplicate: false };
}

/** Move a task in line to another time. */
async function move(ctx: MutationCtx, task: Doc<"tasks">, dueAt: number, now: number): Promise<void> {
  await leaveLine(ctx, task);
  const status = await putInLine(ctx, task, dueAt, now);
  await ctx.db.patch("tasks", task._id, { status, dueAt, updated: ctx.db.vars.commitTs });
  await wakeFor(ctx, [dueAt], now);
}

async function keepItem(
  ctx: MutationCtx,
  task: Id<"tasks">,
  { tenant, dedupKey, dedupUntil }: Submit,
  text: string,
): Promise<void> {
  await ctx.db.insert("batchItems", {
    task,
    tenant,
    text,
    ...(dedupKey !== undefined && { dedupKey }),
    ...(dedupUntil !== undefined && { dedupUntil }),
  });
}

async function knownItem(
  ctx: QueryCtx,
  { tenant, dedupKey }: Submit,
  now: number,
): Promise<Id<"tasks"> | null> {
  if (dedupKey === undefined) return null;
  const item = await ctx.db
    .query("batchItems")
    .withIndex("by_tenant_and_dedupKey", (q) => q.eq("tenant", tenant).eq("dedupKey", dedupKey))
    .order("desc")
    .first();
  return item === null || (item.dedupUntil ?? Infinity) <= now ? null : item.task;
}

function collectorOf(ctx: QueryCtx, submit: Submit, wish: Wish): Promise<Doc<"collectors"> | null> {
  return ctx.db
    .query("collectors")
    .withIndex("by_name", (q) => q.eq("name", nameOf(submit, wish)))
    .unique();
}

/** Names hold no slash, and the key comes last, so no two keys share a name. */
function nameOf({ tenant, queue, agent }: Submit, { kind, key }: Wish): string {
  return `${kind}/${queue}/${agent}/${tenant}/${key}`;
}
