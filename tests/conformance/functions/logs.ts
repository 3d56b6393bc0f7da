import { api } from "./_generated/api";
import { v } from "convex/values";
import { action, mutation, query } from "./_generated/server";

function talk() {
  console.log("text", 1, { a: 1 }, [true, null], undefined);
  console.debug("debug");
  console.info("info");
  console.warn("warn");
  console.error("error");
  console.log();
}

const args = { fails: v.boolean() };

export const talkQuery = query({
  args,
  handler: async (_ctx, { fails }) => {
    talk();
    if (fails) throw new Error("after the words");
  },
});
export const talkMutation = mutation({
  args,
  handler: async (_ctx, { fails }) => {
    talk();
    if (fails) throw new Error("after the words");
  },
});
export const talkAction = action({
  args,
  handler: async (_ctx, { fails }) => {
    talk();
    if (fails) throw new Error("after the words");
  },
});

export const timedQuery = query({
  args: {},
  handler: async () => {
    console.time();
    console.time("named");
    console.timeLog("named", "so far", { n: 1 });
    console.timeEnd("named");
    console.timeEnd();
  },
});
export const timedAction = action({
  args: {},
  handler: async () => {
    console.time("slow");
    await new Promise((resolve) => setTimeout(resolve, 20));
    console.timeEnd("slow");
  },
});
export const mistimedQuery = query({
  args: {},
  handler: async () => {
    console.time("twice");
    console.time("twice");
    console.timeEnd("gone");
    console.timeLog("gone");
  },
});
export const mistimedAction = action({
  args: {},
  handler: async () => {
    console.time("twice");
    console.time("twice");
    console.timeEnd("gone");
    console.timeLog("gone");
  },
});

export const nested = mutation({
  args: {},
  handler: async (ctx) => {
    console.log("before");
    await ctx.runMutation(api.logs.inner, {});
    console.log("after");
  },
});
export const inner = mutation({
  args: {},
  handler: async () => {
    console.log("inside");
  },
});

/** Its log line changes with the newest message, its value does not. */
export const watched = query({
  args: { channel: v.string() },
  handler: async (ctx, { channel }) => {
    const newest = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .order("desc")
      .first();
    console.log(newest?.body ?? "nothing");
    return "same";
  },
});
