import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  users: defineTable({ subject: v.string(), role: v.union(v.literal("member"), v.literal("admin")) }).index(
    "by_subject",
    ["subject"],
  ),
  notes: defineTable({
    owner: v.id("users"),
    text: v.string(),
    shared: v.boolean(),
    length: v.optional(v.number()),
  })
    .index("by_owner", ["owner"])
    .index("by_shared", ["shared"]),
  counts: defineTable({ owner: v.id("users"), notes: v.number() }).index("by_owner", ["owner"]),
});
