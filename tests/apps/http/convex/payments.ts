import { v } from "convex/values";
import { action, internalMutation, query } from "./_generated/server";

/** The provider may deliver an event more than once. */
export const record = internalMutation({
  args: { event: v.string(), amount: v.int64() },
  returns: v.boolean(),
  handler: async (ctx, payment) => {
    const known = await ctx.db
      .query("payments")
      .withIndex("by_event", (q) => q.eq("event", payment.event))
      .unique();
    if (known !== null) return false;
    await ctx.db.insert("payments", payment);
    return true;
  },
});

export const total = query({
  args: {},
  returns: v.int64(),
  handler: async (ctx) =>
    (await ctx.db.query("payments").collect()).reduce((sum, { amount }) => sum + amount, 0n),
});

/** Asks this deployment's own site, as an action asks any service. */
export const ping = action({
  args: { path: v.string() },
  handler: async (_ctx, { path }) => {
    const response = await fetch(`${process.env.CONVEX_SITE_URL}${path}`, {
      headers: { "x-from": "an action" },
    });
    return { status: response.status, text: await response.text() };
  },
});
