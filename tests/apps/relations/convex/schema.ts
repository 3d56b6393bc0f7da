import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  users: defineTable({ name: v.string(), profile: v.optional(v.id("profiles")) }).index("by_name", ["name"]),
  profiles: defineTable({ user: v.id("users"), bio: v.string() }).index("by_user", ["user"]),
  books: defineTable({ title: v.string(), author: v.id("users"), tags: v.array(v.id("tags")) })
    .index("by_author", ["author"])
    .index("by_author_and_title", ["author", "title"]),
  tags: defineTable({ name: v.string() }),
  readings: defineTable({ user: v.id("users"), book: v.id("books"), stars: v.optional(v.number()) })
    .index("by_user", ["user"])
    .index("by_book", ["book", "stars"])
    .index("by_user_and_book", ["user", "book"]),
});
