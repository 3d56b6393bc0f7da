/**
 * Models of providers, as all workers know them together: which ones cool, who may ask how often, how they do.
 *
 * A sync inserts what its worker tells (`modelReports`); the loop `models` alone settles that into the shared rows. What is told
 * to workers (`models`, and each session's own `modelShares`) changes seldom, since every open inbox reads it; what changes with
 * every report stands apart in `modelLoads`.
 */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_LIST, MAX_MODEL_CHARS, MAX_MODELS_TOLD, MAX_LIVE_WORKERS, MINUTE_MS } from "../constants";
import { refuse } from "../errors";
import type {
  CallReport,
  ModelCall,
  ModelReport,
  ModelStanding,
  ModelState,
  ModelView,
} from "../model.validators";
import type { Fault, Usage } from "../validators";
import { cooldown, counted, NO_LOAD, type Load } from "./cooling";
import { loop } from "./loops";
import { divide, gone, heard, NEW_HOLDER, released, type Holder } from "./shares";
import { checkInteger } from "./text";
import { added, NO_USAGE, usageOf } from "./usage";

const MAX_COUNT = 1e12; // in a report; a cooldown of a report is bounded by LONGEST_COOL_MS
const MAX_RATE = 1_000_000_000; // requests or tokens in a limit's time
const LONGEST_PER_MS = 24 * 3_600_000;
const LONGEST_COOL_MS = 24 * 3_600_000; // that a model is not asked because one process was told so: then it is tried
const SHORTEST_PER_MS = 100; // below that a report takes longer than the limit's time

/** The transactions that have seen to the wake-up already. */
const woken = new WeakSet<MutationCtx>();

/** Leave something to the loop: what a worker tells of a model, or that a model is to be looked at. */
export async function reportLater(
  ctx: MutationCtx,
  model: string,
  from: { session: Id<"sessions">; report: ModelReport } | null,
): Promise<void> {
  const { session = null, report = null } = from ?? {};
  await ctx.db.insert("modelReports", { model, session, report, at: 0, suspect: false });
  if (woken.has(ctx)) return;
  woken.add(ctx);
  const row = await loop(ctx, "models");
  if (!row.running) await ctx.scheduler.runAfter(0, internal.modelLoop.wake, {});
}

/** Keep what became of attempts, each once; @returns what those have used that are kept now, by their runs. */
export async function keepCalls(
  ctx: MutationCtx,
  calls: readonly CallReport[],
  taskOf: (run: Id<"runs">) => Id<"tasks"> | undefined,
): Promise<Map<Id<"runs">, Usage>> {
  const used = new Map<Id<"runs">, Usage>();
  for (const call of calls) {
    const task = taskOf(call.run);
    if (task === undefined) continue;
    const known = await ctx.db
      .query("modelCalls")
      .withIndex("by_run_and_call_and_attempt", (q) =>
        q.eq("run", call.run).eq("call", call.call).eq("attempt", call.attempt),
      )
      .first();
    if (known !== null) continue;
    await ctx.db.insert("modelCalls", { ...call, task });
    used.set(call.run, added(used.get(call.run) ?? NO_USAGE, usageOf(call)));
  }
  return used;
}

/** How models stand, for the endpoint that a session stands for; undefined while there is nothing to say. */
export async function standingOf(
  ctx: MutationCtx,
  session: Id<"sessions">,
): Promise<ModelStanding | undefined> {
  const models: ModelState[] = await ctx.runQuery(
    internal.push.standing,
    { session },
    { useStaleSnapshot: true },
  );
  return models.length === 0 ? undefined : { session, models };
}

/** What a session is to know: the models that cool or are limited, and its share of each limit. */
export async function statesFor(ctx: QueryCtx, session: Id<"sessions">): Promise<ModelState[]> {
  const rows = await ctx.db.query("models").withIndex("by_name").take(MAX_MODELS_TOLD);
  if (rows.length === 0) return [];
  const shares = await ctx.db
    .query("modelShares")
    .withIndex("by_session", (q) => q.eq("session", session))
    .take(MAX_MODELS_TOLD);
  const own = new Map(shares.map((share) => [share.model, share]));
  const now = Date.now();
  return rows.map((row) => {
    const coolMs = Math.max(0, (row.coolUntil ?? 0) - now);
    const share = own.get(row.name);
    return {
      model: row.name,
      coolMs,
      error: coolMs > 0 ? row.error : null,
      configured: row.configured,
      rev: share?.rev ?? 0,
      perMs: row.perMs,
      requests: row.requests === null ? null : (share?.requests ?? 0),
      tokens: row.tokens === null ? null : (share?.tokens ?? 0),
      mostTokens: row.tokens,
    };
  });
}

export function modelRow(ctx: QueryCtx, name: string): Promise<Doc<"models"> | null> {
  return ctx.db
    .query("models")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
}

function loadRow(ctx: QueryCtx, model: string): Promise<Doc<"modelLoads"> | null> {
  return ctx.db
    .query("modelLoads")
    .withIndex("by_model", (q) => q.eq("model", model))
    .unique();
}

/** Settle what was told of one model. */
export async function settleModel(
  ctx: MutationCtx,
  model: string,
  ids: readonly Id<"modelReports">[],
  now: number,
): Promise<void> {
  const told: { session: Id<"sessions">; report: ModelReport }[] = [];
  for (const id of ids) {
    const row = await ctx.db.get("modelReports", id);
    if (row === null) continue;
    await ctx.db.delete("modelReports", id);
    if (row.session !== null && row.report !== null) told.push({ session: row.session, report: row.report });
  }
  const known = await loadRow(ctx, model);
  let load: Load = known ?? NO_LOAD;
  let coolMs = 0;
  let why: Fault | null = null;
  for (const { report } of told) {
    load = counted(load, report, now);
    const ms = Math.max(Math.min(report.coolMs ?? 0, LONGEST_COOL_MS), cooldown(load, report));
    if (ms > coolMs) [coolMs, why] = [ms, report.error];
  }
  const row = await settleCooling(ctx, model, coolMs, why, now);
  const nextAt = await settleShares(ctx, row, model, told, now);
  const { minute, before, total, recent, error, errorAt } = load;
  let againAt = known !== null && (known.againAt ?? 0) > now ? known.againAt : null;
  if (nextAt !== null && (againAt === null || nextAt < againAt)) {
    againAt = nextAt;
    await ctx.scheduler.runAt(nextAt, internal.modelLoop.again, { model });
  }
  const fields = { minute, before, total, recent, error, errorAt, againAt, at: now };
  if (known === null) await ctx.db.insert("modelLoads", { model, ...fields });
  else await ctx.db.patch("modelLoads", known._id, fields);
}

/** Note for how long nobody is to ask a model; a row that says nothing any more goes. */
async function settleCooling(
  ctx: MutationCtx,
  name: string,
  coolMs: number,
  error: Fault | null,
  now: number,
): Promise<Doc<"models"> | null> {
  const row = await modelRow(ctx, name);
  const until = now + coolMs;
  if (coolMs > 0 && until > (row?.coolUntil ?? 0)) {
    const cools = { coolUntil: until, error };
    if (row !== null) await ctx.db.patch("models", row._id, cools);
    else {
      await ctx.db.insert("models", {
        name,
        requests: null,
        tokens: null,
        perMs: MINUTE_MS,
        configured: 0,
        ...cools,
      });
    }
    return modelRow(ctx, name);
  }
  if (row !== null && row.configured === 0 && (row.coolUntil ?? 0) <= now) {
    await ctx.db.delete("models", row._id);
    return null;
  }
  return row;
}

/** @returns when it is to be looked at again, because something can be given then that cannot be now */
async function settleShares(
  ctx: MutationCtx,
  row: Doc<"models"> | null,
  model: string,
  told: readonly { session: Id<"sessions">; report: ModelReport }[],
  now: number,
): Promise<number | null> {
  const shares = await ctx.db
    .query("modelShares")
    .withIndex("by_model", (q) => q.eq("model", model))
    .take(MAX_LIVE_WORKERS);
  if (row === null || (row.requests === null && row.tokens === null)) {
    for (const share of shares) await ctx.db.delete("modelShares", share._id);
    return null;
  }
  const { requests, tokens, perMs } = row;
  const holders = new Map<Id<"sessions">, Holder>(shares.map((share) => [share.session, share]));
  for (const { session, report } of told) {
    if (report.share === null || report.share.configured > row.configured) continue;
    const { waiting, usedRequests } = report.share;
    const holder = holders.get(session) ?? (waiting > 0 || usedRequests > 0 ? NEW_HOLDER : null);
    if (holder !== null) holders.set(session, heard(holder, report.share, perMs, now));
  }
  const live: Id<"sessions">[] = [];
  const elsewhere = { requests: 0, tokens: 0 };
  for (const [session, holder] of holders) {
    const isLive = (await ctx.db.get("sessions", session))?.ended === null;
    const next = released(isLive ? holder : gone(holder, perMs, now), now);
    holders.set(session, next);
    if (isLive) live.push(session);
    else {
      elsewhere.requests += next.heldRequests;
      elsewhere.tokens += next.heldTokens;
    }
  }
  const divided = divide(
    live.map((id) => holders.get(id)!),
    elsewhere,
    { requests, tokens, perMs },
    now,
    perMs,
  );
  live.forEach((id, i) => holders.set(id, divided[i]!));

  const rows = new Map(shares.map((share) => [share.session, share]));
  let nextAt: number | null = null;
  for (const [session, holder] of holders) {
    const known = rows.get(session);
    const isGone = holder.heldUntil === null && holder.heldRequests === 0 && holder.heldTokens === 0;
    if (isGone && !live.includes(session)) {
      if (known !== undefined) await ctx.db.delete("modelShares", known._id);
      continue;
    }
    if (holder.heldUntil !== null) nextAt = Math.min(nextAt ?? Infinity, holder.heldUntil);
    if (known === undefined) await ctx.db.insert("modelShares", { model, session, ...pick(holder) });
    else if (differs(known, holder)) await ctx.db.patch("modelShares", known._id, pick(holder));
  }
  return nextAt;
}

function pick(holder: Holder): Holder {
  const { requests, tokens, heldRequests, heldTokens, heldUntil, rev, wantedAt, waiting, least } = holder;
  return { requests, tokens, heldRequests, heldTokens, heldUntil, rev, wantedAt, waiting, least };
}

const differs = (a: Holder, b: Holder) => JSON.stringify(pick(a)) !== JSON.stringify(pick(b));

/** A session has ended: its shares go to others once they can count no more. */
export async function leaveShares(ctx: MutationCtx, session: Id<"sessions">): Promise<void> {
  const shares = await ctx.db
    .query("modelShares")
    .withIndex("by_session", (q) => q.eq("session", session))
    .take(MAX_MODELS_TOLD);
  for (const { model } of shares) await reportLater(ctx, model, null);
}

// What operators do.

export type Change = {
  requests?: number | null | undefined;
  tokens?: number | null | undefined;
  perMs?: number | undefined;
};

/** `provider/model`, or the name of a model at a worker's own provider. */
export function checkModelName(name: string): string {
  if (name.length < 1 || name.length > MAX_MODEL_CHARS || name !== name.trim()) {
    throw refuse(
      "invalid_argument",
      `model: ${JSON.stringify(name.slice(0, 80))} is not a model's name; use 1 to ${MAX_MODEL_CHARS} characters, as in groq/llama-3.3-70b-versatile.`,
    );
  }
  return name;
}

/** Refuse a report that would make nonsense of what all share. */
export function checkModelReport(report: ModelReport): void {
  const { model, requests, failures, tokens, coolMs, share } = report;
  checkModelName(model);
  const counts = { requests, failures, tokens, coolMs: coolMs ?? 0, ...share };
  for (const [field, count] of Object.entries(counts)) {
    if (count >= 0 && count <= MAX_COUNT) continue;
    throw refuse("invalid_argument", `models: ${field} of ${model} is ${count}; 0 to ${MAX_COUNT} is meant.`);
  }
}

/** Set the limits that are given and leave the others; null takes one away. */
export async function set(ctx: MutationCtx, name: string, change: Change): Promise<ModelView> {
  const { requests, tokens, perMs } = change;
  if (requests === undefined && tokens === undefined && perMs === undefined) {
    throw refuse("invalid_argument", "requests, tokens, perMs: give at least one of them.");
  }
  if (requests != null) checkInteger("requests", requests, 1, MAX_RATE);
  if (tokens != null) checkInteger("tokens", tokens, 1, MAX_RATE);
  if (perMs !== undefined) checkInteger("perMs", perMs, SHORTEST_PER_MS, LONGEST_PER_MS);
  return write(
    ctx,
    name,
    Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined)),
  );
}

/** Forget why a model is not asked, in all workers: what was wrong has been put right. */
export function clear(ctx: MutationCtx, name: string): Promise<ModelView> {
  return write(ctx, name, { coolUntil: null, error: null });
}

type Told = Omit<Doc<"models">, "_id" | "_creationTime" | "name" | "configured">;

async function write(ctx: MutationCtx, name: string, change: Partial<Told>): Promise<ModelView> {
  checkModelName(name);
  const known = await modelRow(ctx, name);
  if (known === null) {
    const count = (await ctx.db.query("models").withIndex("by_name").take(MAX_MODELS_TOLD)).length;
    if (count >= MAX_MODELS_TOLD) {
      throw refuse(
        "invalid_argument",
        `model: ${MAX_MODELS_TOLD} models have limits or cool, the most there can be.`,
      );
    }
  }
  const bounds: Told = { requests: null, tokens: null, perMs: MINUTE_MS, coolUntil: null, error: null };
  const { requests, tokens, perMs, coolUntil, error }: Told = { ...bounds, ...known, ...change };
  const configured = (known?.configured ?? 0) + 1;
  const row = { name, requests, tokens, perMs, coolUntil, error, configured };
  if (known === null) await ctx.db.insert("models", row);
  else await ctx.db.replace("models", known._id, row);
  if ((await loadRow(ctx, name)) === null) {
    // The list is of loads, and is to tell of it from now on.
    await ctx.db.insert("modelLoads", { model: name, ...NO_LOAD, againAt: null, at: Date.now() });
  }
  await reportLater(ctx, name, null);
  return view(ctx, name);
}

async function view(ctx: QueryCtx, name: string, load?: Doc<"modelLoads">): Promise<ModelView> {
  const row = await modelRow(ctx, name);
  const known = load ?? (await loadRow(ctx, name)) ?? NO_LOAD;
  const shares = await ctx.db
    .query("modelShares")
    .withIndex("by_model", (q) => q.eq("model", name))
    .take(MAX_LIVE_WORKERS);
  const now = Date.now();
  const { start, ...minute } = known.minute;
  return {
    model: name,
    requests: row?.requests ?? null,
    tokens: row?.tokens ?? null,
    perMs: row?.perMs ?? MINUTE_MS,
    coolMs: Math.max(0, (row?.coolUntil ?? 0) - now),
    error: known.error,
    errorAt: known.errorAt,
    minute: start > now - 2 * MINUTE_MS ? (start > now - MINUTE_MS ? known.before : minute) : NO_LOAD.before,
    total: known.total,
    shares: shares.filter((share) => share.requests > 0 || share.tokens > 0).length,
  };
}

/** By name, a page at a time. */
export async function list(
  ctx: QueryCtx,
  { limit, cursor }: { limit: number; cursor: string | null },
): Promise<{ models: ModelView[]; cursor: string | null }> {
  const numItems = checkInteger("limit", limit, 1, MAX_LIST);
  const page = await ctx.db.query("modelLoads").withIndex("by_model").paginate({ numItems, cursor });
  const models = await Promise.all(page.page.map((load) => view(ctx, load.model, load)));
  return { models, cursor: page.isDone ? null : page.continueCursor };
}

/** The attempts of a task's model calls, in the order in which they were reported. */
export async function callsOf(
  ctx: QueryCtx,
  task: Id<"tasks">,
  cursor: string | null,
): Promise<{ calls: ModelCall[]; cursor: string | null }> {
  const page = await ctx.db
    .query("modelCalls")
    .withIndex("by_task", (q) => q.eq("task", task))
    .paginate({ numItems: MAX_LIST, cursor });
  const calls = page.page.map((row) => {
    const { task: of, run, call, attempt, model, provider, startedMs, ms, state } = row;
    const { error, usage, costMicros, estimated } = row;
    return {
      task: of,
      run,
      call,
      attempt,
      model,
      provider,
      startedMs,
      ms,
      state,
      error,
      usage,
      costMicros,
      estimated,
    };
  });
  return { calls, cursor: page.isDone ? null : page.continueCursor };
}
