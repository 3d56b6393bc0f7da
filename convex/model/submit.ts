/** The one way in: tasks are checked, each by itself, and put in line. */
import { ConvexError } from "convex/values";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_DELAY_MS, MAX_EDGES, MAX_PRIORITY, MAX_SUBMIT, MAX_SUBMIT_BYTES } from "../constants";
import { refuse, type Refusal } from "../errors";
import type { Budget } from "../budget.validators";
import type { Submitted, TaskSpec } from "../validators";
import { arrange } from "./after";
import { findAgent, listAgents, retryPolicy } from "./agents";
import { setAlarm } from "./alarms";
import { agentWith } from "./capabilities";
import { adopt } from "./children";
import * as collect from "./collect";
import { checkWish, dueTimeOf, type Wish } from "./collect";
import { record } from "./events";
import { ofTask } from "./budgets";
import { checkOnComplete } from "./groups";
import { checkScope, type Caller } from "./keys";
import { checkLinks, Followed, link as linkUp, linkedFields } from "./links";
import { serves } from "./scope";
import { settleLater } from "./settlements";
import { checkJson, checkKey, checkLabels, checkName, checkNumber, checkTraceparent, keepText } from "./text";
import { NO_USAGE } from "./usage";
import { putInLine, wakeFor } from "./waiting";

/** Where tasks come from that no submitter sent. */
export type Link = { parent?: Id<"tasks"> };

/**
 * Accept tasks. Each item is taken or refused by itself; what was taken is durable when this commits.
 * A dedup key that its tenant has used names the task that exists, for as long as that task said.
 *
 * @param caller - null: the control plane itself, which serves every queue
 * @param link - the same for all of them
 */
export async function submit(
  ctx: MutationCtx,
  caller: Caller | null,
  specs: TaskSpec[],
  link: Link = {},
): Promise<Submitted[]> {
  if (specs.length > MAX_SUBMIT) {
    throw refuse("invalid_argument", `tasks: ${specs.length} given, at most ${MAX_SUBMIT} in a call.`);
  }
  const edges = specs.reduce((sum, { after = [] }) => sum + after.length, 0);
  if (edges > MAX_EDGES) {
    throw refuse("invalid_argument", `after: ${edges} in all tasks of this call, at most ${MAX_EDGES}.`);
  }
  const size = specs.reduce((sum, { input }) => sum + input.length, 0);
  if (size > MAX_SUBMIT_BYTES) {
    throw refuse(
      "payload_too_large",
      `tasks: ${size} characters of input, at most ${MAX_SUBMIT_BYTES} in a call.`,
    );
  }
  const now = Date.now();
  const parent = link.parent === undefined ? null : await ctx.db.get("tasks", link.parent);
  const agents: Agents = new Map();
  const checkSpec = (spec: TaskSpec) => check(ctx, caller, spec, agents, now);
  const { order, refused, refs } = arrange(specs);
  const answers = new Array<Submitted>(specs.length);
  for (const [i, { field, why }] of refused) {
    answers[i] = { ok: false, code: "invalid_argument", message: `${field}: ${why}.` };
  }
  const given = (ref: string) => answers[refs.get(ref)!]!;
  const followed = new Followed(ctx);
  const joined = new Map<Id<"groups">, number>();
  const dueAts: number[] = [];
  for (const i of order) {
    try {
      const spec = parent === null ? specs[i]! : asChild(specs[i]!, parent);
      const checked = await checkSpec(spec);
      const known = await duplicateOf(ctx, checked, now);
      if (known !== null) {
        checkShown(caller, known);
        answers[i] = { ok: true, task: known._id, duplicate: true };
        continue;
      }
      if (checked.wish !== null) {
        if (parent !== null)
          throw refuse("invalid_argument", `${checked.wish.kind}: not for a child of a task.`);
        const joins = await collect.join(ctx, checked, checked.wish, now);
        if (joins !== null) {
          if (joins.duplicate && caller !== null && caller.queues !== null)
            checkShown(caller, await ctx.db.get("tasks", joins.task));
          answers[i] = { ok: true, ...joins };
          continue;
        }
      }
      const links = await checkLinks(ctx, caller, checked, spec, followed, given, checkSpec);
      const inLine = links === null || links.standing.now === "run";
      const task = await insert(ctx, checked, link, linkedFields(links), inLine, now);
      if (checked.wish !== null) await collect.begin(ctx, task, checked, checked.wish, now);
      if (links !== null) await linkUp(ctx, task, checked, links, followed);
      if (parent !== null) await adopt(ctx, parent, task);
      if (links !== null && links.group !== null) joined.set(links.group, (joined.get(links.group) ?? 0) + 1);
      if (inLine) dueAts.push(checked.dueAt);
      answers[i] = { ok: true, task, duplicate: false };
    } catch (error) {
      // A check of this item; it comes before the item's first write. Anything else undoes the whole call.
      if (!(error instanceof ConvexError)) throw error;
      const { code, message } = error.data as Refusal;
      answers[i] = { ok: false, code, message };
    }
  }
  for (const [group, tasks] of joined) await settleLater(ctx, { kind: "joined", group, tasks });
  await wakeFor(ctx, dueAts, now);
  return answers;
}

/** Refuse what `submit` would refuse now, and a follow-up task that the caller could not submit. */
export async function checkSpec(ctx: QueryCtx, caller: Caller | null, spec: TaskSpec): Promise<void> {
  const agents: Agents = new Map();
  const checkOne = (one: TaskSpec) => check(ctx, caller, one, agents, Date.now());
  const { tenant } = await checkOne(spec);
  await checkOnComplete("onComplete", spec.onComplete, tenant, checkOne);
}

/** Each agent that a call names, read once. */
type Agents = Map<string, Doc<"agents"> | null>;

/** A child belongs to its parent's tenant, and to its queue and its stack unless it names another. */
function asChild(spec: TaskSpec, { tenant, queue, stack, traceparent }: Doc<"tasks">): TaskSpec {
  if (spec.tenant !== undefined && spec.tenant !== tenant) {
    throw refuse("forbidden", `tenant: a child of a task of ${tenant} belongs there too.`);
  }
  const from = { ...(stack !== undefined && { stack }), ...(traceparent !== undefined && { traceparent }) };
  return { queue, ...from, ...spec, tenant };
}

/** Refuse a spec that could not be submitted now. */
export async function checkTask(ctx: QueryCtx, caller: Caller, spec: TaskSpec): Promise<void> {
  await check(ctx, caller, spec, new Map(), Date.now());
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
  | "sticky"
  | "dueAt"
> &
  Partial<Pick<Doc<"tasks">, "traceparent" | "dedupKey" | "dedupUntil" | "gathers" | "stack">> & {
    input: string;
    wish: Wish | null;
    budget: Budget | null; // its own
  };

async function check(
  ctx: QueryCtx,
  caller: Caller | null,
  spec: TaskSpec,
  agents: Agents,
  now: number,
): Promise<Checked> {
  const queue = checkName("queue", spec.queue ?? "default");
  if (caller !== null) checkScope(caller, queue);
  const labels = checkLabels("labels", spec.labels ?? []);
  const agent = await agentOf(ctx, spec, { queue, labels }, agents);
  const wish = checkWish(spec);
  const dueAt = wish === null ? dueTime(spec, now) : dueTimeOf(wish, now);
  const startBy = within("startWithinMs", spec.startWithinMs, now);
  const endBy = within("endWithinMs", spec.endWithinMs, now);
  if (wish?.kind !== "batch") {
    checkReachable("startWithinMs", startBy, dueAt, now); // a batch may be full, and due, at any time
    checkReachable("endWithinMs", endBy, dueAt, now);
  }
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
    startBy,
    endBy,
    labels,
    key: spec.key === undefined ? null : checkKey("key", spec.key),
    ...(spec.sticky === undefined ? {} : { sticky: checkKey("sticky", spec.sticky) }),
    ...(spec.traceparent === undefined
      ? {}
      : { traceparent: checkTraceparent("traceparent", spec.traceparent) }),
    ...(spec.stack === undefined ? {} : { stack: checkName("stack", spec.stack) }),
    budget: spec.budget === undefined ? null : ofTask(spec.budget),
    dueAt,
    wish,
    ...(wish?.kind === "batch" && { gathers: true }),
    input: checkJson("input", spec.input),
    ...dedup(spec, now),
  };
}

async function agentOf(
  ctx: QueryCtx,
  { agent: name, capability }: TaskSpec,
  where: { queue: string; labels: string[] },
  agents: Agents,
): Promise<Doc<"agents">> {
  const given = name ?? capability;
  if (given === undefined || (name !== undefined && capability !== undefined)) {
    throw refuse("invalid_argument", "agent and capability: give one of them.");
  }
  if (name !== undefined) {
    if (!agents.has(name)) agents.set(name, await findAgent(ctx, name));
    const found = agents.get(name);
    if (!found) throw await unknownAgent(ctx, name);
    return found;
  }
  const wanted = JSON.stringify([given, where]); // no agent has such a name
  if (!agents.has(wanted)) agents.set(wanted, await agentWith(ctx, given, where));
  return agents.get(wanted)!;
}

function dedup({ dedupKey, dedupForMs }: TaskSpec, now: number): Pick<Checked, "dedupKey" | "dedupUntil"> {
  if (dedupKey === undefined) {
    if (dedupForMs === undefined) return {};
    throw refuse("invalid_argument", "dedupForMs: it says how long a dedupKey counts; give that too.");
  }
  checkKey("dedupKey", dedupKey);
  if (dedupForMs === undefined) return { dedupKey };
  return { dedupKey, dedupUntil: now + checkNumber("dedupForMs", dedupForMs, 1, MAX_DELAY_MS) };
}

/** The task that a dedup key names: the last that was submitted with it, for as long as that one said. */
async function duplicateOf(
  ctx: QueryCtx,
  { tenant, dedupKey }: Checked,
  now: number,
): Promise<Doc<"tasks"> | null> {
  if (dedupKey === undefined) return null;
  const known = await ctx.db
    .query("tasks")
    .withIndex("by_tenant_and_dedupKey", (q) => q.eq("tenant", tenant).eq("dedupKey", dedupKey))
    .order("desc")
    .first();
  return known === null || (known.dedupUntil !== undefined && known.dedupUntil <= now) ? null : known;
}

/** Refuse to name the task that a dedup key names, if it is of a queue that the caller's key does not serve. */
function checkShown(caller: Caller | null, known: Doc<"tasks"> | null): void {
  if (caller === null || known === null || serves(caller.queues, known.queue)) return;
  const message =
    "dedupKey: a task of a queue that your key does not serve was submitted with it; use another.";
  throw refuse("forbidden", message);
}

async function insert(
  ctx: MutationCtx,
  { input, wish, budget, ...checked }: Checked,
  link: Link,
  linked: Partial<Doc<"tasks">>,
  inLine: boolean,
  now: number,
): Promise<Id<"tasks">> {
  const kept = await keepText(ctx, wish?.kind === "batch" ? null : input);
  const id = await ctx.db.insert("tasks", {
    ...checked,
    ...link,
    ...linked,
    ...(budget !== null && { budgeted: true as const }),
    input: kept.inline,
    inputId: kept.id,
    status: !inLine ? "waiting" : checked.dueAt > now ? "delayed" : "pending",
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
  if (budget !== null) await ctx.db.insert("budgets", { ...budget, task: id });
  if (startBy !== null) await setAlarm(ctx, "startBy", id, startBy);
  if (endBy !== null) await setAlarm(ctx, "endBy", id, endBy);
  if (inLine) await putInLine(ctx, { ...checked, _id: id }, dueAt, now);
  await record(ctx, { _id: id, tenant }, "task_submitted", null, { agent, queue });
  return id;
}

/** Refuse a deadline that is over when the task is due: it could only fail. */
function checkReachable(field: string, deadline: number | null, dueAt: number, now: number): void {
  if (deadline === null || deadline > dueAt) return;
  const [had, due] = [deadline - now, dueAt - now].map((ms) => Math.round(ms));
  throw refuse("invalid_argument", `${field}: ${had} ms are over when the task is due, in ${due} ms.`);
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
