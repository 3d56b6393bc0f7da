import { actionGeneric, anyApi, createFunctionHandle, mutationGeneric, queryGeneric } from "convex/server";
import { v } from "convex/values";

const work = { name: v.string(), failures: v.optional(v.number()), waitMs: v.optional(v.number()) };

export const mutate = mutationGeneric({
  args: work,
  handler: async (ctx, { name }) => {
    await ctx.db.insert("done", { name });
    return `mutated ${name}`;
  },
});

export const act = actionGeneric({
  args: work,
  handler: async (ctx, { name, failures = 0, waitMs = 0 }) => {
    const calls: number = await ctx.runMutation(anyApi.app.begin, { name });
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    await ctx.runMutation(anyApi.app.end, {});
    if (calls <= failures) throw new Error(`failure ${calls}`);
    return `acted ${name}`;
  },
});

/** Keeps how many run at once, and the most that ever did. */
export const begin = mutationGeneric({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const gauge = await ctx.db.query("gauge").first();
    const now = (gauge?.now ?? 0) + 1;
    if (gauge === null) await ctx.db.insert("gauge", { now, most: now });
    else await ctx.db.patch(gauge._id, { now, most: Math.max(now, gauge.most) });
    await ctx.db.insert("done", { name });
    return (await ctx.db.query("done").collect()).filter((done) => done.name === name).length;
  },
});

export const end = mutationGeneric({
  args: {},
  handler: async (ctx) => {
    const gauge = await ctx.db.query("gauge").first();
    if (gauge !== null) await ctx.db.patch(gauge._id, { now: gauge.now - 1 });
  },
});

export const enqueue = mutationGeneric({
  args: {
    kind: v.union(v.literal("mutation"), v.literal("action")),
    work: v.object(work),
    maxAttempts: v.optional(v.number()),
  },
  handler: async (ctx, { kind, work, maxAttempts }): Promise<string> =>
    await ctx.runMutation(anyApi.lib.enqueue, {
      fnHandle: await createFunctionHandle(kind === "mutation" ? anyApi.app.mutate : anyApi.app.act),
      fnName: kind,
      fnArgs: work,
      fnType: kind,
      runAt: Date.now(),
      onComplete: { fnHandle: await createFunctionHandle(anyApi.app.completed), context: work.name },
      ...(maxAttempts === undefined
        ? {}
        : { retryBehavior: { maxAttempts, initialBackoffMs: 20, base: 1.2 } }),
      config: { maxParallelism: 3, logLevel: "ERROR" },
    }),
});

export const completed = mutationGeneric({
  args: { workId: v.string(), context: v.any(), result: v.any() },
  handler: async (ctx, { context, result }) => {
    await ctx.db.insert("completions", { name: context, result });
  },
});

export const completions = queryGeneric({
  args: {},
  handler: async (ctx) => {
    const completions = await ctx.db.query("completions").collect();
    return completions.map(({ name, result }) => [
      name,
      result.kind,
      result.returnValue ?? result.error ?? null,
    ]);
  },
});

export const mostAtOnce = queryGeneric({
  args: {},
  handler: async (ctx) => (await ctx.db.query("gauge").first())?.most ?? 0,
});
