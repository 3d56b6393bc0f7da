import { v } from "convex/values";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { action, internalAction, internalMutation, mutation, query } from "./_generated/server";

export const sendAt = mutation({
  args: { to: v.string(), at: v.number() },
  handler: async (ctx, { to, at }): Promise<Id<"_scheduled_functions">> =>
    await ctx.scheduler.runAt(at, internal.emails.send, { to }),
});

/** From an action the job is there at once, whatever becomes of the action. */
export const sendFromAction = action({
  args: { to: v.string() },
  handler: async (ctx, { to }) => {
    await ctx.scheduler.runAfter(0, internal.emails.send, { to });
    throw new Error("too late");
  },
});

export const send = internalAction({
  args: { to: v.string() },
  handler: async (ctx, { to }) => {
    if (to === "nobody") throw new Error("no such address");
    await ctx.runMutation(internal.emails.note, { to });
  },
});

export const note = internalMutation({
  args: { to: v.string() },
  handler: async (ctx, { to }) => {
    await ctx.db.insert("emails", { to, sent: Date.now() });
  },
});

export const sent = query({
  args: { to: v.string() },
  handler: async (ctx, { to }) => {
    const emails = await ctx.db
      .query("emails")
      .withIndex("by_to", (q) => q.eq("to", to))
      .collect();
    return emails.length;
  },
});

/** Sends three, each scheduled by the one before. */
export const remind = mutation({
  args: { to: v.string(), left: v.number() },
  handler: async (ctx, { to, left }) => {
    await ctx.db.insert("emails", { to, sent: Date.now() });
    if (left > 1) await ctx.scheduler.runAfter(5, api.emails.remind, { to, left: left - 1 });
  },
});

export const tick = internalMutation({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("ticks", { at: Date.now() });
  },
});

export const ticks = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("ticks").collect()).length,
});
