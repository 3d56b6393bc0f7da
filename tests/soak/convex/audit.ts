import {
  type DataModelFromSchemaDefinition,
  internalMutationGeneric,
  internalQueryGeneric,
  type MutationBuilder,
  type QueryBuilder,
} from "convex/server";
import { v } from "convex/values";
import type schema from "./schema";

type DataModel = DataModelFromSchemaDefinition<typeof schema>;
const internalQuery: QueryBuilder<DataModel, "internal"> = internalQueryGeneric;
const internalMutation: MutationBuilder<DataModel, "internal"> = internalMutationGeneric;

const TABLES = ["entries", "mirrors", "totals", "plans", "effects"] as const;
const JOBS_OF_A_ROUND = 2_000; // above what a round can schedule in its time

/** Whether all that a round has scheduled has ended. */
export const isQuiet = internalQuery({
  args: {},
  handler: async (ctx) => {
    const jobs = await ctx.db.system.query("_scheduled_functions").order("desc").take(JOBS_OF_A_ROUND);
    return jobs.every(({ state }) => state.kind !== "pending" && state.kind !== "inProgress");
  },
});

/** All documents of a round, by table in the order of their creation; plans with their jobs. */
export const round = internalQuery({
  args: { round: v.number() },
  handler: async (ctx, { round }) => {
    const all = (table: (typeof TABLES)[number]) =>
      ctx.db
        .query(table)
        .withIndex("by_round", (q) => q.eq("round", round))
        .collect();
    const plans = await ctx.db
      .query("plans")
      .withIndex("by_round", (q) => q.eq("round", round))
      .collect();
    return {
      entries: await all("entries"),
      mirrors: await all("mirrors"),
      totals: await all("totals"),
      effects: await all("effects"),
      plans: await Promise.all(
        plans.map(async (plan) => ({ ...plan, job: await ctx.db.system.get(plan.job) })),
      ),
    };
  },
});

/** Delete all of a round: the file stays small, and deletes are part of the load. */
export const forget = internalMutation({
  args: { round: v.number() },
  handler: async (ctx, { round }) => {
    for (const table of TABLES) {
      const documents = ctx.db.query(table).withIndex("by_round", (q) => q.eq("round", round));
      for await (const { _id } of documents) await ctx.db.delete(_id);
    }
  },
});

export const beats = internalQuery({
  args: {},
  handler: (ctx) => ctx.db.query("beats").collect(),
});
