/** What those are told who hold runs. */
import { internal } from "../_generated/api";
import type { Doc } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";

/** Ask the holder of a run to stop it: a worker by its next sync, an endpoint by a call. */
export async function askToStop(
  ctx: MutationCtx,
  run: Pick<Doc<"runs">, "_id" | "session">,
  reason: string,
): Promise<void> {
  const session = await ctx.db.get("sessions", run.session);
  if (session?.key === null) await ctx.scheduler.runAfter(0, internal.push.cancel, { run: run._id, reason });
  else await ctx.db.insert("controls", { session: run.session, kind: "cancel", run: run._id, reason });
}
