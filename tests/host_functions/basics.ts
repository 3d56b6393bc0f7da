import { mutationGeneric, queryGeneric } from "convex/server";
import { v } from "convex/values";

export const echo = queryGeneric({ args: { value: v.any() }, handler: async (_ctx, { value }) => value });

export const whoami = queryGeneric({
  args: {},
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null,
});

export const noop = mutationGeneric({ args: {}, returns: v.null(), handler: async () => null });

export const talk = mutationGeneric({
  args: {},
  returns: v.null(),
  handler: async () => {
    console.log("hello", { a: 1 });
    return null;
  },
});

export const breaks = queryGeneric({
  args: {},
  handler: async () => {
    throw new TypeError("broken on purpose");
  },
});

/** Never ends by itself. */
export const spin = mutationGeneric({
  args: {},
  returns: v.null(),
  handler: async () => {
    for (;;);
  },
});

export const cloudUrl = queryGeneric({ args: {}, handler: async () => process.env.CONVEX_CLOUD_URL ?? null });
