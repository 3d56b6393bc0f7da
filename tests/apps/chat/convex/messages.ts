import { v } from "convex/values";
import { internal } from "./_generated/api";
import { internalAction, internalMutation, internalQuery, mutation, query } from "./_generated/server";

const SHOWN = 5;

export const list = query({
  args: { channel: v.id("channels") },
  handler: async (ctx, { channel }) => {
    const messages = await ctx.db
      .query("messages")
      .withIndex("by_channel", (q) => q.eq("channel", channel))
      .order("desc")
      .take(SHOWN);
    return await Promise.all(
      messages.reverse().map(async (message) => {
        const likes = await ctx.db
          .query("likes")
          .withIndex("by_message", (q) => q.eq("message", message._id))
          .collect();
        return { ...message, likes: likes.length };
      }),
    );
  },
});

/** Messages carry the name of who is signed in; "/gif WORD" is answered by an action. */
export const send = mutation({
  args: { channel: v.id("channels"), body: v.string() },
  handler: async (ctx, { channel, body }) => {
    const identity = await ctx.auth.getUserIdentity();
    if (identity === null) throw new Error("Sign in to send messages");
    const author = identity.name ?? identity.subject;
    if (body.startsWith("/gif ")) {
      await ctx.scheduler.runAfter(0, internal.messages.findGif, { channel, author, word: body.slice(5) });
    } else {
      await ctx.db.insert("messages", { channel, author, body, format: "text" });
    }
  },
});

export const like = mutation({
  args: { liker: v.string(), message: v.id("messages") },
  handler: async (ctx, { liker, message }) => {
    const before = await ctx.db
      .query("likes")
      .withIndex("by_message", (q) => q.eq("message", message).eq("liker", liker))
      .first();
    if (before === null) await ctx.db.insert("likes", { liker, message });
  },
});

export const count = internalQuery({
  args: { channel: v.id("channels") },
  handler: async (ctx, { channel }) => {
    let count = 0;
    const messages = ctx.db.query("messages").withIndex("by_channel", (q) => q.eq("channel", channel));
    for await (const message of messages) if (message.format === "giphy") count++;
    return count;
  },
});

export const findGif = internalAction({
  args: { channel: v.id("channels"), author: v.string(), word: v.string() },
  handler: async (ctx, { channel, author, word }) => {
    const before: number = await ctx.runQuery(internal.messages.count, { channel });
    const body = `gif ${before + 1} of ${word}`;
    await ctx.runMutation(internal.messages.sendGif, { channel, author, body });
  },
});

export const sendGif = internalMutation({
  args: { channel: v.id("channels"), author: v.string(), body: v.string() },
  handler: async (ctx, gif) => {
    await ctx.db.insert("messages", { ...gif, format: "giphy" });
  },
});
