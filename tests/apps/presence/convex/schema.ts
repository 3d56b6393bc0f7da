import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  /** What a user shares in a room; rewritten often. */
  presence: defineTable({
    room: v.string(),
    session: v.string(),
    data: v.record(v.string(), v.any()),
    online: v.boolean(),
  })
    .index("by_room_and_online", ["room", "online"])
    .index("by_session_and_room", ["session", "room"]),
  /** When it was last heard of, apart, so that a heartbeat wakes no reader of the room. */
  heartbeats: defineTable({ presence: v.id("presence"), offline: v.id("_scheduled_functions") }).index(
    "by_presence",
    ["presence"],
  ),
});
