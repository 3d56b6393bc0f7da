/**
 * What keeps endpoints honest. One alarm stands for an endpoint while it holds runs, or while work waits that it is to take or
 * to be woken for; nothing is asked of it otherwise.
 */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import {
  MESSAGES_BATCH,
  DEAD_HEALTH_FACTOR,
  HEALTH_TIMEOUT_MS,
  INBOX_CONTROLS,
  MAX_MISSES,
  MAX_STEP_CHARS,
  MAX_WAKE_AGAIN_MS,
  PUSH_GRACE_MS,
  PUSH_SILENCE_MS,
  WAKE_AGAIN_MS,
  WAKE_TIMEOUT_MS,
} from "../constants";
import type { Refusal } from "../errors";
import type { Fault } from "../validators";
import { hasAlarm, setAlarm } from "./alarms";
import type { Told } from "./answers";
import { callAgain } from "./controls";
import {
  askHealth,
  countAsked,
  findState,
  keepOffer,
  listEndpoints,
  pushesOf,
  refresh,
  sessionOfState,
} from "./endpoints";
import { liveWorkers, poolsOf } from "./look";
import { wakeIfStarved } from "./loops";
import { canRun } from "./plan";
import { checkSilent } from "./progress";
import { isLive } from "./runs";
import { endSession, fault, heartbeatOf } from "./sessions";
import { behindAgent } from "./waiting";

type Endpoint = Doc<"endpoints">;
type State = Doc<"endpointStates">;
/** What came of a check or a wake-up call. */
export type Answered = { asked: number; ok: boolean; error: string | null };

const MAX_ERROR_CHARS = 300; // of the line that the list of endpoints shows
const WAITING_GROUPS = 64; // queues with their agents and labels that one look passes
const LEASE_RINGS = 8; // of its alarm, that a session outlives: the leases are for an alarm that got lost

/**
 * An endpoint is given its first run: from now on its alarm rings until it holds none. Dispatch calls this for every
 * assignment, so it writes only when no alarm stands.
 */
export async function beginToAttend(ctx: MutationCtx, id: Id<"endpoints">, now: number): Promise<void> {
  if (await hasAlarm(ctx, "endpoint", id)) return;
  const state = (await findState(ctx, id))!;
  await keepLease(ctx, state, now);
  await setAlarm(ctx, "endpoint", id, now + state.healthEveryMs);
}

/** The alarm of an endpoint has rung. */
export async function attend(ctx: MutationCtx, id: Id<"endpoints">, now: number): Promise<void> {
  const endpoint = await ctx.db.get("endpoints", id);
  let state = await findState(ctx, id);
  if (endpoint === null || state === null) return;
  await forgetMessages(ctx, id, now);
  const open = state.asked > state.answered;
  const limit = endpoint.mode === "push" ? HEALTH_TIMEOUT_MS : WAKE_TIMEOUT_MS;
  if (open && now - state.askedAt > limit + PUSH_GRACE_MS) {
    state = await miss(ctx, state, "nothing came of the call");
  }
  if (endpoint.mode === "push") await check(ctx, endpoint, state, now);
  else await wake(ctx, endpoint, state, now);
}

/**
 * Look at the runs that an endpoint holds, and ask it how it does while there is a reason to: it holds some, or work waits for
 * it to live again, or to have other code.
 */
async function check(ctx: MutationCtx, endpoint: Endpoint, state: State, now: number): Promise<void> {
  const held = await lookAtRuns(ctx, endpoint._id, state, now);
  const dead = (await sessionOfState(ctx, state)) === null;
  if (held === 0 && !(endpoint.enabled && (await isAwaited(ctx, endpoint._id)))) {
    await keepLease(ctx, state, null);
    return;
  }
  if (!dead) await keepLease(ctx, state, held === 0 ? null : now);
  await askHealth(ctx, state, now);
  const rarely = dead ? 2 ** Math.max(0, state.misses - MAX_MISSES) : held === 0 ? DEAD_HEALTH_FACTOR : 1;
  const factor = Math.min(DEAD_HEALTH_FACTOR, rarely);
  await setAlarm(ctx, "endpoint", endpoint._id, now + state.healthEveryMs * factor);
}

/** Call an endpoint because work waits that no live worker can run; the more rarely, the less comes of it. */
async function wake(ctx: MutationCtx, endpoint: Endpoint, state: State, now: number): Promise<void> {
  if (!endpoint.enabled || !(await isAwaited(ctx, endpoint._id))) {
    await ctx.db.patch("endpointStates", state._id, { misses: 0 });
    return;
  }
  await setAlarm(ctx, "endpoint", endpoint._id, now + wakeAgainMs(state));
  if (state.asked > state.answered) return; // it has not answered yet: it is at it
  const asked = await countAsked(ctx, state, now);
  await ctx.scheduler.runAfter(0, internal.push.wake, { endpoint: endpoint._id, asked });
}

/** How long after one wake-up call the next one comes at the earliest. */
const wakeAgainMs = ({ misses }: State): number =>
  Math.min(MAX_WAKE_AGAIN_MS, WAKE_AGAIN_MS * 2 ** Math.min(10, misses));

/**
 * What a health check brought. An endpoint that answers is well; of what cannot be kept of its answer nothing is, and the list
 * of endpoints says so.
 */
export async function checked(
  ctx: MutationCtx,
  id: Id<"endpoints">,
  { asked, ok, error }: Answered,
  told: Told | null,
  now: number,
): Promise<void> {
  const [endpoint, state] = [await ctx.db.get("endpoints", id), await findState(ctx, id)];
  if (endpoint === null || state === null || asked <= state.answered) return;
  if (!ok) {
    await miss(ctx, { ...state, asked }, error ?? "no answer");
    return;
  }
  const wasDead = (await sessionOfState(ctx, state)) === null;
  await ctx.db.patch("endpointStates", state._id, { misses: 0, error, answered: asked });
  await refresh(ctx, endpoint);
  if (told !== null) {
    const flaw = await keepTold(ctx, id, told, now);
    if (flaw !== null) await ctx.db.patch("endpointStates", state._id, { error: flaw });
  }
  // While it was dead its alarm stood far off; from now on it holds runs.
  if (wasDead) await setAlarm(ctx, "endpoint", id, now + state.healthEveryMs);
  await wakeIfStarved(ctx);
}

/** @returns what of it cannot be kept; then nothing is */
async function keepTold(
  ctx: MutationCtx,
  id: Id<"endpoints">,
  told: Told,
  now: number,
): Promise<string | null> {
  const state = (await findState(ctx, id))!;
  try {
    checkSilent(told.silent);
    await keepOffer(ctx, state, told);
  } catch (error) {
    const { data } = error as { data?: Refusal };
    if (data === undefined) throw error;
    return `the answer to a check: ${data.message}`.slice(0, MAX_ERROR_CHARS);
  }
  if (told.runs !== null) await compare(ctx, id, new Set(told.runs), state.askedAt, now);
  const session = await sessionOfState(ctx, state);
  if (session === null) return null;
  const silent = told.silent.flatMap(({ run: text, name, ...silence }) => {
    const run = ctx.db.normalizeId("runs", text);
    return run === null ? [] : [{ ...silence, run, name: name && name.slice(0, MAX_STEP_CHARS) }];
  });
  const clocks = { inboxAgeMs: Math.max(0, now - state.askedAt), silent };
  await ctx.db.patch("heartbeats", (await heartbeatOf(ctx, session))._id, { clocks, heardAt: now });
  return null;
}

/**
 * What a wake-up call brought. That it was answered is no success yet: only that no work waits any more is. Else there is another
 * call, no sooner than it would have been without an answer; that is at once when the worker that came was at work for long, and
 * was leaving when work came.
 *
 * @param done - the worker that the call has brought is gone again: the first time that is reason enough for the next call, as
 *   none will come of this one
 */
export async function woken(
  ctx: MutationCtx,
  id: Id<"endpoints">,
  answer: Answered,
  done: boolean,
  now: number,
): Promise<void> {
  const state = await findState(ctx, id);
  if (state === null || answer.asked <= state.answered) return;
  const { asked, ok, error } = answer;
  const isOver = ok && !(await isAwaited(ctx, id));
  const misses = isOver ? 0 : state.misses + 1;
  await ctx.db.patch("endpointStates", state._id, { misses, answered: asked, error: ok ? null : error });
  const again = Math.min(MAX_WAKE_AGAIN_MS, 1_000 * 2 ** Math.min(10, state.misses));
  const spaced = ok ? Math.max(now, state.askedAt + wakeAgainMs(state)) : now + again;
  // The alarm rings also when nothing waits: work that came since this looked has found it standing, and set none.
  await setAlarm(ctx, "endpoint", id, isOver || (done && state.misses === 0) ? now : spaced);
}

/** It did not answer. After some times in a row its session ends, and what it holds goes elsewhere. */
export async function miss(
  ctx: MutationCtx,
  state: State,
  why: string,
  answered = state.asked,
): Promise<State> {
  const changed = { misses: state.misses + 1, error: why.slice(0, MAX_ERROR_CHARS), answered };
  await ctx.db.patch("endpointStates", state._id, changed);
  const session = await sessionOfState(ctx, state);
  if (session !== null && changed.misses >= MAX_MISSES) {
    const what = `the endpoint did not answer ${changed.misses} times in a row: ${changed.error}`;
    await endSession(ctx, session, fault("heartbeat_timeout", what), null);
  }
  return { ...state, ...changed };
}

/**
 * End the runs of which nobody will hear again, and pass on what the endpoint is to be told.
 * @returns how many it holds
 */
async function lookAtRuns(
  ctx: MutationCtx,
  endpoint: Id<"endpoints">,
  state: State,
  now: number,
): Promise<number> {
  let held = 0;
  for (const push of await pushesOf(ctx, endpoint)) {
    const run = await ctx.db.get("runs", push.run);
    if (run === null || !isLive(run)) {
      await ctx.db.delete("pushes", push._id);
      continue;
    }
    held += 1;
    if (push.takenAt !== null) {
      if (now - push.heardAt <= PUSH_SILENCE_MS) continue;
      await giveUp(
        ctx,
        push.run,
        fault("heartbeat_timeout", "the endpoint was silent about the run for too long"),
      );
    } else if (push.answerBy !== null && now > push.answerBy) {
      await giveUp(ctx, push.run, fault("push_lost", "what waited for the endpoint's answer is gone"));
    }
  }
  const session = await sessionOfState(ctx, state);
  if (session !== null) {
    const controls = await ctx.db
      .query("controls")
      .withIndex("by_session", (q) => q.eq("session", session))
      .take(INBOX_CONTROLS);
    const open = [];
    for (const control of controls) {
      const run = control.run && (await ctx.db.get("runs", control.run));
      if (run !== null && isLive(run)) open.push(control);
      else await ctx.db.delete("controls", control._id);
    }
    await callAgain(ctx, open); // nothing has come of the calls before
  }
  await wakeIfStarved(ctx);
  return held;
}

/** Runs that an endpoint has taken and does not name are lost: its process began anew. */
async function compare(
  ctx: MutationCtx,
  endpoint: Id<"endpoints">,
  named: ReadonlySet<string>,
  askedAt: number,
  now: number,
): Promise<void> {
  for (const push of await pushesOf(ctx, endpoint)) {
    if (push.takenAt === null || push.takenAt >= askedAt) continue;
    if (named.has(push.run)) {
      // A word once in a while is enough, and each is a write.
      if (now - push.heardAt > PUSH_SILENCE_MS / 4) await ctx.db.patch("pushes", push._id, { heardAt: now });
    } else
      await giveUp(ctx, push.run, fault("worker_died", "the endpoint no longer has the run that it took"));
  }
}

/** Lose one run, in a sub-transaction of its own. */
async function giveUp(ctx: MutationCtx, run: Id<"runs">, why: Fault): Promise<void> {
  try {
    await ctx.runMutation(internal.timers.endRun, { run, why, blamed: false });
  } catch (error) {
    console.error(`run ${run} of an endpoint is left for later: ${String(error)}`);
  }
}

/** The stand-in's lease: while its alarm rings it is renewed, and without runs it has none. */
async function keepLease(ctx: MutationCtx, state: State, now: number | null): Promise<void> {
  const session = await sessionOfState(ctx, state);
  if (session === null) return;
  const heartbeat = await heartbeatOf(ctx, session);
  await ctx.db.patch(
    "heartbeats",
    heartbeat._id,
    now === null
      ? { state: "idle", expiresAt: Number.MAX_SAFE_INTEGER }
      : { state: "busy", expiresAt: now + LEASE_RINGS * state.healthEveryMs + PUSH_GRACE_MS },
  );
}

async function forgetMessages(ctx: MutationCtx, endpoint: Id<"endpoints">, now: number): Promise<void> {
  const old = await ctx.db
    .query("endpointMessages")
    .withIndex("by_endpoint_and_until", (q) => q.eq("endpoint", endpoint).lt("until", now))
    .take(MESSAGES_BATCH);
  for (const { _id } of old) await ctx.db.delete("endpointMessages", _id);
}

/** Dispatch falls asleep although work waits: see whether an endpoint is to be asked for. Scheduled, so nobody waits for it. */
export async function wakeEndpoints(ctx: MutationCtx): Promise<void> {
  if ((await ctx.db.query("endpoints").first()) !== null)
    await ctx.scheduler.runAfter(0, internal.push.rouse, {});
}

/** Set the alarm of every endpoint that work waits for, where none stands. */
export async function rouse(ctx: MutationCtx, now: number): Promise<void> {
  for (const { _id, enabled } of await listEndpoints(ctx)) {
    if (!enabled || (await hasAlarm(ctx, "endpoint", _id))) continue;
    if (await isAwaited(ctx, _id)) await setAlarm(ctx, "endpoint", _id, now);
  }
}

/** From a snapshot: a look at what waits must not conflict with every submit. */
const isAwaited = (ctx: MutationCtx, endpoint: Id<"endpoints">): Promise<boolean> =>
  ctx.runQuery(internal.push.awaited, { endpoint }, { useStaleSnapshot: true });

/**
 * Whether work waits for an endpoint: that it is to be given, if it is dead and nobody asks whether it still is; that no live
 * worker can take and it might, if it had other code than it has told of, for that may have changed; or for a worker that the
 * endpoint is to start, since no live one can take it.
 */
export async function awaited(ctx: QueryCtx, id: Id<"endpoints">): Promise<boolean> {
  const [endpoint, state] = [await ctx.db.get("endpoints", id), await findState(ctx, id)];
  if (endpoint === null || state === null) return false;
  const standIn = state.worker && (await ctx.db.get("workers", state.worker));
  if (endpoint.mode === "push" && standIn === null) return false;
  const isDead = standIn?.live === false;
  const workers = isDead ? [] : poolsOf(await liveWorkers(ctx), {});
  let behind = "";
  for (let group = 0; group < WAITING_GROUPS; group++) {
    const head = await ctx.db
      .query("ready")
      .withIndex("by_lane_and_rank", (q) => q.gt("lane", behind))
      .first();
    if (head === null) return false;
    const might =
      endpoint.mode === "wake"
        ? endpoint.queues.includes(head.queue)
        : canRun(standIn!, isDead ? head : whateverCode(head));
    const its = might && !workers.some((worker) => canRun(worker, head));
    if (its) return true;
    behind = behindAgent(head);
  }
  return false;
}

/** What a task asks for but for the code that is to play it. */
const whateverCode = ({ queue, agent, kind, labels }: Doc<"ready">) => ({ queue, agent, kind, labels });
