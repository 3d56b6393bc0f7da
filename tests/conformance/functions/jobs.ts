import { api } from "./_generated/api";
import { ConvexError, v } from "convex/values";
import type { GenericId, Value } from "convex/values";
import { action, internalAction, internalMutation, mutation, query } from "./_generated/server";
import type { MutationCtx } from "./_generated/server";

const { jobs, messages, errors } = api;

type JobId = GenericId<"_scheduled_functions">;

export const schedule = mutation({
  args: { delay: v.number(), channel: v.string(), body: v.string() },
  handler: async (ctx, { delay, channel, body }) =>
    await ctx.scheduler.runAfter(delay, messages.send, { channel, body }),
});
export const scheduleAt = mutation({
  args: { at: v.number(), channel: v.string(), body: v.string() },
  handler: async (ctx, { at, channel, body }) =>
    await ctx.scheduler.runAt(at, messages.send, { channel, body }),
});
export const scheduleAtDate = mutation({
  args: { at: v.number(), channel: v.string() },
  handler: async (ctx, { at, channel }) =>
    await ctx.scheduler.runAt(new Date(at), messages.send, { channel, body: "at a date" }),
});
export const scheduleMany = mutation({
  args: { count: v.number(), channel: v.string() },
  handler: async (ctx, { count, channel }) => {
    for (let body = 0; body < count; body += 1)
      await ctx.scheduler.runAfter(0, messages.send, { channel, body: String(body) });
  },
});
export const scheduleThenThrow = mutation({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    await ctx.scheduler.runAfter(0, messages.send, { channel, body: "never" });
    throw new Error("not scheduled after all");
  },
});
/** Schedules a function of this module by its name, without arguments but the channel. */
export const scheduleOwn = mutation({
  args: { name: v.string(), channel: v.string() },
  handler: async (ctx, { name, channel }) => await ctx.scheduler.runAfter(0, jobs[name], { channel }),
});
export const scheduleFailing = mutation({
  args: { kind: v.string(), data: v.optional(v.any()) },
  handler: async (ctx, { kind, data }) =>
    await ctx.scheduler.runAfter(0, errors.innerMutation, { kind, data: data as Value }),
});
export const cancel = mutation({
  args: { id: v.id("_scheduled_functions") },
  handler: async (ctx, { id }) => await ctx.scheduler.cancel(id),
});
export const cancelInAction = action({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<JobId> => {
    const id: JobId = await ctx.scheduler.runAfter(60_000, messages.send, { channel, body: "never" });
    await ctx.scheduler.cancel(id);
    return id;
  },
});

export const job = query({
  args: { id: v.id("_scheduled_functions") },
  handler: async (ctx, { id }) => await ctx.db.system.get(id),
});
export const allJobs = query({
  args: {},
  handler: async (ctx) => await ctx.db.system.query("_scheduled_functions").collect(),
});

/** Notes the states of all running jobs, itself among them. */
async function noteRunning(ctx: MutationCtx, channel: string) {
  const running = await ctx.db.system.query("_scheduled_functions").collect();
  const own = running.filter(
    ({ args }) => (args[0] as { channel?: string } | undefined)?.channel === channel,
  );
  for (const { state } of own) await ctx.db.insert("messages", { channel, body: state.kind });
}
export const noteOwnState = internalMutation({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => await noteRunning(ctx, channel),
});
export const noteStateOfAction = internalAction({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<void> => {
    await ctx.runMutation(jobs.noteOwnState, { channel });
  },
});
export const cancelsItself = internalAction({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<void> => {
    const id = (await ctx.runMutation(jobs.ownId, { channel })) as JobId;
    await ctx.scheduler.cancel(id);
    await ctx.runMutation(messages.send, { channel, body: "ran to its end" });
  },
});
export const ownId = internalMutation({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<JobId | null> => {
    for (const { _id, args } of await ctx.db.system.query("_scheduled_functions").collect())
      if ((args[0] as { channel?: string }).channel === channel) return _id;
    return null;
  },
});
export const notesIdentity = internalMutation({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const identity = await ctx.auth.getUserIdentity();
    await ctx.db.insert("messages", { channel, body: identity?.tokenIdentifier ?? "nobody" });
  },
});
export const notesIdentityInAction = internalAction({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<void> => {
    const identity = await ctx.auth.getUserIdentity();
    await ctx.runMutation(messages.send, { channel, body: identity?.tokenIdentifier ?? "nobody" });
    await ctx.runMutation(jobs.notesIdentity, { channel });
  },
});
export const handlesConvexError = internalAction({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<void> => {
    try {
      await ctx.runMutation(errors.innerMutation, { kind: "data", data: { code: channel } });
    } catch (error) {
      const body = error instanceof ConvexError ? (error.data as { code: string }).code : "no ConvexError";
      await ctx.runMutation(messages.send, { channel, body });
    }
  },
});
export const failsWithConvexError = internalAction({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<void> => {
    await ctx.runMutation(messages.send, { channel, body: "before it failed" });
    throw new ConvexError({ code: "failed" });
  },
});

// System tables and user tables.

export const readsSystemByDb = query({
  args: { kind: v.string(), id: v.optional(v.string()) },
  handler: async (ctx, { kind, id }): Promise<Value> => {
    const { db } = ctx;
    const asAny = (value: unknown) => value as never;
    if (kind === "db.query of a system table") return await db.query(asAny("_scheduled_functions")).collect();
    if (kind === "db.get of a system id") return await db.get(asAny(id));
    if (kind === "db.get of a system id by name")
      return await db.get(asAny("_scheduled_functions"), asAny(id));
    if (kind === "db.system.query of a user table") return await db.system.query(asAny("messages")).collect();
    if (kind === "db.system.get of a user id") return await db.system.get(asAny(id));
    if (kind === "db.system.get of a user id by name")
      return await db.system.get(asAny("messages"), asAny(id));
    if (kind === "db.system.get of a system id by name")
      return await db.system.get("_scheduled_functions", asAny(id));
    if (kind === "db.system.normalizeId") return db.system.normalizeId("_scheduled_functions", id ?? "");
    if (kind === "db.query of _storage") return await db.query(asAny("_storage")).collect();
    throw new Error(`no '${kind}'`);
  },
});
export const writesSystem = mutation({
  args: { kind: v.string(), id: v.string() },
  handler: async (ctx, { kind, id }) => {
    const db = ctx.db as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>;
    if (kind === "insert") await db.insert!("_scheduled_functions", { name: "x" });
    if (kind === "insert into _storage") await db.insert!("_storage", { sha256: "x" });
    if (kind === "patch") await db.patch!(id, { name: "x" });
    if (kind === "replace") await db.replace!(id, { name: "x" });
    if (kind === "delete") await db.delete!(id);
  },
});
export const writersOfSystem = mutation({
  args: {},
  handler: async (ctx) => {
    const system = ctx.db.system as unknown as Record<string, unknown>;
    return ["insert", "patch", "replace", "delete"].map((name) => typeof system[name]);
  },
});
export const files = query({
  args: {},
  handler: async (ctx) => await ctx.db.system.query("_storage").collect(),
});
export const keepReceipt = mutation({
  args: { job: v.id("_scheduled_functions") },
  handler: async (ctx, { job }) => await ctx.db.insert("receipts", { job }),
});
export const readReceipt = query({
  args: { id: v.id("receipts") },
  handler: async (ctx, { id }) => {
    const receipt = await ctx.db.get(id);
    return receipt === null ? null : await ctx.db.system.get(receipt.job);
  },
});
