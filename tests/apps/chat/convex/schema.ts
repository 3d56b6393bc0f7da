import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  channels: defineTable({ name: v.string() }).index("by_name", ["name"]),
  messages: defineTable({
    channel: v.id("channels"),
    author: v.string(),
    body: v.string(),
    format: v.union(v.literal("text"), v.literal("giphy")),
  }).index("by_channel", ["channel"]),
  likes: defineTable({ liker: v.string(), message: v.id("messages") }).index("by_message", [
    "message",
    "liker",
  ]),
});
