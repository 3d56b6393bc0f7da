import { paginationOptsValidator, paginationResultValidator } from "convex/server";
import { v } from "convex/values";
import { VERSION } from "./constants";
import { operatorMutation, viewerQuery } from "./functions";
import * as Dashboard from "./model/dashboard";
import { seenTask } from "./model/scope";
import {
  vAttempt,
  vBeat,
  vCallerView,
  vCallRow,
  vForkLinks,
  vListFilter,
  vQueueRow,
  vStepRow,
  vTaskRow,
  vWorkerRow,
} from "./dashboard.validators";
import { vFailures } from "./bulk.validators";

/** Whose key this is. Open subscriptions to it end with the key. */
export const caller = viewerQuery({
  args: {},
  returns: vCallerView,
  handler: async (ctx) => {
    const { role, label, queues } = (await ctx.db.get("keys", ctx.caller.key))!;
    return { role, label, queues, version: VERSION };
  },
});

/** A page of an endless list: at most DASHBOARD_PAGE tasks are read for it, and those that the filter names are shown. */
export const tasks = viewerQuery({
  args: { filter: vListFilter, paginationOpts: paginationOptsValidator },
  returns: paginationResultValidator(vTaskRow),
  handler: (ctx, { filter, paginationOpts }) =>
    Dashboard.listTasks(ctx, filter, paginationOpts, ctx.caller.queues),
});

export const attempts = viewerQuery({
  args: { task: v.string() },
  returns: v.object({ attempts: v.array(vAttempt), more: v.boolean() }),
  handler: async (ctx, { task }) => Dashboard.attemptsOf(ctx, await seenTask(ctx, ctx.caller, task)),
});

export const steps = viewerQuery({
  args: { task: v.string() },
  returns: v.object({ steps: v.array(vStepRow), more: v.boolean() }),
  handler: async (ctx, { task }) => Dashboard.stepsOf(ctx, await seenTask(ctx, ctx.caller, task)),
});

/** The last attempts at model calls of a task, over all of its runs, in the order in which they were told of. */
export const calls = viewerQuery({
  args: { task: v.string() },
  returns: v.object({ calls: v.array(vCallRow), more: v.boolean() }),
  handler: async (ctx, { task }) => Dashboard.callsOf(ctx, await seenTask(ctx, ctx.caller, task)),
});

export const forks = viewerQuery({
  args: { task: v.string() },
  returns: vForkLinks,
  handler: async (ctx, { task }) =>
    Dashboard.forksOf(ctx, await seenTask(ctx, ctx.caller, task), ctx.caller.queues),
});

export const workers = viewerQuery({
  args: {},
  returns: v.object({ workers: v.array(vWorkerRow), more: v.boolean() }),
  handler: (ctx) => Dashboard.workers(ctx, ctx.caller.queues),
});

/** To be asked from time to time, not subscribed to: it would run again with every sync of every worker. */
export const beats = viewerQuery({
  args: {},
  returns: v.array(vBeat),
  handler: (ctx) => Dashboard.beats(ctx, ctx.caller.queues),
});

export const queues = viewerQuery({
  args: {},
  returns: v.object({ queues: v.array(vQueueRow), more: v.boolean() }),
  handler: (ctx) => Dashboard.queues(ctx, ctx.caller.queues),
});

export const failures = viewerQuery({
  args: { tenant: v.optional(v.string()) },
  returns: vFailures.pick("causes", "counted"),
  handler: (ctx, { tenant = "default" }) => Dashboard.failures(ctx, tenant, ctx.caller.queues),
});

/** Ask a worker to finish what it holds and leave; it is given nothing more from now on. */
export const drain = operatorMutation({
  args: { worker: v.string() },
  returns: v.null(),
  handler: async (ctx, { worker }) => {
    await Dashboard.drain(ctx, ctx.caller, worker);
    return null;
  },
});
