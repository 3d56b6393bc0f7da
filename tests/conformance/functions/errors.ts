import { api } from "./_generated/api";
import { ConvexError, v } from "convex/values";
import type { Value } from "convex/values";
import { action, internalMutation, internalQuery, mutation, query } from "./_generated/server";

class Specific extends Error {
  override name = "Specific";
}

export class Refusal extends ConvexError<{ code: string; size: bigint; list: Value[] }> {
  override name = "Refusal";
  constructor(code: string) {
    super({ code, size: 7n, list: [null, 1.5] });
  }
}

/** Throws in a way given by its name. */
function fail(kind: string, data: Value): never {
  if (kind === "plain") throw new Error("plain words");
  if (kind === "lines") throw new Error("first line\nsecond line");
  if (kind === "empty") throw new Error();
  if (kind === "typed") (undefined as unknown as { f(): void }).f();
  if (kind === "specific") throw new Specific("own words");
  if (kind === "subclass") throw new Refusal("refused");
  throw new ConvexError(data);
}

const args = { kind: v.string(), data: v.optional(v.any()) };

export const throwQuery = query({
  args,
  handler: async (_ctx, { kind, data }): Promise<null> => fail(kind, data as Value),
});
export const throwMutation = mutation({
  args,
  handler: async (ctx, { kind, data }): Promise<null> => {
    await ctx.db.insert("messages", { channel: "thrown", body: kind });
    fail(kind, data as Value);
  },
});
export const throwAction = action({
  args,
  handler: async (_ctx, { kind, data }): Promise<null> => fail(kind, data as Value),
});
export const innerQuery = internalQuery({
  args,
  handler: async (_ctx, { kind, data }): Promise<null> => fail(kind, data as Value),
});
export const innerMutation = internalMutation({
  args,
  handler: async (ctx, { kind, data }): Promise<null> => {
    await ctx.db.insert("messages", { channel: "inner", body: kind });
    fail(kind, data as Value);
  },
});

/** What a caller sees of the error that came out of a call. */
function seen(error: unknown) {
  const isConvexError = error instanceof ConvexError;
  return {
    isError: error instanceof Error,
    isConvexError,
    data: isConvexError ? (error.data as Value) : null,
    hasData: Object.hasOwn(error as object, "data"),
    message: (error as Error).message,
  };
}

// Nested calls: the error passes through, or is caught.
export const queryThroughQuery = query({
  args,
  handler: async (ctx, args): Promise<null> => await ctx.runQuery(api.errors.innerQuery, args),
});
export const mutationThroughMutation = mutation({
  args,
  handler: async (ctx, args): Promise<null> => await ctx.runMutation(api.errors.innerMutation, args),
});
export const actionThroughMutation = action({
  args,
  handler: async (ctx, args): Promise<null> => await ctx.runMutation(api.errors.innerMutation, args),
});
export const actionThroughAction = action({
  args,
  handler: async (ctx, args): Promise<null> => await ctx.runAction(api.errors.throwAction, args),
});
export const caughtInQuery = query({
  args,
  handler: async (ctx, args) => await ctx.runQuery(api.errors.innerQuery, args).then(() => null, seen),
});
export const caughtInMutation = mutation({
  args,
  handler: async (ctx, args) => {
    await ctx.db.insert("messages", { channel: "caught", body: "by the caller" });
    return await ctx.runMutation(api.errors.innerMutation, args).then(() => null, seen);
  },
});
export const caughtInAction = action({
  args,
  handler: async (ctx, args) => [
    await ctx.runQuery(api.errors.innerQuery, args).then(() => null, seen),
    await ctx.runMutation(api.errors.innerMutation, args).then(() => null, seen),
    await ctx.runAction(api.errors.throwAction, args).then(() => null, seen),
  ],
});

/** Fails while the channel has messages. */
export const failsWhileFull = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const first = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .first();
    if (first !== null) throw new ConvexError({ full: first.body });
    return "empty";
  },
});
