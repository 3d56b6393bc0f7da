import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeId } from "./ids.mjs";
import { SYSTEM_TABLES } from "./layout.mjs";
import { TestEngine, writeFunctions } from "./testing.mjs";

const FILES = {
  "schema.ts": `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      users: defineTable({ name: v.string() }),
      links: defineTable({ job: v.optional(v.id("_scheduled_functions")), file: v.optional(v.id("_storage")) }),
    });`,
  "sys.js": `
    import { mutationGeneric as mutation, queryGeneric as query, makeFunctionReference } from "convex/server";
    export const add = mutation((ctx, { name }) => ctx.db.insert("users", { name }));
    export const later = mutation((ctx) => ctx.scheduler.runAfter(60_000, makeFunctionReference("sys:add"), { name: "later" }));
    export const link = mutation(async (ctx, { link }) => {
      const id = await ctx.db.insert("links", link);
      return ctx.db.get(id);
    });
    const at = (ctx, system) => (system ? ctx.db.system : ctx.db);
    export const get = query((ctx, { system, table, id }) =>
      table === undefined ? at(ctx, system).get(id) : at(ctx, system).get(table, id));
    export const list = query((ctx, { system, table }) => at(ctx, system).query(table).collect());
    export const byIndex = query((ctx, { table, index }) => ctx.db.system.query(table).withIndex(index).collect());
    export const normalize = query((ctx, { system, table, id }) => at(ctx, system).normalizeId(table, id));
    export const writers = query((ctx) => ["insert", "patch", "replace", "delete"].filter((name) => name in ctx.db.system));`,
};

/** @type {TestEngine} */
let engine;
/** @type {string} */
let user;
/** @type {string} */
let job;
beforeAll(async () => {
  engine = new TestEngine();
  await engine.load(writeFunctions(engine.root, FILES));
  user = engine.call("sys:add", { name: "a" });
  job = engine.call("sys:later");
});
afterAll(() => engine.dispose());

const fileId = encodeId(SYSTEM_TABLES._storage, new Uint8Array(16).fill(5));
const cronId = encodeId(SYSTEM_TABLES._cron_jobs, new Uint8Array(16).fill(5));
const unknownTable = encodeId(12_345, new Uint8Array(16).fill(5));
const JOBS = "_scheduled_functions";

test("each kind of table is read through its own reader, by id alone and with its table", () => {
  const get = (/** @type {object} */ args) => engine.call("sys:get", args);
  expect(get({ id: user })).toMatchObject({ name: "a" });
  expect(get({ table: "users", id: user })).toMatchObject({ name: "a" });
  expect(get({ system: true, id: job })).toMatchObject({ name: "sys.js:add", state: { kind: "pending" } });
  expect(get({ system: true, table: JOBS, id: job })).toMatchObject({ _id: job });
  expect(get({ system: true, id: fileId })).toBeNull();
  expect([get({ id: unknownTable }), get({ system: true, id: unknownTable })]).toEqual([null, null]);
});

test.each([
  ["get", () => ({ id: job }), "System tables can only be accessed with db.system."],
  ["get", () => ({ table: JOBS, id: job }), "System tables can only be accessed with db.system."],
  ["get", () => ({ id: fileId }), "System tables can only be accessed with db.system."],
  ["get", () => ({ system: true, id: user }), "User tables cannot be accessed with db.system."],
  [
    "get",
    () => ({ table: "links", id: user }),
    'Invalid argument `id` for `db.get`: expected to be an Id<"links">, got Id<"users"> instead.',
  ],
  [
    "get",
    () => ({ system: true, table: "_storage", id: job }),
    'Invalid argument `id` for `db.system.get`: expected to be an Id<"_storage">, got Id<"_scheduled_functions"> instead.',
  ],
  [
    "get",
    () => ({ system: true, id: "x" }),
    "Invalid argument `id` for `db.system.get`: Unable to decode ID: Invalid ID length 1",
  ],
  ["list", () => ({ table: JOBS }), "System tables can only be accessed from db.system.query()."],
  ["list", () => ({ system: true, table: "users" }), "User tables can only be accessed from db.query()."],
  ["byIndex", () => ({ table: JOBS, index: "by_state" }), "Index _scheduled_functions.by_state not found."],
])("%s of the wrong kind is refused (%#)", (name, args, reason) => {
  expect(() => engine.call(`sys:${name}`, args())).toThrow(reason);
});

test("tables of the host itself are not there for functions", () => {
  expect(engine.call("sys:list", { system: true, table: "_cron_jobs" })).toEqual([]);
  expect(engine.call("sys:get", { system: true, id: cronId })).toBeNull();
  expect(engine.call("sys:normalize", { system: true, table: "_cron_jobs", id: cronId })).toBeNull();
});

test("_storage can be listed though no file was ever stored, and db.system has no writers", () => {
  expect(engine.call("sys:list", { system: true, table: "_storage" })).toEqual([]);
  expect(engine.call("sys:list", { system: true, table: JOBS })).toHaveLength(1);
  expect(engine.call("sys:byIndex", { table: JOBS, index: "by_creation_time" })).toHaveLength(1);
  expect(engine.call("sys:writers")).toEqual([]);
});

test.each([
  ["users", () => user, true],
  ["links", () => user, false],
  [JOBS, () => job, true],
  ["_storage", () => fileId, true],
  ["_storage", () => job, false],
  ["nowhere", () => user, false],
  ["users", () => "nonsense", false],
])("normalizeId of table %s (%#)", (table, id, isOne) => {
  const system = table.startsWith("_");
  expect(engine.call("sys:normalize", { system, table, id: id() })).toBe(isOne ? id() : null);
});

test("an id of a system table can be a foreign key", () => {
  expect(engine.call("sys:link", { link: { job, file: fileId } })).toMatchObject({ job, file: fileId });
  expect(() => engine.call("sys:link", { link: { job: user } })).toThrow(
    `Found ID "${user}" from table \`users\`, which does not match the table name in validator \`v.id("_scheduled_functions")\`.`,
  );
});
