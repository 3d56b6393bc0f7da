import { paginationOptsValidator } from "convex/server";
import type { IndexRange } from "convex/server";
import { v } from "convex/values";
import type { GenericId, Value } from "convex/values";
import { mutation, query } from "./_generated/server";
import type { MutationCtx, QueryCtx } from "./_generated/server";

const GROUP = "by_group_and_value";
const contact = { email: "a@example.org" };

async function put(ctx: MutationCtx, group: string, values: Value[]) {
  const ids = [];
  for (const value of values) ids.push(await ctx.db.insert("anything", { group, value }));
  return ids;
}

export const putAll = mutation({
  args: { group: v.string(), values: v.array(v.any()) },
  handler: async (ctx, { group, values }) => await put(ctx, group, values as Value[]),
});
/** A document whose `value` is missing. */
export const putMissing = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => await ctx.db.insert("anything", { group }),
});
export const putPair = mutation({
  args: { group: v.string(), value: v.any(), second: v.any() },
  handler: async (ctx, { group, value, second }) =>
    await ctx.db.insert("anything", { group, value: value as Value, second: second as Value }),
});
export const remove = mutation({
  args: { id: v.id("anything") },
  handler: async (ctx, { id }) => await ctx.db.delete(id),
});
export const get = query({
  args: { id: v.id("anything") },
  handler: async (ctx, { id }) => await ctx.db.get(id),
});
export const values = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    const found = await ctx.db
      .query("anything")
      .withIndex(GROUP, (q) => q.eq("group", group))
      .collect();
    return found.map(({ value = "(missing)" }) => value as Value);
  },
});
export const creationTimes = query({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    const all = await ctx.db.query("anything").collect();
    return all.filter((each) => each.group === group).map(({ _creationTime }) => _creationTime);
  },
});

/** What a mutation sees of its own writes at each step. */
export const readsItsWrites = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    const list = async () => {
      const found = await ctx.db
        .query("anything")
        .withIndex(GROUP, (q) => q.eq("group", group))
        .collect();
      return found.map(({ value }) => value as Value);
    };
    const steps: Value[] = [await list()];
    const [a, b] = await put(ctx, group, [2, 1]);
    if (a === undefined || b === undefined) return null;
    steps.push(await list());
    await ctx.db.patch(a, { value: 0 });
    steps.push(await list());
    await ctx.db.replace(b, { group, value: 5 });
    steps.push(await list(), ((await ctx.db.get(b))?.value as Value) ?? null);
    await ctx.db.delete(a);
    steps.push(await list(), (await ctx.db.get(a)) === null);
    await ctx.db.delete(b);
    steps.push(await list());
    return steps;
  },
});

/** The life of a document, with or without the table's name before each id. */
export const life = mutation({
  args: { named: v.boolean() },
  handler: async (ctx, { named }) => {
    const { db } = ctx;
    const id = await db.insert("users", { name: "Ada", contact, tags: ["a"], scores: { x: 1 } });
    const read = async () => {
      const user = await (named ? db.get("users", id) : db.get(id));
      if (user === null) return null;
      const { _id, _creationTime, ...fields } = user;
      return { fields, isSame: _id === id, hasTime: typeof _creationTime === "number" };
    };
    const steps: Value[] = [await read()];
    const patch = { tags: undefined, scores: { y: 2 } };
    await (named ? db.patch("users", id, patch) : db.patch(id, patch));
    steps.push(await read());
    const other = { name: "Grace", contact: { phone: 5n } };
    await (named ? db.replace("users", id, other) : db.replace(id, other));
    steps.push(await read());
    await (named ? db.delete("users", id) : db.delete(id));
    steps.push(await read());
    return steps;
  },
});
/** Writes to a document that is gone. */
export const onGone = mutation({
  args: { kind: v.string() },
  handler: async (ctx, { kind }) => {
    const id = await ctx.db.insert("users", { name: "Gone", contact });
    await ctx.db.delete(id);
    if (kind === "patch") await ctx.db.patch(id, { name: "x" });
    if (kind === "replace") await ctx.db.replace(id, { name: "x", contact });
    if (kind === "delete") await ctx.db.delete(id);
    return (await ctx.db.get(id)) === null;
  },
});
/** Says the name of one table with an id of another. */
export const inWrongTable = mutation({
  args: { kind: v.string() },
  handler: async (ctx, { kind }) => {
    const id = (await ctx.db.insert("users", {
      name: "Elsewhere",
      contact,
    })) as string as GenericId<"messages">;
    if (kind === "get") await ctx.db.get("messages", id);
    if (kind === "patch") await ctx.db.patch("messages", id, { body: "x" });
    if (kind === "replace") await ctx.db.replace("messages", id, { channel: "x", body: "x" });
    if (kind === "delete") await ctx.db.delete("messages", id);
  },
});
/** What `replace` and `patch` do with `_id` and `_creationTime` in their argument. */
export const withSystemFields = mutation({
  args: {},
  handler: async (ctx) => {
    const id = await ctx.db.insert("users", { name: "Whole", contact });
    const whole = await ctx.db.get(id);
    if (whole === null) return null;
    await ctx.db.replace(id, { ...whole, name: "Replaced" });
    await ctx.db.patch(id, { _id: id, _creationTime: whole._creationTime, tags: ["t"] } as object);
    const after = await ctx.db.get(id);
    return { name: after?.name, tags: after?.tags, isSame: after?._creationTime === whole._creationTime };
  },
});
export const normalize = query({
  args: { id: v.string() },
  handler: async (ctx, { id }) => [ctx.db.normalizeId("anything", id), ctx.db.normalizeId("users", id)],
});

export const writeThenThrow = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    const [first] = await put(ctx, group, ["first", "second"]);
    if (first !== undefined) await ctx.db.delete(first);
    throw new Error("after the writes");
  },
});
export const editThenThrow = mutation({
  args: { group: v.string() },
  handler: async (ctx, { group }) => {
    for (const { _id } of await ctx.db
      .query("anything")
      .withIndex(GROUP, (q) => q.eq("group", group))
      .collect()) {
      await ctx.db.patch(_id, { value: "edited" });
      await ctx.db.delete(_id);
    }
    throw new Error("after the writes");
  },
});

export const increment = mutation({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const counter = await ctx.db
      .query("counters")
      .withIndex("by_name", (q) => q.eq("name", name))
      .unique();
    if (counter === null) await ctx.db.insert("counters", { name, value: 1 });
    else await ctx.db.patch(counter._id, { value: counter.value + 1 });
    return (counter?.value ?? 0) + 1;
  },
});
export const counter = query({
  args: { name: v.string() },
  handler: async (ctx, { name }) => {
    const found = await ctx.db
      .query("counters")
      .withIndex("by_name", (q) => q.eq("name", name))
      .unique();
    return found?.value ?? 0;
  },
});

type Filter = Parameters<ReturnType<QueryCtx["db"]["query"]>["filter"]>[0];

const FILTERS: Record<string, Filter> = {
  "eq 3": (q) => q.eq(q.field("value"), 3),
  "neq 3": (q) => q.neq(q.field("value"), 3),
  "gt 2, lte 4": (q) => q.and(q.gt(q.field("value"), 2), q.lte(q.field("value"), 4)),
  "gte 2, lt 4": (q) => q.and(q.gte(q.field("value"), 2), q.lt(q.field("value"), 4)),
  "1 or 5": (q) => q.or(q.eq(q.field("value"), 1), q.eq(q.field("value"), 5)),
  "not 1": (q) => q.not(q.eq(q.field("value"), 1)),
  "literal true": () => true,
  "literal false": () => false,
  "no member of and": (q) => q.and(),
  "no member of or": (q) => q.or(),
  "literal on the left": (q) => q.lt(3, q.field("value") as never),
  add: (q) => q.eq(q.add(q.field("value") as never, 1 as never), 3 as never),
  "sub, mul, div, mod, neg": (q) =>
    q.eq(
      q.mod(q.div(q.mul(q.sub(q.field("value") as never, 1 as never), 4 as never), 2 as never), 4 as never),
      q.neg(-2 as never),
    ),
  "missing field": (q) => q.eq(q.field("second" as never), undefined as never),
  "a nested field": (q) => q.eq(q.field("value.deep" as never), 7),
  "nothing is greater than nothing": (q) => q.gt(q.field("second" as never), null as never),
  "cross type": (q) => q.gt(q.field("value"), 5n),
};

export const filtered = query({
  args: { group: v.string(), filter: v.string() },
  handler: async (ctx, { group, filter }) => {
    const expression = FILTERS[filter];
    if (expression === undefined) throw new Error(`no filter '${filter}'`);
    const found = await ctx.db
      .query("anything")
      .withIndex(GROUP, (q) => q.eq("group", group))
      .filter(expression)
      .collect();
    return found.map(({ value }) => value as Value);
  },
});

/** A filter before and after others, and limits. */
export const limited = query({
  args: { group: v.string(), count: v.number(), filterTwice: v.optional(v.boolean()) },
  handler: async (ctx, { group, count, filterTwice }) => {
    let found = ctx.db
      .query("anything")
      .withIndex(GROUP, (q) => q.eq("group", group))
      .filter((q) => q.gt(q.field("value"), 1));
    if (filterTwice === true) found = found.filter((q) => q.lt(q.field("value"), 5));
    return (await found.take(count)).map(({ value }) => value as Value);
  },
});

export const ordered = query({
  args: { group: v.string(), how: v.string() },
  handler: async (ctx, { group, how }) => {
    const start = () => ctx.db.query("anything").withIndex(GROUP, (q) => q.eq("group", group));
    const table = () => ctx.db.query("anything");
    const found = {
      "asc before filter": () =>
        start()
          .order("asc")
          .filter((q) => q.gt(q.field("value"), 2)),
      "asc after filter": () =>
        (start().filter((q) => q.gt(q.field("value"), 2)) as ReturnType<typeof start>).order("asc"),
      "desc before filter": () =>
        start()
          .order("desc")
          .filter((q) => q.gt(q.field("value"), 2)),
      "desc after filter": () =>
        (start().filter((q) => q.gt(q.field("value"), 2)) as ReturnType<typeof start>).order("desc"),
      "table desc": () =>
        table()
          .order("desc")
          .filter((q) => q.eq(q.field("group"), group)),
      "table full scan": () =>
        table()
          .fullTableScan()
          .filter((q) => q.eq(q.field("group"), group)),
      twice: () => (start().order("desc") as ReturnType<typeof start>).order("asc"),
      "twice around a filter": () =>
        (
          start()
            .order("desc")
            .filter((q) => q.gt(q.field("value"), 2)) as ReturnType<typeof start>
        ).order("desc"),
    }[how];
    if (found === undefined) throw new Error(`no order '${how}'`);
    return (await found().collect()).map(({ value }) => value as Value);
  },
});

const bound = v.object({ op: v.string(), field: v.string(), value: v.optional(v.any()) });

/** The pairs of a group within bounds that the caller gives one after the other. */
export const ranged = query({
  args: { bounds: v.array(bound), index: v.optional(v.string()), desc: v.optional(v.boolean()) },
  handler: async (ctx, { bounds, index, desc }) => {
    type Steps = Record<string, (field: string, value: unknown) => Steps>;
    const found = await ctx.db
      .query("anything")
      .withIndex((index ?? "by_group_and_value_and_second") as "by_group_and_value_and_second", (q) => {
        let steps = q as unknown as Steps;
        for (const { op, field, value } of bounds) steps = steps[op]!(field, value);
        return steps as unknown as IndexRange;
      })
      .order(desc === true ? "desc" : "asc")
      .collect();
    return found.map(({ value = "(missing)", second = "(missing)" }) => [value as Value, second as Value]);
  },
});

export const ends = query({
  args: { group: v.string(), how: v.string(), count: v.optional(v.number()) },
  handler: async (ctx, { group, how, count }) => {
    const found = ctx.db.query("anything").withIndex(GROUP, (q) => q.eq("group", group));
    if (how === "first") return ((await found.first())?.value as Value) ?? null;
    if (how === "unique") return ((await found.unique())?.value as Value) ?? null;
    if (how === "take") return (await found.take(count ?? 0)).map(({ value }) => value as Value);
    const seen: Value[] = [];
    for await (const { value } of found) {
      if (seen.length === count) break;
      seen.push(value as Value);
    }
    return seen;
  },
});

const pageArgs = { group: v.string(), paginationOpts: paginationOptsValidator };

export const page = query({
  args: { ...pageArgs, desc: v.optional(v.boolean()), atLeast: v.optional(v.number()) },
  handler: async (ctx, { group, paginationOpts, desc, atLeast }) => {
    const found = await ctx.db
      .query("anything")
      .withIndex(GROUP, (q) => q.eq("group", group))
      .order(desc === true ? "desc" : "asc")
      .filter((q) => (atLeast === undefined ? true : q.gte(q.field("value"), atLeast)))
      .paginate(paginationOpts);
    return { ...found, page: found.page.map(({ value }) => value as Value) };
  },
});
export const twoPages = query({
  args: pageArgs,
  handler: async (ctx, { group, paginationOpts }) => {
    const find = () => ctx.db.query("anything").withIndex(GROUP, (q) => q.eq("group", group));
    return [await find().paginate(paginationOpts), await find().paginate(paginationOpts)];
  },
});
export const pageInMutation = mutation({
  args: pageArgs,
  handler: async (ctx, { group, paginationOpts }) => {
    const find = ctx.db.query("anything").withIndex(GROUP, (q) => q.eq("group", group));
    return (await find.paginate(paginationOpts)).page.length;
  },
});
