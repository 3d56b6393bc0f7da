/** What the holder of runs says of them, in a worker's sync or an endpoint's callback: the same is kept of it. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { MAX_CHUNK_BYTES, MAX_NEXT, MAX_SPENDINGS, MAX_SYNC_BYTES, MAX_SYNC_ITEMS } from "../constants";
import type { Spending } from "../budget.validators";
import { refuse } from "../errors";
import type { CallReport, ModelReport } from "../model.validators";
import type {
  Chunk,
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
import { wakeIfStarved } from "./loops";
import { checkModelName, checkModelReport, keepCalls, reportLater } from "./models";
import { checkNumbers } from "./numbers";
import { keepProgress } from "./progress";
import { Room } from "./room";
import { accept, asBegun, end, isLive } from "./runs";
import { objectionTo } from "./sandbox";
import { settleLater } from "./settlements";
import { submitNext } from "./spawn";
import { keepSteps } from "./steps";
import { checkJson, fitsIn } from "./text";
import { added, NO_USAGE } from "./usage";
import { refusal } from "./waits";

export type Reports = {
  accepted: Id<"runs">[];
  chunks: Chunk[];
  finished: Finished[];
  steps?: StepReport[];
  progress?: ProgressReport[];
  calls?: CallReport[];
  models?: ModelReport[];
  spending?: Spending[];
};

export const FENCED = "the run is no longer this session's";

/**
 * Keep what is said of runs that a session holds; of others nothing.
 *
 * @param fresh - a repeat writes nothing, and is answered from state
 */
export async function keepReports(
  ctx: MutationCtx,
  runs: Runs,
  said: Reports,
  fresh: boolean,
  now: number,
): Promise<Synced["results"]> {
  const finishing = said.finished.map((item) => item.run);
  const held = new Set(said.chunks.map((chunk) => chunk.run).filter((id) => runs.live(id) !== undefined));
  const results: Synced["results"] = [];
  const room = new Room();
  if (fresh) await takeModels(ctx, runs.session, said.models ?? []);
  // What a run has done comes before its end: then it stands whatever becomes of the run.
  if (fresh && said.calls !== undefined) await takeCalls(ctx, runs, said.calls);
  if (fresh && said.steps !== undefined) await takeSteps(ctx, runs, said.steps, now, room);
  for (const item of said.finished) {
    const reason = await finish(ctx, runs, item, fresh, now, room);
    results.push({ run: item.run, accepted: reason === null, reason });
  }
  if (!fresh) return results;
  await room.leave(ctx);
  for (const id of said.accepted) {
    const run = runs.live(id);
    if (run !== undefined && !finishing.includes(id)) await accept(ctx, run, now);
  }
  // Text of a run that ends in this very request still belongs to it.
  await keepChunks(
    ctx,
    said.chunks.filter((chunk) => held.has(chunk.run)),
  );
  for (const report of said.progress ?? []) {
    if (runs.own(report.run) !== undefined) await keepProgress(ctx, report, now);
  }
  for (const report of said.spending ?? []) {
    const run = runs.live(report.run);
    if (run !== undefined) await tellSpending(ctx, run, report);
  }
  if (finishing.length > 0) await wakeIfStarved(ctx);
  return results;
}

/** The runs that a request mentions, each once. */
export function mentioned(said: Reports): Id<"runs">[] {
  const named = [
    said.chunks,
    said.steps ?? [],
    said.progress ?? [],
    said.calls ?? [],
    said.finished,
    said.spending ?? [],
  ].flat();
  return [...new Set([...said.accepted, ...named.map(({ run }) => run)])];
}

/** The runs that a request mentions, each read once. */
export class Runs {
  private constructor(
    readonly session: Id<"sessions">,
    private readonly byId: Map<Id<"runs">, Doc<"runs"> | null>,
  ) {}

  static async of(ctx: MutationCtx, session: Id<"sessions">, said: Reports): Promise<Runs> {
    const byId = new Map<Id<"runs">, Doc<"runs"> | null>();
    for (const id of mentioned(said)) {
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

/** Leave what the holder of runs has seen of models to their loop: it counts whatever becomes of the runs. */
export async function takeModels(
  ctx: MutationCtx,
  session: Id<"sessions">,
  models: readonly ModelReport[],
): Promise<void> {
  for (const report of models) await reportLater(ctx, report.model, { session, report });
}

/**
 * Keep the calls of models and count what they have used: with the run while it is held, behind its end by the settle loop,
 * since the task may be another worker's by now.
 */
export async function takeCalls(ctx: MutationCtx, runs: Runs, calls: readonly CallReport[]): Promise<void> {
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
  room: Room,
): Promise<void> {
  for (const id of new Set(reports.map(({ run }) => run))) {
    const run = runs.live(id);
    if (run === undefined) continue;
    const its = reports.filter((report) => report.run === id);
    const { change, fault } = await keepSteps(ctx, run, its);
    runs.changed(run, change);
    if (fault === null) continue;
    await end(ctx, asBegun({ ...run, ...change }), unretryable(fault), null, now, room);
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
  room: Room,
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
    // A short run is accepted by its result alone; one that is handed back may never have begun.
    await end(ctx, kept.kind === "released" ? run : asBegun(run), kept, usage, now, room);
    runs.ended(run, kept.kind);
    if (fault !== null) return `the run has ended: ${kept.kind}`;
  }
  return null;
}

/** An output that cannot be kept fails its run alone and not the request that carries it. */
function checkOutput(outcome: Outcome): Outcome {
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

/**
 * Refuse what is more than one transaction is to keep.
 *
 * @param beside - items that come with it
 */
export function checkReports(said: Reports, beside = 0): void {
  const { accepted, chunks, finished, steps = [], progress = [], calls = [], models = [] } = said;
  const items = [accepted, chunks, finished, steps, progress, calls, models].reduce(
    (sum, { length }) => sum + length,
    beside,
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
  for (const { model, error } of calls) {
    checkModelName(model);
    size += error?.message.length ?? 0;
  }
  for (const report of models) {
    checkModelReport(report);
    size += report.error?.message.length ?? 0;
  }
  checkNumbers(said);
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
  if ((said.spending?.length ?? 0) > MAX_SPENDINGS) {
    throw refuse("invalid_argument", `spending: of at most ${MAX_SPENDINGS} runs in a request.`);
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
async function keepChunks(ctx: MutationCtx, chunks: Chunk[]): Promise<void> {
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
