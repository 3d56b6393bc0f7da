/** What becomes of things whose time is up. */
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { TIMER_SESSIONS } from "../constants";
import { askToStop } from "./controls";
import { dueAlarms } from "./alarms";
import { wakeIfStarved } from "./loops";
import { end, isLive, lose } from "./runs";
import { endSession, fault, heartbeatOf } from "./sessions";

/** The first `limit` things of each kind whose time has come at `now`. */
export async function due(ctx: QueryCtx, now: number, limit: number) {
  const delayed = await ctx.db
    .query("delayed")
    .withIndex("by_dueAt", (q) => q.lte("dueAt", now))
    .take(limit);
  const runs = [];
  for (const state of ["assigned", "running"] as const) {
    runs.push(
      ...(await ctx.db
        .query("runs")
        .withIndex("by_state_and_deadlineAt", (q) =>
          q.eq("state", state).gt("deadlineAt", 0).lte("deadlineAt", now),
        )
        .take(limit)),
    );
  }
  const heartbeats = await expired(ctx, "busy", now, Math.min(limit, TIMER_SESSIONS));
  const alarms = await dueAlarms(ctx, now, limit);
  return {
    alarms: alarms.map((alarm) => alarm._id),
    delayed: delayed.map((row) => row._id),
    runs: runs.map((run) => run._id),
    sessions: heartbeats.map((heartbeat) => heartbeat.session),
  };
}

export function expired(
  ctx: QueryCtx,
  state: "busy" | "idle",
  now: number,
  limit: number,
): Promise<Doc<"heartbeats">[]> {
  return ctx.db
    .query("heartbeats")
    .withIndex("by_state_and_expiresAt", (q) => q.eq("state", state).lte("expiresAt", now))
    .take(limit);
}

/** When the next delayed task is due, in milliseconds since the epoch; null when there is none. */
export async function nextDelayed(ctx: QueryCtx): Promise<number | null> {
  const first = await ctx.db.query("delayed").withIndex("by_dueAt").first();
  return first?.dueAt ?? null;
}

/**
 * When the next deadline of a run or the next lease of a busy worker is due; null when there is none. These rows change with
 * every accept and heartbeat, so the timers read them from a snapshot while there are any.
 */
export async function nextLease(ctx: QueryCtx): Promise<number | null> {
  const times: number[] = [];
  for (const state of ["assigned", "running"] as const) {
    const run = await ctx.db
      .query("runs")
      .withIndex("by_state_and_deadlineAt", (q) => q.eq("state", state).gt("deadlineAt", 0))
      .first();
    if (run !== null) times.push(run.deadlineAt);
  }
  const heartbeat = await ctx.db
    .query("heartbeats")
    .withIndex("by_state_and_expiresAt", (q) => q.eq("state", "busy"))
    .first();
  if (heartbeat !== null) times.push(heartbeat.expiresAt);
  return times.length === 0 ? null : Math.min(...times);
}

/**
 * A run is past its deadline: it was never accepted, or its worker did not end it in time, or did not answer a cancel.
 * The worker learns from its next sync that the run is lost to it.
 */
export async function expireRun(ctx: MutationCtx, id: Id<"runs">, now: number): Promise<void> {
  const run = await ctx.db.get("runs", id);
  if (run === null || !isLive(run) || run.deadlineAt === 0 || run.deadlineAt > now) return;
  const task = await ctx.db.get("tasks", run.task);
  const notAccepted = fault("not_accepted", "the worker did not take the run that it was given");
  if (run.state === "assigned" && (await heartbeatOf(ctx, run.session)).state === "idle") {
    // Not a word from this worker since it was given work.
    await endSession(ctx, run.session, notAccepted, null);
    return;
  }
  await askToStop(ctx, run, "out of time");
  if (task?.cancelRequested) await end(ctx, run, { kind: "cancelled" }, null, now);
  else if (run.state === "assigned") await lose(ctx, run, notAccepted, false, now);
  else {
    const error = fault("timed_out", `the run was not over within its limit of ${task?.timeoutMs ?? 0} ms`);
    await end(ctx, run, { kind: "failed", error, retryable: true, notBeforeMs: null }, null, now);
  }
  await wakeIfStarved(ctx);
}

/** A busy worker that was silent past its lease, or an idle one past its longer one. */
export async function expireSession(ctx: MutationCtx, id: Id<"sessions">, now: number): Promise<void> {
  const heartbeat = await heartbeatOf(ctx, id);
  if (heartbeat.state === "ended" || heartbeat.expiresAt > now) return;
  await endSession(ctx, id, fault("heartbeat_timeout", "the worker was silent past its lease"), null);
}
