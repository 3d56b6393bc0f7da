import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FIXTURE, TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

/** @type {TestEngine} */
let engine;
beforeEach(async () => {
  engine = new TestEngine();
  await engine.load();
});
afterEach(() => engine.dispose());

const add = (group = "a", rank = 1) => engine.call("items:add", { group, rank });
const ranksOf = (/** @type {any[]} */ updates) =>
  updates.map(({ sub, value }) => [sub, value.map((/** @type {any} */ item) => item.rank)]);

test("the first result is the answer, and each commit that touches what was read brings one update", () => {
  add("a", 1);
  const answer = engine.subscribe(7, "items:list", { group: "a" });
  expect(JSON.parse(answer.value)).toHaveLength(1);
  add("a", 2);
  expect(ranksOf(engine.updates())).toEqual([[7, [1, 2]]]);
  add("b", 3);
  expect(engine.updates()).toEqual([]);
});

test("a batch of several writes brings one update with all of them", () => {
  engine.subscribe(7, "items:list", { group: "a" });
  engine.serve([1, 2, 3].map((rank) => engine.message("items:add", { group: "a", rank })));
  expect(ranksOf(engine.updates())).toEqual([[7, [1, 2, 3]]]);
});

test("a write that leaves the result as it was brings nothing", () => {
  const id = add("a", 1);
  engine.subscribe(7, "items:first", { group: "a" });
  engine.call("items:patch", { id, fields: { rank: 1 } });
  expect(engine.updates()).toEqual([]);
  engine.call("items:patch", { id, fields: { rank: 5 } });
  expect(engine.updates()).toMatchObject([{ sub: 7, value: { rank: 5 } }]);
});

test("a query that took the first row is not touched behind it", () => {
  add("a", 1);
  engine.subscribe(7, "runtime:stateOfModule");
  engine.subscribe(8, "items:first", { group: "a" });
  add("a", 2);
  expect(engine.updates()).toEqual([]);
  add("a", 0);
  expect(engine.updates()).toMatchObject([{ sub: 8, value: { rank: 0 } }]);
});

test("a document that was read by its id is watched, also after it is gone", () => {
  const id = add();
  engine.subscribe(7, "items:get", { id });
  engine.call("items:patch", { id, fields: { note: "new" } });
  expect(engine.updates()).toMatchObject([{ value: { note: "new" } }]);
  engine.call("items:remove", { id });
  expect(engine.updates()).toEqual([{ sub: 7, value: null }]);
});

test("equal subscriptions share one run, and each gets every update", () => {
  const args = { group: "a" };
  engine.subscribe(1, "runtime:stateOfModule");
  const before = JSON.parse(engine.subscribe(2, "runtime:stateOfModule").value);
  expect(JSON.parse(engine.subscribe(3, "runtime:stateOfModule").value)).toBe(before);
  engine.subscribe(4, "items:list", args);
  engine.subscribe(5, "items:list", args);
  add("a", 1);
  expect(ranksOf(engine.updates())).toEqual([
    [4, [1]],
    [5, [1]],
  ]);
});

test("callers with other identities do not share", () => {
  const caller = (/** @type {string} */ subject) => ({ admin: false, identity: { subject } });
  const ann = engine.subscribe(1, "items:identity", {}, { caller: caller("ann") });
  const bob = engine.subscribe(2, "items:identity", {}, { caller: caller("bob") });
  expect([ann, bob].map(({ value }) => JSON.parse(value).subject)).toEqual(["ann", "bob"]);
});

test("one who joins in a batch behind a write gets the new state, and so do those before", () => {
  engine.subscribe(1, "items:list", { group: "a" });
  const { replies, updates } = engine.serve([
    engine.message("items:add", { group: "a", rank: 1 }),
    {
      id: 900,
      op: "subscribe",
      sub: 2,
      path: "items:list",
      args: '[{"group":"a"}]',
      caller: { admin: true, identity: null },
      journal: null,
    },
  ]);
  expect(JSON.parse(replies[1].value)).toHaveLength(1);
  expect(updates.map(({ subs, value }) => [subs, JSON.parse(value).length])).toEqual([[[1, 2], 1]]);
});

test("nothing comes after unsubscribing", () => {
  engine.subscribe(1, "items:list", { group: "a" });
  engine.subscribe(2, "items:list", { group: "a" });
  engine.serve([{ op: "unsubscribe", sub: 1 }]);
  add("a", 1);
  expect(ranksOf(engine.updates())).toEqual([[2, [1]]]);
  engine.serve([{ op: "unsubscribe", sub: 2 }]);
  add("a", 2);
  expect(engine.updates()).toEqual([]);
});

test("a failing query is told once and recovers when it works again", async () => {
  const root = temporaryFolder();
  const folder = writeFunctions(root, {
    "q.ts": `import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
      export const one = query({ args: {}, handler: async (ctx) => {
        const rows = await ctx.db.query("rows").collect();
        if (rows.length % 2 === 1) throw new Error("odd");
        return rows.length;
      } });
      export const add = mutation({ args: {}, handler: (ctx) => ctx.db.insert("rows", {}) });`,
  });
  await engine.load(folder);
  expect(engine.subscribe(1, "q:one")).toMatchObject({ ok: true, value: "0" });
  engine.call("q:add");
  expect(engine.updates()).toEqual([{ sub: 1, value: expect.stringContaining("Uncaught Error: odd") }]);
  engine.call("q:add");
  expect(engine.updates()).toEqual([{ sub: 1, value: 2 }]);
  rmSync(root, { recursive: true });
});

test("a query that fails from the start is live too", () => {
  const answer = engine.subscribe(1, "items:get", { id: "nonsense" });
  expect(answer).toMatchObject({ ok: false, message: expect.stringContaining("ArgumentValidationError") });
});

test("a query of a table that does not exist yet runs again when it does", () => {
  engine.subscribe(1, "bag:countOf", { table: "unheard" });
  engine.call("bag:insertTwice", { table: "unheard" });
  expect(engine.updates()).toEqual([{ sub: 1, value: 2 }]);
});

test("loading functions runs every query again", async () => {
  engine.subscribe(1, "runtime:environment");
  await engine.load(FIXTURE, { MODE: "slow" });
  expect(engine.updates()).toMatchObject([{ sub: 1, value: { mode: "slow" } }]);
  await engine.load(FIXTURE, { MODE: "slow" });
  expect(engine.updates()).toEqual([]);
});

describe("a page", () => {
  const ask = { index: "by_a", bounds: [], paginationOpts: { numItems: 2, cursor: null } };
  const values = (/** @type {string} */ value) =>
    JSON.parse(value).page.map((/** @type {any} */ row) => row.a);

  test("keeps its end while it is watched: it grows, shrinks, and ignores what lies behind", () => {
    const ids = engine.call("bag:add", { documents: [{ a: 10 }, { a: 20 }, { a: 30 }] });
    const first = engine.subscribe(1, "bag:page", ask);
    expect(values(first.value)).toEqual([10, 20]);
    engine.call("bag:add", { documents: [{ a: 15 }, { a: 25 }] });
    expect(engine.updates().map(({ value }) => value.page.map((/** @type {any} */ row) => row.a))).toEqual([
      [10, 15, 20],
    ]);
    engine.call("bag:remove", { id: ids[0] });
    expect(engine.updates()[0].value.page).toHaveLength(2);
    engine.call("bag:add", { documents: [{ a: 40 }] });
    expect(engine.updates()).toEqual([]);
  });

  test("keeps its end over a reconnect by its journal", () => {
    engine.call("bag:add", { documents: [{ a: 10 }, { a: 20 }, { a: 30 }] });
    const { journal } = engine.subscribe(1, "bag:page", ask);
    engine.serve([{ op: "unsubscribe", sub: 1 }]);
    engine.call("bag:add", { documents: [{ a: 15 }] });
    expect(values(engine.subscribe(2, "bag:page", ask, { journal }).value)).toEqual([10, 15, 20]);
  });

  test("with the journal of another query is an invalid cursor, so that the client begins anew", () => {
    engine.call("bag:add", { documents: [{ a: 10 }, { a: 20 }, { a: 30 }] });
    const { journal } = engine.subscribe(1, "bag:page", { ...ask, order: "desc" });
    const { ok, message, data } = engine.subscribe(2, "bag:page", ask, { journal });
    expect([ok, JSON.parse(data)]).toEqual([
      false,
      { isConvexSystemError: true, paginationError: "InvalidCursor" },
    ]);
    expect(message).toContain("InvalidCursor");
  });

  test("that was empty covers all that comes", () => {
    engine.subscribe(1, "bag:page", ask);
    engine.call("bag:add", { documents: [{ a: 1 }, { a: 2 }, { a: 3 }] });
    expect(engine.updates()[0].value.page).toHaveLength(3);
  });
});
