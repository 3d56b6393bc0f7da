import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  notes: defineTable({ list: v.string(), text: v.string() })
    .index("by_list", ["list"])
    .index("by_list_and_text", ["list", "text"]),
});
