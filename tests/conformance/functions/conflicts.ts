import { v } from "convex/values";
import { mutation } from "./_generated/server";

declare const Convex: { syscall(operation: string, args: string): string };

/** Ends as a conflict or as an overload until a time. */
export const atFirst = mutation({
  args: { operation: v.string(), channel: v.string(), until: v.number() },
  handler: async (ctx, { operation, channel, until }) => {
    await ctx.db.insert("messages", { channel, body: "written" });
    if (Date.now() < until) Convex.syscall(operation, "{}");
    return "done";
  },
});
