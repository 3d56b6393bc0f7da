import { v } from "convex/values";
import { internalQuery } from "./_generated/server";
import { VERSION } from "./constants";
import { liveWorkers } from "./model/look";
import { loopOf } from "./model/loops";

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
    const workers = await liveWorkers(ctx);
    const oldest = await ctx.db.query("ready").first();
    const loop = await loopOf(ctx, "dispatch");
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
