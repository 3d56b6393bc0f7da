import {
  anyApi,
  createFunctionHandle,
  internalMutationGeneric,
  mutationGeneric,
  queryGeneric,
} from "convex/server";
import { ConvexError, v } from "convex/values";

export const seed = mutationGeneric({
  args: { count: v.number() },
  handler: async (ctx, { count }) => {
    for (let n = 0; n < count; n++) await ctx.db.insert("people", { name: `person ${n}` });
  },
});

/** One batch: each person without a greeting gets one. */
export const greet = internalMutationGeneric({
  args: {
    cursor: v.any(),
    batchSize: v.optional(v.number()),
    dryRun: v.boolean(),
    oneBatchOnly: v.optional(v.boolean()),
  },
  handler: async (ctx, { cursor, batchSize = 10, dryRun }) => {
    const { page, isDone, continueCursor } = await ctx.db
      .query("people")
      .paginate({ cursor, numItems: batchSize });
    for (const { _id, name } of page) {
      if (name === "unlucky") throw new Error("no greeting for the unlucky");
      await ctx.db.patch(_id, { greeting: `Hello, ${name}` });
    }
    const result = { isDone, continueCursor, processed: page.length };
    if (dryRun) throw new ConvexError({ kind: "DRY RUN", result });
    return result;
  },
});

export const migrate = mutationGeneric({
  args: { batchSize: v.number(), dryRun: v.boolean(), name: v.string() },
  handler: async (ctx, { batchSize, dryRun, name }): Promise<unknown> =>
    await ctx.runMutation(anyApi.lib.migrate, {
      name,
      fnHandle: await createFunctionHandle(anyApi.app.greet),
      batchSize,
      dryRun,
    }),
});

export const greeted = queryGeneric({
  args: {},
  handler: async (ctx) => {
    const people = await ctx.db.query("people").collect();
    return people.filter(({ greeting }) => greeting !== undefined).length;
  },
});

export const spoil = mutationGeneric({
  args: {},
  handler: async (ctx) => {
    await ctx.db.insert("people", { name: "unlucky" });
  },
});
