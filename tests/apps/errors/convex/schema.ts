import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  rooms: defineTable({ name: v.string(), seats: v.number() }).index("by_name", ["name"]),
  seats: defineTable({ room: v.id("rooms"), user: v.string() }).index("by_room", ["room"]),
});
