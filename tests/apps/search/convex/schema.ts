import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  messages: defineTable({
    body: v.string(),
    channel: v.string(),
    author: v.object({ name: v.string(), bot: v.boolean() }),
  }).searchIndex("search_body", { searchField: "body", filterFields: ["channel", "author.bot"] }),
});
