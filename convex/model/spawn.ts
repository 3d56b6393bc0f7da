/** Tasks that a run submits: as a step of its own, or with its end; and events that it tells. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { GATHERED_BYTES, GATHERED_TASKS } from "../constants";
import { refuse, type Refusal } from "../errors";
import type { Upstream } from "../group.validators";
import type { Fault, TaskSpec } from "../validators";
import { create, seal } from "./groups";
import { record } from "./events";
import { lineage } from "./forks";
import { refuseSandboxed } from "./sandbox";
import { findStep, insertStep, objection } from "./steps";
import { submit } from "./submit";
import { readText } from "./text";
import { emit } from "./triggers";

export type Spawned = { tasks: Id<"tasks">[]; group: Id<"groups"> | null };
export type Told = { tasks: Id<"tasks">[]; woken: number };

/**
 * Submit the children of a run, all or none, once for the step. The step and they commit together.
 *
 * @param gather - they form a group whose completion the run can wait for
 */
export async function spawn(
  ctx: MutationCtx,
  run: Doc<"runs">,
  { key, specs, gather }: { key: string; specs: TaskSpec[]; gather: boolean },
): Promise<Spawned> {
  const known = await findStep(ctx, run.task, key);
  const fault = objection(key, "spawn", known, run.steps ?? 0);
  if (fault !== null) throw refuse("invalid_argument", fault.message);
  if (known !== null) return JSON.parse(known.result!) as Spawned;
  refuseSandboxed(run, "its agent submits tasks");
  const { tenant, _id: waiter } = (await ctx.db.get("tasks", run.task))!;
  const group = gather ? (await create(ctx, { tenant, waiter }, () => Promise.resolve())).group : null;
  const tasks = await submitAll(
    ctx,
    run.task,
    group === null ? specs : specs.map((spec, i) => gathered(spec, i, group)),
  );
  if (group !== null) await seal(ctx, group);
  const spawned = { tasks, group };
  await insertStep(ctx, run.task, {
    key,
    kind: "spawn",
    result: JSON.stringify(spawned),
    resultId: null,
    at: null,
  });
  await ctx.db.patch("runs", run._id, { steps: (run.steps ?? 0) + 1 });
  return spawned;
}

/** Tell the tenant's triggers and waiting tasks of an event, once for the step of the run that says so; both commit together. */
export async function emitOnce(
  ctx: MutationCtx,
  run: Doc<"runs">,
  { key, name, data }: { key: string; name: string; data: string },
): Promise<Told> {
  const known = await findStep(ctx, run.task, key);
  const fault = objection(key, "step", known, run.steps ?? 0);
  if (fault !== null) throw refuse("invalid_argument", fault.message);
  if (known !== null) return JSON.parse(known.result!) as Told;
  refuseSandboxed(run, `its agent tells the event ${JSON.stringify(name.slice(0, 80))}`);
  const task = (await ctx.db.get("tasks", run.task))!;
  const { tasks, woken, refused } = await emit(ctx, { tenant: task.tenant, name, data });
  for (const { trigger, code, message } of refused)
    await record(ctx, task, "trigger_refused", run._id, { trigger, event: name, code, message });
  const told = { tasks, woken };
  const result = JSON.stringify(told); // at most MAX_TRIGGERS ids
  await insertStep(ctx, run.task, { key, kind: "step", result, resultId: null, at: null });
  await ctx.db.patch("runs", run._id, { steps: (run.steps ?? 0) + 1 });
  return told;
}

/** A task that exists already would not join the group, and nobody would wait for it. */
function gathered(spec: TaskSpec, i: number, group: Id<"groups">): TaskSpec {
  if (spec.dedupKey !== undefined || spec.group !== undefined) {
    throw refuse("invalid_argument", `tasks[${i}]: a gathered task has neither dedupKey nor group.`);
  }
  return { ...spec, group };
}

/** All of them or none: what one is refused for, the call is refused for. */
export async function submitAll(
  ctx: MutationCtx,
  parent: Id<"tasks">,
  specs: TaskSpec[],
): Promise<Id<"tasks">[]> {
  return (await submit(ctx, null, specs, { parent })).map((answer, i) => {
    if (answer.ok) return answer.task;
    throw refuse("invalid_argument", `tasks[${i}]: ${answer.message}`);
  });
}

/**
 * Submit the tasks that come with the end of a run, in a sub-transaction: unless all of them are taken none is, and the run
 * has failed.
 *
 * @param next - JSON text: a list of TaskSpec
 */
export async function submitNext(ctx: MutationCtx, parent: Id<"tasks">, next: string): Promise<Fault | null> {
  try {
    await ctx.runMutation(internal.spawns.next, { parent, specs: JSON.parse(next) as TaskSpec[] });
    return null;
  } catch (error) {
    const { message } = (error as { data?: Refusal }).data ?? { message: String(error) };
    return { code: "invalid_next", message: `The tasks that were to come next were refused: ${message}` };
  }
}

/** How children of a task have ended, in the order asked for, as many as fit in an answer. */
export async function outcomesOf(
  ctx: QueryCtx,
  parent: Id<"tasks">,
  ids: readonly Id<"tasks">[],
): Promise<Upstream[]> {
  const items: Upstream[] = [];
  const parents = await lineage(ctx, parent); // steps that a fork has copied name the children of its origin
  let bytes = 0;
  for (const id of ids.slice(0, GATHERED_TASKS)) {
    const task = await ctx.db.get("tasks", id);
    if (task?.parent === undefined || !parents.includes(task.parent))
      throw refuse("not_found", `tasks: ${id} is no child of ${parent}.`);
    const output = await readText(ctx, { inline: task.output, id: task.outputId });
    items.push({ task: id, ref: null, status: task.status, output, error: task.error });
    bytes += output?.length ?? 0;
    if (bytes >= GATHERED_BYTES) break;
  }
  return items;
}
