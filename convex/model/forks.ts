/**
 * Forks: a task that goes on from a step of another one, with other models, prompt, limits or input. The steps before that
 * are copied as rows, large results by reference; results behind it are copied as recordings, which the fork's own calls
 * find by tool and arguments. Unless they are allowed its runs have no effects: the worker refuses them, and so does the
 * control plane, whatever a worker does.
 */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { FORK_STEPS, MAX_FORK_DEPTH, MAX_STEP_CHARS } from "../constants";
import { refuse } from "../errors";
import type { ForkChanges, ForkSpec } from "../fork.validators";
import { record } from "./events";
import { checkLlm } from "./llm";
import { readInput } from "./outputs";
import { settleLater } from "./settlements";
import { findStep, hasResult, insertStep } from "./steps";
import { NO_USAGE } from "./usage";
import { checkJson, checkKey, keepText } from "./text";
import { share } from "./sharedTexts";
import { putInLine, wakeFor } from "./waiting";

type Task = Doc<"tasks">;
type Fork = Doc<"forks">;

/**
 * Make a fork of a task in any state.
 * @returns the new task; it is paused, `preparing`, while there are more steps to copy than one transaction takes
 */
export async function fork(
  ctx: MutationCtx,
  origin: Task,
  spec: ForkSpec,
  now: number,
): Promise<{ task: Id<"tasks">; duplicate: boolean }> {
  const { at, change, effects = "forbid", newVersion = false } = spec;
  const dedupKey =
    spec.request === undefined ? undefined : `fork/${origin._id}/${checkKey("request", spec.request)}`;
  const known = dedupKey === undefined ? null : await made(ctx, origin.tenant, dedupKey);
  if (known !== null) return { task: known, duplicate: true };
  if (origin.purging || origin.preparing !== undefined) {
    throw refuse(
      "invalid_argument",
      `task: ${origin._id} is being ${origin.purging ? "deleted" : "prepared"}.`,
    );
  }
  if (change !== undefined) checkChange(change);
  const parent = origin.fork === undefined ? null : await ctx.db.get("forks", origin.fork);
  const depth = (parent?.depth ?? 0) + 1;
  if (depth > MAX_FORK_DEPTH) {
    throw refuse("invalid_argument", `task: ${origin._id} is a fork of a fork ${MAX_FORK_DEPTH} deep.`);
  }
  const id = await ctx.db.insert("tasks", {
    ...common(origin),
    ...(await inputOf(ctx, origin, spec.input)),
    ...(dedupKey === undefined ? {} : { dedupKey }),
    status: "paused",
    preparing: "fork",
    usage: NO_USAGE,
    dueAt: now,
    updated: ctx.db.vars.commitTs,
  });
  if (spec.input === undefined && origin.inputId !== null && origin.gathers !== true) {
    await share(ctx, origin.inputId, origin._id, id);
  }
  const merged = merge(parent?.change, change);
  const row: Omit<Fork, "_id" | "_creationTime"> = {
    task: id,
    of: origin._id,
    at: at ?? null,
    before: await boundary(ctx, origin, at),
    copied: 0,
    kept: 0,
    recorded: parent?.recorded ?? 0,
    depth,
    effects,
    ...(merged && { change: merged }),
    ...(origin.pinned && !newVersion && { pinned: origin.pinned }),
    ...(origin.pinned && { code: origin.pinned }),
  };
  await ctx.db.patch("tasks", id, { fork: await ctx.db.insert("forks", row) });
  const { tenant, agent, queue } = origin;
  await record(ctx, { _id: id, tenant }, "task_submitted", null, {
    ...{ agent, queue, forkOf: origin._id, at: at ?? null, effects },
  });
  await continueFork(ctx, id, now);
  return { task: id, duplicate: false };
}

/** What a fork has of its origin; nothing hangs on it: no group, dependency, parent, callback or deadline. */
function common({ tenant, queue, agent, kind, priority, retry, timeoutMs, labels, key }: Task) {
  return {
    ...{ tenant, queue, agent, kind, priority, retry, timeoutMs, labels, key },
    ...{ attempt: 0, failures: 0, losses: 0, releases: 0, isolate: false, run: null, cancelRequested: false },
    ...{ startBy: null, endBy: null, startedAt: null, endedAt: null },
    ...{ output: null, outputId: null, error: null },
  };
}

async function made(ctx: QueryCtx, tenant: string, dedupKey: string): Promise<Id<"tasks"> | null> {
  const task = await ctx.db
    .query("tasks")
    .withIndex("by_tenant_and_dedupKey", (q) => q.eq("tenant", tenant).eq("dedupKey", dedupKey))
    .first();
  return task?._id ?? null;
}

function checkChange(change: ForkChanges): void {
  const { models, prompt = "", limits } = change;
  checkLlm("change", {
    ...{ model: null, prompt, temperature: null, maxOutputTokens: null },
    ...(models && { models }),
    ...(limits && { limits }),
  });
}

function merge(before: ForkChanges | undefined, now: ForkChanges | undefined): ForkChanges | undefined {
  if (before === undefined || now === undefined) return now ?? before;
  const limits = { ...before.limits, ...now.limits };
  return { ...before, ...now, ...(Object.keys(limits).length > 0 && { limits }) };
}

async function inputOf(
  ctx: MutationCtx,
  origin: Task,
  input: string | undefined,
): Promise<Pick<Task, "input" | "inputId">> {
  const text =
    input === undefined
      ? origin.gathers === true
        ? await readInput(ctx, origin)
        : null
      : checkJson("input", input);
  if (text === null) return { input: origin.input, inputId: origin.inputId };
  const kept = await keepText(ctx, text);
  return { input: kept.inline, inputId: kept.id };
}

/** Steps that were created before this are copied. */
async function boundary(ctx: QueryCtx, { _id }: Task, at: string | undefined): Promise<number> {
  if (at === undefined) return 0;
  const step = at.length > MAX_STEP_CHARS ? null : await findStep(ctx, _id, at);
  if (step === null || step.kind === "recorded") {
    throw refuse("not_found", `at: task ${_id} has no step ${JSON.stringify(at.slice(0, 80))}.`);
  }
  return step._creationTime;
}

/** Copy a page of steps, and put the fork in line behind the last one. */
export async function continueFork(ctx: MutationCtx, id: Id<"tasks">, now: number): Promise<void> {
  const task = await ctx.db.get("tasks", id);
  const row = task?.fork === undefined ? null : await ctx.db.get("forks", task.fork);
  if (task?.preparing !== "fork" || row === null) return;
  const page = await ctx.db
    .query("steps")
    .withIndex("by_task", (q) => q.eq("task", row.of).gt("_creationTime", row.copied))
    .take(FORK_STEPS);
  const change = { copied: page.at(-1)?._creationTime ?? row.copied, kept: row.kept, recorded: row.recorded };
  for (const step of page) {
    // What is under way there, and waits that are not over, come anew. So does what the original does from now on.
    if (!hasResult(step) || step._creationTime > row._creationTime) continue;
    const copy = copyOf(step, row, change.recorded);
    if (copy === null) continue;
    // The answer that a fork was given is among its recordings already.
    if (step.kind === "event" && copy.kind === "recorded" && (await findStep(ctx, id, copy.key)) !== null) {
      continue;
    }
    const own = await insertStep(ctx, id, copy);
    if (step.resultId !== null) await share(ctx, step.resultId, step._id, own);
    if (copy.kind !== "recorded") change.kept += 1;
    else if (step.kind !== "recorded") change.recorded += 1;
  }
  await ctx.db.patch("forks", row._id, change);
  if (page.length === FORK_STEPS) {
    await settleLater(ctx, { kind: "fork", task: id });
    return;
  }
  const ready = {
    preparing: undefined,
    ...(change.kept > 0 && { steps: change.kept }),
    ...(change.kept > 0 && row.pinned && { pinned: row.pinned }),
  };
  await ctx.db.patch("tasks", id, ready);
  if (task.status !== "paused") return; // it was cancelled meanwhile
  const whole = { ...task, ...(change.kept > 0 && row.pinned && { pinned: row.pinned }) };
  const status = await putInLine(ctx, whole, now, now);
  await ctx.db.patch("tasks", id, { status, updated: ctx.db.vars.commitTs });
  await wakeFor(ctx, [now], now);
}

/** Where recordings stand: no agent has such a step. */
const RECORDED = "%recorded";

/** How a step goes over into a fork: as it is before the fork point, behind it as a recording of a call or a wait. */
function copyOf(
  step: Doc<"steps">,
  { before }: Fork,
  number: number,
): Parameters<typeof insertStep>[2] | null {
  const { key, kind, result, resultId, at, state, effect, argsHash, tool, usage } = step;
  const beside = {
    ...(state !== undefined && { state }),
    ...(effect !== undefined && { effect }),
    ...(argsHash !== undefined && { argsHash }),
    ...(tool !== undefined && { tool }),
    ...(usage !== undefined && { usage }),
  };
  if (kind === "recorded" && tool !== undefined && argsHash === undefined) return null; // it is used up
  if (kind === "recorded") return { key, kind, result, resultId, at, ...beside };
  if (step._creationTime < before)
    return { key, kind, result, resultId, at, ...beside, copied: true as const };
  const count = String(number).padStart(6, "0");
  if (kind === "tool" && tool !== undefined && argsHash !== undefined) {
    const place = `${RECORDED}/${count}/${tool.slice(0, 64)}`;
    return { key: place, kind: "recorded", result, resultId, at: null, argsHash, tool };
  }
  if (kind !== "event") return null;
  return {
    key: `${RECORDED}/event/${key}`.slice(0, MAX_STEP_CHARS),
    kind: "recorded",
    result,
    resultId,
    at: null,
  };
}

/** The tasks that a task was forked from, itself first. */
export async function lineage(ctx: QueryCtx, id: Id<"tasks">): Promise<Id<"tasks">[]> {
  const line = [id];
  for (let depth = 0; depth < MAX_FORK_DEPTH; depth++) {
    const task = await ctx.db.get("tasks", line.at(-1)!);
    const row = task?.fork === undefined ? null : await ctx.db.get("forks", task.fork);
    if (row === null) break;
    line.push(row.of);
  }
  return line;
}

/** The task that a fork goes back to: the one that came after others. */
export const rootOf = async (ctx: QueryCtx, id: Id<"tasks">): Promise<Id<"tasks">> =>
  (await lineage(ctx, id)).at(-1)!;
