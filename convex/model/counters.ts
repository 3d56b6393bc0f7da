/** The counters of limited scopes, which dispatch alone writes. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { CENSUS_AGAIN_MS, CENSUS_NAMES, CENSUS_RUNS } from "../constants";
import type { ScopeKind } from "../limit.validators";
import { countFor, idOf, rulesOf, type Counter, type Ledger, type Limit, type Scope } from "./limits";

const SWEEP = 16; // counters at rest that a pass removes: more than it adds in the long run
const FORGET_PAGE = 200;

/** Write down what the pass has changed. */
export async function keepCounters(
  ctx: MutationCtx,
  ledger: Ledger,
  known: readonly (Scope & { _id: Id<"counters"> })[],
): Promise<void> {
  const rows = new Map(known.map((row) => [idOf(row), row._id]));
  let added = false;
  for (const { scope, counter } of ledger.changed()) {
    const id = rows.get(idOf(scope));
    if (id === undefined) {
      if (counter === null) continue;
      await ctx.db.insert("counters", counter);
      added = true;
    } else if (counter === null) await ctx.db.delete("counters", id);
    else await ctx.db.patch("counters", id, counter);
  }
  if (!added) return;
  const resting = await ctx.db
    .query("counters")
    .withIndex("by_restsAt", (q) => q.gt("restsAt", 0).lte("restsAt", ledger.now))
    .take(SWEEP);
  for (const { _id } of resting) await ctx.db.delete("counters", _id);
}

/**
 * Count the live runs for limits that were set while runs of their scopes lived; until then those scopes start nothing. All
 * is read at the snapshot with which the pass began, and the pass has settled everything that was freed by then: so the
 * count is exact, and what ends later is settled later. Scopes beyond a page are counted by the next pass, each at one
 * snapshot.
 *
 * @param notBefore - the last census found too many runs: wait until then
 * @returns whether something was counted, and when to try again if it could not be; null when nothing is to be counted
 */
export async function census(
  ctx: MutationCtx,
  limits: readonly Limit[],
  notBefore: number,
  now: number,
): Promise<{ some: boolean; againAt: number | null } | null> {
  const rules = limits.filter(({ limit, uncounted }) => limit !== null && uncounted !== null);
  if (rules.length === 0) return null;
  if (now < notBefore) return { some: false, againAt: notBefore };
  const live = await ctx.runQuery(internal.dispatch.lanes, {}, { useStaleSnapshot: true });
  if (live === null) return { some: false, againAt: now + CENSUS_AGAIN_MS };
  const lanes = live.map(({ lane, runs }) => [lane, runs] as const);
  for (const rule of rules) {
    const rows = await countersFrom(ctx, rule.kind, rule.uncounted!, CENSUS_NAMES + 1);
    const known = rows.map((row) => row.name);
    const { counts, uncounted } = countFor(rule, lanes, known, CENSUS_NAMES);
    for (const [name, inUse] of counts) await setInUse(ctx, { kind: rule.kind, name }, inUse);
    const row = await limitOf(ctx, rule);
    if (row !== null) await ctx.db.patch("limits", row._id, { uncounted });
  }
  return { some: true, againAt: null };
}

/** How many runs live in each lane; null when there are more than can be counted at once. */
export async function liveLanes(ctx: QueryCtx): Promise<{ lane: string; runs: number }[] | null> {
  const counts = new Map<string, number>();
  let left = CENSUS_RUNS + 1;
  for (const state of ["assigned", "running"] as const) {
    const runs = await ctx.db
      .query("runs")
      .withIndex("by_state_and_deadlineAt", (q) => q.eq("state", state))
      .take(left);
    left -= runs.length;
    if (left === 0) return null;
    for (const { lane } of runs) counts.set(lane, (counts.get(lane) ?? 0) + 1);
  }
  return [...counts].map(([lane, runs]) => ({ lane, runs }));
}

async function setInUse(ctx: MutationCtx, scope: Scope, inUse: number): Promise<void> {
  const row = await counterOf(ctx, scope);
  if (row === null) {
    if (inUse > 0)
      await ctx.db.insert("counters", { ...scope, inUse, tokens: null, tokensAt: 0, restsAt: null });
  } else if (inUse === 0 && row.tokens === null) await ctx.db.delete("counters", row._id);
  else await ctx.db.patch("counters", row._id, { inUse, restsAt: inUse > 0 ? null : row.restsAt });
}

export function limitOf(ctx: QueryCtx, { kind, name }: Scope): Promise<Doc<"limits"> | null> {
  return ctx.db
    .query("limits")
    .withIndex("by_kind_and_name", (q) => q.eq("kind", kind).eq("name", name))
    .unique();
}

export function counterOf(ctx: QueryCtx, { kind, name }: Scope): Promise<Doc<"counters"> | null> {
  return ctx.db
    .query("counters")
    .withIndex("by_kind_and_name", (q) => q.eq("kind", kind).eq("name", name))
    .unique();
}

function countersFrom(
  ctx: QueryCtx,
  kind: ScopeKind,
  from: string,
  limit: number,
): Promise<Doc<"counters">[]> {
  return ctx.db
    .query("counters")
    .withIndex("by_kind_and_name", (q) => q.eq("kind", kind).gte("name", from))
    .take(limit);
}

/** Remove a page of the counters from one name on that no rule needs any more, and schedule the next. */
export async function forget(
  ctx: MutationCtx,
  { kind, from, to }: { kind: ScopeKind; from: string; to: string | null },
): Promise<void> {
  const rows = await countersFrom(ctx, kind, from, FORGET_PAGE);
  for (const row of rows) {
    if (to !== null && row.name !== to) return;
    const rules = [];
    for (const rule of rulesOf(row)) rules.push(await limitOf(ctx, rule));
    if (!rules.some(needsCounter)) await ctx.db.delete("counters", row._id);
  }
  const last = rows.at(-1);
  if (to !== null || rows.length < FORGET_PAGE) return;
  await ctx.scheduler.runAfter(0, internal.dispatch.forget, { kind, from: `${last!.name}\u0000`, to });
}

export const needsCounter = (rule: Pick<Counter & Limit, "limit" | "rate"> | null): boolean =>
  rule !== null && (rule.limit !== null || rule.rate !== null);
