import { api } from "./_generated/api";
import { v } from "convex/values";
import type { Value } from "convex/values";
import { action, mutation, query } from "./_generated/server";

export const echo = query({
  args: { value: v.any() },
  handler: async (_ctx, { value }): Promise<Value> => value as Value,
});
export const echoMutation = mutation({
  args: { value: v.any() },
  handler: async (_ctx, { value }): Promise<Value> => value as Value,
});
export const echoAction = action({
  args: { value: v.any() },
  handler: async (_ctx, { value }): Promise<Value> => value as Value,
});

/** The value as the function sees it. */
export const print = query({
  args: { value: v.any() },
  handler: async (_ctx, { value }): Promise<string> => JSON.stringify(value),
});
export const printInAction = action({
  args: { value: v.any() },
  handler: async (_ctx, { value }): Promise<string> => JSON.stringify(value),
});

/** The value goes through an action's call of a query, a mutation and an action. */
export const relay = action({
  args: { value: v.any() },
  handler: async (ctx, { value }): Promise<Value[]> => [
    (await ctx.runQuery(api.values.echo, { value })) as Value,
    (await ctx.runMutation(api.values.echoMutation, { value })) as Value,
    (await ctx.runAction(api.values.echoAction, { value })) as Value,
  ],
});

/** Whether a text comes back whole from each kind of function. */
export const relayWhole = action({
  args: { text: v.string() },
  handler: async (ctx, { text }): Promise<boolean[]> => [
    (await ctx.runQuery(api.values.echo, { value: text })) === text,
    (await ctx.runMutation(api.values.echoMutation, { value: text })) === text,
    (await ctx.runAction(api.values.echoAction, { value: text })) === text,
  ],
});

/** The value goes through a mutation's call of a query and a mutation. */
export const relayInMutation = mutation({
  args: { value: v.any() },
  handler: async (ctx, { value }): Promise<Value[]> => [
    (await ctx.runQuery(api.values.echo, { value })) as Value,
    (await ctx.runMutation(api.values.echoMutation, { value })) as Value,
  ],
});

export const store = mutation({
  args: { value: v.any() },
  handler: async (ctx, { value }) =>
    await ctx.db.insert("anything", { group: "stored", value: value as Value }),
});

export const load = query({
  args: { id: v.id("anything") },
  handler: async (ctx, { id }) => ((await ctx.db.get(id))?.value as Value) ?? null,
});

/** What the functions themselves see: the type of each value, and how it prints. */
export const describe = query({
  args: { value: v.any() },
  handler: async (_ctx, { value }) => ({
    type: typeof value,
    isBuffer: value instanceof ArrayBuffer,
    text: typeof value === "string" || typeof value === "object" ? "" : String(value),
  }),
});

export const long = query({
  args: { length: v.number() },
  handler: async (_ctx, { length }) => "x".repeat(length),
});
export const longAction = action({
  args: { length: v.number() },
  handler: async (_ctx, { length }) => "x".repeat(length),
});

class Point {
  constructor(readonly x: number) {}
}

/** Values that are no Convex values, by name. */
function unsupported(kind: string): Value {
  const values: Record<string, unknown> = {
    set: new Set([1]),
    map: new Map([["a", 1]]),
    date: new Date(0),
    regexp: /a/,
    function: () => 1,
    symbol: Symbol("s"),
    instance: new Point(1),
    typedArray: new Uint8Array(1),
    nested: { outer: [new Set([1])] },
    bigBigint: 2n ** 63n,
    dollar: { $key: 1 },
  };
  return values[kind] as Value;
}

export const returnUnsupported = query({
  args: { kind: v.string() },
  handler: async (_ctx, { kind }) => unsupported(kind),
});
export const returnUnsupportedMutation = mutation({
  args: { kind: v.string() },
  handler: async (_ctx, { kind }) => unsupported(kind),
});
export const returnUnsupportedAction = action({
  args: { kind: v.string() },
  handler: async (_ctx, { kind }) => unsupported(kind),
});
export const writeUnsupported = mutation({
  args: { kind: v.string() },
  handler: async (ctx, { kind }) => {
    await ctx.db.insert("anything", { group: "unsupported", value: unsupported(kind) });
  },
});
export const passUnsupported = action({
  args: { kind: v.string() },
  handler: async (ctx, { kind }) => {
    await ctx.runQuery(api.values.echo, { value: unsupported(kind) });
  },
});
