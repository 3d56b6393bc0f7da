import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({ body: v.string(), destruction: v.optional(v.id("_scheduled_functions")) }),
  emails: defineTable({ to: v.string(), sent: v.number() }).index("by_to", ["to"]),
  ticks: defineTable({ at: v.number() }),
});
