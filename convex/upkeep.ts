/** Upkeep in the background, and what the operator asks of it. */
import { v } from "convex/values";
import { internalMutation } from "./_generated/server";
import { MINUTE_MS } from "./constants";
import { operatorMutation, operatorQuery } from "./functions";
import * as Archive from "./model/archive";
import { Budget, purgeTask, retain as retainPage } from "./model/retention";
import { rollUp as rollUpPage } from "./model/rollup";
import { needsEveryQueue } from "./model/scope";
import { knownId } from "./model/text";
import { page } from "./model/upkeep";

const ARCHIVE = "upkeep: the archive is of all queues";

/** A page of what is to be deleted. */
export const retain = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    await page(ctx, "retention", generation, (cursor, now) => retainPage(ctx, cursor, now));
    return null;
  },
});

/** One task of it, in a sub-transaction of its own. */
export const purge = internalMutation({
  args: {
    task: v.id("tasks"),
    touches: v.number(),
    bytes: v.number(),
    endedBy: v.number(),
    archivedTo: v.union(v.int64(), v.null()),
    now: v.number(),
  },
  returns: v.object({ next: v.union(v.number(), v.null()), touches: v.number(), bytes: v.number() }),
  handler: async (ctx, { task, now, touches, bytes, ...cutoff }) => {
    const budget = new Budget(touches, bytes);
    const next = await purgeTask(ctx, task, budget, cutoff, now);
    return { next, touches: budget.touches, bytes: budget.bytes };
  },
});

/** A page of what is to be counted. */
export const rollUp = internalMutation({
  args: { generation: v.number() },
  returns: v.null(),
  handler: async (ctx, { generation }) => {
    await page(ctx, "rollup", generation, (cursor, now) => rollUpPage(ctx, cursor, now));
    return null;
  },
});

/** What has ended, for the archive. The last minute is left for the next time: commits may still come in it. */
export const exportTasks = operatorQuery({
  args: {
    after: v.union(v.string(), v.null()), // the position that the last call gave
    until: v.optional(v.number()), // milliseconds since the epoch
    tenant: v.optional(v.string()),
  },
  returns: v.object({
    tasks: v.array(
      v.object({
        task: v.string(), // rows as JSON text, as Convex encodes them
        parts: v.record(v.string(), v.array(v.string())),
        whole: v.boolean(), // false: read its parts one by one
        position: v.string(),
      }),
    ),
    position: v.string(),
    done: v.boolean(),
  }),
  handler: (ctx, { after, until = Infinity, tenant = null }) => {
    needsEveryQueue(ctx.caller, ARCHIVE);
    return Archive.exportPage(ctx, { after, until: Math.min(until, Date.now() - MINUTE_MS), tenant });
  },
});

export const exportPart = operatorQuery({
  args: { task: v.string(), part: v.string(), cursor: v.union(v.string(), v.null()) },
  returns: v.object({ rows: v.array(v.string()), cursor: v.union(v.string(), v.null()) }),
  handler: (ctx, { task, part, cursor }) => {
    needsEveryQueue(ctx.caller, ARCHIVE);
    return Archive.part(ctx, knownId(ctx, "tasks", task), part, cursor);
  },
});

export const exportText = operatorQuery({
  args: { text: v.string() },
  returns: v.object({ text: v.string(), rest: v.array(v.id("outputs")) }),
  handler: (ctx, { text }) => {
    needsEveryQueue(ctx.caller, ARCHIVE);
    return Archive.text(ctx, text);
  },
});

export const archived = operatorMutation({
  args: { position: v.string() },
  returns: v.null(),
  handler: async (ctx, { position }) => {
    needsEveryQueue(ctx.caller, ARCHIVE);
    await Archive.noteArchived(ctx, position);
    return null;
  },
});
