import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { brotliCompressSync } from "node:zlib";
import { ConvexHttpClient } from "convex/browser";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { temporaryFolder, writeFunctions } from "../engine/testing.mjs";
import { MAX_BODY_BYTES } from "../http/body.mjs";
import { MAX_PUSH_BYTES } from "./routes.mjs";
import { ADMIN_KEY, Project, startTestHost } from "./testing.mjs";

const SERVER = `import { mutationGeneric as mutation, queryGeneric as query } from "convex/server"; import { v } from "convex/values";`;
const WORDS = `${SERVER}
export const word = query({ args: {}, handler: async () => { console.log("asked"); return "first"; } });
export const add = mutation({ args: { n: v.any() }, handler: (ctx, row) => ctx.db.insert("rows", row) });
`;
const declaring = (validator) =>
  `import { defineApp } from "convex/server"; import { v } from "convex/values"; export default defineApp({ env: { SIZE: ${validator} } });`;
const schemaOf = (type) =>
  `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values"; export default defineSchema({ rows: defineTable({ n: ${type} }) });`;

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // each command takes 1 s, and longer on a machine that has much else to do

let data = "";
/** @type {Project} */
let project;
/** @type {Awaited<ReturnType<typeof startTestHost>>} */
let running;
const client = () => new ConvexHttpClient(running.url, { logger: false });
beforeAll(async () => {
  data = temporaryFolder();
  project = new Project({ "words.ts": WORDS, "schema.ts": schemaOf("v.string()") });
  running = await startTestHost(data);
  expect(await project.run(["dev", "--once"], running)).toMatchObject({ code: 0 });
  await client().mutation("words:add", { n: "text" });
});
afterAll(async () => {
  await running.host.stop();
  for (const folder of [data, project.root]) rmSync(folder, { recursive: true });
});

describe("a push that cannot be served is refused through the CLI and changes nothing", () => {
  const dev = async (files) => {
    const other = new Project({ "words.ts": WORDS, "schema.ts": schemaOf("v.string()"), ...files });
    const ran = await other.run(["dev", "--once"], running);
    rmSync(other.root, { recursive: true });
    expect(await client().query("words:word", {})).toBe("first");
    return ran;
  };

  test.concurrent.each([
    [
      "a module that throws, with its file and line",
      { "bad.ts": "export const a = 1;\nthrow new Error('at load');\n" },
      /Loading the pushed modules encountered the following\s+error:\s+Failed to analyze bad\.js: Uncaught Error: at load\s+at <anonymous> \(\.\.\/convex\/bad\.ts:2:7\)/,
    ],
    [
      "an auth.config that reads a variable which is not set",
      {
        "auth.config.ts":
          'export default { providers: [{ domain: process.env.AUTH_X!, applicationID: "a" }] };',
      },
      /Environment variable AUTH_X is used in auth config file but its value was not set\./, // the dot is the CLI's, which knows the code
    ],
    [
      "an auth.config whose provider has no audience",
      { "auth.config.ts": 'export default { providers: [{ domain: "https://a.example" }] };' },
      /The pushed auth config is invalid: auth config file must include a list of\s+provider credentials: data did not match any variant of untagged enum\s+SerializedAuthInfo/,
    ],
    [
      "a module for Node",
      {
        "mail.ts":
          '"use node";\nimport { readFileSync } from "node:fs"; export const a = () => readFileSync;\n',
      },
      /mail\.js: "use node" modules need Convex itself/,
    ],
    [
      "a validator with a field that Convex does not take",
      {
        "odd.ts":
          'import { queryGeneric } from "convex/server";\nimport { v } from "convex/values";\n' +
          'export const q = queryGeneric({ args: { "a-b": v.any() }, handler: () => null });\n',
      },
      /error:\s+Invalid JSON returned from odd\.js:q\.exportArgs\(\): Identifier a-b has\s+invalid character '-': Identifiers can only contain/,
    ],
    [
      "a module that awaits while it is loaded",
      { "late.ts": "export const a = 1;\nexport const b = await Promise.resolve(2);\n" },
      /late\.js:\d+:\d+: Top-level awaits in source files are\s+unsupported/,
    ],
    [
      "a variable that is declared as a number",
      { "convex.config.ts": declaring("v.number()") },
      /Env var `SIZE` on the app has a non-string validator\. Component env vars must\s+be declared with/,
    ],
    [
      "a schema with a name that Convex does not take",
      { "schema.ts": schemaOf("v.string()").replace("rows:", "_rows:") },
      /Hit an error while evaluating your schema:\s+_rows is a reserved table name\./,
    ],
    [
      "a schema that a document breaks",
      { "schema.ts": schemaOf("v.number()") },
      /Schema validation failed\.\s+Document with ID "\w+" in table "rows" does not match the schema: Value does not match validator\.\s+Path: \.n\s+Value: "text"\s+Validator: v\.float64\(\)/,
    ],
  ])("%s", async (_, files, text) => {
    const { code, stderr } = await dev(files);
    expect(stderr).toMatch(text);
    expect(code).toBe(1);
  });

  test.concurrent("a wrong key", async () => {
    const { code, stderr } = await project.run(["dev", "--once"], { ...running, key: "other|key" });
    expect([code, stderr]).toEqual([1, expect.stringContaining("The provided deploy key was invalid")]);
  });
});

describe("what the CLI can do with Convex alone is refused in one line", () => {
  const rows = path.join(temporaryFolder(), "rows.json");
  beforeAll(() => writeFileSync(rows, '[{ "n": "imported" }]'));
  afterAll(() => rmSync(path.dirname(rows), { recursive: true }));

  test.concurrent.each([
    ["export", ["--path", `${rows}.zip`]],
    ["import", ["--table", "rows", rows, "--append", "--yes"]],
  ])("%s", async (command, flags) => {
    const { code, stderr } = await project.run([command, ...flags], running);
    expect([code, stderr.replaceAll(/\s+/g, " ")]).toEqual([
      1,
      expect.stringContaining(`npx convex ${command} needs Convex itself: this host has no snapshots`),
    ]);
  });
});

test.each([
  [["deployment", "usage"], "/api/v1/get_current_usage needs Convex itself: this host meters no usage"],
  [["run", "words:word", "--component", "pool"], "Component path 'pool' not found"],
])("%j is refused in one line", async (args, text) => {
  const { code, stderr } = await project.run(args, running);
  expect([code, stderr.replaceAll(/\s+/g, " ")]).toEqual([1, expect.stringContaining(text)]);
  expect(stderr).not.toContain("Retrying");
});

test("network-test passes", async () => {
  const { code, stderr } = await project.run(["network-test"], running);
  expect([code, stderr]).toEqual([0, expect.stringContaining("Network test passed.")]);
});

const KEY = { authorization: `Convex ${ADMIN_KEY}` };

/** A body as the CLI sends it. */
const pushOf = (modules, more = {}) => ({
  adminKey: ADMIN_KEY,
  dryRun: false,
  functions: "convex/",
  appDefinition: {
    definition: null,
    dependencies: [],
    schema: { path: "schema.js", source: bare("rows"), environment: "isolate" },
    changedModules: Object.entries(modules).map(([name, source]) => ({
      path: name,
      source,
      environment: "isolate",
    })),
    unchangedModuleHashes: [],
    udfServerVersion: "1.48.0",
    ...more,
  },
  componentDefinitions: [],
  nodeDependencies: [],
});
const bare = (...tables) =>
  `export default { export: () => JSON.stringify({ tables: ${JSON.stringify(tables)}.map((tableName) => ({ tableName, indexes: [], searchIndexes: [], vectorIndexes: [], documentType: { type: "any" } })), schemaValidation: true }) };`;
const answering = (value) =>
  `const f = () => {}; Object.assign(f, { isQuery: true, isPublic: true, exportArgs: () => '{"type":"any"}', exportReturns: () => "null", invokeQuery: async () => JSON.stringify(${JSON.stringify(value)}) }); export { f as word };`;

async function post(route, body, headers = {}) {
  const encoded = body instanceof Uint8Array ? body : JSON.stringify(body);
  const response = await fetch(running.url + route, { method: "POST", headers, body: encoded });
  return { status: response.status, body: await response.json() };
}
const start = async (...args) => (await post("/api/deploy2/start_push", pushOf(...args))).body;
const wait = async ({ schemaChange }) =>
  (await post("/api/deploy2/wait_for_schema", { adminKey: ADMIN_KEY, schemaChange, timeoutMs: 1 })).body;
const finish = (startPush, dryRun = false) =>
  post("/api/deploy2/finish_push", { adminKey: ADMIN_KEY, startPush, dryRun });

describe("two pushes at once", () => {
  test("with different schemas: the later one wins, and the earlier one hears of it", async () => {
    const first = await start({ "words.js": answering("one") });
    const second = await start(
      { "words.js": answering("two") },
      { schema: { path: "schema.js", source: bare("rows", "more"), environment: "isolate" } },
    );
    expect(await wait(first)).toEqual({ type: "raceDetected" });
    expect(await finish(first)).toMatchObject({ status: 400, body: { code: "SchemaAlreadyOverwritten" } });
    expect(await wait(second)).toEqual({ type: "complete" });
    expect(await finish(second)).toMatchObject({ status: 200 });
    expect(await client().query("words:word", {})).toBe("two");
    expect(await finish(second)).toMatchObject({ status: 200 }); // the client did not hear the answer
    expect(await finish(first)).toMatchObject({ status: 400, body: { code: "RaceDetected" } });
  });

  test("with equal schemas: what was started before the other one was finished is refused", async () => {
    const [first, second] = [
      await start({ "words.js": answering("three") }),
      await start({ "words.js": answering("four") }),
    ];
    expect(await finish(first)).toMatchObject({ status: 200 });
    expect(await finish(second)).toMatchObject({ status: 400, body: { code: "RaceDetected" } });
    expect(await client().query("words:word", {})).toBe("three");
  });

  test("a variable that is changed meanwhile is a race too", async () => {
    const started = await start({ "words.js": answering("five") });
    const headers = { authorization: `Convex ${ADMIN_KEY}` };
    await post("/api/update_environment_variables", { changes: [{ name: "NEW", value: "1" }] }, headers);
    const { status, body } = await finish(started);
    expect([status, body.message]).toEqual([
      400,
      expect.stringContaining("Environment variables have changed during push"),
    ]);
    expect(await client().query("words:word", {})).toBe("three");
  });

  test("a dry run, a started push and an evaluated one change nothing", async () => {
    const started = await start({ "words.js": answering("six") });
    expect(await finish(started, true)).toMatchObject({ status: 200, body: { componentDiffs: {} } });
    const { body } = await post("/api/deploy2/evaluate_push", pushOf({ "words.js": answering("seven") }));
    expect(body.schemaChange.indexDiffs[""].added_indexes).toEqual([]);
    expect(await client().query("words:word", {})).toBe("three");
  });
});

test("a push of the CLI up to 1.31.5, which calls its modules functions, is served", async () => {
  const body = pushOf({ "words.js": answering("old") });
  const functions = body.appDefinition.changedModules;
  const renamed = { functions, changedModules: undefined, unchangedModuleHashes: undefined };
  const old = { ...body, appDefinition: { ...body.appDefinition, ...renamed } };
  const started = await post("/api/deploy2/start_push", old);
  expect(started.status).toBe(200);
  expect(await finish(started.body)).toMatchObject({ status: 200 });
  expect(await client().query("words:word", {})).toBe("old");
});

describe("a body that is no push", () => {
  test.each([
    ["a path out of the folder", "../evil.js"],
    ["an absolute path", "/etc/evil.js"],
    ["a path with a backslash", "a\\b.js"],
    ["a path that is no module's", "words.txt"],
    ["an endless name", `${"x".repeat(65)}.js`],
  ])("%s is refused by name", async (_, name) => {
    const { status, body } = await post("/api/deploy2/start_push", pushOf({ [name]: "export {}" }));
    expect([status, body.code]).toEqual([400, "InvalidModules"]);
    expect(body.message).toMatch(/^[^\n]+$/);
  });

  test("a component is refused by name", async () => {
    const { status, body } = await post(
      "/api/deploy2/start_push",
      pushOf({}, { dependencies: ["../node_modules/pool"] }),
    );
    expect([status, body.message]).toEqual([
      400,
      expect.stringContaining('"../node_modules/pool" needs Convex itself'),
    ]);
  });

  test("an import of what was not pushed is refused with its place", async () => {
    const { body } = await post("/api/deploy2/start_push", pushOf({ "a.js": 'import fs from "fs";' }));
    expect(body.message).toMatch(/a\.js:1:\d+: Could not resolve "fs"/);
  });

  test.each([
    ["compressed bytes that are none", Buffer.from("no brotli"), { "content-encoding": "br" }, 400],
    ["an unknown encoding", Buffer.from("{}"), { "content-encoding": "zstd" }, 415],
    [
      "a small body that unpacks to a huge one",
      brotliCompressSync(Buffer.alloc(MAX_PUSH_BYTES + 1, " ")),
      { "content-encoding": "br", ...KEY },
      413,
    ],
    ["no JSON", Buffer.from("{"), {}, 400],
    ["no push in it", Buffer.from(JSON.stringify({ adminKey: ADMIN_KEY })), {}, 400],
    ["no key", Buffer.from("{}"), {}, 403],
  ])("%s", async (_, body, headers, status) => {
    expect((await post("/api/deploy2/start_push", body, headers)).status).toBe(status);
  });

  test.each([
    ["with the key in a header", MAX_PUSH_BYTES, KEY],
    ["without it", MAX_BODY_BYTES, {}],
    ["with another one", MAX_BODY_BYTES, { authorization: "Convex other|key" }],
  ])(
    "a body that unpacks to just what is allowed %s is read, and one byte more is not",
    async (_, most, key) => {
      const text = JSON.stringify({ adminKey: "none" });
      const statuses = [most, most + 1].map(async (bytes) => {
        const body = brotliCompressSync(text.padEnd(bytes, " "));
        return (await post("/api/deploy2/start_push", body, { "content-encoding": "br", ...key })).status;
      });
      expect(await Promise.all(statuses)).toEqual([403, 413]);
    },
  );

  test.each(["/api/v1/get_canonical_urls", "/api/stream_function_logs?cursor=0"])(
    "%s needs the key",
    async (route) => {
      expect((await fetch(running.url + route)).status).toBe(403);
    },
  );
});

test("logs shows what ran, failures and HTTP actions too", async () => {
  await client().query("words:word", {});
  await expect(client().query("words:none", {})).rejects.toThrow();
  const following = project.start(["logs", "--history", "100", "--success"], running);
  let shown = "";
  following.stdout.on("data", (piece) => (shown += piece));
  await vi.waitFor(() => expect(shown).toContain("[CONVEX Q(words:word)] Function executed"), {
    timeout: 30_000,
  });
  await client().query("words:word", {});
  const times = () => shown.split("[CONVEX Q(words:word)] Function executed").length;
  const before = times();
  await client().query("words:word", {});
  await vi.waitFor(() => expect(times()).toBeGreaterThan(before), { timeout: 30_000 });
  following.kill();
});

test("dev goes on pushing what changes", async () => {
  const other = new Project({ "words.ts": WORDS });
  const child = other.start(["dev", "--tail-logs", "always"], running);
  let shown = "";
  child.stderr.on("data", (piece) => (shown += piece));
  await vi.waitFor(() => expect(shown).toContain("Convex functions ready!"), { timeout: 30_000 });
  expect(await client().query("words:word", {})).toBe("first");
  await vi.waitFor(() => expect(shown).toContain("[CONVEX Q(words:word)] [LOG] 'asked'"), {
    timeout: 30_000,
  });
  writeFileSync(path.join(other.folder, "words.ts"), WORDS.replace('"first"', '"changed"'));
  await vi.waitFor(async () => expect(await client().query("words:word", {})).toBe("changed"), {
    timeout: 30_000,
    interval: 200,
  });
  child.kill("SIGINT");
  await new Promise((resolve) => child.once("close", resolve));
  rmSync(other.root, { recursive: true });
});

test("a folder that is asked for stands above what was pushed, a push ends its watching, and pushed code above ./convex", async () => {
  await running.host.stop();
  const place = temporaryFolder();
  const folder = writeFunctions(place, { "words.ts": WORDS.replace('"first"', '"of the folder"') });
  running = await startTestHost(data, { functions: folder, explicit: true, watch: true });
  expect(running.lines).toEqual([
    `${folder} is served, and not the code that was pushed: --functions asks for it`,
  ]);
  expect(await client().query("words:word", {})).toBe("of the folder");
  expect(await finish(await start({ "words.js": answering("pushed") }))).toMatchObject({ status: 200 });
  expect(running.lines.at(-1)).toBe(`pushed code is served, ${folder} is no longer`);
  expect(await client().query("words:word", {})).toBe("pushed");
  writeFileSync(path.join(folder, "words.ts"), WORDS);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(await client().query("words:word", {})).toBe("pushed");
  await running.host.stop();
  running = await startTestHost(data, { functions: folder });
  expect(await client().query("words:word", {})).toBe("pushed");
  expect(running.lines).toEqual([
    `the code that was pushed is served, and not ${folder}: --functions would ask for that`,
  ]);
  rmSync(place, { recursive: true });
});
