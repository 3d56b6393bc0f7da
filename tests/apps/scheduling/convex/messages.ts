import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { internalMutation, mutation, query } from "./_generated/server";

type Sent = { id: Id<"messages">; destruction: Id<"_scheduled_functions"> };

/** A message that deletes itself. */
export const sendExpiring = mutation({
  args: { body: v.string(), afterMs: v.number() },
  returns: v.object({ id: v.id("messages"), destruction: v.id("_scheduled_functions") }),
  handler: async (ctx, { body, afterMs }): Promise<Sent> => {
    const id = await ctx.db.insert("messages", { body });
    const destruction: Id<"_scheduled_functions"> = await ctx.scheduler.runAfter(
      afterMs,
      internal.messages.destruct,
      { id },
    );
    await ctx.db.patch(id, { destruction });
    return { id, destruction };
  },
});

export const destruct = internalMutation({
  args: { id: v.id("messages") },
  handler: async (ctx, { id }) => {
    await ctx.db.delete(id);
  },
});

export const keep = mutation({
  args: { id: v.id("messages") },
  handler: async (ctx, { id }) => {
    const message = await ctx.db.get(id);
    if (message?.destruction === undefined) return;
    await ctx.scheduler.cancel(message.destruction);
    await ctx.db.patch(id, { destruction: undefined });
  },
});

/** Nothing is scheduled by a mutation that fails. */
export const sendAndFail = mutation({
  args: { to: v.string() },
  handler: async (ctx, { to }) => {
    await ctx.scheduler.runAfter(0, internal.emails.send, { to });
    throw new Error("changed my mind");
  },
});

export const list = query({
  args: {},
  handler: async (ctx) => (await ctx.db.query("messages").collect()).map(({ body }) => body),
});

export const job = query({
  args: { id: v.id("_scheduled_functions") },
  handler: async (ctx, { id }) => await ctx.db.system.get(id),
});

export const pending = query({
  args: {},
  handler: async (ctx) => {
    const jobs = await ctx.db.system
      .query("_scheduled_functions")
      .filter((q) => q.eq(q.field("state.kind"), "pending"))
      .collect();
    return jobs.map(({ name, args }) => ({ name, args }));
  },
});
