import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({ author: v.string(), body: v.string() }).index("by_author", ["author"]),
  payments: defineTable({ event: v.string(), amount: v.int64() }).index("by_event", ["event"]),
});
