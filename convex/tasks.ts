import { v } from "convex/values";
import { internalQuery } from "./_generated/server";
import { submitMutation, viewerQuery } from "./functions";
import { MAX_EVENTS } from "./constants";
import { vComparison, vForkSpec } from "./fork.validators";
import * as Children from "./model/children";
import * as Bulk from "./model/bulk";
import { history as readHistory } from "./model/events";
import * as Explain from "./model/explain";
import { checkScope } from "./model/keys";
import { partOf } from "./model/outputs";
import { compare as compareTasks } from "./model/compare";
import * as Forks from "./model/forks";
import * as Restart from "./model/restart";
import { seenTask, taskInScope } from "./model/scope";
import * as Steer from "./model/steer";
import { submit as submitTasks } from "./model/submit";
import { stateOf } from "./model/progress";
import { send } from "./model/send";
import * as Tasks from "./model/tasks";
import { vBulk, vCause, vFailures, vFilter } from "./bulk.validators";
import { vTaskLinks } from "./group.validators";
import { vBacklog, vWhy } from "./limit.validators";
import { vEventView, vSubmitted, vTaskSpec, vTaskState, vTaskStatus, vTaskView } from "./validators";

export const submit = submitMutation({
  args: { tasks: v.array(vTaskSpec) },
  returns: v.array(vSubmitted),
  handler: (ctx, { tasks }) => submitTasks(ctx, ctx.caller, tasks),
});

export const get = viewerQuery({
  args: { task: v.string() },
  returns: v.union(vTaskView, v.null()),
  handler: async (ctx, { task }) => {
    const id = ctx.db.normalizeId("tasks", task);
    return id === null ? null : Tasks.get(ctx, id, (queue) => checkScope(ctx.caller, queue));
  },
});

export const part = viewerQuery({
  args: { task: v.string(), of: v.union(v.literal("input"), v.literal("output")), index: v.number() },
  returns: v.union(v.object({ text: v.string(), parts: v.number() }), v.null()),
  handler: async (ctx, { task, of, index }) => {
    const found = await ctx.db.get("tasks", await seenTask(ctx, ctx.caller, task));
    return found && partOf(ctx, found, of, index);
  },
});

export const list = viewerQuery({
  args: {
    tenant: v.optional(v.string()),
    status: v.optional(vTaskStatus),
    limit: v.optional(v.number()),
    cursor: v.optional(v.union(v.string(), v.null())),
  },
  returns: v.object({ tasks: v.array(vTaskView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { tenant = "default", status = null, limit = 50, cursor = null }) =>
    Tasks.list(ctx, { tenant, status, limit, cursor }, ctx.caller.queues),
});

export const cancel = submitMutation({
  args: { task: v.string(), subtree: v.optional(v.boolean()) },
  returns: v.object({ status: vTaskStatus }),
  handler: async (ctx, { task, subtree = false }) => {
    const { _id } = await taskInScope(ctx, ctx.caller, task);
    return { status: await (subtree ? Children.cancelTree(ctx, _id) : Tasks.cancel(ctx, _id)) };
  },
});

export const links = viewerQuery({
  args: { task: v.string() },
  returns: vTaskLinks,
  handler: async (ctx, { task }) =>
    Children.linksOf(ctx, await seenTask(ctx, ctx.caller, task), ctx.caller.queues),
});

export const children = viewerQuery({
  args: {
    task: v.string(),
    limit: v.optional(v.number()),
    cursor: v.optional(v.union(v.string(), v.null())),
  },
  returns: v.object({ tasks: v.array(vTaskView), cursor: v.union(v.string(), v.null()) }),
  handler: async (ctx, { task, limit = 50, cursor = null }) =>
    Children.listChildren(ctx, await seenTask(ctx, ctx.caller, task), limit, cursor, ctx.caller.queues),
});

export const pause = submitMutation({
  args: { task: v.string() },
  returns: v.object({ status: vTaskStatus }),
  handler: async (ctx, { task }) => ({
    status: await Steer.pause(ctx, await taskInScope(ctx, ctx.caller, task)),
  }),
});

export const resume = submitMutation({
  args: { task: v.string() },
  returns: v.object({ status: vTaskStatus }),
  handler: async (ctx, { task }) => ({
    status: await Steer.resume(ctx, await taskInScope(ctx, ctx.caller, task), Date.now()),
  }),
});

const vRequest = { request: v.optional(v.string()) }; // the caller's name for the call: sent again it does nothing

export const retry = submitMutation({
  args: { task: v.string(), ...vRequest },
  returns: v.object({ status: vTaskStatus }),
  handler: async (ctx, { task: id, request }) => {
    const task = await taskInScope(ctx, ctx.caller, id);
    const now = Date.now();
    const act = () => Steer.retry(ctx, task, now);
    return { status: await Steer.oncePer(ctx, task, "retry", request, now, act) };
  },
});

/** From scratch, on whatever version of its agent there is now: its steps are dropped. */
export const restart = submitMutation({
  args: { task: v.string(), ...vRequest },
  returns: v.object({ status: vTaskStatus }),
  handler: async (ctx, { task: id, request }) => {
    const task = await taskInScope(ctx, ctx.caller, id);
    const now = Date.now();
    const act = () => Restart.restart(ctx, task, now);
    return { status: await Steer.oncePer(ctx, task, "restart", request, now, act) };
  },
});

/** A new task that goes on from a step of this one, with something changed and, unless they are allowed, no effects. */
export const fork = submitMutation({
  args: { task: v.string(), ...vForkSpec.fields },
  returns: v.object({ task: v.id("tasks"), duplicate: v.boolean() }),
  handler: async (ctx, { task, ...spec }) =>
    Forks.fork(ctx, await taskInScope(ctx, ctx.caller, task), spec, Date.now()),
});

/** Two tasks side by side. */
export const compare = viewerQuery({
  args: { task: v.string(), other: v.string() },
  returns: vComparison,
  handler: async (ctx, { task, other }) =>
    compareTasks(ctx, [await seenTask(ctx, ctx.caller, task), await seenTask(ctx, ctx.caller, other)]),
});

export const history = viewerQuery({
  args: { task: v.string(), cursor: v.optional(v.union(v.string(), v.null())) },
  returns: v.object({ events: v.array(vEventView), cursor: v.union(v.string(), v.null()) }),
  handler: async (ctx, { task, cursor = null }) =>
    readHistory(ctx, await seenTask(ctx, ctx.caller, task), { cursor, numItems: MAX_EVENTS }),
});

/** Tell a task something, once for each id. */
export const signal = submitMutation({
  args: { task: v.string(), name: v.string(), data: v.string(), id: v.string() },
  returns: v.object({ duplicate: v.boolean() }),
  handler: async (ctx, { task, name, data, id }) =>
    send(ctx, await taskInScope(ctx, ctx.caller, task), { name, data, id }, Date.now()),
});

export const state = viewerQuery({
  args: { task: v.string(), clocks: v.optional(v.boolean()) }, // false: so that who subscribes is not told of each heartbeat
  returns: vTaskState,
  handler: async (ctx, { task, clocks = true }) =>
    stateOf(ctx, await seenTask(ctx, ctx.caller, task), clocks),
});

export const why = viewerQuery({
  args: { task: v.string() },
  returns: vWhy,
  handler: async (ctx, { task }) => Explain.why(ctx, await seenTask(ctx, ctx.caller, task), Date.now()),
});

export const backlog = viewerQuery({
  args: {},
  returns: vBacklog,
  handler: (ctx) => Explain.backlog(ctx, Date.now(), ctx.caller.queues),
});

export const cancelMany = submitMutation({
  args: {
    filter: vFilter,
    cursor: v.optional(v.union(v.string(), v.null())),
    dryRun: v.optional(v.boolean()),
  },
  returns: vBulk,
  handler: (ctx, { filter, cursor = null, dryRun = false }) =>
    Bulk.applyToPage(ctx, ctx.caller, "cancel", filter, cursor, dryRun),
});

export const retryMany = submitMutation({
  args: {
    filter: vFilter,
    cursor: v.optional(v.union(v.string(), v.null())),
    dryRun: v.optional(v.boolean()),
    ...vRequest, // of its first page: what was retried since that was asked for first is left alone
  },
  returns: vBulk,
  handler: (ctx, { filter, cursor = null, dryRun = false, request }) =>
    Bulk.applyToPage(ctx, ctx.caller, "retry", filter, cursor, dryRun, request),
});

/** What the two above read from the snapshot at which they begin. */
export const page = internalQuery({
  args: {
    verb: v.union(v.literal("cancel"), v.literal("retry")),
    filter: vFilter,
    queues: v.union(v.array(v.string()), v.null()),
    cursor: v.union(v.string(), v.null()),
    rows: v.number(),
    now: v.number(),
  },
  returns: v.object({
    tasks: v.array(v.object({ task: v.id("tasks"), row: v.number() })),
    cursor: v.union(v.string(), v.null()),
  }),
  handler: (ctx, { verb, filter, queues, ...place }) => Bulk.pageOf(ctx, verb, filter, queues, place),
});

export const failures = viewerQuery({
  args: { tenant: v.optional(v.string()), cursor: v.optional(v.union(v.string(), v.null())) },
  returns: vFailures,
  handler: (ctx, { tenant = "default", cursor = null }) =>
    Bulk.failures(ctx, tenant, cursor, ctx.caller.queues),
});

export const causes = viewerQuery({
  args: { task: v.string() },
  returns: v.array(vCause),
  handler: async (ctx, { task }) => Bulk.causesOf(ctx, await seenTask(ctx, ctx.caller, task)),
});
