/** The limits that the operator sets. Dispatch is told of every change and counts anew where it has to. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_DELAY_MS, MAX_LIMIT, MAX_LIST, MAX_WEIGHT } from "../constants";
import { refuse } from "../errors";
import type { LimitView, Rate, ScopeKind } from "../limit.validators";
import { limitOf, needsCounter } from "./counters";
import { EACH, type Scope } from "./limits";
import { limitsChanged } from "./loops";
import { checkInteger, checkKey, checkName } from "./text";

export type Change = {
  limit?: number | null | undefined;
  rate?: Rate | null | undefined;
  weight?: number | null | undefined;
};

/** A scope as a caller names it: the system by nothing, a lane by the text that `tasks:why` gives. */
export function checkScopeName(kind: ScopeKind, name: string): Scope {
  if (kind === "system") {
    if (name !== "") throw refuse("invalid_argument", "name: the system has none; leave it out.");
  } else if (kind === "lane") {
    if (name.split("/").length < 5) {
      throw refuse(
        "invalid_argument",
        `name: ${JSON.stringify(name.slice(0, 80))} is not a lane. Take it from tasks:why; it reads queue/agent/labels/tenant/key.`,
      );
    }
  } else if (kind === "key") checkKey("name", name);
  else if (name !== EACH) checkName("name", name);
  return { kind, name };
}

/**
 * Set what is given and leave the rest as it is; null takes a bound away. Runs that live when a limit is first set are counted
 * before the scope starts another.
 */
export async function set(ctx: MutationCtx, scope: Scope, change: Change): Promise<LimitView> {
  const { limit, rate, weight } = change;
  if (limit === undefined && rate === undefined && weight === undefined) {
    throw refuse("invalid_argument", "limit, rate, weight: give at least one of them.");
  }
  if (limit != null) checkInteger("limit", limit, 0, MAX_LIMIT);
  if (rate != null) {
    checkInteger("rate.count", rate.count, 1, MAX_LIMIT);
    checkInteger("rate.perMs", rate.perMs, 1, MAX_DELAY_MS);
    checkInteger("rate.burst", rate.burst, 1, MAX_LIMIT);
  }
  if (weight != null) checkInteger("weight", weight, 1, MAX_WEIGHT);
  if (weight != null && scope.kind === "system") {
    throw refuse(
      "invalid_argument",
      "weight: the system is one; weigh queues, agents, tenants, keys or lanes.",
    );
  }
  const given = Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined));
  return write(ctx, scope, given);
}

/** Start nothing of this scope until it is resumed; what runs goes on. Its limit, rate and weight stay. */
export function pause(ctx: MutationCtx, scope: Scope): Promise<LimitView> {
  return write(ctx, scope, { paused: true });
}

/** Let a paused scope go on under the limits that it had. */
export async function resume(ctx: MutationCtx, scope: Scope): Promise<LimitView> {
  if ((await limitOf(ctx, scope)) === null) return view({ ...scope, ...UNBOUND });
  return write(ctx, scope, { paused: false });
}

/** Take all bounds of a scope away, its pause too. */
export async function remove(ctx: MutationCtx, scope: Scope): Promise<boolean> {
  const known = await limitOf(ctx, scope);
  if (known === null) return false;
  await write(ctx, scope, UNBOUND);
  return true;
}

const UNBOUND = { limit: null, rate: null, weight: null, paused: false, uncounted: null };

type Bounds = Omit<Doc<"limits">, "_id" | "_creationTime" | "kind" | "name">;

async function write(ctx: MutationCtx, scope: Scope, change: Partial<Bounds>): Promise<LimitView> {
  const known = await limitOf(ctx, scope);
  const bounds: Bounds = { ...UNBOUND, ...known, ...change };
  // While there was no limit nobody counted.
  if (bounds.limit === null) bounds.uncounted = null;
  else if (known === null || known.limit === null) bounds.uncounted = "";
  const { limit, rate, weight, paused, uncounted } = bounds;
  const row = { ...scope, limit, rate, weight, paused, uncounted };
  const holds = needsCounter(row) || weight !== null || paused;
  if (known === null && holds) await ctx.db.insert("limits", row);
  else if (known !== null && holds) await ctx.db.replace("limits", known._id, row);
  else if (known !== null) await ctx.db.delete("limits", known._id);
  if (needsCounter(known) && !needsCounter(row)) {
    const each = scope.name === EACH;
    const range = { kind: scope.kind, from: each ? "" : scope.name, to: each ? null : scope.name };
    await ctx.scheduler.runAfter(0, internal.dispatch.forget, range);
  }
  await limitsChanged(ctx, (await ctx.db.query("limits").first()) !== null);
  return view(row);
}

function view({ kind, name, limit, rate, weight, paused }: Bounds & Scope): LimitView {
  return { kind, name, limit, rate, weight, paused };
}

/** By kind and name, a page at a time. */
export async function list(
  ctx: QueryCtx,
  { limit, cursor }: { limit: number; cursor: string | null },
): Promise<{ limits: LimitView[]; cursor: string | null }> {
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await ctx.db.query("limits").withIndex("by_kind_and_name").paginate({ numItems, cursor });
  return { limits: page.page.map(view), cursor: page.isDone ? null : page.continueCursor };
}
