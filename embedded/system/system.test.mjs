import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ANYONE, temporaryFolder, TestEngine, writeFunctions } from "../engine/testing.mjs";

/** @type {TestEngine} */
let engine;
/** @type {string} */
let root;
/** @type {object} */
let load;
beforeEach(async () => {
  root = temporaryFolder();
  engine = new TestEngine();
  const folder = writeFunctions(root, {
    "rows.ts": `import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
      export const add = mutation((ctx, { table, ...row }) => ctx.db.insert(table, row));
      export const variable = query((_, { name }) => process.env[name] ?? null);
      export const peek = query((ctx) => ctx.db.system.query("_environment_variables").collect());`,
  });
  const { bundleFunctions } = await import("../bundle.mjs");
  const env = { CONVEX_CLOUD_URL: "http://here", SIGNALBOX_MODE: "host", PRIVATE: "no" };
  load = { op: "load", bundle: await bundleFunctions(folder), env };
  engine.send(load);
});
afterEach(() => {
  engine.dispose();
  rmSync(root, { recursive: true });
});

const PAGE = { paginationOpts: { cursor: null, numItems: 2 } };
const add = (table, row = {}) => engine.call("rows:add", { table, ...row });
const set = (...changes) =>
  engine.send({ ...load, changes: changes.map(([name, value]) => ({ name, value })) });
const variable = (name) => engine.call("rows:variable", { name });

describe("system functions", () => {
  test("list the tables, and again when one is made", () => {
    engine.subscribe(1, "_system/cli/tables:default", PAGE);
    add("first");
    expect(engine.updates()).toEqual([
      { sub: 1, value: { page: [{ name: "first" }], isDone: true, continueCursor: "end" } },
    ]);
    add("first");
    expect(engine.updates()).toEqual([]);
  });

  test("page through a table in either order, and again when it changes", () => {
    for (const n of [1, 2, 3]) add("rows", { n });
    const args = { table: "rows", order: "desc", ...PAGE };
    const { value } = engine.subscribe(1, "_system/cli/tableData:default", args);
    const { page, isDone, continueCursor } = JSON.parse(value);
    expect([page.map(({ n }) => n), isDone]).toEqual([[3, 2], false]);
    const rest = { ...args, paginationOpts: { cursor: continueCursor, numItems: 2 } };
    expect(engine.call("_system/cli/tableData:default", rest)).toMatchObject({
      page: [{ n: 1 }],
      isDone: true,
    });
    add("rows", { n: 4 });
    expect(engine.updates()[0].value.page.map(({ n }) => n)).toContain(4);
    expect(engine.call("_system/cli/tableSize:default", { tableName: "rows" })).toBe(4);
    expect(engine.call("_system/cli/tableData:default", { ...args, table: "none" })).toMatchObject({
      page: [],
      isDone: true,
    });
  });

  test("read system tables that functions may read too", () => {
    const args = { table: "_scheduled_functions", order: "asc", ...PAGE };
    expect(engine.call("_system/cli/tableData:default", args)).toMatchObject({ page: [], isDone: true });
  });

  test("are for the admin alone, and check their arguments", () => {
    const call = (caller) => engine.call("_system/cli/tables:default", PAGE, { caller });
    expect(() => call(ANYONE)).toThrow("Could not find public function for '_system/cli/tables'");
    expect(() => engine.call("_system/cli/tableSize:default", {})).toThrow("ArgumentValidationError");
  });

  test("tell the schema that is served, tables by name and with all that Convex tells of them", async () => {
    const schemas = () => engine.call("_system/frontend/getSchemas:default", { componentId: null });
    expect(schemas()).toEqual({});
    const folder = writeFunctions(root, {
      "schema.ts": `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values";
        export default defineSchema({
          b: defineTable(v.any()),
          a: defineTable({ t: v.string(), e: v.array(v.number()) })
            .index("second", ["t"]).index("first", ["e", "t"])
            .searchIndex("by_t", { searchField: "t", filterFields: ["t", "e"] })
            .vectorIndex("by_e", { vectorField: "e", dimensions: 2, filterFields: ["t"] }),
        });`,
    });
    const { bundleFunctions } = await import("../bundle.mjs");
    engine.subscribe(1, "_system/frontend/getSchemas:default", {});
    engine.send({ ...load, bundle: await bundleFunctions(folder) });
    const updates = engine.updates();
    const none = { indexes: [], stagedDbIndexes: [], searchIndexes: [], stagedSearchIndexes: [] };
    const lists = { ...none, vectorIndexes: [], stagedVectorIndexes: [] };
    const t = { fieldType: { type: "string" }, optional: false };
    const e = { fieldType: { type: "array", value: { type: "number" } }, optional: false };
    const filled = {
      indexes: [
        { indexDescriptor: "first", fields: ["e", "t", "_creationTime"] },
        { indexDescriptor: "second", fields: ["t", "_creationTime"] },
      ],
      searchIndexes: [{ indexDescriptor: "by_t", searchField: "t", filterFields: ["e", "t"] }],
      vectorIndexes: [
        { indexDescriptor: "by_e", vectorField: "e", dimensions: 2, dimension: null, filterFields: ["t"] },
      ],
    };
    const { active, ...others } = schemas();
    expect([JSON.parse(active), others]).toEqual([
      {
        tables: [
          { tableName: "a", ...lists, ...filled, documentType: { type: "object", value: { t, e } } },
          { tableName: "b", ...lists, documentType: { type: "any" } },
        ],
        schemaValidation: true,
      },
      {},
    ]);
    expect(updates).toEqual([{ sub: 1, value: { active } }]);
  });

  test("are no functions of the app", () => {
    const { functions } = engine.send(load);
    expect(Object.keys(functions)).toEqual(["rows:add", "rows:peek", "rows:variable"]);
  });
});

describe("variables", () => {
  test("are seen by functions at once, also by live ones, above the host's own", () => {
    expect([variable("SIGNALBOX_MODE"), variable("PRIVATE"), variable("NEW")]).toEqual(["host", null, null]);
    engine.subscribe(1, "rows:variable", { name: "NEW" });
    engine.subscribe(2, "_system/cli/queryEnvironmentVariables:default", {});
    set(["NEW", "1"], ["SIGNALBOX_MODE", "file"]);
    expect(engine.updates().sort((one, other) => one.sub - other.sub)).toEqual([
      { sub: 1, value: "1" },
      {
        sub: 2,
        value: [
          expect.objectContaining({ name: "NEW", value: "1" }),
          expect.objectContaining({ name: "SIGNALBOX_MODE" }),
        ],
      },
    ]);
    expect([variable("SIGNALBOX_MODE"), variable("CONVEX_CLOUD_URL")]).toEqual(["file", "http://here"]);
    set(["NEW", "2"], ["SIGNALBOX_MODE", null]);
    expect([variable("NEW"), variable("SIGNALBOX_MODE")]).toEqual(["2", "host"]);
    expect(engine.call("_system/cli/queryEnvironmentVariables:get", { name: "NEW" })).toEqual({
      name: "NEW",
      value: "2",
    });
    expect(engine.call("_system/cli/queryEnvironmentVariables:get", { name: "OLD" })).toBeNull();
    expect(engine.call("rows:peek")).toEqual([]);
  });

  test("are there after a restart", () => {
    set(["KEPT", "1"]);
    engine.reopen();
    engine.send(load);
    expect(variable("KEPT")).toBe("1");
  });

  test("may have 256 letters and 8 KiB, and not one more", () => {
    set(["N".repeat(256), "x".repeat(8192)]);
    expect(() => set(["N".repeat(257), "x"])).toThrow(
      "is too long. Environment variable names must be less than 256.",
    );
    expect(() => set(["N", "ü".repeat(4097)])).toThrow(
      "The environment variable value is 8194 bytes, which is too large.",
    );
    expect(() => set(["1N", "x"])).toThrow("The environment variable name 1N is invalid.");
    expect(() => set(["CONVEX_SITE_URL", "x"])).toThrow(
      '"CONVEX_SITE_URL" is built-in and cannot be overridden',
    );
  });

  test("may be 512, and not one more", () => {
    const many = Array.from({ length: 512 }, (_, n) => [`V${n}`, "x"]);
    set(...many);
    expect(() => set(["ONE_MORE", "x"])).toThrow("The environment variable limit (512) has been met.");
    expect(variable("ONE_MORE")).toBeNull();
    set(["V0", null], ["ONE_MORE", "x"]);
    expect(variable("ONE_MORE")).toBe("x");
  });

  test("may have 512 KiB together, and not one byte more", () => {
    const many = Array.from({ length: 64 }, (_, n) => [
      `V${String(n).padStart(2, "0")}`,
      "x".repeat(8192 - 3),
    ]);
    set(...many);
    expect(() => set(["V00", "x".repeat(8192 - 2)])).toThrow(
      "(524289 bytes) exceeds the limit (524288 bytes)",
    );
  });

  test("that are declared as required cannot be taken away", async () => {
    const folder = writeFunctions(root, {
      "convex.config.ts": `import { defineApp } from "convex/server"; import { v } from "convex/values"; export default defineApp({ env: { NEEDED: v.string() } });`,
    });
    const { bundleFunctions } = await import("../bundle.mjs");
    const bundle = await bundleFunctions(folder);
    expect(() => engine.send({ ...load, bundle })).toThrow(
      "declares the environment variable NEEDED, which is not set",
    );
    set(["NEEDED", "1"]);
    engine.send({ ...load, bundle });
    expect(() => engine.send({ ...load, bundle, changes: [{ name: "NEEDED", value: null }] })).toThrow(
      "Cannot delete required environment variables: NEEDED.",
    );
  });

  test("that are declared must fit their validators, which are of strings", async () => {
    const { bundleFunctions } = await import("../bundle.mjs");
    const declaring = async (validator) =>
      await bundleFunctions(
        writeFunctions(temporaryFolder(), {
          "convex.config.ts": `import { defineApp } from "convex/server"; import { v } from "convex/values"; export default defineApp({ env: { SIZE: ${validator} } });`,
        }),
      );
    const bundle = await declaring(`v.optional(v.union(v.literal("s"), v.literal("l")))`);
    const put = (value) => engine.send({ ...load, bundle, changes: [{ name: "SIZE", value }] });
    engine.send({ ...load, bundle });
    put("l");
    expect(() => put("m")).toThrow("environment variable SIZE: Value does not match validator.");
    const numbers = await declaring("v.optional(v.number())");
    expect(() => engine.send({ ...load, bundle: numbers })).toThrow(
      "the environment variable SIZE has a non-string validator",
    );
  });
});
