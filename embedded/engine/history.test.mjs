import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { History } from "./history.mjs";
import { TestEngine, writeFunctions } from "./testing.mjs";

const FILES = {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      rows: defineTable({ n: v.number(), text: v.optional(v.string()) })
        .index("by_n", ["n"]).searchIndex("by_text", { searchField: "text" }),
    });`,
  "rows.js": `
    import { mutationGeneric as mutation, queryGeneric as query, makeFunctionReference } from "convex/server";
    export const add = mutation((ctx, args) => ctx.db.insert("rows", args));
    export const change = mutation((ctx, { id, ...fields }) => ctx.db.patch(id, fields));
    export const remove = mutation((ctx, { id }) => ctx.db.delete(id));
    export const toLater = mutation((ctx, args) => ctx.db.insert("later", args));
    export const addThenFail = mutation(async (ctx, args) => { await ctx.db.insert("rows", args); throw new Error("no"); });
    export const list = query((ctx) => ctx.db.query("rows").withIndex("by_n").collect());
    export const byAge = query((ctx) => ctx.db.query("rows").collect());
    export const later = query((ctx) => ctx.db.query("later").collect());
    export const get = query((ctx, { id }) => ctx.db.get(id));
    export const find = query((ctx, { text }) => ctx.db.query("rows").withSearchIndex("by_text", (q) => q.search("text", text)).collect());
    export const fail = query(() => { throw new Error("wrong"); });
    export const nested = query((ctx) => ctx.runQuery(makeFunctionReference("rows:list"), {}));`,
};

/** @type {TestEngine} */
let engine;
let now = Date.UTC(2026, 0, 1);
beforeEach(async () => {
  engine = new TestEngine({ now: () => now });
  await engine.load(writeFunctions(engine.root, FILES));
});
afterEach(() => engine.dispose());

const newest = () => engine.serve([]).ts;
/** @param {string} at @param {string} path @param {object} [args] */
const asOf = (at, path, args = {}) =>
  engine.serve([engine.message(path, args, { kind: "query", at })]).replies[0];
/** @param {string} at */
const listAsOf = (at, path = "rows:list", args = {}) => {
  const reply = asOf(at, path, args);
  expect(reply).toMatchObject({ ok: true, ts: at });
  return JSON.parse(reply.value).map((/** @type {any} */ row) => row.n);
};

describe("a query as of an earlier commit", () => {
  test("sees what was there then, in every kind of index", () => {
    const empty = newest();
    const a = engine.call("rows:add", { n: 1, text: "tea" });
    const one = newest();
    engine.call("rows:add", { n: 2, text: "tea" });
    engine.call("rows:change", { id: a, n: 3, text: "milk" });
    const two = newest();
    engine.call("rows:remove", { id: a });
    for (const path of ["rows:list", "rows:byAge", "rows:nested"]) {
      expect([empty, one, two, newest()].map((at) => listAsOf(at, path).toSorted())).toEqual([
        [],
        [1],
        [2, 3],
        [2],
      ]);
    }
    expect([empty, one, two].map((at) => listAsOf(at, "rows:find", { text: "tea" }))).toEqual([[], [1], [2]]);
    expect(JSON.parse(asOf(one, "rows:get", { id: a }).value)).toMatchObject({ n: 1 });
    expect(asOf(newest(), "rows:get", { id: a }).value).toBe("null");
  });

  test("leaves everything as it is, whatever happens inside", () => {
    const before = newest();
    engine.call("rows:add", { n: 1 });
    const [, reply] = engine.serve([
      engine.message("rows:add", { n: 2 }),
      engine.message("rows:fail", {}, { kind: "query", at: before }),
      engine.message("rows:list", {}, { kind: "query", at: before }),
      engine.message("rows:add", { n: 3 }),
    ]).replies;
    expect(reply).toMatchObject({ ok: false, message: expect.stringContaining("wrong") });
    expect(engine.call("rows:list").map((/** @type {any} */ row) => row.n)).toEqual([1, 2, 3]);
    expect(listAsOf(before)).toEqual([]);
    engine.reopen();
    return engine.load(writeFunctions(engine.root, FILES)).then(() => {
      expect(engine.call("rows:list").map((/** @type {any} */ row) => row.n)).toEqual([1, 2, 3]);
    });
  });

  test("sees other commits of the same batch that came before it, and not those after", () => {
    const before = newest();
    const { replies } = engine.serve([
      engine.message("rows:add", { n: 1 }),
      engine.message("rows:add", { n: 2 }),
    ]);
    expect(replies.map(({ ts }) => listAsOf(ts))).toEqual([[1], [1, 2]]);
    expect(listAsOf(before)).toEqual([]);
  });

  test("of a table that was made since finds nothing", () => {
    const before = newest();
    engine.call("rows:toLater", { n: 1 });
    expect([listAsOf(before, "rows:later"), listAsOf(newest(), "rows:later")]).toEqual([[], [1]]);
  });

  test("knows nothing of mutations that failed", () => {
    const before = newest();
    expect(() => engine.call("rows:addThenFail", { n: 1 })).toThrow("no");
    engine.call("rows:add", { n: 2 });
    expect([listAsOf(before), listAsOf(newest())]).toEqual([[], [2]]);
  });

  test("wakes no subscription", () => {
    engine.call("rows:add", { n: 1 });
    const before = newest();
    engine.call("rows:add", { n: 2 });
    engine.subscribe(1, "rows:list");
    expect(listAsOf(before)).toEqual([1]);
    expect(engine.updates()).toEqual([]);
  });

  test("must not be one of a mutation, of before the start, or of after the newest commit", () => {
    const before = newest();
    expect(asOf(before, "rows:add", { n: 1 })).toMatchObject({ ok: false });
    expect(asOf(String(BigInt(before) + 1n), "rows:list")).toMatchObject({
      ok: false,
      code: "TimestampTooNew",
    });
    engine.call("rows:add", { n: 1 });
    engine.reopen();
    return engine.load(writeFunctions(engine.root, FILES)).then(() => {
      expect(asOf(before, "rows:list")).toMatchObject({
        ok: false,
        code: "TimestampTooOld",
        message: `Timestamp ${before} is too early, retry with a higher timestamp`,
      });
      expect(listAsOf(newest())).toEqual([1]);
    });
  });

  test("reaches back ten minutes, and longer while nothing is written", () => {
    const start = newest();
    now += 3_600_000;
    expect(listAsOf(start)).toEqual([]);
    engine.call("rows:add", { n: 1 });
    const first = newest();
    now += 600_000;
    engine.call("rows:add", { n: 2 });
    expect([listAsOf(start), listAsOf(first)]).toEqual([[], [1]]);
    now += 1;
    engine.call("rows:add", { n: 3 });
    expect(asOf(start, "rows:list")).toMatchObject({ code: "TimestampTooOld" });
    expect(listAsOf(first)).toEqual([1]);
  });
});

describe("the ring of changes", () => {
  const table = /** @type {any} */ ({ name: "t" });
  /** @param {number} pk @param {string | null} jsonBefore */
  const write = (pk, jsonBefore) => /** @type {any} */ ({ table, pk, id: `id${pk}`, ct: pk, jsonBefore });
  const MIB = 2 ** 20;

  test("holds 8 MiB of texts, and forgets the oldest above", () => {
    const history = new History(0n);
    const text = "x".repeat(MIB / 2 - 64); // counts as 1 MiB with what is kept beside it
    for (let n = 1; n <= 8; n++) history.add(BigInt(n), 0, [write(n, text)]);
    expect([history.floor, history.changesSince(0n).length]).toEqual([0n, 8]);
    history.add(9n, 0, [write(9, "")]);
    expect([history.floor, history.changesSince(1n).length]).toEqual([1n, 8]);
  });

  test("gives each document once, as it was first", () => {
    const history = new History(0n);
    history.add(1n, 0, [write(1, null), write(1, "b")]);
    history.add(2n, 0, [write(1, "c"), write(2, "d")]);
    const changes = (/** @type {bigint} */ ts) =>
      history
        .changesSince(ts)
        .map(({ pk, json }) => [pk, json])
        .sort();
    expect(changes(0n)).toEqual([
      [1, null],
      [2, "d"],
    ]);
    expect(changes(1n)).toEqual([
      [1, "c"],
      [2, "d"],
    ]);
    expect(changes(2n)).toEqual([]);
  });

  test("drops commits that were rolled back", () => {
    const history = new History(0n);
    for (let n = 1; n <= 3000; n++) history.add(BigInt(n), n * 1000, [write(n, "x")]);
    expect(history.floor).toBe(3000n - 601n);
    history.truncate(2999n);
    expect(history.changesSince(2990n).map(({ pk }) => pk)).toHaveLength(9);
    expect(history.changesSince(2999n)).toEqual([]);
  });
});
