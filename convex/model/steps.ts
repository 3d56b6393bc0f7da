/** What a task has done for good: a later run of it finds the result and does not do it again. */
import type { WithoutSystemFields } from "convex/server";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  MAX_STEP_CHARS,
  MAX_STEPS,
  MAX_TEXT_BYTES,
  SIGNAL_PAGE,
  STEPS_PAGE,
  STEPS_PAGE_BYTES,
} from "../constants";
import type { Fault, StepKind, StepReport } from "../validators";
import { unapproved } from "./approvals";
import { objectionTo } from "./sandbox";
import { pendingSignals, takeSignal } from "./signals";
import { isJson } from "./json";
import { fitsIn, keepText, readText } from "./text";

export function findStep(ctx: QueryCtx, task: Id<"tasks">, key: string): Promise<Doc<"steps"> | null> {
  return ctx.db
    .query("steps")
    .withIndex("by_task_and_key", (q) => q.eq("task", task).eq("key", key))
    .unique();
}

const mismatch = (was: string): Fault => ({
  code: "step_mismatch",
  message:
    `Step ${was}: its code has changed under it. Resume it on the old version (start a worker with that, ` +
    "then tasks retry), or from scratch on the new one (tasks restart), or fork it (tasks fork)",
});

/** Why a step cannot be kept under its key; null when it can. `known` is what stands there. */
export function objection(
  key: string,
  kind: StepKind,
  known: Doc<"steps"> | null,
  steps: number,
): Fault | null {
  if (key.length < 1 || key.length > MAX_STEP_CHARS) {
    return {
      code: "invalid_step",
      message: `A step's name has 1 to ${MAX_STEP_CHARS} characters, not ${key.length}`,
    };
  }
  if (known !== null && known.kind !== kind) {
    const was = `${JSON.stringify(key)} was a ${known.kind} in an earlier run and is a ${kind} in this one`;
    return mismatch(was);
  }
  if (known === null && steps >= MAX_STEPS) {
    return { code: "too_many_steps", message: `A task has at most ${MAX_STEPS} steps; let it spawn others` };
  }
  return null;
}

/**
 * Keep what a live run has done, and take the signals that it has used. A step that has its result stays as it is; one that
 * was only intended, or is in doubt, takes what is now known of it.
 *
 * @returns how the run's row changes, and why the run cannot go on if it cannot
 */
export async function keepSteps(
  ctx: MutationCtx,
  run: Doc<"runs">,
  reports: readonly StepReport[],
): Promise<{ change: Pick<Doc<"runs">, "steps" | "consumed">; fault: Fault | null }> {
  let steps = run.steps ?? 0;
  let consumed = run.consumed ?? 0;
  let fault: Fault | null = null;
  for (const report of reports) {
    const { key, kind, signal } = report;
    const known = await findStep(ctx, run.task, key);
    fault =
      objection(key, kind, known, steps) ?? otherCall(known, report) ?? unfit(report) ?? harm(run, report);
    if (report.state === "intended") fault ??= await unapproved(ctx, run.task, report);
    if (fault !== null) break;
    if (known === null) {
      await insertStep(ctx, run.task, { key, kind, at: null, ...(await kept(ctx, report)) });
      if (report.recorded !== undefined) await useUp(ctx, run.task, report.recorded);
      steps += 1;
    } else if (!hasResult(known)) {
      // A wait that ended in the worker, or an effect.
      const settled = known.state === undefined ? {} : { state: report.state ?? "done" };
      await ctx.db.patch("steps", known._id, { ...(await kept(ctx, report)), ...settled });
    }
    if (signal !== null && (await takeSignal(ctx, run.task, signal))) consumed += 1;
  }
  const change = { ...(steps > 0 ? { steps } : {}), ...(consumed > 0 ? { consumed } : {}) };
  if (steps !== (run.steps ?? 0) || consumed !== (run.consumed ?? 0))
    await ctx.db.patch("runs", run._id, change);
  return { change, fault };
}

/** A recording that a call was given is found by no other call: neither of a later run, nor of a fork of this fork. */
async function useUp(ctx: MutationCtx, task: Id<"tasks">, key: string): Promise<void> {
  const row = await findStep(ctx, task, key);
  if (row?.kind === "recorded" && row.tool !== undefined) {
    await ctx.db.patch("steps", row._id, { argsHash: undefined });
  }
}

/** What a report says of its step, beside what never changes. */
async function kept(ctx: MutationCtx, report: StepReport) {
  const { inline, id } = report.result === null ? NONE : await keepText(ctx, report.result);
  return { result: inline, resultId: id, ...beside(report) };
}

const NONE = { inline: null, id: null };

type Beside = Pick<StepReport, "state" | "effect" | "argsHash" | "tool" | "usage">;

/** The optional fields of a step that are there. */
function beside({ state, effect, argsHash, tool, usage }: Beside) {
  return {
    ...(state === undefined ? {} : { state }),
    ...(effect === undefined ? {} : { effect }),
    ...(argsHash === undefined ? {} : { argsHash }),
    ...(tool === undefined ? {} : { tool }),
    ...(usage === undefined ? {} : { usage }),
  };
}

/** Why a call cannot be the one that stands under its key; null when it can. */
function otherCall(known: Doc<"steps"> | null, { key, tool, argsHash }: StepReport): Fault | null {
  const differs = <T>(was: T | undefined, is: T | undefined) =>
    was !== undefined && is !== undefined && was !== is;
  if (known === null) return null;
  if (differs(known.tool, tool)) {
    const was = `${JSON.stringify(key)} was a call of ${JSON.stringify(known.tool)} in an earlier run`;
    return mismatch(`${was} and is one of ${JSON.stringify(tool)} in this one`);
  }
  if (!differs(known.argsHash, argsHash)) return null;
  return mismatch(`${JSON.stringify(key)} was a call with other arguments in an earlier run of the task`);
}

/** What a run of a fork without effects is about to do, and may not. */
function harm(run: Doc<"runs">, { key, state, effect, tool }: StepReport): Fault | null {
  if (state !== "intended" || effect === "pure") return null;
  return objectionTo(
    run,
    `step ${JSON.stringify(key)} intends an effect (${tool ?? "a tool"}: ${effect ?? "unsafe"})`,
  );
}

function unfit({ key, result, state }: StepReport): Fault | null {
  const name = JSON.stringify(key);
  const open = state === "intended" || state === "in_doubt";
  if (open !== (result === null)) {
    const message = `Step ${name} has ${open ? "a result before it is done" : "no result"}`;
    return { code: "invalid_step", message };
  }
  if (result === null) return null;
  if (!fitsIn(result, MAX_TEXT_BYTES)) {
    const message = `The result of step ${name} is over ${MAX_TEXT_BYTES} bytes; store it elsewhere and return where`;
    return { code: "step_too_large", message };
  }
  return isJson(result) ? null : { code: "invalid_step", message: `The result of step ${name} is not JSON` };
}

export const insertStep = (
  ctx: MutationCtx,
  task: Id<"tasks">,
  step: Omit<WithoutSystemFields<Doc<"steps">>, "task">,
): Promise<Id<"steps">> => ctx.db.insert("steps", { task, ...step });

export const hasResult = (step: Doc<"steps">): boolean => step.result !== null || step.resultId !== null;

/** The wait of a step is over. */
export async function resolveStep(ctx: MutationCtx, id: Id<"steps">, result: string): Promise<void> {
  const kept = await keepText(ctx, result);
  await ctx.db.patch("steps", id, { result: kept.inline, resultId: kept.id });
}

/** A page of a task's steps, by key, and on the first page the signals that nobody has taken. */
export async function readSteps(ctx: QueryCtx, run: Doc<"runs">, cursor: string | null, now: number) {
  const rows = await ctx.db
    .query("steps")
    .withIndex("by_task_and_key", (q) => q.eq("task", run.task).gt("key", cursor ?? ""))
    .take(STEPS_PAGE);
  const steps = [];
  let bytes = 0;
  for (const row of rows) {
    const result = await readText(ctx, { inline: row.result, id: row.resultId });
    bytes += result?.length ?? 0;
    if (steps.length > 0 && bytes > STEPS_PAGE_BYTES) break;
    const remainingMs = row.at === null ? null : Math.max(0, row.at - now);
    steps.push({ key: row.key, kind: row.kind, result, remainingMs, ...beside(row) });
  }
  const more = steps.length < rows.length || rows.length === STEPS_PAGE;
  return {
    steps,
    cursor: more ? steps.at(-1)!.key : null,
    signals: cursor === null ? await pendingSignals(ctx, run.task, SIGNAL_PAGE) : [],
  };
}
