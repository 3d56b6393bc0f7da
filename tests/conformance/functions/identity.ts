import { action, mutation, query } from "./_generated/server";

export const ofQuery = query({ args: {}, handler: async (ctx) => await ctx.auth.getUserIdentity() });
export const ofMutation = mutation({ args: {}, handler: async (ctx) => await ctx.auth.getUserIdentity() });
export const ofAction = action({ args: {}, handler: async (ctx) => await ctx.auth.getUserIdentity() });
