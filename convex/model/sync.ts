/** The one request of a living worker: heartbeat, accepts, text, results, acknowledgements. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx } from "../_generated/server";
import { IDLE_HEARTBEAT_MS, WATCHED_SYNC_MS } from "../constants";
import type { Clocks, Synced } from "../validators";
import type { Caller } from "./keys";
import { leaveLoopsAlone } from "./loops";
import { checkSilent } from "./progress";
import {
  checkReports,
  FENCED,
  keepReports,
  mentioned,
  recordRefusal,
  Runs,
  takeCalls,
  type Reports,
} from "./reports";
import { heard } from "./registration";
import { beat, heartbeatMs, heartbeatOf, sessionOf } from "./sessions";

export type Body = Reports & {
  session: Id<"sessions">;
  seq: number;
  acknowledged: Id<"controls">[];
  clocks?: Clocks;
};

/**
 * Apply what a worker reports, once for each sequence number, and answer with what waits for it.
 *
 * It writes only rows that this worker owns, and inserts, so the syncs of different workers never conflict. What waits is
 * read from the snapshot at which the transaction began, outside its read set, so with dispatch it shares only the row in
 * which that loop notes that it falls asleep or wakes. A repeat writes nothing but the lease, and its answer is computed
 * afresh from state.
 */
export async function sync(ctx: MutationCtx, caller: Caller, body: Body): Promise<Synced> {
  checkBody(body);
  const session = await heard(ctx, caller, await sessionOf(ctx, caller, body.session));
  leaveLoopsAlone(ctx);
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
  const results = await keepReports(ctx, runs, body, fresh, now);
  if (fresh) {
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

function checkBody(body: Body): void {
  checkReports(body, body.acknowledged.length);
  checkSilent(body.clocks?.silent ?? []);
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
