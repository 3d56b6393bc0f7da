import { actionGeneric, anyApi, createFunctionHandle, mutationGeneric, queryGeneric } from "convex/server";
import { v } from "convex/values";

/** An action that works after some failures, and the calls that came. */
export const flaky = actionGeneric({
  args: { name: v.string(), failures: v.number() },
  handler: async (ctx, { name, failures }) => {
    const calls: number = await ctx.runMutation(anyApi.app.note, { name });
    if (calls <= failures) throw new Error(`failure ${calls}`);
    return `worked at call ${calls}`;
  },
});

export const note = mutationGeneric({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("notes", { name });
    const notes = await ctx.db.query("notes").collect();
    return notes.filter((noted) => noted.name === name).length;
  },
});

export const start = mutationGeneric({
  args: { name: v.string(), failures: v.number(), maxFailures: v.number(), runAfter: v.optional(v.number()) },
  handler: async (ctx, { name, failures, maxFailures, runAfter }): Promise<string> =>
    await ctx.runMutation(anyApi.public.start, {
      functionHandle: await createFunctionHandle(anyApi.app.flaky),
      functionArgs: { name, failures },
      options: {
        initialBackoffMs: 10,
        base: 1.5,
        maxFailures,
        logLevel: "ERROR",
        onComplete: await createFunctionHandle(anyApi.app.completed),
        ...(runAfter === undefined ? {} : { runAfter }),
      },
    }),
});

export const completed = mutationGeneric({
  args: { runId: v.string(), result: v.any() },
  handler: async (ctx, { runId, result }) => {
    await ctx.db.insert("completions", { runId, type: result.type });
  },
});

export const completions = queryGeneric({
  args: { runId: v.string() },
  handler: async (ctx, { runId }) =>
    (await ctx.db.query("completions").collect())
      .filter((completion) => completion.runId === runId)
      .map(({ type }) => type),
});
