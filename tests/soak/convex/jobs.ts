import {
  anyApi,
  type DataModelFromSchemaDefinition,
  internalActionGeneric,
  type MutationBuilder,
  internalMutationGeneric,
  mutationGeneric,
} from "convex/server";
import { v } from "convex/values";
import type schema from "./schema";

type DataModel = DataModelFromSchemaDefinition<typeof schema>;
const mutation: MutationBuilder<DataModel, "public"> = mutationGeneric;
const internalMutation: MutationBuilder<DataModel, "internal"> = internalMutationGeneric;

const CHAIN = 3; // functions that schedule one another

/** Schedule a function and note its job in the same transaction. */
export const plan = mutation({
  args: {
    round: v.number(),
    key: v.string(),
    kind: v.union(v.literal("once"), v.literal("refuse"), v.literal("chain"), v.literal("act")),
    delayMs: v.number(),
  },
  handler: async (ctx, { round, key, kind, delayMs }) => {
    const job = await ctx.scheduler.runAfter(delayMs, anyApi.jobs[kind], { round, key });
    await ctx.db.insert("plans", { round, key, kind, job });
    return job;
  },
});

/** Cancel a job, and say what it is now: it may have run before. */
export const cancel = mutation({
  args: { job: v.id("_scheduled_functions") },
  handler: async (ctx, { job }) => {
    await ctx.scheduler.cancel(job);
    return (await ctx.db.system.get(job))?.state.kind;
  },
});

export const once = internalMutation({
  args: { round: v.number(), key: v.string() },
  handler: async (ctx, work) => {
    await ctx.db.insert("effects", { ...work, what: "once" });
  },
});

export const refuse = internalMutation({
  args: { round: v.number(), key: v.string() },
  handler: async (ctx, work) => {
    await ctx.db.insert("effects", { ...work, what: "refused" });
    throw new Error("refused on purpose");
  },
});

export const chain = internalMutation({
  args: { round: v.number(), key: v.string(), link: v.optional(v.number()) },
  handler: async (ctx, { round, key, link = 0 }) => {
    await ctx.db.insert("effects", { round, key, what: `link ${link}` });
    if (link + 1 < CHAIN) await ctx.scheduler.runAfter(0, anyApi.jobs.chain, { round, key, link: link + 1 });
  },
});

export const act = internalActionGeneric({
  args: { round: v.number(), key: v.string() },
  handler: async (ctx, work) => {
    await ctx.runMutation(anyApi.jobs.note, { ...work, what: "started" });
    await new Promise((resolve) => setTimeout(resolve, 20)); // most of its time an action waits
    await ctx.runMutation(anyApi.jobs.note, { ...work, what: "ended" });
  },
});

export const note = internalMutation({
  args: { round: v.number(), key: v.string(), what: v.string() },
  handler: async (ctx, effect) => {
    await ctx.db.insert("effects", effect);
  },
});

export const beat = internalMutation({
  args: { cron: v.string() },
  handler: async (ctx, { cron }) => {
    await ctx.db.insert("beats", { cron, at: Date.now() });
  },
});

export const beatByAction = internalActionGeneric({
  args: {},
  handler: async (ctx) => {
    await ctx.runMutation(anyApi.jobs.beat, { cron: "action" });
  },
});
