import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

// Loading a schema may look at the clock and at chance.
const hasClockAndChance = Date.now() > 0 && Math.random() < 1;

export default defineSchema(
  {
    messages: defineTable({ channel: v.string(), body: v.string() }).index("by_channel", ["channel"]),
    counters: defineTable({ name: v.string(), value: v.number() }).index("by_name", ["name"]),
    anything: defineTable({ group: v.string(), value: v.optional(v.any()), second: v.optional(v.any()) })
      .index("by_group_and_value", ["group", "value"])
      .index("by_group_and_value_and_second", ["group", "value", "second"]),
    users: defineTable({
      name: v.string(),
      contact: v.union(v.object({ email: v.string() }), v.object({ phone: v.int64() })),
      friend: v.optional(v.id("users")),
      tags: v.optional(v.array(v.string())),
      scores: v.optional(v.record(v.string(), v.number())),
    }).index("by_name", ["name"]),
    receipts: defineTable({
      job: v.id("_scheduled_functions"),
      file: v.optional(v.id("_storage")),
    }),
    articles: defineTable({ title: v.string(), body: v.string(), topic: v.string(), draft: v.boolean() })
      .searchIndex("search_body", { searchField: "body", filterFields: ["topic", "draft"] })
      .index("by_topic_staged", { fields: ["topic"], staged: true }),
    points: defineTable({ label: v.string(), color: v.string(), at: v.array(v.float64()) }).vectorIndex(
      "by_at",
      {
        vectorField: "at",
        dimensions: 2,
        filterFields: ["color"],
      },
    ),
  },
  { schemaValidation: hasClockAndChance },
);
