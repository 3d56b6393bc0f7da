import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bundleFunctions } from "../bundle.mjs";
import { encodeId } from "../engine/ids.mjs";
import { ANYONE, temporaryFolder, TestEngine, writeFunctions } from "../engine/testing.mjs";
import { UNSET } from "./dashboard-filters.mjs";

const FILES = {
  "schema.ts": `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values";
    export default defineSchema({ strict: defineTable({ n: v.number() }) }, { strictTableNameTypes: false });`,
  "rows.ts": `import { makeFunctionReference, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
    export const list = query((ctx, { table }) => ctx.db.query(table).collect());
    export const beat = mutation(() => null);
    export const later = mutation((ctx, { delay }) =>
      ctx.scheduler.runAfter(delay, makeFunctionReference("rows:beat"), { delay }));
    export const clear = mutation((ctx, args) =>
      ctx.runMutation(makeFunctionReference("_system/frontend/clearTablePage"), args));`,
};
const PAGE = { cursor: null, numItems: 2 };
const UNKNOWN_ID = encodeId(12_345, new Uint8Array(16).fill(5));

/** @type {TestEngine} */
let engine;
/** @type {string} */
let root;
beforeEach(async () => {
  root = temporaryFolder();
  engine = new TestEngine();
  const env = { CONVEX_CLOUD_URL: "http://here", CONVEX_SITE_URL: "http://site" };
  engine.send({ op: "load", bundle: await bundleFunctions(writeFunctions(root, FILES)), env });
});
afterEach(() => {
  engine.dispose();
  rmSync(root, { recursive: true });
});

const call = (/** @type {string} */ name, args = {}, options = {}) =>
  engine.call(`_system/frontend/${name}:default`, args, options);
/** @param {() => unknown} act @returns {any} what it throws */
function thrown(act) {
  try {
    act();
  } catch (error) {
    return error;
  }
  throw new Error("It threw nothing");
}
const add = (/** @type {string} */ table, /** @type {unknown[]} */ ...documents) =>
  call("addDocument", { table, documents }, { kind: "mutation" });
const rows = (/** @type {string} */ table) => engine.call("rows:list", { table });

describe("every one", () => {
  test.each([
    ["addDocument", "mutation", { table: "t", documents: [] }],
    ["clearTablePage", "mutation", { tableName: "t", cursor: null }],
    ["createTable", "mutation", { table: "t" }],
    ["deleteDocuments", "mutation", { toDelete: [] }],
    ["patchDocumentsFields", "mutation", { table: "t", fields: {} }],
    ["replaceDocument", "mutation", { id: UNKNOWN_ID, document: {} }],
    ["getById", "query", { id: "none" }],
    ["getTableMapping", "query", {}],
    ["listById", "query", { ids: [] }],
    ["listCronJobs", "query", {}],
    ["listTableScan", "query", { table: "t", limit: 1 }],
    ["paginatedScheduledJobs", "query", { paginationOpts: PAGE }],
    ["paginatedTableDocuments", "query", { paginationOpts: PAGE, table: "t", filters: null }],
    ["tableSize", "query", { tableName: "t" }],
  ])("%s is for the admin alone, in the app alone, and checks its arguments", (name, kind, args) => {
    const path = `_system/frontend/${name}`;
    expect(() => call(name, args, { caller: ANYONE, kind })).toThrow(
      `Could not find public function for '${path}'. Did you forget to run`,
    );
    expect(() => call(name, { ...args, other: 1 }, { kind })).toThrow("ArgumentValidationError");
    expect(() => call(name, { ...args, componentId: "c" }, { kind })).toThrow("Component c not found");
    call(name, { ...args, componentId: null }, { kind });
    const [asked, defined] = kind === "query" ? ["mutation", "Query"] : ["query", "Mutation"];
    expect(() => call(name, args, { kind: asked })).toThrow(`but it is defined as ${defined}.`);
  });

  test.each([
    ["convexCloudUrl", "http://here"],
    ["convexSiteUrl", "http://site"],
    ["getVersion", null],
    ["listEnvironmentVariables", []],
  ])("%s is for the admin alone and takes no arguments", (name, expected) => {
    expect(call(name)).toEqual(expected);
    expect(() => call(name, {}, { caller: ANYONE })).toThrow("Could not find public function");
    expect(() => call(name, { componentId: null })).toThrow("ArgumentValidationError");
  });

  test("also where a function of the app calls it for another one", () => {
    add("t", {});
    const args = { tableName: "t", cursor: null };
    expect(() => engine.call("rows:clear", args, { caller: ANYONE })).toThrow(
      "Could not find public function for '_system/frontend/clearTablePage'",
    );
    expect(rows("t")).toHaveLength(1);
    expect(engine.call("rows:clear", args)).toMatchObject({ deleted: 1 });
  });
});

describe("addDocument", () => {
  test("adds documents, which live queries see", () => {
    engine.subscribe(1, "rows:list", { table: "t" });
    expect(add("t", { n: 1 }, { n: { $integer: "AgAAAAAAAAA=" } })).toEqual({ success: true });
    expect(engine.updates()[0].value).toMatchObject([{ n: 1 }, { n: { $integer: "AgAAAAAAAAA=" } }]);
  });

  test("adds all or none, and tells what is wrong as data", () => {
    const { message, data } = thrown(() => add("strict", { n: 1 }, { n: "1" }));
    expect(message).toContain(`Uncaught ConvexError: ${data}\n`);
    expect(data).toContain('Failed to insert or update a document in table "strict"');
    expect(rows("strict")).toEqual([]);
    expect(thrown(() => add("t", 1)).data).toBe(
      "Invalid argument `value` for `db.insert`: Value must be an Object",
    );
    expect(thrown(() => add("_scheduled_functions", {})).data).toBe(
      "System tables (prefixed with `_`) are read-only.",
    );
  });

  test("adds 4096, and not one more", () => {
    const many = Array.from({ length: 4097 }, () => ({}));
    expect(add("t", ...many)).toEqual({
      success: false,
      error: "Can’t import more than 4096 documents at once.",
    });
    expect(rows("t")).toEqual([]);
    expect(add("t", ...many.slice(1))).toEqual({ success: true });
    expect(rows("t")).toHaveLength(4096);
  });
});

describe("deleteDocuments", () => {
  const remove = (/** @type {string[]} */ ...ids) =>
    call("deleteDocuments", { toDelete: ids.map((id) => ({ id, tableName: "t" })) });

  test("deletes all or none", () => {
    add("t", {}, {});
    const [one, other] = rows("t").map(({ _id }) => _id);
    expect(() => remove(one, one)).toThrow(`Uncaught Error: Delete on nonexistent document ID ${one}`);
    expect(rows("t")).toHaveLength(2);
    expect(remove(one, other)).toEqual({ success: true });
    expect(rows("t")).toEqual([]);
  });

  test("deletes 4096, and not one more", () => {
    add("t", ...Array.from({ length: 4096 }, () => ({})));
    const ids = rows("t").map(({ _id }) => _id);
    expect(remove(...ids, ids[0])).toEqual({
      success: false,
      error: "You can't delete more than 4096. Try selecting fewer documents instead..",
    });
    expect(remove(...ids)).toEqual({ success: true });
    expect(rows("t")).toEqual([]);
  });
});

describe("replaceDocument and patchDocumentsFields", () => {
  const replace = (/** @type {string} */ id, /** @type {unknown} */ document) =>
    call("replaceDocument", { id, document });
  const patch = (/** @type {string} */ table, /** @type {unknown} */ fields, more = {}) =>
    call("patchDocumentsFields", { table, fields, ...more });

  test("replace a document, and tell what is wrong as data", () => {
    add("strict", { n: 1 });
    const [{ _id: id }] = rows("strict");
    expect(replace(id, { n: 2 })).toEqual({ success: true });
    expect(thrown(() => replace(id, { m: 2 })).data).toContain("does not match the schema");
    expect(rows("strict")).toMatchObject([{ _id: id, n: 2 }]);
    expect(replace(UNKNOWN_ID, {})).toEqual({ success: false, error: "Document does not exist." });
    expect(() => replace("none", {})).toThrow("Uncaught Error: Invalid argument `id` for `db.get`");
  });

  test("set and unset fields of some documents or of all", () => {
    add("t", { a: 1, b: 1 }, { a: 2 });
    const [{ _id: id }] = rows("t");
    expect(patch("t", { a: 3, b: UNSET }, { ids: [id] })).toEqual({ success: true });
    expect(rows("t").map(({ a, b }) => [a, b])).toEqual([
      [3, undefined],
      [2, undefined],
    ]);
    patch("t", { c: null });
    expect(rows("t").map(({ a, c }) => [a, c])).toEqual([
      [3, null],
      [2, null],
    ]);
  });

  test("patch all or none", () => {
    add("strict", { n: 1 });
    const [{ _id: id }] = rows("strict");
    expect(thrown(() => patch("strict", { n: "1" })).data).toContain("does not match the schema");
    expect(thrown(() => patch("strict", { n: 2 }, { ids: [id, UNKNOWN_ID] })).data).toBe(
      "Cannot read properties of null (reading '_id')",
    );
    expect(() => patch("_storage", {})).toThrow("System tables can only be accessed");
    expect(rows("strict")).toMatchObject([{ n: 1 }]);
  });
});

describe("tables", () => {
  test("are made, counted and told by their numbers, also live", () => {
    engine.subscribe(1, "_system/frontend/getTableMapping:default");
    expect(call("createTable", { table: "made" })).toBeNull();
    const [{ value }] = engine.updates();
    expect(Object.values(value).sort()).toEqual(["_file_storage", "_scheduled_jobs", "made", "strict"]);
    const size = () => call("tableSize", { tableName: "made" });
    expect(size()).toBe(0);
    engine.subscribe(2, "_system/frontend/tableSize:default", { tableName: "made" });
    add("made", {}, {});
    expect([size(), engine.updates()]).toEqual([2, []]);
    expect([call("tableSize", { tableName: "" }), call("tableSize", { tableName: "none" })]).toEqual([0, 0]);
    expect(() => call("tableSize", { tableName: "_storage" })).toThrow("System tables can only be accessed");
    expect(() => call("createTable", { table: "1" })).toThrow("Uncaught Error: Invalid argument `table`");
    expect(() => call("createTable", { table: "_made" })).toThrow("are read-only.");
    expect(() => call("createTable", { table: "strict" })).toThrow("does not match the schema");
  });
});

describe("documents", () => {
  test("are found by id, those of the scheduler too", () => {
    add("t", { n: 1 });
    const [{ _id: id }] = rows("t");
    const job = engine.call("rows:later", { delay: 60_000 });
    expect(call("getById", { id })).toMatchObject({ n: 1 });
    expect(call("getById", { id: job })).toMatchObject({ name: "rows.js:beat" });
    expect([call("getById", { id: "none" }), call("getById", { id: UNKNOWN_ID })]).toEqual([null, null]);
    const ids = [
      { id, tableName: "t" },
      { id: job, tableName: "_scheduled_jobs" },
      { id, tableName: "strict" },
      { id: "none", tableName: "t" },
      { id: job, tableName: "_cron_jobs" },
    ];
    expect(call("listById", { ids })).toMatchObject([{ n: 1 }, { name: "rows.js:beat" }, null, null, null]);
    expect(() => call("listById", { ids: [{ id, tableName: "" }] })).toThrow("Invalid argument `table`");
  });

  const page = (/** @type {object | null} */ filters, paginationOpts = PAGE) => {
    const encoded = filters === null ? null : Buffer.from(JSON.stringify(filters)).toString("base64");
    return call("paginatedTableDocuments", { table: "t", filters: encoded, paginationOpts });
  };
  const found = (/** @type {object | null} */ filters) =>
    page(filters, { cursor: null, numItems: 9 }).page.map(({ n }) => n);

  test("come in pages, the newest first", () => {
    add("t", { n: 1 }, { n: 2 }, { n: 3 });
    const first = page(null);
    expect([first.page.map(({ n }) => n), first.isDone]).toEqual([[3, 2], false]);
    expect(page(null, { ...PAGE, cursor: first.continueCursor })).toMatchObject({
      page: [{ n: 1 }],
      isDone: true,
    });
    expect(() => page(null, { cursor: null, numItems: 0 })).toThrow("Must request at least 1 document");
    expect(() =>
      call("paginatedTableDocuments", { table: "_storage", filters: null, paginationOpts: PAGE }),
    ).toThrow("System tables can only be accessed");
  });

  test("are filtered by values, and ordered", () => {
    add("t", { n: 1 }, { n: 2 }, { n: 3 }, {});
    const clause = (/** @type {string} */ op, /** @type {unknown} */ value) => ({ field: "n", op, value });
    const by = (...clauses) => found({ clauses, order: "asc" });
    expect(by()).toEqual([1, 2, 3, undefined]);
    expect([by(clause("eq", 2)), by(clause("neq", 2))]).toEqual([[2], [1, 3, undefined]]);
    expect([by(clause("gt", 1), clause("lte", 2)), by(clause("eq", UNSET))]).toEqual([[2], [undefined]]);
    expect([by(clause("anyOf", [1, UNSET])), by(clause("anyOf", []))]).toEqual([
      [1, undefined],
      [1, 2, 3, undefined],
    ]);
    expect(by(clause("noneOf", [1, 3, UNSET]))).toEqual([2]);
    expect(by({ ...clause("eq", 1), enabled: false }, { op: "eq", value: 1 })).toHaveLength(4);
    expect(found({ clauses: [] })).toEqual([undefined, 3, 2, 1]);
    const [{ _id: id }] = rows("t");
    const one = (/** @type {unknown} */ value) => found({ clauses: [{ field: "_id", op: "eq", value }] });
    expect([one(id), one(UNKNOWN_ID), one(1)]).toEqual([[1], [], []]);
  });

  test.each([
    [{ clauses: 1 }, "expected base64 of the JSON text"],
    [{ clauses: [], order: "up" }, "expected base64 of the JSON text"],
    [{ clauses: [{ field: "n", op: "anyOf", value: 1 }] }, "expected base64 of the JSON text"],
    [{ clauses: [null] }, "expected base64 of the JSON text"],
    [{ clauses: [], index: { name: "by_n", clauses: [] } }, "without their indexes"],
    [{ clauses: [{ field: "n", op: "type", value: "null" }] }, 'no filter "type"'],
  ])("are not filtered by %j", (filters, text) => {
    expect(() => page(filters)).toThrow(text);
  });
});

describe("clearTablePage", () => {
  const clear = (/** @type {string} */ tableName, cursor = null) =>
    call("clearTablePage", { tableName, cursor });

  test("deletes the oldest 4000, then what is left, which live queries see", () => {
    add("t", ...Array.from({ length: 4001 }, (_, n) => ({ n })));
    const first = clear("t");
    expect(first).toMatchObject({ deleted: 4000, hasMore: true });
    engine.subscribe(1, "rows:list", { table: "t" });
    expect(rows("t")).toMatchObject([{ n: 4000 }]);
    expect(clear("t", first.continueCursor)).toMatchObject({ deleted: 1, hasMore: false });
    expect(engine.updates()).toEqual([{ sub: 1, value: [] }]);
  });

  test("deletes 4000 at once", () => {
    add("t", ...Array.from({ length: 4000 }, () => ({})));
    expect(clear("t").deleted).toBe(4000);
    expect(clear("t")).toMatchObject({ deleted: 0, hasMore: false });
  });

  test("deletes nothing where there is no such table, or one of the system's", () => {
    expect(clear("none")).toMatchObject({ deleted: 0, hasMore: false });
    expect(thrown(() => clear("_scheduled_functions")).message).toContain(
      "Uncaught Error: System tables can only be accessed from db.system.query().\n",
    );
  });
});

describe("listTableScan", () => {
  const scan = (/** @type {string} */ table, /** @type {unknown} */ limit = 2) =>
    call("listTableScan", { table, limit });

  test("tells the newest documents, as they are stored, and again when they change", () => {
    add("t", { n: 1 }, { n: 2 }, { n: { 10: 1, 9: 2 } });
    expect(scan("t")).toMatchObject([{ n: { 9: 2, 10: 1 } }, { n: 2 }]);
    expect([scan("t", 0), scan("t", 9)]).toMatchObject([[], [{}, {}, {}]]);
    engine.subscribe(1, "_system/frontend/listTableScan:default", { table: "t", limit: 1 });
    add("t", { n: 4 });
    expect(engine.updates()[0].value).toMatchObject([{ n: 4 }]);
  });

  test("tells nothing of no table, and refuses what names none and counts nothing", () => {
    expect([scan(""), scan("none")]).toEqual([[], []]);
    expect(() => scan("1")).toThrow("Uncaught Error: Invalid argument `query` for `queryStream`: ");
    expect(() => scan("_tables")).toThrow("System tables can only be accessed from db.system.query().");
    expect(() => scan("t", 1.5)).toThrow("invalid type: floating point `1.5`, expected usize");
    expect(() => scan("t", -1)).toThrow("invalid value: integer `-1`, expected usize");
  });
});
