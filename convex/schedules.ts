import { v } from "convex/values";
import { submitMutation, viewerQuery } from "./functions";
import * as Schedules from "./model/schedules";
import { vScheduleSpec, vScheduleView, vTiming } from "./schedule.validators";
import { vSubmitted } from "./validators";

const vName = { tenant: v.optional(v.string()), name: v.string() };
const vChanged = v.object({
  schedule: v.id("schedules"),
  changed: v.boolean(),
  nextRunAt: v.union(v.number(), v.null()),
});

export const set = submitMutation({
  args: { schedule: vScheduleSpec },
  returns: vChanged,
  handler: (ctx, { schedule }) => Schedules.set(ctx, ctx.caller, schedule),
});

export const get = viewerQuery({
  args: vName,
  returns: v.union(vScheduleView, v.null()),
  handler: (ctx, { tenant = "default", name }) => Schedules.get(ctx, ctx.caller, { tenant, name }),
});

export const list = viewerQuery({
  args: {
    tenant: v.optional(v.string()),
    limit: v.optional(v.number()),
    cursor: v.optional(v.union(v.string(), v.null())),
  },
  returns: v.object({ schedules: v.array(vScheduleView), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { tenant = "default", limit = 50, cursor = null }) =>
    Schedules.list(ctx, ctx.caller, { tenant, limit, cursor }),
});

export const pause = submitMutation({
  args: vName,
  returns: vScheduleView,
  handler: (ctx, { tenant = "default", name }) => Schedules.enable(ctx, ctx.caller, { tenant, name }, false),
});

export const resume = submitMutation({
  args: vName,
  returns: vScheduleView,
  handler: (ctx, { tenant = "default", name }) => Schedules.enable(ctx, ctx.caller, { tenant, name }, true),
});

export const remove = submitMutation({
  args: vName,
  returns: v.object({ removed: v.boolean() }),
  handler: async (ctx, { tenant = "default", name }) => ({
    removed: await Schedules.remove(ctx, ctx.caller, { tenant, name }),
  }),
});

export const runNow = submitMutation({
  args: { ...vName, request: v.string() },
  returns: vSubmitted,
  handler: (ctx, { tenant = "default", name, request }) =>
    Schedules.runNow(ctx, ctx.caller, { tenant, name }, request),
});

export const preview = viewerQuery({
  args: {
    tenant: v.optional(v.string()),
    of: v.union(v.object({ name: v.string() }), vTiming),
    count: v.optional(v.number()),
    after: v.optional(v.number()), // milliseconds since the epoch; default: now
  },
  returns: v.array(v.number()),
  handler: (ctx, { tenant = "default", of, count = 10, after = Date.now() }) =>
    Schedules.preview(ctx, ctx.caller, "name" in of ? { tenant, ...of } : of, count, after),
});
