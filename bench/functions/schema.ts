import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";

export default defineSchema({
  tasks: defineTable({
    queue: v.string(),
    status: v.string(),
    priority: v.number(),
    payload: v.string(),
  }).index("by_queue_and_status", ["queue", "status", "priority"]),
  runs: defineTable({ task: v.id("tasks"), worker: v.string() }).index("by_task", ["task"]),
  counters: defineTable({ n: v.number() }),
});
