import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bundleFunctions } from "../bundle.mjs";
import { ANYONE, temporaryFolder, TestEngine, writeFunctions } from "../engine/testing.mjs";

const FILES = {
  "schema.ts": `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values";
    export default defineSchema({ strict: defineTable({ n: v.number() }) }, { strictTableNameTypes: false });`,
  "rows.ts": `import { makeFunctionReference, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
    export const list = query((ctx, { table }) => ctx.db.query(table).collect());
    export const beat = mutation(() => null);
    export const clear = mutation((ctx, args) =>
      ctx.runMutation(makeFunctionReference("_system/frontend/clearTablePage"), args));`,
};
const CRONS = `import { cronJobs, makeFunctionReference } from "convex/server";
  const crons = cronJobs();
  const beat = makeFunctionReference<"mutation">("rows:beat");`;

/** @type {TestEngine} */
let engine;
/** @type {string} */
let root;
beforeEach(async () => {
  root = temporaryFolder();
  engine = new TestEngine();
  await push();
});
afterEach(() => {
  engine.dispose();
  rmSync(root, { recursive: true });
});

/** @param {Record<string, string>} [more]  files */
async function push(more = {}) {
  const env = { CONVEX_CLOUD_URL: "http://here", CONVEX_SITE_URL: "http://site" };
  engine.send({
    op: "load",
    bundle: await bundleFunctions(writeFunctions(root, { ...FILES, ...more })),
    env,
  });
}

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
const int64 = (/** @type {{ $integer: string }} */ { $integer: text }) =>
  Buffer.from(text, "base64").readBigInt64LE();

describe("every one", () => {
  test.each([
    ["addDocument", "mutation", { table: "t", documents: [] }],
    ["clearTablePage", "mutation", { tableName: "t", cursor: null }],
    ["listTableScan", "query", { table: "t", limit: 1 }],
    ["listCronJobs", "query", {}],
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

describe("listCronJobs", () => {
  const list = () => call("listCronJobs", { componentId: null });

  test("tells the crons in Convex's form, and again when they change", async () => {
    expect(list()).toEqual([]);
    engine.subscribe(1, "_system/frontend/listCronJobs:default", {});
    await push({
      "crons.ts": `${CRONS} crons.interval("beat", { minutes: 90 }, beat, { n: 1 }); export default crons;`,
    });
    const [{ value }] = engine.updates();
    const [{ _id, _creationTime, cronSpec, nextRun, ...rest }, ...others] = value;
    expect([rest, others]).toEqual([{ name: "beat", lastRun: null }, []]);
    const { udfArgs, udfPath, cronSchedule } = cronSpec;
    expect(JSON.parse(Buffer.from(udfArgs.$bytes, "base64").toString())).toEqual([{ n: 1 }]);
    expect([udfPath, cronSchedule.type, int64(cronSchedule.seconds)]).toEqual([
      "rows.js:beat",
      "interval",
      5400n,
    ]);
    expect(nextRun).toMatchObject({ cronJobId: _id, state: { type: "pending" }, prevTs: null });
    expect(Math.abs(Number(int64(nextRun.nextTs) / 1_000_000n) - _creationTime)).toBeLessThan(5_400_001);
  });

  test.each([
    [`crons.hourly("c", {}, beat)`, { type: "hourly", minuteUTC: null }],
    [`crons.hourly("c", { minuteUTC: 5 }, beat)`, { type: "hourly", minuteUTC: 5n }],
    [`crons.daily("c", { hourUTC: 1, minuteUTC: 2 }, beat)`, { type: "daily", hourUTC: 1n, minuteUTC: 2n }],
    [
      `crons.weekly("c", { dayOfWeek: "saturday", hourUTC: 1 }, beat)`,
      { type: "weekly", dayOfWeek: 6n, hourUTC: 1n, minuteUTC: null },
    ],
    [
      `crons.monthly("c", { day: 3, hourUTC: 1, minuteUTC: 2 }, beat)`,
      { type: "monthly", day: 3n, hourUTC: 1n, minuteUTC: 2n },
    ],
    [`crons.cron("c", "0 * * * *", beat)`, { type: "cron", cronExpr: "0 * * * *" }],
  ])("tells the schedule of %s", async (declared, expected) => {
    await push({ "crons.ts": `${CRONS} ${declared}; export default crons;` });
    const [{ cronSpec }] = list();
    const schedule = Object.entries(cronSpec.cronSchedule).map(([field, value]) => [
      field,
      value?.$integer === undefined ? value : int64(value),
    ]);
    expect(Object.fromEntries(schedule)).toEqual(expected);
  });
});
