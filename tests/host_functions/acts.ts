import { actionGeneric, anyApi, internalActionGeneric, mutationGeneric } from "convex/server";
import { ConvexError, v } from "convex/values";

export const copy = actionGeneric({
  args: { from: v.string(), to: v.string() },
  handler: async (ctx, { from, to }) => {
    const texts: string[] = await ctx.runQuery(anyApi.notes.list, { list: from });
    for (const text of texts) await ctx.runMutation(anyApi.notes.add, { list: to, text });
    console.log("copied", texts.length);
    return await ctx.runQuery(anyApi.notes.count, { list: to });
  },
});

export const outer = actionGeneric({
  args: {},
  handler: async (ctx) => ({ inner: await ctx.runAction(anyApi.acts.hidden, { word: "down" }) }),
});

export const hidden = internalActionGeneric({
  args: { word: v.string() },
  handler: async (ctx, { word }) => `${word} for ${(await ctx.auth.getUserIdentity())?.subject ?? "nobody"}`,
});

export const caught = actionGeneric({
  args: {},
  handler: async (ctx) => {
    try {
      await ctx.runMutation(anyApi.notes.refuse, { list: "caught" });
    } catch (error) {
      return { isConvexError: error instanceof ConvexError, data: (error as ConvexError<null>).data };
    }
    return null;
  },
});

export const throws = actionGeneric({
  args: {},
  handler: async () => {
    throw new ConvexError({ code: "from an action" });
  },
});

/** Fails in a timer that nobody awaits, while the action itself would wait for ever. */
export const escapes = actionGeneric({
  args: {},
  handler: () =>
    new Promise(() => {
      setTimeout(() => {
        throw new Error("out of the chain");
      }, 1);
    }),
});

export const later = actionGeneric({
  args: { list: v.string() },
  handler: async (ctx, { list }) =>
    await ctx.scheduler.runAfter(0, anyApi.notes.add, { list, text: "scheduled" }),
});

export const scheduleWrite = mutationGeneric({
  args: { list: v.string() },
  handler: async (ctx, { list }) => await ctx.scheduler.runAfter(0, anyApi.acts.write, { list }),
});

export const write = internalActionGeneric({
  args: { list: v.string() },
  handler: async (ctx, { list }) => {
    await ctx.runMutation(anyApi.notes.add, { list, text: "by an action" });
  },
});

export const realm = actionGeneric({
  args: {},
  handler: async () => ({
    fetch: typeof fetch,
    timers: typeof setTimeout,
    process: Object.keys(process),
    node: [typeof Buffer, typeof setImmediate, typeof global],
    site: process.env.CONVEX_SITE_URL,
  }),
});
