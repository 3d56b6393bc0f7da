/**
 * What people decide before a task goes on. The task waits without a worker; the decision becomes the result of its step. It is
 * made once, in time, and for exactly the arguments that were asked for.
 */
import type { ApprovalState, ApprovalView, Ask, Verdict } from "../approval.validators";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  APPROVAL_MS,
  INLINE_BYTES,
  MAX_APPROVAL_BYTES,
  MAX_ASKS,
  MAX_DELAY_MS,
  MAX_KEY_CHARS,
  MAX_LINE_CHARS,
  MAX_LIST,
} from "../constants";
import { refuse } from "../errors";
import type { StepState } from "../step.validators";
import type { Fault, StepReport } from "../validators";
import { clearAlarm, setAlarm } from "./alarms";
import { record } from "./events";
import { isJson } from "./json";
import { checkScope, type Caller } from "./keys";
import { serves, type Queues } from "./scope";
import { findStep, hasResult, insertStep, objection, resolveStep } from "./steps";
import { checkInteger, checkSmallJson, fitsIn, sha256, utf8Bytes } from "./text";
import { comeBack } from "./waits";

type Approval = Doc<"approvals">;

const APPROVAL_SUFFIX = ".approval"; // behind the key of the step that needs it

/** Why a run cannot ask what it asks; null when it can. */
export async function askRefusal(
  ctx: QueryCtx,
  run: Doc<"runs">,
  asks: readonly Ask[],
): Promise<Fault | null> {
  const invalid = (message: string) => ({ code: "invalid_approval", message });
  if (asks.length < 1 || asks.length > MAX_ASKS) {
    return invalid(`A run asks 1 to ${MAX_ASKS} things at a time, not ${asks.length}`);
  }
  if (new Set(asks.map(({ step }) => step)).size < asks.length) return invalid("Two have the same step");
  let steps = run.steps ?? 0;
  for (const { step, tool, args, timeoutMs } of asks) {
    const name = JSON.stringify(tool.slice(0, 80));
    if (tool.length < 1 || tool.length > MAX_KEY_CHARS) {
      return invalid(`What is to be approved has a name of 1 to ${MAX_KEY_CHARS} characters: ${name}`);
    }
    if (!fitsIn(args, MAX_APPROVAL_BYTES)) {
      const why = `over ${MAX_APPROVAL_BYTES} bytes, more than a person can check`;
      return { code: "approval_too_large", message: `The arguments of ${name} are ${why}` };
    }
    if (!isJson(args)) return invalid(`The arguments of ${name} are not JSON`);
    if (timeoutMs !== null && !(timeoutMs >= 0 && timeoutMs <= MAX_DELAY_MS)) {
      return invalid(`An approval waits 0 to ${MAX_DELAY_MS} ms, not ${timeoutMs}`);
    }
    const known = await findStep(ctx, run.task, step);
    const fault = objection(step, "approval", known, steps);
    if (fault !== null) return fault;
    if (known === null) steps += 1;
    else if (hasResult(known)) {
      const decided = await lastOf(ctx, run.task, step);
      const changed = decided && (await changeOf(decided, args));
      if (changed) return changed;
    }
  }
  return null;
}

async function changeOf({ _id, tool, argsHash }: Approval, args: string): Promise<Fault | null> {
  return (await sha256(args)) === argsHash ? null : changed(tool, _id);
}

const changed = (tool: string, approval: Id<"approvals">): Fault => ({
  code: "arguments_changed",
  message: `The arguments of ${JSON.stringify(tool)} are not those that were decided on (approval ${approval})`,
});

/** The last approval that was asked for a step. */
function lastOf(ctx: QueryCtx, task: Id<"tasks">, step: string): Promise<Approval | null> {
  return ctx.db
    .query("approvals")
    .withIndex("by_task_and_step", (q) => q.eq("task", task).eq("step", step))
    .order("desc")
    .first();
}

/**
 * Ask people, each question once until it is decided: what an earlier run was answered is not asked again.
 *
 * @returns how many questions are open, and how many steps are new
 */
export async function ask(
  ctx: MutationCtx,
  task: Doc<"tasks">,
  run: Doc<"runs">,
  asks: readonly Ask[],
  now: number,
): Promise<{ open: number; steps: number }> {
  let open = 0;
  let steps = 0;
  for (const { step: key, tool, args, why, about, timeoutMs } of asks) {
    const known = await findStep(ctx, task._id, key);
    if (known !== null && hasResult(known)) continue;
    const expiresAt = now + (timeoutMs ?? APPROVAL_MS);
    if (known === null) {
      await insertStep(ctx, task._id, { key, kind: "approval", result: null, resultId: null, at: null });
      steps += 1;
    }
    if (why === "in_doubt" && about !== null) await setState(ctx, task._id, about, "in_doubt");
    const argsHash = await sha256(args);
    const approval = await ctx.db.insert("approvals", {
      ...{ tenant: task.tenant, task: task._id, run: run._id, step: key, tool, args, argsHash, why, about },
      ...{ state: "asked", expiresAt, decidedAt: null, decidedBy: null, decidedByLabel: null, note: null },
    });
    await setAlarm(ctx, "approval", approval, expiresAt);
    await record(ctx, task, "approval_asked", run._id, { approval, step: key, tool, why, argsHash });
    open += 1;
  }
  return { open, steps };
}

/** An effect that was intended is in doubt, or is intended again. */
async function setState(ctx: MutationCtx, task: Id<"tasks">, key: string, state: StepState): Promise<void> {
  const step = await findStep(ctx, task, key);
  if (step !== null && !hasResult(step)) await ctx.db.patch("steps", step._id, { state });
}

/** Why an effect may not begin for which people were asked; null when it may, or nobody was. */
export async function unapproved(
  ctx: QueryCtx,
  task: Id<"tasks">,
  { key, argsHash }: Pick<StepReport, "key" | "argsHash">,
): Promise<Fault | null> {
  const step = `${key}${APPROVAL_SUFFIX}`;
  if ((await findStep(ctx, task, step)) === null) return null; // or its steps were dropped since
  const asked = await lastOf(ctx, task, step);
  if (asked === null) return null;
  if (asked.argsHash !== argsHash) return changed(asked.tool, asked._id);
  if (asked.state === "approved") return null;
  const message = `${JSON.stringify(asked.tool)} was not approved: ${ended(asked)} (approval ${asked._id})`;
  return { code: "not_approved", message };
}

/** The open questions of a task. */
export function openOf(ctx: QueryCtx, task: Id<"tasks">): Promise<Approval[]> {
  return ctx.db
    .query("approvals")
    .withIndex("by_task_and_state", (q) => q.eq("task", task).eq("state", "asked"))
    .take(MAX_ASKS);
}

export type Decision = {
  argsHash: string;
  decision: Verdict;
  result?: string; // JSON text
  note?: string;
  request?: string;
};

/**
 * Decide, once: whoever comes second is told who was first. A repeat of the same request by the same key changes nothing.
 * The task goes on when nothing that it asked is open any more.
 */
export async function decide(
  ctx: MutationCtx,
  caller: Caller,
  id: Id<"approvals">,
  { argsHash, decision, result, note, request }: Decision,
  now: number,
): Promise<ApprovalView> {
  const { approval, task } = await find(ctx, id);
  checkScope(caller, task.queue);
  if (approval.state !== "asked" || approval.expiresAt <= now) {
    const again = request !== undefined && request === approval.request;
    if (again && caller.key === approval.decidedBy) return view(approval, task);
    const late = approval.state === "asked" ? { ...approval, state: "expired" as const } : approval;
    throw refuse("already_decided", `approval ${id}: ${ended(late)}. It is decided once.`);
  }
  if (argsHash !== approval.argsHash) {
    const message = "argsHash: these are not the arguments that were asked for.";
    throw refuse("arguments_changed", `${message} See them: signalbox approvals show ${id}`);
  }
  if ((note?.length ?? 0) > MAX_LINE_CHARS) {
    throw refuse("invalid_argument", `note: ${note!.length} characters, at most ${MAX_LINE_CHARS}.`);
  }
  if (result !== undefined) {
    if (approval.why !== "in_doubt" || decision !== "approve") {
      throw refuse("invalid_argument", "result: only what is in doubt can be said to have happened.");
    }
    checkSmallJson("result", result, MAX_APPROVAL_BYTES);
  }
  const label = (await ctx.db.get("keys", caller.key))?.label ?? "";
  const state = decision === "approve" ? "approved" : "refused";
  const by = { decidedBy: caller.key, decidedByLabel: label, note: note ?? null };
  const told = { ...by, ...(request === undefined ? {} : { request }) };
  await clearAlarm(ctx, "approval", id);
  return view(await settle(ctx, approval, task, state, told, result ?? null, now), task);
}

/** What became of an approval that is not open any more, for whoever comes too late. */
function ended({ state, decidedBy, decidedByLabel, decidedAt, expiresAt }: Approval): string {
  if (state === "asked") return `it is open until ${new Date(expiresAt).toISOString()}`;
  const at = new Date(decidedAt ?? expiresAt).toISOString();
  if (state === "expired") return `it expired at ${at}`;
  if (state === "withdrawn") return `it was withdrawn at ${at}, when its task ended`;
  return `it was ${state} by ${JSON.stringify(decidedByLabel)} (key ${decidedBy}) at ${at}`;
}

async function find(ctx: QueryCtx, id: Id<"approvals">): Promise<{ approval: Approval; task: Doc<"tasks"> }> {
  const approval = await ctx.db.get("approvals", id);
  const task = approval && (await ctx.db.get("tasks", approval.task));
  if (!task) throw refuse("not_found", `No approval ${id}.`);
  return { approval, task };
}

/** Note what became of a question, answer the step that waits for it, and let the task go on if it was the last one. */
async function settle(
  ctx: MutationCtx,
  approval: Approval,
  task: Doc<"tasks">,
  state: Exclude<ApprovalState, "asked" | "withdrawn">,
  told: Pick<Approval, "decidedBy" | "decidedByLabel" | "note" | "request">,
  result: string | null,
  now: number,
): Promise<Approval> {
  const { _id, step: key, tool, why, about, argsHash } = approval;
  await ctx.db.patch("approvals", _id, { ...told, state, decidedAt: now });
  const step = await findStep(ctx, task._id, key);
  if (step !== null) await resolveStep(ctx, step._id, answer({ state, argsHash, ...told }, result));
  const runsAgain = why === "in_doubt" && state === "approved" && result === null;
  if (runsAgain && about !== null) await setState(ctx, task._id, about, "intended");
  const by = told.decidedBy === null ? {} : { by: told.decidedBy, label: told.decidedByLabel };
  await record(ctx, task, "approval_decided", null, { approval: _id, tool, why, state, ...by });
  if (task.status === "waiting_approval" && (await openOf(ctx, task._id)).length === 0) {
    await record(ctx, task, "task_woken", null, { by: "approval", timeout: state === "expired" });
    await comeBack(ctx, task, now);
  }
  return { ...approval, ...told, state, decidedAt: now };
}

/** JSON text: what the run finds as the result of its step. */
function answer(
  {
    state,
    argsHash,
    decidedBy,
    decidedByLabel,
    note,
  }: Pick<Approval, "state" | "argsHash" | "decidedBy" | "decidedByLabel" | "note">,
  result: string | null,
): string {
  const told = JSON.stringify({ state, by: decidedBy, label: decidedByLabel, note, argsHash });
  return result === null ? told : `${told.slice(0, -1)},"result":${result}}`;
}

/** Nobody has decided in time. */
export async function expire(ctx: MutationCtx, id: Id<"approvals">, now: number): Promise<void> {
  const approval = await ctx.db.get("approvals", id);
  const task = approval && (await ctx.db.get("tasks", approval.task));
  if (!task || approval.state !== "asked") return;
  await settle(
    ctx,
    approval,
    task,
    "expired",
    { decidedBy: null, decidedByLabel: null, note: null },
    null,
    now,
  );
}

// A task failed of a decision that its agent did not take for an answer.
const FAILED_OF_IT = ["approval_refused", "approval_expired", "in_doubt", "not_approved"];

/** A task is tried again by hand: if it failed of what people decided last, they are asked anew when it comes there. */
export async function askAnew(ctx: MutationCtx, { _id, error }: Doc<"tasks">): Promise<void> {
  if (!FAILED_OF_IT.includes(error?.code ?? "")) return;
  const last = await ctx.db
    .query("approvals")
    .withIndex("by_task", (q) => q.eq("task", _id))
    .order("desc")
    .take(MAX_ASKS);
  for (const { run, state, step } of last) {
    if (run !== last[0]!.run || (state !== "refused" && state !== "expired")) continue;
    const found = await findStep(ctx, _id, step);
    if (found !== null) await ctx.db.patch("steps", found._id, { result: null, resultId: null });
  }
}

/** The task ends while it waits: nobody is asked any more. */
export async function withdraw(ctx: MutationCtx, task: Id<"tasks">): Promise<void> {
  for (const { _id } of await openOf(ctx, task)) {
    await ctx.db.patch("approvals", _id, { state: "withdrawn", decidedAt: Date.now() });
    await clearAlarm(ctx, "approval", _id);
  }
}

function view(row: Approval, task: Doc<"tasks">, most = Infinity): ApprovalView {
  const { _id, _creationTime, args, state, expiresAt, decidedAt, decidedBy, decidedByLabel, note } = row;
  return {
    ...{ approval: _id, task: task._id, tenant: row.tenant, agent: task.agent, run: row.run, step: row.step },
    ...{ tool: row.tool, argsHash: row.argsHash, why: row.why, state, askedAt: _creationTime, expiresAt },
    ...{ decidedAt, decidedBy, decidedByLabel, note },
    args: utf8Bytes(args) > most ? null : args,
  };
}

export async function get(ctx: QueryCtx, caller: Caller, id: Id<"approvals">): Promise<ApprovalView> {
  const { approval, task } = await find(ctx, id);
  checkScope(caller, task.queue);
  return view(approval, task);
}

/**
 * Newest first: of a task, else of a tenant, in one state if it is given. A page is of `limit` at most, and those of tasks
 * that a key of `queues` may not see are left out of it.
 */
export async function list(
  ctx: QueryCtx,
  {
    tenant,
    task,
    state,
    limit,
    cursor,
    queues,
  }: {
    tenant: string;
    task: Id<"tasks"> | null;
    state: ApprovalState | null;
    limit: number;
    cursor: string | null;
    queues: Queues;
  },
): Promise<{ approvals: ApprovalView[]; cursor: string | null }> {
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const rows = ctx.db.query("approvals");
  const scope =
    task === null
      ? state === null
        ? rows.withIndex("by_tenant", (q) => q.eq("tenant", tenant))
        : rows.withIndex("by_tenant_and_state", (q) => q.eq("tenant", tenant).eq("state", state))
      : state === null
        ? rows.withIndex("by_task", (q) => q.eq("task", task))
        : rows.withIndex("by_task_and_state", (q) => q.eq("task", task).eq("state", state));
  const page = await scope.order("desc").paginate({ numItems, cursor });
  const approvals: ApprovalView[] = [];
  for (const row of page.page) {
    const of = await ctx.db.get("tasks", row.task);
    if (of !== null && serves(queues, of.queue)) approvals.push(view(row, of, INLINE_BYTES));
  }
  return { approvals, cursor: page.isDone ? null : page.continueCursor };
}
