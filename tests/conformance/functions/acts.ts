import { api } from "./_generated/api";
import { v } from "convex/values";
import type { Value } from "convex/values";
import {
  action,
  internalAction,
  internalMutation,
  internalQuery,
  mutation,
  query,
} from "./_generated/server";

const { acts, messages } = api;

export const everyKind = action({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<Value> => {
    const before = (await ctx.runQuery(messages.count, { channel })) as number;
    for (const body of ["a", "b", "c"]) await ctx.runMutation(messages.send, { channel, body });
    await ctx.runMutation(messages.sendInternal, { channel, body: "internal" });
    const after = (await ctx.runQuery(messages.list, { channel })) as string[];
    const nested = (await ctx.runAction(acts.nest, { depth: 3 })) as Value;
    return { before, after, nested };
  },
});
export const nest = internalAction({
  args: { depth: v.number() },
  handler: async (ctx, { depth }): Promise<Value> =>
    depth === 0 ? "bottom" : [(await ctx.runAction(acts.nest, { depth: depth - 1 })) as Value],
});
export const atOnce = action({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<number> => {
    await Promise.all(
      Array.from({ length: 10 }, (_, index) =>
        ctx.runMutation(messages.send, { channel, body: String(index) }),
      ),
    );
    const counts = await Promise.all([1, 2, 3].map(() => ctx.runQuery(messages.count, { channel })));
    return Math.min(...(counts as number[]));
  },
});
export const schedules = action({
  args: { channel: v.string() },
  handler: async (ctx, { channel }): Promise<string[]> => [
    await ctx.scheduler.runAfter(0, messages.send, { channel, body: "after" }),
    await ctx.scheduler.runAt(Date.now(), messages.send, { channel, body: "at" }),
  ],
});
/** The words of the refusals of functions that cannot be called. */
export const wrongCalls = action({
  args: {},
  handler: async (ctx): Promise<string[]> => {
    const calls = [
      () => ctx.runQuery(acts.nowhere, {}),
      () => ctx.runQuery(messages.send, { channel: "c", body: "b" }),
      () => ctx.runMutation(messages.list, { channel: "c" }),
      () => ctx.runAction(messages.list, { channel: "c" }),
      () => ctx.runQuery(messages.list, { wrong: 1 }),
    ];
    const words: string[] = [];
    for (const call of calls)
      words.push(
        await call().then(
          () => "it worked",
          (error: unknown) => (error as Error).message,
        ),
      );
    return words;
  },
});

const who = { args: {}, returns: v.union(v.string(), v.null()) };
export const whoQuery = internalQuery({
  ...who,
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null,
});
export const whoMutation = internalMutation({
  ...who,
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null,
});
export const whoAction = internalAction({
  ...who,
  handler: async (ctx) => (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null,
});
export const whoEverywhere = action({
  args: {},
  handler: async (ctx): Promise<Value[]> => [
    (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null,
    await ctx.runQuery(acts.whoQuery, {}),
    await ctx.runMutation(acts.whoMutation, {}),
    await ctx.runAction(acts.whoAction, {}),
  ],
});
export const whoThroughMutation = mutation({
  args: {},
  handler: async (ctx): Promise<Value[]> => [
    await ctx.runQuery(acts.whoQuery, {}),
    await ctx.runMutation(acts.whoMutation, {}),
  ],
});
export const whoSlowly = action({
  args: { wait: v.number() },
  handler: async (ctx, { wait }): Promise<Value[]> => {
    const first = (await ctx.auth.getUserIdentity())?.tokenIdentifier ?? null;
    await new Promise((resolve) => setTimeout(resolve, wait));
    return [first, await ctx.runQuery(acts.whoQuery, {})];
  },
});

export const slow = action({
  args: { wait: v.number() },
  handler: async (_ctx, { wait }) => {
    await new Promise((resolve) => setTimeout(resolve, wait));
    return wait;
  },
});
/** Fails outside of its promise chain, which itself would never end. */
export const escapes = action({
  args: { text: v.string() },
  handler: (_ctx, { text }): Promise<null> =>
    new Promise(() => {
      setTimeout(() => {
        throw new Error(text);
      }, 1);
    }),
});
/** Rejects a promise that nobody awaits, and goes on. */
export const drops = action({
  args: { text: v.string() },
  handler: async (_ctx, { text }) => {
    void Promise.reject(new Error(text));
    await new Promise((resolve) => setTimeout(resolve, 500));
    return "went on";
  },
});

const ofEnvironment = () => ({
  cloud: process.env.CONVEX_CLOUD_URL ?? null,
  site: process.env.CONVEX_SITE_URL ?? null,
  other: process.env.SURELY_NOT_SET ?? null,
});
export const environmentOfAction = action({ args: {}, handler: async () => ofEnvironment() });
export const environmentOfQuery = query({ args: {}, handler: async () => ofEnvironment() });
export const environmentOfMutation = mutation({ args: {}, handler: async () => ofEnvironment() });

export const uploadUrl = mutation({
  args: {},
  handler: async (ctx) => await ctx.storage.generateUploadUrl(),
});
export const storeText = action({
  args: {},
  handler: async (ctx) => await ctx.storage.store(new Blob(["text"])),
});
