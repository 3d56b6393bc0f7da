/** What a new task hangs together with: those it comes after, its group, its parent, what is called when it has ended. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { MAX_AFTER } from "../constants";
import { refuse } from "../errors";
import type { OnComplete, Submitted, TaskSpec } from "../validators";
import type { Standing } from "./after";
import { dropDependent, insertEdges, standingOf, type Edge } from "./deps";
import { checkOnComplete, createForTask, join, openGroup, type CheckTask } from "./groups";
import { checkScope, type Caller } from "./keys";
import { checkName } from "./text";

/** The links of a spec, checked; null when it has none. */
export type Links = {
  edges: Edge[];
  mode: "all" | "any";
  standing: Standing;
  group: Id<"groups"> | null;
  onComplete: OnComplete | null;
};

/** Tasks that others come after, as this transaction knows them: each is read once, and marked as followed once. */
export class Followed {
  private readonly tasks = new Map<Id<"tasks">, Doc<"tasks"> | null>();

  constructor(private readonly ctx: MutationCtx) {}

  async read(id: Id<"tasks">): Promise<Doc<"tasks"> | null> {
    if (!this.tasks.has(id)) this.tasks.set(id, await this.ctx.db.get("tasks", id));
    return this.tasks.get(id)!;
  }

  /** Let the end of a task be settled: from here on it conflicts with a transaction that ends it unsettled. */
  async mark(task: Doc<"tasks">): Promise<void> {
    const known = this.tasks.get(task._id);
    if (known?.followed || task.endedAt !== null) return;
    await this.ctx.db.patch("tasks", task._id, { followed: true });
    this.tasks.set(task._id, { ...task, followed: true });
  }
}

/**
 * Check the links of a spec; nothing is written.
 *
 * @param given - what became of the item of this call that has a ref; it comes earlier in the order in which they are taken
 */
export async function checkLinks(
  ctx: MutationCtx,
  caller: Caller | null,
  { tenant, queue }: Pick<Doc<"tasks">, "tenant" | "queue">,
  spec: TaskSpec,
  followed: Followed,
  given: (ref: string) => Submitted,
  checkTask: CheckTask,
): Promise<Links | null> {
  const { ref, after = [], afterMode: mode = "all", group, onComplete } = spec;
  if (ref !== undefined) checkName("ref", ref);
  if (after.length === 0 && group === undefined && onComplete === undefined) return null;
  if (after.length > MAX_AFTER) {
    throw refuse("invalid_argument", `after: ${after.length} tasks given, at most ${MAX_AFTER}.`);
  }
  const edges: Edge[] = [];
  for (const [i, { on, onFailure = "fail", ref: called }] of after.entries()) {
    const field = `after[${i}].on`;
    const inCall = on.startsWith("#") ? on.slice(1) : null;
    const name = nameOf(`after[${i}].ref`, inCall, called);
    const task = await followed.read(
      inCall === null ? idOf(ctx, field, on) : taken(field, inCall, given(inCall)),
    );
    if (task === null) throw refuse("not_found", `${field}: no task ${JSON.stringify(on.slice(0, 80))}.`);
    const known = edges.findIndex((edge) => edge.on._id === task._id);
    if (known >= 0) {
      const same = after[known]!.on; // what was batched, debounced or deduplicated has several refs
      const why = same === on ? "is given twice" : `is the same task as ${same}; name one of them`;
      throw refuse("invalid_argument", `${field}: ${on} ${why}.`);
    }
    if (name !== null && edges.some((edge) => edge.ref === name)) {
      throw refuse("invalid_argument", `after[${i}].ref: ${JSON.stringify(name)} is given twice.`);
    }
    if (task.tenant !== tenant) {
      throw refuse("forbidden", `${field}: ${on} belongs to the tenant ${task.tenant}, not ${tenant}.`);
    }
    if (caller !== null) checkScope(caller, task.queue); // its output would be read
    edges.push({ on: task, ref: name, onFailure });
  }
  await checkOnComplete("onComplete", onComplete, tenant, checkTask);
  return {
    edges,
    mode,
    standing: standingOf(mode, edges),
    group: group === undefined ? null : await openGroup(ctx, group, { tenant, queue }),
    onComplete: onComplete ?? null,
  };
}

/** What a task knows one that it waits for by: its ref in this call, or what an edge by id says. */
function nameOf(field: string, inCall: string | null, called: string | undefined): string | null {
  if (called === undefined) return inCall;
  if (inCall === null) return checkName(field, called);
  throw refuse("invalid_argument", `${field}: #${inCall} is its name already; give one with an id alone.`);
}

function idOf(ctx: MutationCtx, field: string, text: string): Id<"tasks"> {
  const id = ctx.db.normalizeId("tasks", text);
  if (id === null) throw refuse("not_found", `${field}: no task ${JSON.stringify(text.slice(0, 80))}.`);
  return id;
}

function taken(field: string, ref: string, answer: Submitted): Id<"tasks"> {
  if (answer.ok) return answer.task;
  throw refuse("invalid_argument", `${field}: #${ref} was refused: ${answer.message}`);
}

/** What a task that has links is inserted with. */
export function linkedFields(links: Links | null): Pick<Doc<"tasks">, "followed"> {
  return links !== null && (links.group !== null || links.onComplete !== null) ? { followed: true } : {};
}

/**
 * Write the links of a task that was just inserted. A task whose dependencies have decided against it ends here.
 */
export async function link(
  ctx: MutationCtx,
  id: Id<"tasks">,
  of: Pick<Doc<"tasks">, "tenant" | "queue">,
  links: Links,
  followed: Followed,
): Promise<void> {
  const { edges, mode, standing, group, onComplete } = links;
  await insertEdges(ctx, id, mode, edges, standing.now === "wait" ? standing.open : 0);
  if (standing.now === "wait") for (const { on } of edges) await followed.mark(on);
  if (group !== null) await join(ctx, group, id);
  if (onComplete !== null)
    await createForTask(ctx, { _id: id, tenant: of.tenant, queue: of.queue }, onComplete);
  if (standing.now === "fail" || standing.now === "skip") {
    const { on, ref } = edges[standing.because]!;
    await dropDependent(ctx, (await ctx.db.get("tasks", id))!, standing.now, { on: on._id, ref });
  }
}
