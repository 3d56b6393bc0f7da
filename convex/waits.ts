/** Waking the tasks that wait for an event, beyond the first page. */
import { v } from "convex/values";
import { internalMutation } from "./_generated/server";
import { wakePage } from "./model/waits";

export const wakeMore = internalMutation({
  args: {
    tenant: v.string(),
    name: v.string(),
    inline: v.union(v.string(), v.null()),
    id: v.union(v.id("outputs"), v.null()),
    before: v.number(),
  },
  returns: v.null(),
  handler: async (ctx, page) => {
    await wakePage(ctx, page);
    return null;
  },
});
