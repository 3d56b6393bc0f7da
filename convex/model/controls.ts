/** What those are told who hold runs: a worker by its next sync, an endpoint by a call. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { INBOX_CONTROLS } from "../constants";

type Control = Doc<"controls">;
type Told = Omit<Control, "_id" | "_creationTime" | "session" | "run">;

/** Tell the holder of a run something. It stands until it was heard, or the session ends. */
export async function tell(
  ctx: MutationCtx,
  run: Pick<Doc<"runs">, "_id" | "session" | "worker">,
  told: Told,
): Promise<void> {
  const control = await ctx.db.insert("controls", { session: run.session, run: run._id, ...told });
  const worker = await ctx.db.get("workers", run.worker);
  if (worker?.endpoint === undefined) return;
  const isBehind = told.kind === "signal" && (await firstSignalTo(ctx, run._id))?._id !== control;
  if (!isBehind) await callLater(ctx, control);
}

/** Tell an endpoint what stands; again while nothing comes of it. */
const callLater = (ctx: MutationCtx, control: Id<"controls">) =>
  ctx.scheduler.runAfter(0, internal.push.tell, { control });

/**
 * Tell an endpoint again what of these it has not heard. Calls overtake each other, so of the signals to a run the first alone is
 * under way: the next goes when it was heard.
 *
 * @param rows of one kind for one run: oldest first
 */
export async function callAgain(ctx: MutationCtx, rows: readonly Control[]): Promise<void> {
  const signalled = new Set<Id<"runs"> | null>();
  for (const { _id, kind, run } of rows) {
    if (kind === "signal" && signalled.has(run)) continue;
    if (kind === "signal") signalled.add(run);
    await callLater(ctx, _id);
  }
}

/** An endpoint holds a run from now on: what it was told of it before, it did not know what to do with. */
export async function callOfRun(ctx: MutationCtx, run: Id<"runs">): Promise<void> {
  const rows = await ctx.db
    .query("controls")
    .withIndex("by_run_and_kind", (q) => q.eq("run", run))
    .take(INBOX_CONTROLS);
  await callAgain(ctx, rows);
}

/** An endpoint has heard what it was to be told. */
export async function heard(ctx: MutationCtx, id: Id<"controls">): Promise<void> {
  const row = await ctx.db.get("controls", id);
  if (row === null) return; // it was told twice
  await ctx.db.delete("controls", id);
  const next = row.kind === "signal" && row.run !== null ? await firstSignalTo(ctx, row.run) : null;
  if (next !== null) await callLater(ctx, next._id);
}

function firstSignalTo(ctx: QueryCtx, run: Id<"runs">): Promise<Control | null> {
  return ctx.db
    .query("controls")
    .withIndex("by_run_and_kind", (q) => q.eq("run", run).eq("kind", "signal"))
    .first();
}

/** Ask the holder of a run to stop it. */
export const askToStop = (
  ctx: MutationCtx,
  run: Pick<Doc<"runs">, "_id" | "session" | "worker">,
  reason: string,
): Promise<void> => tell(ctx, run, { kind: "cancel", reason });

/** What a control says, with the signal that it is about. */
export async function controlView(ctx: QueryCtx, row: Doc<"controls">) {
  const signal = row.signal === undefined ? null : await ctx.db.get("signals", row.signal);
  return {
    control: row._id,
    kind: row.kind,
    run: row.run,
    reason: row.reason,
    signal:
      signal === null || signal.taken ? null : { signal: signal._id, name: signal.name, data: signal.data },
    ...(row.allotment && { allotment: row.allotment }),
  };
}
