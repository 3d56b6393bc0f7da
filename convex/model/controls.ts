/** What those are told who hold runs: a worker by its next sync, an endpoint by a call. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";

type Told = Omit<Doc<"controls">, "_id" | "_creationTime" | "session" | "run">;

/** Tell the holder of a run something. It stands until it was heard, or the session ends. */
export async function tell(
  ctx: MutationCtx,
  run: Pick<Doc<"runs">, "_id" | "session" | "worker">,
  told: Told,
): Promise<void> {
  const control = await ctx.db.insert("controls", { session: run.session, run: run._id, ...told });
  const worker = await ctx.db.get("workers", run.worker);
  if (worker?.endpoint !== undefined) await callLater(ctx, control);
}

/** Tell an endpoint what stands; again while nothing comes of it. */
export const callLater = (ctx: MutationCtx, control: Id<"controls">) =>
  ctx.scheduler.runAfter(0, internal.push.tell, { control });

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
