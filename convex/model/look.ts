/** What a dispatch pass sees: bounded, whatever waits. */
import type { Doc, Id } from "../_generated/dataModel";
import type { QueryCtx } from "../_generated/server";
import {
  BUDGET_WORK,
  DISPATCH_HINTS,
  DISPATCH_LANES,
  DISPATCH_STEPS,
  FREED_BATCH,
  LIMITS_WHOLE,
  MAX_LIVE_WORKERS,
  STICKY_MS,
} from "../constants";
import { Ledger, type Block, type Counter, type Limit, type Scope } from "./limits";
import { loopOf, type DispatchState } from "./loops";
import { behind, canRun, earliest, type Line, type Pool, type Waiting } from "./plan";
import { behindAgent } from "./waiting";

type InUse = Doc<"loopState">["inUse"];

/** From where a pass looks. `end`: where its circle of lanes began; `around`: it has passed the last lane since. */
export type Stand = {
  cursor: string;
  end: string;
  around: boolean;
  batch: number; // tasks to read at the most, over all lanes together
  inUse: InUse; // what each session held after the last pass
  freedFrom: bigint;
  limited: boolean;
  now: number;
};

export type Sight = {
  freed: { _id: Id<"freed">; session: Id<"sessions">; lane: string; runs: number; at: bigint }[];
  budgetWork: Id<"budgetWork">[];
  live: Id<"sessions">[];
  pools: Pool[]; // the workers that may be given work, with the room that they have now that `freed` is settled
  limits: Limit[]; // those that touch the lanes seen or freed
  counters: (Counter & { _id: Id<"counters"> })[];
  lines: Line[];
  unseen: { cursor: string; around: boolean } | null; // where the circle of lanes goes on
  starved: boolean; // lanes were passed by that wait for a worker, or for room under a limit
  nextAt: number | null; // when the first goes on of those that were passed by for a rate
};

/** Where the next pass begins, by what the last one left behind. */
export function standOf(
  { limited }: Pick<Doc<"loops">, "limited">,
  { cursor, circle, batch, inUse, freedFrom }: DispatchState,
  now: number,
): Stand {
  const { end, around } = circle ?? { end: cursor, around: false };
  return { cursor, end, around, batch, inUse, freedFrom, limited, now };
}

export async function look(ctx: QueryCtx, stand: Stand, freedLimit = FREED_BATCH): Promise<Sight> {
  const freed = await freedFrom(ctx, stand.freedFrom, freedLimit);
  const work = await ctx.db.query("budgetWork").take(BUDGET_WORK);
  const workers = await liveWorkers(ctx);
  const pools = poolsOf(workers, settled(stand.inUse, freed));
  const books = await Books.open(ctx, stand);
  for (const { lane, runs } of freed) {
    await books.learn(lane);
    books.ledger.release(lane, runs);
  }
  const waiting = await lanesInUse(ctx, stand, pools, books, freed);
  return {
    freed,
    budgetWork: work.map(({ _id }) => _id),
    live: workers.flatMap(({ session }) => session ?? []),
    pools,
    ...waiting,
    limits: books.ledger.limits,
    counters: books.counters,
  };
}

/** What was freed from a commit on, and is not settled. */
export async function freedFrom(
  ctx: QueryCtx,
  from: bigint,
  limit: number = FREED_BATCH,
): Promise<Sight["freed"]> {
  const rows = await ctx.db
    .query("freed")
    .withIndex("by_at", (q) => q.gte("at", from))
    .take(limit);
  return rows.map(({ _id, session, lane, runs = 1, at }) => ({ _id, session, lane, runs, at: at as bigint }));
}

export function liveWorkers(ctx: QueryCtx, most = MAX_LIVE_WORKERS): Promise<Doc<"workers">[]> {
  return ctx.db
    .query("workers")
    .withIndex("by_live", (q) => q.eq("live", true))
    .take(most);
}

/** What each session holds now that these runs have ended. */
export function settled(inUse: InUse, freed: readonly { session: Id<"sessions">; runs: number }[]): InUse {
  const held = { ...inUse };
  for (const { session, runs } of freed) held[session] = Math.max(0, (held[session] ?? 0) - runs);
  return held;
}

/**
 * For readers, what the next pass would find: how many runs each session holds, and what the limits of these lanes have in use,
 * both without what has ended since the last pass.
 *
 * @param most - how many rows of what has ended are read
 */
export async function standing(
  ctx: QueryCtx,
  lanes: readonly string[],
  now: number,
  most: number = FREED_BATCH,
): Promise<{
  dispatch: Doc<"loops"> | null;
  state: Doc<"loopState"> | null;
  inUse: InUse;
  ledger: Ledger;
}> {
  const dispatch = await loopOf(ctx, "dispatch");
  const state = dispatch && (await ctx.db.get("loopState", dispatch.state));
  const freed = await freedFrom(ctx, state?.freedFrom ?? 0n, most);
  const books = await Books.open(ctx, { limited: dispatch?.limited ?? false, now });
  for (const lane of lanes) await books.learn(lane); // and with them all that what has ended can share with them
  for (const { lane, runs } of freed) books.ledger.release(lane, runs);
  return { dispatch, state, inUse: settled(state?.inUse ?? {}, freed), ledger: books.ledger };
}

/** The workers that may be given work, those together that can run the same, each with the room that it has left. */
export function poolsOf(workers: readonly Doc<"workers">[], inUse: InUse): Pool[] {
  const pools = new Map<string, Pool>();
  for (const { _id, session, queues, agents, versions, forks, labels, llm, capacity, draining } of workers) {
    if (session === null || draining) continue;
    const profile = digest(JSON.stringify([queues, agents, versions, forks, labels, llm]));
    let pool = pools.get(profile);
    if (pool === undefined) {
      const beside = { ...(versions && { versions }), ...(forks !== undefined && { forks }) };
      pool = { profile, queues, agents, ...beside, labels, llm, workers: [] };
      pools.set(profile, pool);
    }
    pool.workers.push({ worker: _id, session, free: Math.max(0, capacity - (inUse[session] ?? 0)) });
  }
  return [...pools.values()];
}

/** A short name for what a worker can run (FNV-1a, twice 32 bits). */
function digest(text: string): string {
  let a = 0x811c9dc5;
  let b = 0x9dc5811c;
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 0x01000193);
    b = Math.imul(b ^ text.charCodeAt(i), 0x01000193) ^ (a >>> 15);
  }
  return `w${(a >>> 0).toString(36)}${(b >>> 0).toString(36)}`;
}

export const roomIn = (pools: readonly Pool[]): number =>
  pools.reduce((sum, pool) => sum + pool.workers.reduce((room, seat) => room + seat.free, 0), 0);

type Seen = Pick<Sight, "lines" | "unseen" | "starved" | "nextAt">;

/** What waits: all of it if that is less than the batch, else what the first lanes may start in their turns. */
async function lanesInUse(
  ctx: QueryCtx,
  stand: Stand,
  pools: readonly Pool[],
  books: Books,
  freed: readonly { lane: string }[],
): Promise<Seen> {
  const room = roomIn(pools);
  if (room === 0) return { lines: [], unseen: null, starved: false, nextAt: null };
  const batch = Math.min(stand.batch, room);
  const rows = await ctx.db.query("ready").withIndex("by_lane_and_rank").take(batch);
  if (rows.length < batch) {
    const lines: Line[] = [];
    for (const row of rows) {
      if (lines.at(-1)?.lane !== row.lane) {
        lines.push(lineOf([], row, false));
        await books.learn(row.lane);
      }
      lines.at(-1)!.tasks.push(await waitingOf(ctx, row, stand.now));
    }
    return { lines, unseen: null, starved: false, nextAt: null };
  }
  const { heads, ...seen } = await headsOfLanes(ctx, stand, pools, books);
  if (seen.unseen !== null) heads.push(...(await hinted(ctx, heads, pools, books, freed)));
  const total = heads.reduce((sum, head) => sum + books.ledger.weight(head.lane), 0);
  const lines: Line[] = [];
  let left = batch;
  for (const head of heads) {
    const share = Math.min(left, books.ledger.weight(head.lane) * Math.ceil(batch / total));
    left -= share;
    lines.push(await lineFrom(ctx, head, share, rows, stand.now));
  }
  return { lines, ...seen };
}

/** The first `share` tasks of a lane, and at least its head. */
async function lineFrom(
  ctx: QueryCtx,
  head: Doc<"ready">,
  share: number,
  rows: readonly Doc<"ready">[],
  now: number,
): Promise<Line> {
  let line = [head];
  if (share > 1 && rows[0]?.lane === head.lane && rows.at(share - 1)?.lane === head.lane) {
    line = rows.slice(0, share);
  } else if (share > 1) {
    const inLane = ctx.db.query("ready").withIndex("by_lane_and_rank", (q) => q.eq("lane", head.lane));
    line = await inLane.take(share);
  }
  const tasks = [];
  for (const row of line) tasks.push(await waitingOf(ctx, row, now));
  return lineOf(tasks, head, line.length >= share);
}

export function lineOf(tasks: Waiting[], row: Doc<"ready">, cut: boolean): Line {
  const { lane, queue, agent, kind, labels, version, fork } = row;
  const beside = { ...(version !== undefined && { version }), ...(fork && { fork }) };
  return { lane, queue, agent, kind, labels, ...beside, tasks, cut };
}

async function waitingOf(ctx: QueryCtx, row: Doc<"ready">, now: number): Promise<Waiting> {
  const { _id: ready, tenant, sticky } = row;
  if (sticky === undefined) return { ready };
  const last = await ctx.db
    .query("stickies")
    .withIndex("by_tenant_and_sticky", (q) => q.eq("tenant", tenant).eq("sticky", sticky))
    .unique();
  const known = last !== null && last.at > now - STICKY_MS;
  return { ready, sticky: { tenant, sticky }, ...(known && { prefer: last.worker }) };
}

/**
 * The heads of the lanes that may start something, from the cursor on: one step over the index for each lane in use, so no
 * table of lanes has to be kept up with. What holds back a whole queue, or an agent in it, is passed by in one step, and so
 * is what no worker with room can run.
 */
async function headsOfLanes(
  ctx: QueryCtx,
  { cursor, end, around: wasAround }: Stand,
  pools: readonly Pool[],
  books: Books,
): Promise<{ heads: Doc<"ready">[] } & Omit<Seen, "lines">> {
  const able = withRoom(pools);
  const heads: Doc<"ready">[] = [];
  const held: Block[] = [];
  let from = cursor;
  let around = wasAround;
  let stranded = false;
  const seen = (unseen: Seen["unseen"]) => ({
    heads,
    unseen,
    starved: stranded || held.some((block) => block.code === "limit"),
    nextAt: earliest(held.map((block) => (block.code === "rate" ? block.at : null))),
  });
  for (let steps = 0; steps < DISPATCH_STEPS; steps++) {
    const head = await ctx.db
      .query("ready")
      .withIndex("by_lane_and_rank", (q) =>
        around ? q.gte("lane", from).lt("lane", end) : q.gte("lane", from),
      )
      .first();
    if (head === null) {
      if (around || end === "") return seen(null);
      around = true;
      from = "";
      continue;
    }
    if (heads.length === DISPATCH_LANES) break;
    await books.learn(head.lane);
    const block = books.ledger.blocks(head.lane)[0];
    if (block !== undefined) {
      held.push(block);
      if (block.scope.kind === "system") return seen(null);
      from = beyond(head, block.scope);
    } else if (able.some((pool) => canRun(pool, head))) {
      heads.push(head);
      from = behind(head.lane);
    } else {
      stranded = true;
      from = behindUnserved(head, able);
    }
  }
  return seen({ cursor: from, around });
}

const withRoom = (pools: readonly Pool[]) => pools.filter((pool) => roomIn([pool]) > 0);

/** The first place behind all lanes that a scope holds back with this one. */
function beyond({ lane, queue, agent }: Doc<"ready">, { kind }: Scope): string {
  if (kind === "queue") return `${queue}0`; // "0" follows "/"
  if (kind === "agent") return `${queue}/${agent}0`;
  return behind(lane);
}

/** What of a lane it shares with all others of its queue and agent. */
const anyVersion = ({ queue, agent, kind }: Doc<"ready">) => ({ queue, agent, kind, labels: [] });

/** The first place behind all lanes that nobody can run for the same reason as this one. */
function behindUnserved(head: Doc<"ready">, able: readonly Pool[]): string {
  const { queue, agent } = head;
  const serving = able.filter((pool) => pool.queues.includes(queue));
  if (serving.length === 0) return `${queue}0`;
  if (!serving.some((pool) => canRun(pool, anyVersion(head)))) return `${queue}/${agent}0`;
  return behindAgent(head);
}

/**
 * Where there are more lanes than a pass reads, those where something has just ended or come may well be the ones that can
 * start something; so they need not wait until the circle comes to them.
 */
async function hinted(
  ctx: QueryCtx,
  heads: readonly Doc<"ready">[],
  pools: readonly Pool[],
  books: Books,
  freed: readonly { lane: string }[],
): Promise<Doc<"ready">[]> {
  const newest = await ctx.db.query("ready").order("desc").take(DISPATCH_HINTS);
  const lanes = new Set([...freed.slice(-DISPATCH_HINTS), ...newest].map((row) => row.lane));
  const found: Doc<"ready">[] = [];
  for (const lane of lanes) {
    if (heads.some((head) => head.lane === lane)) continue;
    const line = ctx.db.query("ready").withIndex("by_lane_and_rank", (q) => q.eq("lane", lane));
    const head = await line.first();
    if (head === null || !withRoom(pools).some((pool) => canRun(pool, head))) continue;
    await books.learn(lane);
    if (books.ledger.blocks(lane).length === 0) found.push(head);
  }
  return found;
}

/** Reads the rules and counters of lanes as they come into view, each once. */
export class Books {
  readonly counters: Sight["counters"] = [];

  private constructor(
    private readonly ctx: QueryCtx,
    readonly ledger: Ledger,
  ) {}

  static async open(ctx: QueryCtx, { limited, now }: Pick<Stand, "limited" | "now">): Promise<Books> {
    if (!limited) return new Books(ctx, new Ledger(now));
    const limits = await ctx.db
      .query("limits")
      .withIndex("by_kind_and_name")
      .take(LIMITS_WHOLE + 1);
    const whole = limits.length <= LIMITS_WHOLE;
    return new Books(ctx, new Ledger(now, whole ? limits : [], [], whole));
  }

  async learn(lane: string): Promise<void> {
    if (this.ledger.idle) return;
    for (const rule of this.ledger.missingRules(lane)) {
      const found = await this.ctx.db
        .query("limits")
        .withIndex("by_kind_and_name", (q) => q.eq("kind", rule.kind).eq("name", rule.name))
        .unique();
      this.ledger.learnRule(rule, found);
    }
    for (const scope of this.ledger.missingCounters(lane)) {
      const found = await this.ctx.db
        .query("counters")
        .withIndex("by_kind_and_name", (q) => q.eq("kind", scope.kind).eq("name", scope.name))
        .unique();
      this.ledger.learnCounter(scope, found);
      if (found !== null) this.counters.push(found);
    }
  }
}
