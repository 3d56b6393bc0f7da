/** A worker's session: its lease, its inbox, its end; see registration.ts for its beginning. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import { env, type MutationCtx, type QueryCtx } from "../_generated/server";
import {
  END_RUNS_BATCH,
  HEARTBEATS_PER_LEASE,
  IDLE_HEARTBEAT_MS,
  IDLE_LEASE_MS,
  INBOX_BYTES,
  INBOX_CONTROLS,
  INBOX_RUNS,
  INBOX_WATCHES,
  LEASE_MS,
  MAX_SYNC_BYTES,
  MAX_SYNC_ITEMS,
  MAX_PAYLOAD_BYTES,
  MIN_LEASE_MS,
  SET_ASIDE_MS,
} from "../constants";
import { refuse } from "../errors";
import type { Clocks, Fault, Inbox } from "../validators";
import { clearAlarm, setAlarm } from "./alarms";
import { controlView } from "./controls";
import type { Caller } from "./keys";
import { wakeIfStarved, wakeTimersBy } from "./loops";
import { leaveShares, statesFor } from "./models";
import { assignment, end, isLive, lose } from "./runs";

/** How long a busy worker may be silent: the deployment's setting, or the default where that is no use. */
export function leaseMs(): number {
  const ms = Number(env.SIGNALBOX_LEASE_MS ?? "");
  return isLease(ms) ? ms : LEASE_MS;
}

export const isLease = (ms: number) => ms >= MIN_LEASE_MS && ms <= IDLE_LEASE_MS;

/** The session, if `caller` may speak for it: only the key that opened it may. */
export async function sessionOf(ctx: QueryCtx, caller: Caller, id: Id<"sessions">): Promise<Doc<"sessions">> {
  const session = await ctx.db.get("sessions", id);
  if (session === null) throw refuse("not_found", `No session ${id}.`);
  if (session.key !== caller.key) throw refuse("forbidden", `Session ${id} belongs to another key.`);
  return session;
}

export const heartbeatMs = () => Math.floor(leaseMs() / HEARTBEATS_PER_LEASE);

export function limits() {
  return {
    leaseMs: leaseMs(),
    heartbeatMs: heartbeatMs(),
    idleLeaseMs: IDLE_LEASE_MS,
    idleHeartbeatMs: IDLE_HEARTBEAT_MS,
    maxSyncItems: MAX_SYNC_ITEMS,
    maxSyncBytes: MAX_SYNC_BYTES,
    maxOutputBytes: MAX_PAYLOAD_BYTES,
  };
}

export async function heartbeatOf(ctx: QueryCtx, session: Id<"sessions">): Promise<Doc<"heartbeats">> {
  return (await ctx.db
    .query("heartbeats")
    .withIndex("by_session", (q) => q.eq("session", session))
    .unique())!;
}

/** When the process that holds a session was last heard. */
export const beatAt = ({ heardAt, state, expiresAt }: Doc<"heartbeats">): number =>
  heardAt ?? expiresAt - (state === "busy" ? leaseMs() : IDLE_LEASE_MS);

/** What waits for a session. It reads no heartbeat, so a subscription to it sleeps while its worker merely lives. */
export async function inbox(ctx: QueryCtx, session: Doc<"sessions">): Promise<Inbox> {
  return session.ended === null
    ? inboxWith(ctx, session._id, await assignedRuns(ctx, session._id))
    : { live: false, ended: session.ended, assigned: [], controls: [], watched: [] };
}

function assignedRuns(ctx: QueryCtx, session: Id<"sessions">): Promise<Doc<"runs">[]> {
  return ctx.db
    .query("runs")
    .withIndex("by_session_and_state", (q) => q.eq("session", session).eq("state", "assigned"))
    .take(INBOX_RUNS);
}

async function inboxWith(ctx: QueryCtx, session: Id<"sessions">, runs: Doc<"runs">[]): Promise<Inbox> {
  const agents = new Map<string, Doc<"agents"> | null>();
  const assigned = [];
  let bytes = 0;
  for (const run of runs) {
    const item = await assignment(ctx, run, agents);
    if (item === null) continue;
    assigned.push(item);
    bytes += (item.input?.length ?? 0) + (item.llm?.prompt.length ?? 0);
    if (bytes >= INBOX_BYTES) break;
  }
  const controls = await ctx.db
    .query("controls")
    .withIndex("by_session", (q) => q.eq("session", session))
    .take(INBOX_CONTROLS);
  const watches = await ctx.db
    .query("watches")
    .withIndex("by_session_and_until", (q) => q.eq("session", session).gt("until", Date.now()))
    .take(INBOX_WATCHES);
  const models = await statesFor(ctx, session);
  return {
    live: true,
    ended: null,
    assigned,
    controls: await Promise.all(controls.map((row) => controlView(ctx, row))),
    watched: watches.map((watch) => watch.run),
    ...(models.length === 0 ? {} : { models }),
  };
}

/**
 * Where a living session stands once it has accepted and finished some runs: its inbox without these, and whether it still
 * holds a run.
 */
export async function standing(
  ctx: QueryCtx,
  session: Id<"sessions">,
  accepted: readonly Id<"runs">[],
  finishing: readonly Id<"runs">[],
): Promise<{ inbox: Inbox; holdsMore: boolean }> {
  const ending = new Set(finishing);
  const taken = new Set([...accepted, ...finishing]);
  const assigned = await assignedRuns(ctx, session);
  const running = () =>
    ctx.db
      .query("runs")
      .withIndex("by_session_and_state", (q) => q.eq("session", session).eq("state", "running"))
      .take(finishing.length + 1);
  const holds = (runs: Doc<"runs">[]) => runs.some((run) => !ending.has(run._id));
  return {
    inbox: await inboxWith(
      ctx,
      session,
      assigned.filter((run) => !taken.has(run._id)),
    ),
    holdsMore: assigned.length === INBOX_RUNS || holds(assigned) || holds(await running()),
  };
}

/**
 * Renew the lease from now on. The timers are told of a lease that begins; while one lasts they come back for it by
 * themselves, so a mere heartbeat does not even read their row.
 */
export async function beat(
  ctx: MutationCtx,
  heartbeat: Doc<"heartbeats">,
  seq: number,
  busy: boolean,
  clocks?: Clocks,
): Promise<number> {
  const lease = busy ? leaseMs() : IDLE_LEASE_MS;
  const expiresAt = Date.now() + lease;
  await ctx.db.patch("heartbeats", heartbeat._id, { seq, state: busy ? "busy" : "idle", expiresAt, clocks });
  if (busy && heartbeat.state !== "busy") await wakeTimersBy(ctx, expiresAt);
  return lease;
}

export const fault = (code: string, message: string): Fault => ({ code, message });

/** Give the worker nothing more; what it holds goes on. */
export async function drain(ctx: MutationCtx, session: Doc<"sessions">): Promise<void> {
  const worker = (await ctx.db.get("workers", session.worker))!;
  if (worker.session === session._id && !worker.draining)
    await ctx.db.patch("workers", worker._id, { draining: true });
}

/**
 * End a session, once: from now on every write under it is refused. Its runs go back, the first of them now and the rest
 * page by page.
 *
 * @param why - null for a worker that signs off: what it still holds is released, with no attempt burnt
 * @param blamed - the run that took the process down, if that is known
 */
export async function endSession(
  ctx: MutationCtx,
  id: Id<"sessions">,
  why: Fault | null,
  blamed: Id<"runs"> | null,
): Promise<void> {
  const session = await ctx.db.get("sessions", id);
  if (session === null || session.ended !== null) return;
  await ctx.db.patch("sessions", id, { ended: why?.code ?? "signed_off" });
  const heartbeat = await heartbeatOf(ctx, id);
  await ctx.db.patch("heartbeats", heartbeat._id, { state: "ended" });
  const worker = (await ctx.db.get("workers", session.worker))!;
  if (worker.session === id) await ctx.db.patch("workers", worker._id, { live: false, session: null });
  await leaveShares(ctx, id);
  await endRuns(ctx, id, why, blamed);
}

/**
 * Give back a page of an ended session's runs, and schedule the next page. Each in a sub-transaction of its own: one that
 * throws is left for later and holds up neither the others nor the end of the session.
 */
export async function endRuns(
  ctx: MutationCtx,
  session: Id<"sessions">,
  why: Fault | null,
  blamed: Id<"runs"> | null,
): Promise<void> {
  let left = END_RUNS_BATCH;
  let failed = false;
  for (const state of ["running", "assigned"] as const) {
    if (left === 0) break;
    const runs = await ctx.db
      .query("runs")
      .withIndex("by_session_and_state", (q) => q.eq("session", session).eq("state", state))
      .take(left);
    left -= runs.length;
    for (const { _id: run } of runs) {
      try {
        await ctx.runMutation(internal.timers.endRun, { run, why, blamed: run === blamed });
      } catch (error) {
        failed = true;
        console.error(`run ${run} of an ended session is left for later: ${String(error)}`);
      }
    }
  }
  await wakeIfStarved(ctx);
  const controls = await ctx.db
    .query("controls")
    .withIndex("by_session", (q) => q.eq("session", session))
    .take(INBOX_CONTROLS);
  for (const control of controls) await ctx.db.delete("controls", control._id); // nobody will acknowledge them
  if (left > 0 && !failed && controls.length < INBOX_CONTROLS) {
    await clearAlarm(ctx, "session", session);
    return;
  }
  await setAlarm(ctx, "session", session, Date.now() + 2 * SET_ASIDE_MS);
  await ctx.scheduler.runAfter(failed ? SET_ASIDE_MS : 0, internal.timers.endRuns, { session, why, blamed });
}

/** The pages of an ended session's runs did not come to their end: begin anew with those that are left. */
export async function endLeftRuns(ctx: MutationCtx, id: Id<"sessions">): Promise<void> {
  const ended = (await ctx.db.get("sessions", id))?.ended ?? null;
  if (ended === null) return;
  console.error(`session ${id}: nothing has given back the rest of its runs; beginning anew`);
  const why = ended === "signed_off" ? null : fault(ended, "the session of its worker has ended");
  await endRuns(ctx, id, why, null);
}

/** End one run of a session that has ended. */
export async function endRun(
  ctx: MutationCtx,
  id: Id<"runs">,
  why: Fault | null,
  blamed: boolean,
): Promise<void> {
  const run = await ctx.db.get("runs", id);
  if (run === null || !isLive(run)) return;
  const now = Date.now();
  if (why === null) await end(ctx, run, { kind: "released" }, null, now);
  else await lose(ctx, run, why, blamed, now);
}
