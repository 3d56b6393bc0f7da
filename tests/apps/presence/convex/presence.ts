import { SessionIdArg, vSessionId } from "convex-helpers/server/sessions";
import { v } from "convex/values";
import { internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { internalMutation, mutation, type MutationCtx, query } from "./_generated/server";

const OFFLINE_AFTER_MS = 400;

async function find(ctx: MutationCtx, session: string, room: string) {
  return await ctx.db
    .query("presence")
    .withIndex("by_session_and_room", (q) => q.eq("session", session).eq("room", room))
    .unique();
}

async function beat(ctx: MutationCtx, presence: Id<"presence">) {
  const last = await ctx.db
    .query("heartbeats")
    .withIndex("by_presence", (q) => q.eq("presence", presence))
    .unique();
  const offline = await ctx.scheduler.runAfter(OFFLINE_AFTER_MS, internal.presence.markOffline, { presence });
  if (last === null) await ctx.db.insert("heartbeats", { presence, offline });
  else {
    await ctx.scheduler.cancel(last.offline);
    await ctx.db.patch(last._id, { offline });
  }
}

export const update = mutation({
  args: { ...SessionIdArg, room: v.string(), data: v.record(v.string(), v.any()) },
  handler: async (ctx, { sessionId, room, data }) => {
    const known = await find(ctx, sessionId, room);
    const fields = { room, session: sessionId, data, online: true };
    if (known !== null) await ctx.db.replace(known._id, fields);
    await beat(ctx, known?._id ?? (await ctx.db.insert("presence", fields)));
  },
});

export const heartbeat = mutation({
  args: { sessionId: vSessionId, room: v.string() },
  handler: async (ctx, { sessionId, room }) => {
    const known = await find(ctx, sessionId, room);
    if (known === null) return;
    if (!known.online) await ctx.db.patch(known._id, { online: true });
    await beat(ctx, known._id);
  },
});

export const markOffline = internalMutation({
  args: { presence: v.id("presence") },
  handler: async (ctx, { presence }) => {
    await ctx.db.patch(presence, { online: false });
  },
});

export const list = query({
  args: { room: v.string() },
  returns: v.array(v.record(v.string(), v.any())),
  handler: async (ctx, { room }) => {
    const present = await ctx.db
      .query("presence")
      .withIndex("by_room_and_online", (q) => q.eq("room", room).eq("online", true))
      .collect();
    return present.map(({ data }) => data);
  },
});
