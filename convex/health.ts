import { v } from "convex/values";
import { internalQuery } from "./_generated/server";
import { MAX_LIVE_WORKERS, VERSION } from "./constants";

/** What a probe wants to know, in few bounded reads. */
export const read = internalQuery({
  args: {},
  returns: v.object({
    version: v.string(),
    liveWorkers: v.number(),
    oldestWaitingSince: v.union(v.number(), v.null()), // milliseconds since the epoch
    dispatch: v.union(v.literal("asleep"), v.literal("running"), v.literal("starved")),
  }),
  handler: async (ctx) => {
    const workers = await ctx.db
      .query("workers")
      .withIndex("by_live", (q) => q.eq("live", true))
      .take(MAX_LIVE_WORKERS);
    const oldest = await ctx.db.query("ready").first();
    const loop = await ctx.db
      .query("loops")
      .withIndex("by_name", (q) => q.eq("name", "dispatch"))
      .unique();
    return {
      version: VERSION,
      liveWorkers: workers.length,
      oldestWaitingSince: oldest?._creationTime ?? null,
      dispatch: loop?.running
        ? ("running" as const)
        : loop?.starved
          ? ("starved" as const)
          : ("asleep" as const),
    };
  },
});
