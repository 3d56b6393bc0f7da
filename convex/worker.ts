import { v } from "convex/values";
import type { Doc, Id } from "./_generated/dataModel";
import { vSpending } from "./budget.validators";
import { internalQuery, type QueryCtx } from "./_generated/server";
import { refuse } from "./errors";
import { workerMutation, workerQuery } from "./functions";
import { upstream as readUpstream } from "./model/deps";
import { vCallReport, vModelReport } from "./model.validators";
import { rootOf } from "./model/forks";
import type { Caller } from "./model/keys";
import { readInput, uploadOutput } from "./model/outputs";
import { blameLate, isLive } from "./model/runs";
import * as Registration from "./model/registration";
import * as Sessions from "./model/sessions";
import { emitOnce, outcomesOf, spawn as spawnOnce } from "./model/spawn";
import { readSteps } from "./model/steps";
import { sync as syncOnce } from "./model/sync";
import { vUpstream } from "./group.validators";
import {
  vAgentOffer,
  vChunk,
  vClocks,
  vFinished,
  vInbox,
  vProgressReport,
  vRegistered,
  vSignal,
  vStepReport,
  vStepView,
  vSynced,
  vTaskSpec,
} from "./validators";

export const register = workerMutation({
  args: {
    worker: v.string(),
    incarnation: v.string(),
    queues: v.array(v.string()),
    agents: v.array(vAgentOffer),
    labels: v.array(v.string()),
    llm: v.boolean(),
    capacity: v.number(),
    version: v.string(),
    forks: v.optional(v.boolean()), // it keeps forks from effects; else it is given none
  },
  returns: vRegistered,
  handler: async (ctx, args) => ({
    session: await Registration.register(ctx, ctx.caller, args),
    ...Sessions.limits(),
  }),
});

export const inbox = workerQuery({
  args: { session: v.id("sessions") },
  returns: vInbox,
  handler: async (ctx, { session }) =>
    Sessions.inbox(ctx, await Sessions.sessionOf(ctx, ctx.caller, session)),
});

/** What `sync` reads from the snapshot at which it began. */
export const standing = internalQuery({
  args: { session: v.id("sessions"), accepted: v.array(v.id("runs")), finishing: v.array(v.id("runs")) },
  returns: v.object({ inbox: vInbox, holdsMore: v.boolean() }),
  handler: (ctx, { session, accepted, finishing }) => Sessions.standing(ctx, session, accepted, finishing),
});

export const sync = workerMutation({
  args: {
    session: v.id("sessions"),
    seq: v.number(),
    accepted: v.array(v.id("runs")),
    chunks: v.array(vChunk),
    finished: v.array(vFinished),
    acknowledged: v.array(v.id("controls")),
    steps: v.optional(v.array(vStepReport)),
    progress: v.optional(v.array(vProgressReport)),
    clocks: v.optional(vClocks),
    calls: v.optional(v.array(vCallReport)),
    models: v.optional(v.array(vModelReport)),
    spending: v.optional(v.array(vSpending)),
  },
  returns: vSynced,
  handler: (ctx, body) => syncOnce(ctx, ctx.caller, body),
});

/** The run, if the caller's session holds it. */
async function heldRun(
  ctx: QueryCtx & { caller: Caller },
  session: Id<"sessions">,
  id: Id<"runs">,
): Promise<Doc<"runs">> {
  await Sessions.sessionOf(ctx, ctx.caller, session);
  const run = await ctx.db.get("runs", id);
  if (run?.session !== session || !isLive(run)) {
    throw refuse("session_ended", `Run ${id} is not this session's any more.`);
  }
  return run;
}

export const input = workerQuery({
  args: { session: v.id("sessions"), run: v.id("runs") },
  returns: v.string(),
  handler: async (ctx, { session, run: id }) => {
    const run = await heldRun(ctx, session, id);
    return readInput(ctx, (await ctx.db.get("tasks", run.task))!);
  },
});

export const upstream = workerQuery({
  args: { session: v.id("sessions"), run: v.id("runs"), after: v.number() },
  returns: v.object({ items: v.array(vUpstream), next: v.union(v.number(), v.null()) }),
  handler: async (ctx, { session, run: id, after }) =>
    readUpstream(ctx, await rootOf(ctx, (await heldRun(ctx, session, id)).task), after),
});

export const output = workerMutation({
  args: { session: v.id("sessions"), run: v.id("runs"), text: v.string() },
  returns: v.null(),
  handler: async (ctx, { session, run: id, text }) => {
    await uploadOutput(ctx, await heldRun(ctx, session, id), text);
    return null;
  },
});

/** What earlier runs of the task have done, a page at a time, and on the first page the signals that wait for it. */
export const steps = workerQuery({
  args: { session: v.id("sessions"), run: v.id("runs"), cursor: v.union(v.string(), v.null()) },
  returns: v.object({
    steps: v.array(vStepView),
    cursor: v.union(v.string(), v.null()),
    signals: v.array(vSignal),
  }),
  handler: async (ctx, { session, run, cursor }) =>
    readSteps(ctx, await heldRun(ctx, session, run), cursor, Date.now()),
});

/** Submit the children of a run, once for the step that says so. */
export const spawn = workerMutation({
  args: {
    session: v.id("sessions"),
    run: v.id("runs"),
    step: v.string(),
    tasks: v.array(vTaskSpec),
    gather: v.boolean(),
  },
  returns: v.object({ tasks: v.array(v.id("tasks")), group: v.union(v.id("groups"), v.null()) }),
  handler: async (ctx, { session, run, step: key, tasks: specs, gather }) =>
    spawnOnce(ctx, await heldRun(ctx, session, run), { key, specs, gather }),
});

/** Tell the tenant of the run's task that something has happened, once for the step that says so. */
export const emit = workerMutation({
  args: {
    session: v.id("sessions"),
    run: v.id("runs"),
    step: v.string(),
    name: v.string(),
    data: v.string(), // JSON text
  },
  returns: v.object({ tasks: v.array(v.id("tasks")), woken: v.number() }), // submitted by triggers; that waited for it
  handler: async (ctx, { session, run, step: key, name, data }) =>
    emitOnce(ctx, await heldRun(ctx, session, run), { key, name, data }),
});

/** How children of a run's task have ended; as many of those asked for as fit. */
export const gathered = workerQuery({
  args: { session: v.id("sessions"), run: v.id("runs"), tasks: v.array(v.id("tasks")) },
  returns: v.object({ items: v.array(vUpstream) }),
  handler: async (ctx, { session, run, tasks }) => ({
    items: await outcomesOf(ctx, (await heldRun(ctx, session, run)).task, tasks),
  }),
});

export const drain = workerMutation({
  args: { session: v.id("sessions"), final: v.boolean() },
  returns: v.object({ live: v.boolean() }),
  handler: async (ctx, { session: id, final }) => {
    const session = await Sessions.sessionOf(ctx, ctx.caller, id);
    if (session.ended !== null) return { live: false };
    if (final) {
      await Sessions.endSession(ctx, id, null, null);
      return { live: false };
    }
    const { ended } = await Registration.heard(ctx, ctx.caller, session);
    if (ended === null) await Sessions.drain(ctx, session);
    return { live: ended === null };
  },
});

export const crashed = workerMutation({
  args: { session: v.id("sessions"), blamed: v.union(v.id("runs"), v.null()) },
  returns: v.null(),
  handler: async (ctx, { session: id, blamed }) => {
    const session = await Sessions.sessionOf(ctx, ctx.caller, id);
    const why = Sessions.fault("worker_died", "the worker's process ended while it held this run");
    if (session.ended === null) await Sessions.endSession(ctx, id, why, blamed);
    else if (blamed !== null) {
      const run = await ctx.db.get("runs", blamed);
      if (run?.session === id) await blameLate(ctx, run);
    }
    return null;
  },
});
