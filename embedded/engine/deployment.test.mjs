import { rmSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { temporaryFolder, TestEngine, writeFunctions } from "./testing.mjs";

/** @type {TestEngine} */
let engine;
/** @type {string} */
let root;
beforeEach(() => {
  root = temporaryFolder();
  engine = new TestEngine();
});
afterEach(() => {
  engine.dispose();
  rmSync(root, { recursive: true });
});

const MODULE = `import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
  import { v } from "convex/values";
  export const add = mutation({ args: { value: v.any() }, handler: (ctx, { value }) => ctx.db.insert("rows", value) });
  export const by = query({ args: { index: v.string() }, handler: (ctx, { index }) => ctx.db.query("rows").withIndex(index).collect() });`;

const schemaOf = (/** @type {string} */ tables, options = "") =>
  `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values"; export default defineSchema({${tables}}, {${options}});`;

/** @param {string | null} schema @param {Record<string, string>} [more] */
const load = (schema, more = {}, env = {}) =>
  engine.load(
    writeFunctions(root, { "rows.ts": MODULE, ...(schema === null ? {} : { "schema.ts": schema }), ...more }),
    env,
  );
const column = (/** @type {string} */ index) =>
  engine.call("rows:by", { index }).map((/** @type {{ a: unknown }} */ row) => row.a);

test("the answer describes the functions", async () => {
  const described = await load(null, {
    "http.ts": `import { httpRouter } from "convex/server"; export default httpRouter();`,
    "deep/one.ts": `import { internalActionGeneric } from "convex/server"; export default internalActionGeneric({ args: {}, handler: async () => null });`,
  });
  expect(described).toEqual({
    functions: {
      "deep/one:default": { kind: "action", visibility: "internal" },
      "rows:add": { kind: "mutation", visibility: "public" },
      "rows:by": { kind: "query", visibility: "public" },
    },
    http: true,
    env: [],
    imported: { at: expect.any(Number), seeds: expect.any(Array) },
    variables: {},
    auth: [],
  });
});

describe("auth.config", () => {
  const config = (/** @type {string} */ providers) => ({
    "auth.config.ts": `export default { providers: ${providers} };`,
  });

  test("is evaluated with the host's variables, and what it declares is in the answer", async () => {
    const files = config(`[{ domain: process.env.AUTH_DOMAIN, applicationID: "app" }]`);
    const { auth } = await load(null, files, { AUTH_DOMAIN: "https://auth.example" });
    expect(auth).toEqual([{ domain: "https://auth.example", applicationID: "app" }]);
  });

  test("may not read a variable that is not set, which other modules may", async () => {
    const files = { ...config(`[{ domain: process.env.AUTH_DOMAIN, applicationID: "app" }]`) };
    const text = "Environment variable AUTH_DOMAIN is used in auth config file but its value was not set";
    await expect(load(null, files)).rejects.toThrow(new RegExp(`^${text} at .*auth\\.config\\.ts:1:`));
    const other = { "other.ts": "export const domain = process.env.AUTH_DOMAIN ?? 'none';" };
    const { auth } = await load(null, { ...other, ...config("[]") });
    expect(auth).toEqual([]);
  });

  test.each([
    [
      "a misspelled field",
      `[{ domain: "https://a.b", applicationId: "x" }]`,
      /index 0 must have applicationID property/,
    ],
    [
      "a domain that is none",
      `[{ domain: "secret", applicationID: "x" }]`,
      /Invalid provider domain URL "secret"/,
    ],
    [
      "an unknown algorithm",
      `[{ type: "customJwt", issuer: "https://a.b", jwks: "data:,", algorithm: "HS256" }]`,
      /HS256/,
    ],
    ["no list", "5", /must include a list of provider credentials/],
  ])("with %s is refused", async (_, providers, message) => {
    await expect(load(null, config(providers))).rejects.toThrow(message);
  });
});

describe("a schema", () => {
  test("that adds an index fills it from the documents that are there", async () => {
    await load(null);
    for (const a of [3, 1, 2]) engine.call("rows:add", { value: { a } });
    expect(() => engine.call("rows:by", { index: "by_a" })).toThrow("Index rows.by_a not found.");
    await load(schemaOf(`rows: defineTable({ a: v.number() }).index("by_a", ["a"])`));
    expect(column("by_a")).toEqual([1, 2, 3]);
  });

  test("that changes an index's fields makes it anew, and one without it drops it", async () => {
    await load(schemaOf(`rows: defineTable(v.any()).index("by_x", ["a"])`));
    for (const [a, b] of [
      [1, 9],
      [2, 8],
    ])
      engine.call("rows:add", { value: { a, b } });
    expect(column("by_x")).toEqual([1, 2]);
    await load(schemaOf(`rows: defineTable(v.any()).index("by_x", ["b"])`));
    expect(column("by_x")).toEqual([2, 1]);
    await load(schemaOf(`rows: defineTable(v.any())`));
    expect(() => engine.call("rows:by", { index: "by_x" })).toThrow("not found");
  });

  test("that a stored document breaks is refused in one line, and the last one keeps serving", async () => {
    await load(schemaOf(`rows: defineTable(v.any()).index("by_a", ["a"])`));
    engine.call("rows:add", { value: { a: "text" } });
    const narrow = schemaOf(`rows: defineTable({ a: v.number() }).index("by_a_again", ["a"])`);
    await expect(load(narrow)).rejects.toThrow(
      /^Schema validation failed: Document with ID "\w+" in table "rows" does not match the schema: [^\n]+$/,
    );
    expect(column("by_a")).toEqual(["text"]);
    engine.call("rows:add", { value: { a: true } });
    await load(narrow.replace("{})", "{ schemaValidation: false })"));
    expect(column("by_a_again")).toEqual([true, "text"]);
  });

  test("checks the documents again that were written while nothing was checked", async () => {
    const strict = schemaOf(`rows: defineTable({ a: v.number() })`);
    await load(strict);
    await load(schemaOf(`rows: defineTable({ a: v.number() })`, "schemaValidation: false"));
    engine.call("rows:add", { value: { a: "text" } });
    await expect(load(strict)).rejects.toThrow("Schema validation failed");
  });

  test("that Convex refuses is refused with its code", async () => {
    await expect(
      load(schemaOf(`rows: defineTable({ a: v.number() }).index("by_id", ["a"])`)),
    ).rejects.toThrow(/^IndexNameReserved: [^\n]+$/);
  });

  test("keeps a staged index up to date and out of queries until it is enabled", async () => {
    await load(schemaOf(`rows: defineTable(v.any()).index("by_a", { fields: ["a"], staged: true })`));
    engine.call("rows:add", { value: { a: 1 } });
    expect(() => engine.call("rows:by", { index: "by_a" })).toThrow(
      "Index rows.by_a is currently staged and not available to query until it is enabled.",
    );
    await load(schemaOf(`rows: defineTable(v.any()).index("by_a", ["a"])`));
    expect(column("by_a")).toEqual([1]);
  });
});

describe("functions that cannot be loaded", () => {
  const refusals = /** @type {[string, Record<string, string>, RegExp][]} */ ([
    [
      "a module that throws",
      { "bad.ts": "export const a = 1;\nthrow new Error('at load');" },
      /at load.*convex\/bad\.ts:2:7/,
    ],
    [
      "a module that uses the database while it is loaded",
      { "bad.ts": `export {}; (globalThis as any).Convex.syscall("1.0/queryStream", "{}");` },
      /Can't use database at import time/,
    ],
    [
      "a module that does not end",
      { "bad.ts": "export {}; for (;;);" },
      /their modules run for more than 4 s/,
    ],
    [
      "a cron of a function that does not exist",
      {
        "crons.ts": `import { cronJobs, makeFunctionReference } from "convex/server"; const crons = cronJobs();
          crons.interval("x", { seconds: 1 }, makeFunctionReference<"mutation">("no:thing"), {}); export default crons;`,
      },
      /no:thing/,
    ],
    [
      "a component",
      {
        "convex.config.ts": `import { defineApp } from "convex/server"; const app = defineApp();
          app.use({ componentDefinitionPath: "x", defaultName: "pool" } as any); export default app;`,
      },
      /component "pool" needs Convex itself/,
    ],
    [
      "a component with a component inside",
      {
        "convex.config.ts": `import { defineComponent } from "convex/server"; const component = defineComponent("outer");
          component.use({ componentDefinitionPath: "x", defaultName: "inner" } as any); export default component;`,
      },
      /component "inner" needs Convex itself/,
    ],
    [
      "a component that takes a variable from its app",
      {
        "convex.config.ts": `import { defineComponent } from "convex/server"; import { v } from "convex/values";
          export default defineComponent("outer", { env: { KEY: v.string() } });`,
      },
      /declares the environment variable KEY, which is not set/,
    ],
    [
      "a component that was not made by Convex's bundler",
      {
        "convex.config.ts": `import { defineApp, defineComponent } from "convex/server"; const app = defineApp();
          app.use(defineComponent("pool")); export default app;`,
      },
      /^convex\.config\.ts: it uses a component: components need Convex itself, this host has none$/,
    ],
  ]);
  test.each(refusals)(
    "%s is refused in one line and the last good ones keep serving",
    async (_what, files, text) => {
      await load(null);
      engine.call("rows:add", { value: { a: 1 } });
      const refused = load(null, files);
      await expect(refused).rejects.toThrow(text);
      await expect(refused).rejects.toThrow(/^[^\n]+$/);
      expect(column("by_creation_time")).toEqual([1]);
    },
  );

  test("before the first load a call says so", () => {
    expect(() => engine.call("rows:by", { index: "by_id" })).toThrow("No functions are loaded");
  });
});

test("the folder of a component that needs nothing from its app is served as one", async () => {
  await load(null, {
    "convex.config.ts": `import { defineComponent } from "convex/server"; export default defineComponent("counter");`,
  });
  engine.call("rows:add", { value: { a: 1 } });
  expect(column("by_creation_time")).toEqual([1]);
});

describe("a schema file", () => {
  test.each([
    ["export const schema = 1;", "Schema file missing default export."],
    ["export default { tables: {} };", "Default export from schema file isn't a Convex schema."],
  ])("%s is refused", async (text, reason) => {
    await expect(load(null, { "schema.ts": text })).rejects.toThrow(reason);
  });
});

describe("variables of convex.config.ts", () => {
  const config = {
    "convex.config.ts": `import { defineApp } from "convex/server"; import { v } from "convex/values";
      export default defineApp({ env: { SIZE: v.union(v.literal("s"), v.literal("l")), NOTE: v.optional(v.string()) } });`,
    "env.ts": `import { queryGeneric as query } from "convex/server";
      const env = process.env;
      const names = ["SIZE", "NOTE", "OTHER", "SIGNALBOX_X"];
      export const all = query({
        args: {},
        handler: async () => Object.fromEntries(names.filter((name) => env[name] !== undefined).map((name) => [name, env[name]])),
      });`,
  };

  test("are what functions see", async () => {
    expect((await load(null, config, { SIZE: "s", NOTE: "n", OTHER: "o", SIGNALBOX_X: "1" })).env).toEqual([
      "SIZE",
      "NOTE",
    ]);
    expect(engine.call("env:all")).toEqual({ SIZE: "s", NOTE: "n", SIGNALBOX_X: "1" });
  });

  test("must be set and must fit", async () => {
    await expect(load(null, config, {})).rejects.toThrow(
      "declares the environment variable SIZE, which is not set",
    );
    await expect(load(null, config, { SIZE: "m" })).rejects.toThrow("environment variable SIZE: ");
  });
});
