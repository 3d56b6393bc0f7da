/** Counts what happened, minute by minute, from the history: behind its cursor everything is counted, once. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_BUCKETS, MINUTE_MS, ROLLUP_EVENTS } from "../constants";
import { refuse } from "../errors";
import { vCounters, type Counters, type Position } from "../upkeep.validators";
import { eventsFrom, past, toCommit } from "./retention";

const ZERO = Object.fromEntries(Object.keys(vCounters.fields).map((name) => [name, 0])) as Counters;

type Told = Pick<Doc<"events">, "type" | "data">;
type Ran = Pick<Doc<"runs">, "startedAt" | "endedAt" | "usage">;

/**
 * What an event adds to the counters. Pure. The end of a run is told by the event that gives its state.
 *
 * @param run - the run that the event tells of
 */
export function counted({ type, data }: Told, run: Ran | null): Partial<Counters> {
  switch (type) {
    case "task_submitted":
      return { submitted: 1 };
    case "run_assigned":
      return { started: 1, waitMs: Number(data.waitedMs ?? 0) };
    case "task_retried":
      return { retried: 1, ...ofRun(run) };
    case "task_suspended":
      return ofRun(run);
    case "task_succeeded":
      return { succeeded: 1, ...ofEnd(data, run) };
    case "task_failed":
      return { failed: 1, ...ofEnd(data, run) };
    case "task_cancelled":
      return { cancelled: 1, ...ofEnd(data, run) };
    case "task_skipped":
      return { skipped: 1 };
    default:
      return {};
  }
}

/** A task that ends while it waits names its last run, which was told of before. */
const ofEnd = (data: Told["data"], run: Ran | null) => (data.state === undefined ? {} : ofRun(run));

function ofRun(run: Ran | null): Partial<Counters> {
  if (run === null) return {};
  const { startedAt, endedAt, usage } = run;
  return {
    runMs: startedAt === null || endedAt === null ? 0 : Math.max(0, endedAt - startedAt),
    modelCalls: usage?.calls ?? 0,
    inputTokens: usage?.inputTokens ?? 0,
    outputTokens: usage?.outputTokens ?? 0,
    costMicros: usage?.costMicros ?? 0,
  };
}

export function sum(a: Counters, b: Partial<Counters>): Counters {
  const total = { ...a };
  for (const name of Object.keys(b) as (keyof Counters)[]) total[name] = (total[name] ?? 0) + (b[name] ?? 0);
  return total;
}

/** The end of the last whole minute, as a commit timestamp: no commit from now on is older. */
const wholeMinutes = (now: number): bigint => toCommit(Math.floor(now / MINUTE_MS) * MINUTE_MS) - 1n;

/** Whether a page would find something. */
export async function hasUncounted(ctx: QueryCtx, cursor: Position, now: number): Promise<boolean> {
  return (await eventsFrom(ctx, cursor, wholeMinutes(now), 1)).length > 0;
}

/** One page of the rollup. */
export async function rollUp(
  ctx: MutationCtx,
  cursor: Position,
  now: number,
): Promise<{ cursor: Position; more: boolean }> {
  const page = await eventsFrom(ctx, cursor, wholeMinutes(now), ROLLUP_EVENTS);
  const tasks = new Map<Id<"tasks">, Doc<"tasks"> | null>();
  const added = new Map<string, { scope: string; bucket: number; counters: Counters }>();
  for (const event of page) {
    if (!tasks.has(event.task)) tasks.set(event.task, await ctx.db.get("tasks", event.task));
    const task = tasks.get(event.task);
    if (!task) continue; // removed by hand within the minute
    const more = counted(event, event.run === null ? null : await ctx.db.get("runs", event.run));
    if (Object.keys(more).length === 0) continue;
    const bucket = Math.floor(Number(event.at) / 1e6 / MINUTE_MS) * MINUTE_MS;
    for (const scope of scopesOf(task)) {
      const key = `${bucket} ${scope}`;
      const { counters } = added.get(key) ?? { counters: ZERO };
      added.set(key, { scope, bucket, counters: sum(counters, more) });
    }
  }
  for (const item of added.values()) await add(ctx, item);
  const last = page.at(-1);
  return { cursor: last === undefined ? cursor : past(last), more: page.length === ROLLUP_EVENTS };
}

export const scopesOf = ({
  tenant,
  queue,
  agent,
  stack,
}: Pick<Doc<"tasks">, "tenant" | "queue" | "agent" | "stack">) => [
  "all",
  `tenant:${tenant}`,
  `queue:${queue}`,
  `agent:${agent}`,
  ...(stack === undefined ? [] : [`stack:${stack}`]),
];

async function add(
  ctx: MutationCtx,
  { scope, bucket, counters }: { scope: string; bucket: number; counters: Counters },
): Promise<void> {
  const known = await ctx.db
    .query("stats")
    .withIndex("by_scope_and_bucket", (q) => q.eq("scope", scope).eq("bucket", bucket))
    .unique();
  if (known === null) await ctx.db.insert("stats", { scope, bucket, ...counters });
  else await ctx.db.patch("stats", known._id, sum(countersOf(known), counters));
}

function countersOf(row: Doc<"stats">): Counters {
  return sum(ZERO, Object.fromEntries(Object.keys(ZERO).map((name) => [name, row[name as keyof Counters]])));
}

/** The minutes of a scope in which something happened, oldest first. Instants in milliseconds since the epoch. */
export async function read(
  ctx: QueryCtx,
  { scope, from, to }: { scope: string; from: number; to: number },
): Promise<({ bucket: number } & Counters)[]> {
  if (!(from <= to)) throw refuse("invalid_argument", "from and to: give the earlier one first.");
  if (to - from > MAX_BUCKETS * MINUTE_MS) {
    const hours = (MAX_BUCKETS * MINUTE_MS) / 3_600_000;
    throw refuse(
      "invalid_argument",
      `from and to: at most ${hours} hours in a call; ask for them one after the other.`,
    );
  }
  if (!/^(all|(tenant|queue|agent|stack):.{1,64})$/.test(scope)) {
    const shown = JSON.stringify(scope.slice(0, 80));
    throw refuse(
      "invalid_argument",
      `scope: ${shown}; give all, or tenant:, queue:, agent: or stack: and a name.`,
    );
  }
  const rows = await ctx.db
    .query("stats")
    .withIndex("by_scope_and_bucket", (q) => q.eq("scope", scope).gte("bucket", from).lt("bucket", to))
    .take(MAX_BUCKETS);
  return rows.map((row) => ({ bucket: row.bucket, ...countersOf(row) }));
}
