import {
  actionGeneric,
  anyApi,
  type DataModelFromSchemaDefinition,
  type MutationBuilder,
  mutationGeneric,
  type QueryBuilder,
  queryGeneric,
} from "convex/server";
import { v } from "convex/values";
import type schema from "./schema";

type DataModel = DataModelFromSchemaDefinition<typeof schema>;
const query: QueryBuilder<DataModel, "public"> = queryGeneric;
const mutation: MutationBuilder<DataModel, "public"> = mutationGeneric;

const WATCHED = 10; // entries that a subscriber sees of a round

/** Five writes in three tables, one of them by a call inside the call: all of them or none. */
export const add = mutation({
  args: { round: v.number(), writer: v.string(), n: v.number() },
  handler: async (ctx, { round, writer, n }) => {
    const before = await ctx.db
      .query("entries")
      .withIndex("by_writer_and_newest", (q) => q.eq("round", round).eq("writer", writer).eq("newest", true))
      .unique();
    if (before !== null)
      await ctx.db.patch(before._id, { newest: false, text: `old entry ${n - 1}`, place: [0, 1] });
    const text = `newest entry ${n} of ${writer}`;
    const id = await ctx.db.insert("entries", { round, writer, n, newest: true, text, place: [n + 1, 1] });
    await ctx.runMutation(anyApi.ledger.mirror, { round, entry: id });
    const total = await ctx.db
      .query("totals")
      .withIndex("by_round", (q) => q.eq("round", round).eq("writer", writer))
      .unique();
    if (total === null) await ctx.db.insert("totals", { round, writer, count: 1 });
    else await ctx.db.patch(total._id, { count: total.count + 1 });
    return id;
  },
});

export const mirror = mutation({
  args: { round: v.number(), entry: v.id("entries") },
  handler: async (ctx, fields) => {
    await ctx.db.insert("mirrors", fields);
  },
});

/** Writes and then throws: nothing of it may ever be seen. */
export const refuse = mutation({
  args: { round: v.number() },
  handler: async (ctx, { round }) => {
    await ctx.db.insert("entries", {
      round,
      writer: "refused",
      n: 0,
      newest: true,
      text: "refused",
      place: [1, 1],
    });
    throw new Error("refused on purpose");
  },
});

/** An action's two writes are two transactions; once it has answered, both are there. */
export const addTwice = actionGeneric({
  args: { round: v.number(), writer: v.string(), n: v.number() },
  handler: async (ctx, { round, writer, n }) => {
    const first: string = await ctx.runMutation(anyApi.ledger.add, { round, writer, n });
    const second: string = await ctx.runMutation(anyApi.ledger.add, { round, writer, n: n + 1 });
    return [first, second];
  },
});

/** Takes about a tenth of a second: far less than the limit, and long enough to be hit by a stop of the machine. */
export const busy = mutation({
  args: {},
  handler: async () => {
    let sum = 0;
    for (let i = 0; i < 25_000_000; i++) sum = (sum + i) % 1_000_003;
    return sum;
  },
});

/** What a subscriber follows: the newest entries and how many there are. */
export const watch = query({
  args: { round: v.number() },
  handler: async (ctx, { round }) => {
    const entries = await ctx.db
      .query("entries")
      .withIndex("by_round", (q) => q.eq("round", round))
      .order("desc")
      .take(WATCHED);
    const totals = await ctx.db
      .query("totals")
      .withIndex("by_round", (q) => q.eq("round", round))
      .collect();
    return {
      count: totals.reduce((sum, { count }) => sum + count, 0),
      entries: entries.map(({ _id, _creationTime, writer, n }) => ({ _id, _creationTime, writer, n })),
    };
  },
});
