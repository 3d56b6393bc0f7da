import { anyApi, createFunctionHandle, mutationGeneric, queryGeneric } from "convex/server";
import { v } from "convex/values";

export const tick = mutationGeneric({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.db.insert("ticks", { name });
  },
});

export const ticks = queryGeneric({
  args: { name: v.string() },
  handler: async (ctx, { name }) =>
    (await ctx.db.query("ticks").collect()).filter((tick) => tick.name === name).length,
});

export const register = mutationGeneric({
  args: { name: v.string(), schedule: v.any() },
  handler: async (ctx, { name, schedule }): Promise<string> =>
    await ctx.runMutation(anyApi.public.register, {
      name,
      schedule,
      functionHandle: await createFunctionHandle(anyApi.app.tick),
      args: { name },
    }),
});
