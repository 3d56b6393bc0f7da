import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  /** What writers add, one after the other; `newest` moves on with each write, so that rows of every kind of index move too. */
  entries: defineTable({
    round: v.number(),
    writer: v.string(),
    n: v.number(),
    newest: v.boolean(),
    text: v.string(),
    place: v.array(v.number()),
  })
    .index("by_round", ["round"])
    .index("by_writer_and_n", ["round", "writer", "n"])
    .index("by_writer_and_newest", ["round", "writer", "newest"])
    .searchIndex("by_text", { searchField: "text", filterFields: ["writer", "newest"] })
    .vectorIndex("by_place", { vectorField: "place", dimensions: 2, filterFields: ["newest"] }),
  /** One for each entry, written in the same transaction. */
  mirrors: defineTable({ round: v.number(), entry: v.id("entries") })
    .index("by_round", ["round"])
    .index("by_entry", ["entry"]),
  /** How many entries a writer has. */
  totals: defineTable({ round: v.number(), writer: v.string(), count: v.number() }).index("by_round", [
    "round",
    "writer",
  ]),
  /** Work that was scheduled, written in the transaction that scheduled it. */
  plans: defineTable({
    round: v.number(),
    key: v.string(),
    kind: v.union(v.literal("once"), v.literal("refuse"), v.literal("chain"), v.literal("act")),
    job: v.id("_scheduled_functions"),
  }).index("by_round", ["round", "key"]),
  /** What scheduled functions leave behind. */
  effects: defineTable({ round: v.number(), key: v.string(), what: v.string() }).index("by_round", [
    "round",
    "key",
  ]),
  /** What crons leave behind. */
  beats: defineTable({ cron: v.string(), at: v.number() }),
});
