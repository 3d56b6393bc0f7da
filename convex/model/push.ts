/** A run on its way to an endpoint and back. */
import { internal } from "../_generated/api";
import type { Doc, Id } from "../_generated/dataModel";
import type { MutationCtx, QueryCtx } from "../_generated/server";
import { OTHER_VERSION_MS, PUSH_GRACE_MS, PUSH_INLINE_BYTES } from "../constants";
import { refuse, type Refusal } from "../errors";
import type { EndpointView } from "../endpoint.validators";
import type { ModelStanding } from "../model.validators";
import type { Assignment } from "../validators";
import { findAgent } from "./agents";
import type { Answer, Report } from "./answers";
import { beginToAttend, miss } from "./attending";
import { callOfRun, controlView } from "./controls";
import { askHealth, findState } from "./endpoints";
import { leaveLoopsAlone, wakeIfStarved } from "./loops";
import { standingOf } from "./models";
import {
  checkReports,
  keepReports,
  recordRefusal,
  Runs,
  takeCalls,
  takeModels,
  type Reports,
} from "./reports";
import type { Ending } from "./retry";
import { accept, assignment, end, isLive } from "./runs";
import { TOLERANCE_MS } from "./signing";
import { readInput } from "./outputs";
import { fitsIn } from "./text";
import { short, versionsOf } from "./versions";
import { versionOf } from "./waiting";

type Run = Doc<"runs">;

/**
 * Dispatch has given a run to an endpoint's stand-in: hand it over, by an action of its own. Convex runs an action at most once,
 * so a run that no action ever took up is lost to the time in which it must be accepted, and goes again.
 */
export async function handOver(
  ctx: MutationCtx,
  endpoint: Id<"endpoints">,
  run: Id<"runs">,
  now: number,
): Promise<void> {
  await ctx.db.insert("pushes", { run, endpoint, answerBy: null, takenAt: null, heardAt: now });
  await ctx.scheduler.runAfter(0, internal.push.deliver, { run });
  await beginToAttend(ctx, endpoint, now);
}

/** Where a message goes, and the name of the variable with the secret that signs it. */
export type Route = Pick<EndpointView, "url" | "healthUrl" | "secretVariable">;
/** What is sent for a run. `version`: of the code that alone may play it; null: any may. */
export type Letter = Route & {
  assignment: Assignment;
  large: boolean;
  timeoutMs: number;
  version: string | null;
  standing?: ModelStanding;
};

/**
 * Begin a run that is about to be sent, once: whoever calls this first sends it.
 * @returns null when there is nothing to send any more
 */
export async function begin(ctx: MutationCtx, id: Id<"runs">, now: number): Promise<Letter | null> {
  const run = await ctx.db.get("runs", id);
  const push = await pushOf(ctx, id);
  const endpoint = push && (await ctx.db.get("endpoints", push.endpoint));
  if (run?.state !== "assigned" || !endpoint?.enabled) return null;
  const given = await assignment(ctx, run, new Map());
  if (given === null) {
    await end(ctx, run, { kind: "cancelled" }, null, now); // it was cancelled on its way
    await wakeIfStarved(ctx);
    return null;
  }
  await accept(ctx, run, now);
  const executor = (await findAgent(ctx, given.agent))?.executor;
  const timeoutMs = executor?.kind === "http" ? executor.timeoutMs : PUSH_GRACE_MS;
  await ctx.db.patch("pushes", push!._id, { answerBy: now + timeoutMs + PUSH_GRACE_MS, heardAt: now });
  const task = (await ctx.db.get("tasks", run.task))!;
  const text = await readInput(ctx, task);
  const large = !fitsIn(text, PUSH_INLINE_BYTES);
  const version = versionOf(task) ?? null;
  const standing = await standingOf(ctx, run.session);
  const sent = { assignment: { ...given, input: large ? null : text }, large, timeoutMs, version };
  return { ...routeOf(endpoint), ...sent, ...(standing && { standing }) };
}

export const routeOf = ({ url, healthUrl, secretVariable }: Doc<"endpoints">): Route => ({
  url,
  healthUrl,
  secretVariable,
});

function pushOf(ctx: QueryCtx, run: Id<"runs">): Promise<Doc<"pushes"> | null> {
  return ctx.db
    .query("pushes")
    .withIndex("by_run", (q) => q.eq("run", run))
    .unique();
}

/** The endpoint that holds or held a run; null for an unknown run, or one that was never pushed. */
export async function endpointOf(ctx: QueryCtx, text: string): Promise<Doc<"endpoints"> | null> {
  const id = ctx.db.normalizeId("runs", text);
  const run = id && (await ctx.db.get("runs", id));
  const worker = run && (await ctx.db.get("workers", run.worker));
  return worker?.endpoint === undefined ? null : ctx.db.get("endpoints", worker.endpoint);
}

/** What came of sending a run. Nobody else may have ended it meanwhile, else this counts for nothing. */
export async function settle(ctx: MutationCtx, id: Id<"runs">, answer: Answer, now: number): Promise<void> {
  leaveLoopsAlone(ctx);
  const run = await ctx.db.get("runs", id);
  const push = await pushOf(ctx, id);
  if (answer.kind === "unreachable" && push !== null) {
    const state = await findState(ctx, push.endpoint);
    if (state !== null) await miss(ctx, state, answer.error.message, state.answered);
  }
  const current = run && (await ctx.db.get("runs", id)); // the miss may have ended it
  if (current?.state !== "running") {
    if (run !== null && answer.kind === "report") {
      await paidLate(ctx, run, answer.report);
      await recordRefusal(ctx, run);
    }
    return;
  }
  if (answer.kind === "taken") {
    // A callback may have come first; then there is nothing to wait for.
    if (push !== null) await ctx.db.patch("pushes", push._id, { takenAt: now, heardAt: now });
    await callOfRun(ctx, id);
    return;
  }
  if (answer.kind === "other_version" && push !== null) {
    const state = await findState(ctx, push.endpoint);
    if (state !== null) await askHealth(ctx, state, now); // what it has changed since it told
  }
  const taken = answer.kind === "report" ? await taking(ctx, current, answer.report) : answer;
  if (taken.kind === "report") await keep(ctx, current, taken.said, now);
  else {
    await end(ctx, current, endingOf(taken), null, now);
    await wakeIfStarved(ctx);
  }
}

type Refused = Extract<Answer, { kind: "failed" }>;

/** What is kept of a report, or how the run ends instead. */
async function taking(
  ctx: MutationCtx,
  run: Run,
  report: Report,
): Promise<{ kind: "report"; said: Reports } | Refused> {
  const said = reportsOf(ctx, run, report);
  try {
    checkReports(said);
    await keepPlayer(ctx, run, report.playedBy);
    return { kind: "report", said };
  } catch (error) {
    const { data } = error as { data?: Refusal };
    if (data === undefined) throw error;
    const message = `the endpoint's answer cannot be kept: ${data.message}`;
    return { kind: "failed", error: { code: "endpoint_bad_answer", message }, retryable: true };
  }
}

function endingOf(answer: Exclude<Answer, { kind: "taken" | "report" }>): Ending {
  switch (answer.kind) {
    case "busy":
      return { kind: "released", notBeforeMs: answer.notBeforeMs };
    case "other_version":
      return { kind: "released", notBeforeMs: OTHER_VERSION_MS };
    case "failed":
      return { ...answer, notBeforeMs: null };
    case "unreachable":
      return { kind: "lost", error: answer.error, begun: true, blamed: false };
  }
}

/**
 * Keep what plays a run, as its endpoint tells: what is dispatched to the address of an endpoint may reach another process of it,
 * with other code, than the one that was asked how it does. A task that is pinned is played by its own code or not at all.
 */
async function keepPlayer(ctx: MutationCtx, run: Run, playedBy: Report["playedBy"]): Promise<void> {
  const task = await ctx.db.get("tasks", run.task);
  if (playedBy === null || task?.kind !== "python") return;
  const { playedBy: pinned } = versionsOf([{ name: "playedBy", ...playedBy }]);
  const wanted = versionOf(task);
  if (wanted !== undefined && wanted !== pinned!.version) {
    const what = `the task began with the version ${short(wanted)}, and ${short(pinned!.version)} has played it`;
    throw refuse("invalid_argument", `playedBy: ${what}; answer such a run 409 other_version.`);
  }
  const { version, code } = run.pinned ?? {};
  if (version !== pinned!.version || code !== pinned!.code) await ctx.db.patch("runs", run._id, { pinned });
}

/** The report of an endpoint in the words of a sync. */
function reportsOf(ctx: QueryCtx, { _id: run }: Run, report: Report): Reports {
  const { chunks, steps, calls, models, progress, state, spending, outcome, usage } = report;
  const told = spending === null ? null : { ...spending, run };
  return {
    accepted: [],
    chunks: chunks.map((chunk) => ({ ...chunk, run })),
    steps: steps.map(({ signal, ...step }) => {
      return { ...step, run, signal: signal === null ? null : ctx.db.normalizeId("signals", signal) };
    }),
    calls: calls.map((call) => ({ ...call, run })),
    models,
    progress: progress === null && state === null ? [] : [{ run, progress, state }],
    spending: told !== null && outcome === null ? [told] : [],
    finished: outcome === null ? [] : [{ run, outcome, usage, ...(told !== null && { spending: told }) }],
  };
}

/**
 * Keep what is said of a live run, as a sync does.
 * @returns why the endpoint has to do with it no more, though its outcome was not taken; null else
 */
async function keep(ctx: MutationCtx, run: Run, said: Reports, now: number): Promise<string | null> {
  const runs = await Runs.of(ctx, run.session, said);
  const [result] = await keepReports(ctx, runs, said, true, now);
  if (result !== undefined) return result.reason;
  return said.steps?.length && runs.live(run._id) === undefined ? "the run has ended: failed" : null;
}

/** What was paid for, and seen of models, counts whatever has become of the run. */
async function takePaid(ctx: MutationCtx, run: Run, said: Reports): Promise<void> {
  await takeModels(ctx, run.session, said.models ?? []);
  await takeCalls(ctx, await Runs.of(ctx, run.session, said), said.calls ?? []);
}

/** The answer to a run that has ended meanwhile; of one that cannot be kept nothing counts, as nobody sends it again. */
async function paidLate(ctx: MutationCtx, run: Run, report: Report): Promise<void> {
  const said = reportsOf(ctx, run, report);
  try {
    checkReports(said);
  } catch (error) {
    console.error(`run ${run._id}: a late answer cannot be kept: ${String(error)}`);
    return;
  }
  await takePaid(ctx, run, said);
}

export type Callback = { message: string; run: Id<"runs">; attempt: number; report: Report };
/** stop: the run was cancelled; report it as such. */
export type Called =
  | { ok: true; stop: boolean; standing?: ModelStanding }
  | { ok: false; code: "replayed" | "run_ended"; message: string };

/**
 * Take a callback whose signature was checked, each message once. It counts only while the run is live and of that attempt, as
 * a worker's report does; one that comes too late is noted in the task's history.
 */
export async function takeCallback(
  ctx: MutationCtx,
  { message, run: id, attempt, report }: Callback,
  now: number,
): Promise<Called> {
  leaveLoopsAlone(ctx);
  const run = (await ctx.db.get("runs", id))!;
  const endpoint = (await endpointOf(ctx, id))!;
  const seen = await ctx.db
    .query("endpointMessages")
    .withIndex("by_endpoint_and_message", (q) => q.eq("endpoint", endpoint._id).eq("message", message))
    .first();
  const isHeld = isLive(run) && run.attempt === attempt;
  // Who hears "replayed" goes on, with an effect for example: that is not said of a run which is somebody else's by now.
  if (seen !== null && (isHeld || seen.ended === true))
    return { ok: false, code: "replayed", message: "This webhook-id was used before." };
  const said = reportsOf(ctx, run, report);
  checkReports(said);
  // Beyond the tolerance the signature itself is refused; it counts from the sender's clock, which may be behind or ahead.
  const until = now + 2 * TOLERANCE_MS;
  const noted =
    seen?._id ?? (await ctx.db.insert("endpointMessages", { endpoint: endpoint._id, message, until }));
  if (!isHeld) {
    if (run.attempt === attempt && seen === null) await takePaid(ctx, run, said);
    if (report.outcome !== null && seen === null) await recordRefusal(ctx, run);
    const state = isLive(run) ? `has attempt ${run.attempt}` : `has ended: ${run.state}`;
    return { ok: false, code: "run_ended", message: `The run ${state}. Stop it; nothing of it is kept.` };
  }
  await keepPlayer(ctx, run, report.playedBy);
  const push = await pushOf(ctx, id);
  if (push !== null) await ctx.db.patch("pushes", push._id, { heardAt: now, takenAt: push.takenAt ?? now });
  const reason = await keep(ctx, run, said, now);
  if (reason !== null) return { ok: false, code: "run_ended", message: `Not kept: ${reason}.` };
  if (report.outcome !== null) await ctx.db.patch("endpointMessages", noted, { ended: true });
  const task = await ctx.db.get("tasks", run.task);
  const stop = report.outcome === null && (task?.cancelRequested ?? false);
  const standing = await standingOf(ctx, run.session);
  return { ok: true, stop, ...(standing && { standing }) };
}

/** The input of a live run of an endpoint; null when it is not to be had any more. */
export async function inputOf(ctx: QueryCtx, id: string): Promise<string | null> {
  const run = await ctx.db.get("runs", id as Id<"runs">);
  const task = run && isLive(run) ? await ctx.db.get("tasks", run.task) : null;
  return task && readInput(ctx, task);
}

/** The run that an endpoint asks about, while it is live and of that attempt. */
export async function liveRun(ctx: QueryCtx, id: Id<"runs">, attempt: number): Promise<Run | null> {
  const run = await ctx.db.get("runs", id);
  return run !== null && isLive(run) && run.attempt === attempt ? run : null;
}

/** What an endpoint is to be told of a run, and where. */
export type Told = Route & { run: Id<"runs">; body: string };

/** @returns null when nobody is to hear it any more */
export async function toTell(ctx: QueryCtx, id: Id<"controls">): Promise<Told | null> {
  const row = await ctx.db.get("controls", id);
  const run = row?.run ? await ctx.db.get("runs", row.run) : null;
  const endpoint = row && run && isLive(run) ? await endpointOf(ctx, run._id) : null;
  if (endpoint === null) return null;
  const { kind, ...told } = await controlView(ctx, row!);
  return { ...routeOf(endpoint), run: run!._id, body: JSON.stringify({ type: kind, ...told }) };
}
