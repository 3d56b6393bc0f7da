import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestEngine, writeFunctions } from "./testing.mjs";

const schema = (/** @type {string} */ indexes) => `
  import { defineSchema, defineTable } from "convex/server";
  import { v } from "convex/values";
  export default defineSchema({ points: defineTable(v.any())${indexes} });`;
const VECTORS = `.vectorIndex("by_at", { vectorField: "at", dimensions: 2, filterFields: ["kind", "deep.n"] })
  .index("by_kind", ["kind"]).searchIndex("by_name", { searchField: "name" })`;
const POINTS = `
  import { mutationGeneric as mutation } from "convex/server";
  export const add = mutation(async (ctx, { points }) => {
    const ids = [];
    for (const point of points) ids.push(await ctx.db.insert("points", point));
    return ids;
  });
  export const change = mutation((ctx, { id, fields }) => ctx.db.patch(id, fields));
  export const remove = mutation((ctx, { id }) => ctx.db.delete(id));
  export const addThenFail = mutation(async (ctx, { point }) => {
    await ctx.db.insert("points", point);
    throw new Error("no");
  });`;

/** @type {TestEngine} */
let engine;
const load = (/** @type {string} */ indexes) =>
  engine.load(writeFunctions(engine.root, { "schema.ts": schema(indexes), "points.js": POINTS }));
beforeEach(async () => {
  engine = new TestEngine();
  await load(VECTORS);
});
afterEach(() => engine.dispose());

const add = (/** @type {any[]} */ ...points) => engine.call("points:add", { points });
/** @param {object} query @returns {{ _id: string, _score: number }[]} */
const search = (query) => {
  const whole = { indexName: "points.by_at", vector: [1, 0], expressions: null, ...query };
  return engine.send({ op: "vectorSearch", query: JSON.stringify(whole) }).results;
};
const eq = (/** @type {string} */ field, /** @type {any} */ value) => ({
  $eq: [{ $field: field }, { $literal: value }],
});
const ids = (/** @type {object} */ query) => search(query).map(({ _id }) => _id);

test("the nearest come first, by the cosine of the angle", () => {
  const [right, up, left, far] = add({ at: [2, 0] }, { at: [0, 3] }, { at: [-1, 0] }, { at: [5, 5] });
  expect(search({})).toEqual([
    { _id: right, _score: 1 },
    { _id: far, _score: expect.closeTo(Math.SQRT1_2, 6) },
    { _id: up, _score: 0 },
    { _id: left, _score: -1 },
  ]);
  expect(ids({ vector: [0, 7], limit: 1 })).toEqual([up]);
});

test("a vector of zeros is as far from all as can be told, and no reason to fail", () => {
  const [id] = add({ at: [0, 0] });
  expect(search({})).toEqual([{ _id: id, _score: 0 }]);
  expect(search({ vector: [0, 0] })).toEqual([{ _id: id, _score: 0 }]);
});

test("documents without a vector of the index's dimensions are not in it", () => {
  const [one] = add(
    { at: [1, 1] },
    { at: [1, 1, 1] },
    { at: [1, "1"] },
    { at: "1" },
    {},
    { at: [{ $integer: "AQAAAAAAAAA=" }, 1] },
  );
  expect(ids({})).toEqual([one]);
});

test("a document that changes, goes or was never committed is found as it is", () => {
  const [a, b] = add({ at: [1, 0], kind: "x" }, { at: [0, 1], kind: "x" });
  engine.call("points:change", { id: a, fields: { at: [0, 1] } });
  engine.call("points:change", { id: b, fields: { kind: "y" } });
  expect(search({})).toEqual([
    { _id: b, _score: 0 },
    { _id: a, _score: 0 },
  ]);
  expect(ids({ expressions: eq("kind", "y") })).toEqual([b]);
  engine.call("points:remove", { id: b });
  expect(ids({})).toEqual([a]);
  expect(() => engine.call("points:addThenFail", { point: { at: [1, 0] } })).toThrow("no");
  expect(ids({})).toEqual([a]);
});

describe("a filter", () => {
  test("takes documents that meet one of its equalities", () => {
    const [a, b, c, d] = add(
      { at: [1, 0], kind: "x", deep: { n: 1 } },
      { at: [1, 1], kind: "y" },
      { at: [1, 2], kind: "z", deep: { n: 1 } },
      { at: [1, 3] },
    );
    expect(ids({ expressions: eq("kind", "x") })).toEqual([a]);
    expect(ids({ expressions: { $or: [eq("kind", "x"), eq("kind", "y")] } })).toEqual([a, b]);
    expect(ids({ expressions: { $or: [eq("kind", "y"), eq("deep.n", 1)] } })).toEqual([a, b, c]);
    expect(ids({ expressions: eq("kind", { $undefined: null }) })).toEqual([d]);
  });

  test("has at most 64 values", () => {
    const values = (/** @type {number} */ count) => ({
      $or: Array.from({ length: count }, (_, i) => eq("kind", i)),
    });
    expect(search({ expressions: values(64) })).toEqual([]);
    expect(() => search({ expressions: values(65) })).toThrow(
      "Vector query against points.by_at has too many conditions. Max: 64 Actual: 65",
    );
    expect(search({ expressions: { $or: [...values(64).$or, eq("kind", 3)] } })).toEqual([]);
  });

  test.each([
    [
      eq("name", "a"),
      'Vector query against points.by_at contains a filter on "name" but that field isn\'t indexed for filtering in `filterFields`.',
    ],
    [{ $and: [eq("kind", 1)] }, "Filters should be a combination of `q.eq` and `q.or`."],
    [{ $literal: true }, "Filters should be a combination of `q.eq` and `q.or`."],
    [
      { $eq: [{ $literal: 1 }, { $field: "kind" }] },
      "`q.eq` must take a field path as its first argument and a value as its second",
    ],
  ])("%j is refused in Convex's words", (expressions, reason) => {
    expect(() => search({ expressions })).toThrow(reason);
  });
});

test("10 results come unless a limit is given, which is 256 at most", () => {
  add(...Array.from({ length: 300 }, (_, i) => ({ at: [1, i] })));
  expect(search({})).toHaveLength(10);
  expect(search({ limit: 256 })).toHaveLength(256);
  expect(() => search({ limit: 257 })).toThrow(
    "Vector queries can fetch at most 256 results, requested 257.",
  );
  const scores = search({ limit: 256 }).map(({ _score }) => _score);
  expect(scores).toEqual(scores.toSorted((a, b) => b - a));
});

test.each([
  [{ vector: [1] }, "Expected a vector with dimensions 2, received 1."],
  [{ vector: [1, 2, 3] }, "Expected a vector with dimensions 2, received 3."],
  [{ indexName: "points.by_nothing" }, "Index points.by_nothing not found."],
  [{ indexName: "points.by_kind" }, "Index points.by_kind is not a vector index"],
  [{ indexName: "points.by_name" }, "Index points.by_name is not a vector index"],
  [{ vector: ["1", 0] }, "Invalid arguments for `vectorSearch`"],
  [{ limit: -1 }, "Invalid arguments for `vectorSearch`"],
])("a search with %j is refused in Convex's words", (query, reason) => {
  expect(() => search(query)).toThrow(reason);
});

test("a search of a table that is not there finds nothing", () => {
  expect(search({ indexName: "nothing.by_at" })).toEqual([]);
});

test("a vector index is filled when it is declared, and emptied when it is not", async () => {
  await load("");
  const [id] = add({ at: [1, 0] });
  expect(() => search({})).toThrow("Index points.by_at not found.");
  await load(`.vectorIndex("by_at", { vectorField: "at", dimensions: 2, staged: true })`);
  expect(() => search({})).toThrow("Index points.by_at is currently staged");
  await load(VECTORS);
  engine.reopen();
  await load(VECTORS);
  expect(ids({})).toEqual([id]);
});
