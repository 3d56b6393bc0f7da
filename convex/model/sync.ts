/** The one request of a living worker: heartbeat, accepts, text, results, acknowledgements. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  IDLE_HEARTBEAT_MS,
  MAX_CHUNK_BYTES,
  MAX_NEXT,
  MAX_SILENT,
  MAX_SPENDINGS,
  MAX_SYNC_BYTES,
  MAX_SYNC_ITEMS,
  WATCHED_SYNC_MS,
} from "../constants";
import type { Spending } from "../budget.validators";
import { refuse } from "../errors";
import type { CallReport, ModelReport } from "../model.validators";
import type {
  Chunk,
  Clocks,
  Fault,
  Finished,
  Outcome,
  ProgressReport,
  RunState,
  StepReport,
  Synced,
} from "../validators";
import { keepSpending, tellSpending } from "./budget.work";
import { record } from "./events";
import { leaveLoopsAlone, wakeIfStarved } from "./loops";
import { keepProgress } from "./progress";
import { accept, end, isLive } from "./runs";
import type { Caller } from "./keys";
import { checkModelName, keepCalls, reportLater } from "./models";
import { objectionTo } from "./sandbox";
import { beat, heartbeatMs, heartbeatOf, sessionOf } from "./sessions";
import { submitNext } from "./spawn";
import { settleLater } from "./settlements";
import { keepSteps } from "./steps";
import { checkJson, fitsIn } from "./text";
import { added, NO_USAGE } from "./usage";
import { refusal } from "./waits";

export type Body = {
  session: Id<"sessions">;
  seq: number;
  accepted: Id<"runs">[];
  chunks: Chunk[];
  finished: Finished[];
  acknowledged: Id<"controls">[];
  steps?: StepReport[];
  progress?: ProgressReport[];
  clocks?: Clocks;
  calls?: CallReport[];
  models?: ModelReport[];
  spending?: Spending[];
};

const FENCED = "the run is no longer this session's";

/**
 * Apply what a worker reports, once for each sequence number, and answer with what waits for it.
 *
 * It writes only rows that this worker owns, and inserts, so the syncs of different workers never conflict. What waits is
 * read from the snapshot at which the transaction began, outside its read set, so with dispatch it shares only the row in
 * which that loop notes that it falls asleep or wakes. A repeat writes nothing but the lease, and its answer is computed
 * afresh from state.
 */
export async function sync(ctx: MutationCtx, caller: Caller, body: Body): Promise<Synced> {
  checkShape(body);
  leaveLoopsAlone(ctx);
  const session = await sessionOf(ctx, caller, body.session);
  const heartbeat = await heartbeatOf(ctx, session._id);
  const fresh = body.seq > heartbeat.seq;
  if (session.ended !== null) return refuseAll(ctx, heartbeat, body, fresh, session.ended);

  const finishing = body.finished.map((item) => item.run);
  const { inbox, holdsMore } = await ctx.runQuery(
    internal.worker.standing,
    { session: session._id, accepted: body.accepted, finishing },
    { useStaleSnapshot: true },
  );
  const now = Date.now();
  const runs = await Runs.of(ctx, session._id, body);
  const held = new Set(body.chunks.map((chunk) => chunk.run).filter((id) => runs.live(id) !== undefined));
  const results: Synced["results"] = [];
  // What a run has done comes before its end: then it stands whatever becomes of the run.
  if (fresh && body.calls !== undefined) await takeCalls(ctx, runs, body.calls);
  if (fresh && body.steps !== undefined) await takeSteps(ctx, runs, body.steps, now);
  for (const item of body.finished) {
    const reason = await finish(ctx, runs, item, fresh, now);
    results.push({ run: item.run, accepted: reason === null, reason });
  }
  if (fresh) {
    for (const id of body.accepted) {
      const run = runs.live(id);
      if (run !== undefined && !finishing.includes(id)) await accept(ctx, run, now);
    }
    // Text of a run that ends in this very request still belongs to it.
    await keepChunks(
      ctx,
      body.chunks.filter((chunk) => held.has(chunk.run)),
    );
    for (const report of body.progress ?? []) {
      if (runs.own(report.run) !== undefined) await keepProgress(ctx, report, now);
    }
    for (const report of body.models ?? []) {
      await reportLater(ctx, report.model, { session: session._id, report });
    }
    for (const report of body.spending ?? []) {
      const run = runs.live(report.run);
      if (run !== undefined) await tellSpending(ctx, run, report);
    }
    if (finishing.length > 0) await wakeIfStarved(ctx);
    for (const id of body.acknowledged) {
      const control = await ctx.db.get("controls", id);
      if (control?.session === session._id) await ctx.db.delete("controls", id);
    }
  }

  const watched = inbox.watched.filter((run) => !finishing.includes(run));
  const acknowledged = new Set(body.acknowledged);
  const lease = await beat(ctx, heartbeat, Math.max(body.seq, heartbeat.seq), holdsMore, body.clocks);
  return {
    live: true,
    ended: null,
    assigned: inbox.assigned,
    lost: runs.lost(new Set(results.filter((result) => result.accepted).map(({ run }) => run))),
    controls: inbox.controls.filter(({ control }) => !acknowledged.has(control)),
    watched,
    results,
    ...(inbox.models === undefined ? {} : { models: inbox.models }),
    leaseMs: lease,
    nextSyncMs: !holdsMore ? IDLE_HEARTBEAT_MS : watched.length > 0 ? WATCHED_SYNC_MS : heartbeatMs(),
  };
}

function checkShape(body: Body): void {
  const {
    accepted,
    chunks,
    finished,
    acknowledged,
    steps = [],
    progress = [],
    calls = [],
    models = [],
  } = body;
  const items = [accepted, chunks, finished, acknowledged, steps, progress, calls, models].reduce(
    (sum, { length }) => sum + length,
    0,
  );
  if (items > MAX_SYNC_ITEMS) {
    throw refuse("invalid_argument", `sync: ${items} items, at most ${MAX_SYNC_ITEMS} in a request.`);
  }
  let size = 0;
  for (const { text } of chunks) size += text.length;
  for (const { result } of steps) size += result?.length ?? 0;
  for (const { state } of progress) size += state?.length ?? 0;
  for (const { outcome } of finished) {
    if (outcome.kind === "succeeded") size += (outcome.output?.length ?? 0) + (outcome.next?.length ?? 0);
  }
  for (const { model, error } of [...calls, ...models]) {
    checkModelName(model);
    size += error?.message.length ?? 0;
  }
  if (size > MAX_SYNC_BYTES) {
    throw refuse(
      "payload_too_large",
      `sync: ${size} characters of text, at most ${MAX_SYNC_BYTES} in a request.`,
    );
  }
  let next = 0;
  for (const { outcome } of finished) if (outcome.kind === "succeeded") next += lengthOf(outcome.next);
  if (next > MAX_NEXT) {
    // Else a run would be refused its next tasks because of its neighbours'. The worker sends fewer ends at a time.
    throw refuse("payload_too_large", `finished: ${next} next tasks, at most ${MAX_NEXT} in a request.`);
  }
  if ((body.spending?.length ?? 0) > MAX_SPENDINGS) {
    throw refuse("invalid_argument", `spending: of at most ${MAX_SPENDINGS} runs in a request.`);
  }
  if ((body.clocks?.silent.length ?? 0) > MAX_SILENT) {
    throw refuse("invalid_argument", `clocks: at most ${MAX_SILENT} silent runs are told.`);
  }
  for (const chunk of chunks) {
    if (!fitsIn(chunk.text, MAX_CHUNK_BYTES)) {
      throw refuse(
        "payload_too_large",
        `chunks: text of chunk ${chunk.seq} is over ${MAX_CHUNK_BYTES} bytes; split it.`,
      );
    }
  }
}

/** How many items a JSON list has; what is no list is refused with its run. */
function lengthOf(text: string | undefined): number {
  if (text === undefined) return 0;
  try {
    const list: unknown = JSON.parse(text);
    return Array.isArray(list) ? list.length : 0;
  } catch {
    return 0;
  }
}

/** Append to the streams. A worker that had to send a piece again under another number may repeat it: it is kept once. */
export async function keepChunks(ctx: MutationCtx, chunks: Chunk[]): Promise<void> {
  const last = new Map<Id<"runs">, number>();
  for (const chunk of chunks) {
    const kept = last.get(chunk.run) ?? (await lastSeq(ctx, chunk.run));
    if (chunk.seq > kept) await ctx.db.insert("chunks", chunk);
    last.set(chunk.run, Math.max(kept, chunk.seq));
  }
}

async function lastSeq(ctx: QueryCtx, run: Id<"runs">): Promise<number> {
  const last = await ctx.db
    .query("chunks")
    .withIndex("by_run_and_seq", (q) => q.eq("run", run))
    .order("desc")
    .first();
  return last?.seq ?? -1;
}

/** The runs that a request mentions, each once. */
function mentioned(body: Body): Id<"runs">[] {
  const named = [
    body.chunks,
    body.steps ?? [],
    body.progress ?? [],
    body.calls ?? [],
    body.finished,
    body.spending ?? [],
  ].flat();
  return [...new Set([...body.accepted, ...named.map(({ run }) => run)])];
}

/** The runs that a request mentions, each read once. */
class Runs {
  private constructor(
    private readonly session: Id<"sessions">,
    private readonly byId: Map<Id<"runs">, Doc<"runs"> | null>,
  ) {}

  static async of(ctx: MutationCtx, session: Id<"sessions">, body: Body): Promise<Runs> {
    const byId = new Map<Id<"runs">, Doc<"runs"> | null>();
    for (const id of mentioned(body)) {
      byId.set(id, await ctx.db.get("runs", id));
    }
    return new Runs(session, byId);
  }

  /** The run, if this session holds it. */
  live(id: Id<"runs">): Doc<"runs"> | undefined {
    const run = this.own(id);
    return run !== undefined && isLive(run) ? run : undefined;
  }

  /** The run, if it is or was this session's. */
  own(id: Id<"runs">): Doc<"runs"> | undefined {
    const run = this.byId.get(id);
    return run?.session === this.session ? run : undefined;
  }

  /** From here on the request finds the run as it now is: named twice, it is ended once. */
  ended(run: Doc<"runs">, state: RunState): void {
    this.changed(run, { state });
  }

  changed(run: Doc<"runs">, change: Partial<Doc<"runs">>): void {
    this.byId.set(run._id, { ...run, ...change });
  }

  any(id: Id<"runs">): Doc<"runs"> | null | undefined {
    return this.byId.get(id);
  }

  /** Those that are no longer the session's, but for those whose result stands. */
  lost(standing: ReadonlySet<Id<"runs">>): Id<"runs">[] {
    return [...this.byId.keys()].filter((id) => this.live(id) === undefined && !standing.has(id));
  }
}

/**
 * Keep the calls of models and count what they have used: with the run while it is held, behind its end by the settle loop,
 * since the task may be another worker's by now.
 */
async function takeCalls(ctx: MutationCtx, runs: Runs, calls: readonly CallReport[]): Promise<void> {
  for (const [id, more] of await keepCalls(ctx, calls, (run) => runs.own(run)?.task)) {
    const run = runs.live(id);
    if (run === undefined) {
      await settleLater(ctx, { kind: "used", run: id, usage: more });
      continue;
    }
    const usage = added(run.usage ?? NO_USAGE, more);
    await ctx.db.patch("runs", id, { usage });
    runs.changed(run, { usage });
  }
}

/** Keep the steps of each run that is held; one that cannot go on ends here, and its worker learns that it is lost. */
async function takeSteps(
  ctx: MutationCtx,
  runs: Runs,
  reports: readonly StepReport[],
  now: number,
): Promise<void> {
  for (const id of new Set(reports.map(({ run }) => run))) {
    const run = runs.live(id);
    if (run === undefined) continue;
    const its = reports.filter((report) => report.run === id);
    const { change, fault } = await keepSteps(ctx, run, its);
    runs.changed(run, change);
    if (fault === null) continue;
    await end(ctx, { ...run, ...change }, unretryable(fault), null, now);
    runs.ended({ ...run, ...change }, "failed");
    await wakeIfStarved(ctx);
  }
}

const unretryable = (error: Fault): Outcome => ({
  kind: "failed",
  error,
  retryable: false,
  notBeforeMs: null,
});

/** @returns null when the result stands, else why it was refused */
async function finish(
  ctx: MutationCtx,
  runs: Runs,
  { run: id, outcome, usage, spending }: Finished,
  fresh: boolean,
  now: number,
): Promise<string | null> {
  const run = runs.live(id);
  let kept = checkOutput(outcome);
  if (run === undefined) {
    const ended = runs.own(id);
    if (ended?.state === kept.kind) return null;
    if (fresh) await recordRefusal(ctx, runs.any(id));
    return ended === undefined ? FENCED : `the run has ended: ${ended.state}`;
  }
  // A repeat writes nothing: its items were applied with the first request, or refused by it.
  if (fresh) {
    const fault =
      kept.kind === "suspended"
        ? await refusal(ctx, run, kept)
        : kept.kind === "succeeded" && kept.next !== undefined
          ? (objectionTo(run, "it ends with tasks to come next") ??
            (await submitNext(ctx, run.task, kept.next)))
          : null;
    if (fault !== null) kept = unretryable(fault);
    if (spending !== undefined) await keepSpending(ctx, run, spending);
    await end(ctx, run, kept, usage, now);
    runs.ended(run, kept.kind);
    if (fault !== null) return `the run has ended: ${kept.kind}`;
  }
  return null;
}

/** An output that cannot be kept fails its run alone and not the request that carries it. */
export function checkOutput(outcome: Outcome): Outcome {
  if (outcome.kind !== "succeeded" || outcome.output === null) return outcome;
  try {
    checkJson("output", outcome.output);
    return outcome;
  } catch (error) {
    const { data } = error as { data: { message: string } };
    return unretryable({ code: "invalid_output", message: data.message });
  }
}

export async function recordRefusal(ctx: MutationCtx, run: Doc<"runs"> | null | undefined): Promise<void> {
  const task = run && (await ctx.db.get("tasks", run.task));
  if (task) await record(ctx, task, "run_refused", run._id, { attempt: run.attempt, state: run.state });
}

/** The session has ended: nothing of the request is applied but what was paid for, and the history says so once. */
async function refuseAll(
  ctx: MutationCtx,
  heartbeat: Doc<"heartbeats">,
  body: Body,
  fresh: boolean,
  ended: string,
): Promise<Synced> {
  if (fresh) {
    await ctx.db.patch("heartbeats", heartbeat._id, { seq: body.seq });
    if (body.calls !== undefined) await takeCalls(ctx, await Runs.of(ctx, body.session, body), body.calls);
    for (const { run } of body.finished) await recordRefusal(ctx, await ctx.db.get("runs", run));
  }
  return {
    live: false,
    ended,
    assigned: [],
    lost: mentioned(body),
    controls: [],
    watched: [],
    results: body.finished.map(({ run }) => ({ run, accepted: false, reason: FENCED })),
    leaseMs: 0,
    nextSyncMs: 0,
  };
}
