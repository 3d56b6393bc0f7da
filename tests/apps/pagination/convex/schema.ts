import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({ author: v.string(), body: v.string(), hidden: v.boolean() }).index("by_author", [
    "author",
  ]),
  authors: defineTable({ name: v.string(), title: v.string() }).index("by_name", ["name"]),
});
