import { ConvexError, v } from "convex/values";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import {
  action,
  internalMutation,
  type MutationCtx,
  mutation,
  query,
  type QueryCtx,
} from "./_generated/server";

class RoomIsFull extends ConvexError<{ code: "room_full"; room: string; taken: bigint }> {
  constructor(room: string, taken: number) {
    super({ code: "room_full", room, taken: BigInt(taken) });
    this.name = "RoomIsFull";
  }
}

async function find(ctx: QueryCtx, name: string) {
  const room = await ctx.db
    .query("rooms")
    .withIndex("by_name", (q) => q.eq("name", name))
    .unique();
  if (room === null) throw new ConvexError("No such room");
  return room;
}

async function seat(ctx: MutationCtx, name: string, user: string): Promise<Id<"seats">> {
  const room = await find(ctx, name);
  const taken = await ctx.db
    .query("seats")
    .withIndex("by_room", (q) => q.eq("room", room._id))
    .collect();
  const id = await ctx.db.insert("seats", { room: room._id, user });
  if (taken.length >= room.seats) throw new RoomIsFull(name, taken.length);
  return id;
}

export const build = mutation({
  args: { name: v.string(), seats: v.number() },
  handler: async (ctx, room) => await ctx.db.insert("rooms", room),
});

export const enter = mutation({
  args: { name: v.string(), user: v.string() },
  returns: v.id("seats"),
  handler: (ctx, { name, user }) => seat(ctx, name, user),
});

export const users = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const room = await find(ctx, name);
    const seats = await ctx.db
      .query("seats")
      .withIndex("by_room", (q) => q.eq("room", room._id))
      .collect();
    return seats.map(({ user }) => user);
  },
});

/** Tries rooms in turn inside one transaction: what a failed try wrote is undone, the rest stays. */
export const enterFirstFree = mutation({
  args: { names: v.array(v.string()), user: v.string() },
  handler: async (ctx, { names, user }) => {
    for (const name of names) {
      try {
        await ctx.runMutation(api.rooms.enter, { name, user });
        return name;
      } catch (error) {
        if (!(error instanceof ConvexError)) throw error;
      }
    }
    return null;
  },
});

/** What a caller makes of an error is its own affair. */
export const enterPolitely = action({
  args: { name: v.string(), user: v.string() },
  handler: async (ctx, { name, user }): Promise<string> => {
    try {
      await ctx.runMutation(api.rooms.enter, { name, user });
      return "welcome";
    } catch (error) {
      if (error instanceof ConvexError && error.data.code === "room_full")
        return `sorry, ${error.data.taken} are in there`;
      throw error;
    }
  },
});

export const enterRudely = action({
  args: { name: v.string(), user: v.string() },
  handler: async (ctx, args): Promise<null> => {
    await ctx.runMutation(api.rooms.enter, args);
    return null;
  },
});

export const close = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    await ctx.scheduler.runAfter(0, internal.rooms.demolish, { id: (await find(ctx, name))._id });
  },
});

export const demolish = internalMutation({
  args: { id: v.id("rooms") },
  handler: async (ctx, { id }) => {
    await ctx.db.delete(id);
  },
});

/** An ordinary error: whoever calls learns nothing but its text. */
export const misbuild = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const room = await find(ctx, name);
    await ctx.db.patch(room._id, { seats: "many" as never });
  },
});
