/** Tasks as their submitters see them. */
import { ConvexError } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { CANCEL_GRACE_MS, MAX_DELAY_MS, MAX_LIST, MAX_PRIORITY, MAX_SUBMIT } from "../constants";
import { refuse, type Refusal } from "../errors";
import type { EventType, EventData, Submitted, TaskSpec, TaskStatus, TaskView } from "../validators";
import { findAgent, listAgents, retryPolicy } from "./agents";
import { clearAlarm, setAlarm } from "./alarms";
import { record } from "./events";
import { wakeTimersBy } from "./loops";
import { checkScope, type Caller } from "./keys";
import {
  checkInteger,
  checkJson,
  checkKey,
  checkLabels,
  checkName,
  checkNumber,
  keepText,
  readText,
} from "./text";
import { putInLine, takeOutOfLine, wakeFor } from "./waiting";

export const NO_USAGE = { model: null, calls: 0, inputTokens: null, outputTokens: null };

/**
 * Accept tasks. Each item is taken or refused by itself; what was taken is durable when this commits.
 * A dedup key that its tenant has used names the task that exists.
 */
export async function submit(ctx: MutationCtx, caller: Caller, specs: TaskSpec[]): Promise<Submitted[]> {
  if (specs.length > MAX_SUBMIT) {
    throw refuse("invalid_argument", `tasks: ${specs.length} given, at most ${MAX_SUBMIT} in a call.`);
  }
  const now = Date.now();
  const agents = new Map<string, Doc<"agents"> | null>();
  const answers: Submitted[] = [];
  const dueAts: number[] = [];
  for (const spec of specs) {
    try {
      if (!agents.has(spec.agent)) agents.set(spec.agent, await findAgent(ctx, spec.agent));
      const checked = await check(ctx, caller, spec, agents.get(spec.agent)!, now);
      const known = await duplicateOf(ctx, checked);
      if (known === null) dueAts.push(checked.dueAt);
      answers.push({ ok: true, task: known ?? (await insert(ctx, checked, now)), duplicate: known !== null });
    } catch (error) {
      // A check of this item; it comes before the item's first write. Anything else undoes the whole call.
      if (!(error instanceof ConvexError)) throw error;
      const { code, message } = error.data as Refusal;
      answers.push({ ok: false, code, message });
    }
  }
  await wakeFor(ctx, dueAts, now);
  return answers;
}

type Checked = Pick<
  Doc<"tasks">,
  | "tenant"
  | "queue"
  | "agent"
  | "kind"
  | "priority"
  | "retry"
  | "timeoutMs"
  | "startBy"
  | "endBy"
  | "labels"
  | "key"
  | "dueAt"
> & { input: string; dedupKey: string | undefined };

async function check(
  ctx: QueryCtx,
  caller: Caller,
  spec: TaskSpec,
  agent: Doc<"agents"> | null,
  now: number,
): Promise<Checked> {
  if (agent === null) throw await unknownAgent(ctx, spec.agent);
  const { dedupKey } = spec;
  const queue = checkName("queue", spec.queue ?? "default");
  checkScope(caller, queue);
  if (dedupKey !== undefined) checkKey("dedupKey", dedupKey);
  return {
    tenant: checkName("tenant", spec.tenant ?? "default"),
    queue,
    agent: agent.name,
    kind: agent.kind,
    priority: checkNumber("priority", spec.priority ?? 0, -MAX_PRIORITY, MAX_PRIORITY),
    retry: retryPolicy("retry", spec.retry, agent.retry),
    timeoutMs:
      spec.timeoutMs === undefined
        ? agent.timeoutMs
        : checkNumber("timeoutMs", spec.timeoutMs, 1, MAX_DELAY_MS),
    startBy: within("startWithinMs", spec.startWithinMs, now),
    endBy: within("endWithinMs", spec.endWithinMs, now),
    labels: checkLabels("labels", spec.labels ?? []),
    key: spec.key === undefined ? null : checkKey("key", spec.key),
    dueAt: dueTime(spec, now),
    input: checkJson("input", spec.input),
    dedupKey,
  };
}

async function duplicateOf(ctx: QueryCtx, { tenant, dedupKey }: Checked): Promise<Id<"tasks"> | null> {
  if (dedupKey === undefined) return null;
  const known = await ctx.db
    .query("tasks")
    .withIndex("by_tenant_and_dedupKey", (q) => q.eq("tenant", tenant).eq("dedupKey", dedupKey))
    .first();
  return known?._id ?? null;
}

async function insert(
  ctx: MutationCtx,
  { input, dedupKey, ...checked }: Checked,
  now: number,
): Promise<Id<"tasks">> {
  const kept = await keepText(ctx, input);
  const id = await ctx.db.insert("tasks", {
    ...checked,
    ...(dedupKey === undefined ? {} : { dedupKey }),
    input: kept.inline,
    inputId: kept.id,
    status: checked.dueAt > now ? "delayed" : "pending",
    attempt: 0,
    failures: 0,
    losses: 0,
    releases: 0,
    isolate: false,
    run: null,
    cancelRequested: false,
    output: null,
    outputId: null,
    error: null,
    usage: NO_USAGE,
    startedAt: null,
    endedAt: null,
    updated: ctx.db.vars.commitTs,
  });
  const { tenant, agent, queue, dueAt, startBy, endBy } = checked;
  if (startBy !== null) await setAlarm(ctx, "startBy", id, startBy);
  if (endBy !== null) await setAlarm(ctx, "endBy", id, endBy);
  await putInLine(ctx, { ...checked, _id: id }, dueAt, now);
  await record(ctx, { _id: id, tenant }, "task_submitted", null, { agent, queue });
  return id;
}

function dueTime(spec: TaskSpec, now: number): number {
  if (spec.delayMs !== undefined && spec.runAt !== undefined) {
    throw refuse("invalid_argument", "delayMs and runAt: give one of them.");
  }
  if (spec.delayMs !== undefined) return now + checkNumber("delayMs", spec.delayMs, 0, MAX_DELAY_MS);
  // A time that has passed means now: it must not let the task pass those that have waited longer.
  if (spec.runAt !== undefined) return Math.max(now, checkNumber("runAt", spec.runAt, 0, now + MAX_DELAY_MS));
  return now;
}

function within(field: string, ms: number | undefined, now: number): number | null {
  return ms === undefined ? null : now + checkNumber(field, ms, 1, MAX_DELAY_MS);
}

async function unknownAgent(ctx: QueryCtx, name: string) {
  const known = (await listAgents(ctx, 5)).map((agent) => agent.name);
  const hint = known.length > 0 ? `Known: ${known.join(", ")}.` : "None is registered.";
  return refuse(
    "unknown_agent",
    `No agent named ${JSON.stringify(name.slice(0, 80))}. ${hint} Start a worker that brings it, or add it with: signalbox agents sync`,
  );
}

/**
 * Cancel a task: at once while it waits, through its worker while it runs.
 * Its run is closed after a grace period even if the worker never answers.
 */
export async function cancel(ctx: MutationCtx, id: Id<"tasks">): Promise<TaskStatus> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) throw refuse("not_found", `No task ${id}.`);
  if (task.status === "pending" || task.status === "delayed") {
    await takeOutOfLine(ctx, id);
    await close(ctx, task, "cancelled", null, { attempt: task.attempt });
    return "cancelled";
  }
  if (task.status === "running" && !task.cancelRequested) {
    const run = (await ctx.db.get("runs", task.run!))!;
    const grace = Date.now() + CANCEL_GRACE_MS;
    const deadlineAt = run.deadlineAt > 0 ? Math.min(run.deadlineAt, grace) : grace;
    await ctx.db.patch("tasks", id, { cancelRequested: true, updated: ctx.db.vars.commitTs });
    await ctx.db.patch("runs", run._id, { deadlineAt });
    await ctx.db.insert("controls", {
      session: run.session,
      kind: "cancel",
      run: run._id,
      reason: "cancelled by its submitter",
    });
    await record(ctx, task, "cancel_requested", run._id, {});
    await wakeTimersBy(ctx, deadlineAt);
  }
  return task.status;
}

export const hasEnded = (task: Pick<Doc<"tasks">, "endedAt">): boolean => task.endedAt !== null;

const CLOSED = {
  succeeded: "task_succeeded",
  failed: "task_failed",
  cancelled: "task_cancelled",
} as const satisfies Record<string, EventType>;

/** The end of a task: written once, with the event that tells of it. */
export async function close(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  status: keyof typeof CLOSED,
  run: Id<"runs"> | null,
  data: EventData,
  change: Partial<Doc<"tasks">> = {},
): Promise<void> {
  await ctx.db.patch("tasks", task._id, {
    ...change,
    status,
    endedAt: Date.now(),
    updated: ctx.db.vars.commitTs,
  });
  if (task.startBy !== null) await clearAlarm(ctx, "startBy", task._id);
  if (task.endBy !== null) await clearAlarm(ctx, "endBy", task._id);
  await record(ctx, task, CLOSED[status], run, data);
}

export function view(task: Doc<"tasks">, output: string | null): TaskView {
  return {
    task: task._id,
    tenant: task.tenant,
    queue: task.queue,
    agent: task.agent,
    status: task.status,
    priority: task.priority,
    attempt: task.attempt,
    maxAttempts: task.retry.maxAttempts,
    run: task.run,
    error: task.error,
    output,
    usage: task.usage,
    submittedAt: task._creationTime,
    dueAt: task.dueAt,
    startedAt: task.startedAt,
    endedAt: task.endedAt,
  };
}

export async function get(ctx: QueryCtx, id: Id<"tasks">): Promise<TaskView | null> {
  const task = await ctx.db.get("tasks", id);
  if (task === null) return null;
  return view(task, await readText(ctx, { inline: task.output, id: task.outputId }));
}

/** Newest first; with a status, most recently changed first. */
export async function list(
  ctx: QueryCtx,
  {
    tenant,
    status,
    limit,
    cursor,
  }: { tenant: string; status: TaskStatus | null; limit: number; cursor: string | null },
): Promise<{ tasks: TaskView[]; cursor: string | null }> {
  const tasks = ctx.db.query("tasks");
  const scope =
    status === null
      ? tasks.withIndex("by_tenant", (q) => q.eq("tenant", tenant))
      : tasks.withIndex("by_tenant_and_status_and_updated", (q) =>
          q.eq("tenant", tenant).eq("status", status),
        );
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await scope.order("desc").paginate({ numItems, cursor });
  return {
    tasks: page.page.map((task) => view(task, task.output)),
    cursor: page.isDone ? null : page.continueCursor,
  };
}
