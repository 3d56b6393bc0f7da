import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ConvexHttpClient } from "convex/browser";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { temporaryFolder } from "../engine/testing.mjs";
import { ADMIN_KEY, Project, startTestHost } from "./testing.mjs";

const GENERIC = `import { actionGeneric as action, internalQueryGeneric as internalQuery, mutationGeneric as mutation, queryGeneric as query } from "convex/server"; import { v } from "convex/values";`;
const TASKS = `${GENERIC}
export const list = query({ args: {}, handler: async (ctx) => (await ctx.db.query("tasks").collect()).map((task) => task.text) });
export const add = mutation({ args: { text: v.string() }, handler: async (ctx, task) => { console.log("adding", task.text); await ctx.db.insert("tasks", task); } });
export const shout = action({ args: { text: v.string() }, returns: v.string(), handler: async (_, { text }) => text.toUpperCase() });
export const secret = internalQuery({ args: {}, handler: async () => process.env.SECRET ?? "unset" });
export const whoami = query({ args: {}, handler: async (ctx) => (await ctx.auth.getUserIdentity())?.name ?? null });
export const fail = mutation({
  args: {}, handler: async () => { throw new Error("no"); },
});`;
const schema = (indexes = "", text = "v.string()") =>
  `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values";
export default defineSchema({ tasks: defineTable({ text: ${text} })${indexes} });`;
const HTTP = `import { httpRouter, httpActionGeneric } from "convex/server"; const http = httpRouter();
http.route({ path: "/hello", method: "GET", handler: httpActionGeneric(async () => new Response("hello")) }); export default http;`;
const FILES = { "tasks.ts": TASKS, "schema.ts": schema('.index("by_text", ["text"])'), "http.ts": HTTP };

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // each command takes 1 s, and longer on a machine that has much else to do

let data = "";
/** @type {Project} */
let project;
/** @type {Awaited<ReturnType<typeof startTestHost>>} */
let running;
beforeAll(async () => {
  data = temporaryFolder();
  project = new Project(FILES);
  running = await startTestHost(data);
});
afterAll(async () => {
  await running.host.stop();
  for (const folder of [data, project.root]) rmSync(folder, { recursive: true });
});

/** @param {string[]} args */
const cli = (...args) => project.run(args, running);
const client = () => {
  const http = new ConvexHttpClient(running.url, { logger: false });
  http.setAdminAuth(ADMIN_KEY);
  return http;
};

test("before anything was pushed there are no functions, and the host says that it waits", async () => {
  expect(running.lines).toEqual([
    expect.stringMatching(/^there is no functions folder at .*: waiting for a push/),
  ]);
  const { code, stderr } = await cli("run", "tasks:list");
  expect([code, stderr]).toEqual([1, expect.stringContaining("Could not find function for 'tasks:list'")]);
  expect(stderr).toContain("No functions found.");
});

test("codegen writes the generated files and changes nothing on the host", async () => {
  const { code } = await cli("codegen");
  expect(code).toBe(0);
  expect(readFileSync(path.join(project.folder, "_generated/api.d.ts"), "utf8")).toContain("tasks");
  await expect(client().query("tasks:list", {})).rejects.toThrow("Could not find");
});

test("dev --once pushes, and tells of the indexes", async () => {
  const { code, stderr } = await cli("dev", "--once");
  expect(code).toBe(0);
  expect(stderr).toContain("[+] tasks.by_text   text, _creationTime");
  expect(stderr).toContain("Convex functions ready!");
  expect(readFileSync(path.join(project.root, ".env.local"), "utf8")).toContain(`CONVEX_URL=${running.url}`);
});

describe("run", () => {
  test.concurrent.each([
    ["a query", ["tasks:whoami"], ""],
    ["a mutation", ["tasks:add", '{ text: "from the CLI" }'], ""],
    ["an action", ["tasks:shout", '{"text":"a"}'], '"A"'],
    ["an internal function", ["tasks:secret"], '"unset"'],
    ["a query as a user", ["tasks:whoami", "--identity", '{ name: "Zoë" }'], '"Zoë"'],
    ["an inline query", ["--inline-query", "process.env.CONVEX_CLOUD_URL.length > 5"], "true"],
    [
      "an inline query with a body",
      ["--inline-query", 'const all = await ctx.db.query("tasks").take(0); return all;'],
      "[]",
    ],
  ])("%s", async (_, args, stdout) => {
    const ran = await cli("run", ...args);
    expect(ran).toMatchObject({ code: 0, stdout });
  });

  test.concurrent.each([
    [
      "a function that throws",
      ["tasks:fail"],
      /Uncaught Error: no\n +at handler \(\.\.\/convex\/tasks\.ts:8:\d+\)/,
    ],
    [
      "a function that is not there",
      ["tasks:none"],
      /Could not find function for 'tasks:none'[^]*• tasks:shout/,
    ],
    [
      "bad arguments",
      ["tasks:add", '{ "text": 1 }'],
      /ArgumentValidationError: Value does not match validator/,
    ],
    ["an inline query that writes", ["--inline-query", 'ctx.db.insert("tasks", {})'], /is not a function/],
  ])("%s fails with code 1", async (_, args, text) => {
    const { code, stderr } = await cli("run", ...args);
    expect(stderr).toMatch(text);
    expect(code).toBe(1);
  });

  test("--push pushes first", async () => {
    project.write({ ...FILES, "more.ts": `${GENERIC} export const one = query(async () => 1);` });
    expect(await cli("run", "--push", "more:one")).toMatchObject({ code: 0, stdout: "1" });
  });
});

describe("data", () => {
  test.concurrent("lists the tables", async () => {
    expect(await cli("data")).toMatchObject({ code: 0, stdout: "tasks" });
  });

  test.concurrent("shows documents, as many and in the order that are asked for", async () => {
    await client().mutation("tasks:add", { text: "second" });
    const { stdout, stderr } = await cli(
      "data",
      "tasks",
      "--limit",
      "1",
      "--order",
      "asc",
      "--format",
      "jsonLines",
    );
    expect(JSON.parse(stdout)).toEqual({
      _creationTime: expect.any(Number),
      _id: expect.any(String),
      text: "from the CLI",
    });
    expect(stderr).toBe("");
  });

  test.concurrent("says that a table is empty", async () => {
    expect((await cli("data", "none")).stderr).toContain("There are no documents in this table.");
  });
});

describe("env", () => {
  test("sets, shows, lists and removes, and functions see the change at once", async () => {
    expect(await cli("env", "set", "SECRET", "s3cr3t value")).toMatchObject({ code: 0 });
    expect(await client().query("tasks:secret", {})).toBe("s3cr3t value");
    const file = path.join(project.root, "more.env");
    writeFileSync(file, "OTHER=1\nCONVEX_SITE_URL=http://no\n");
    expect((await cli("env", "set", "--from-file", file)).stderr).toContain("Skipping 1 CLI-managed");
    expect((await cli("env", "get", "SECRET")).stdout).toBe("s3cr3t value");
    expect((await cli("env", "list", "--include-values")).stdout).toBe("OTHER=1\nSECRET=s3cr3t value");
    expect(await cli("env", "remove", "SECRET")).toMatchObject({ code: 0 });
    expect(await client().query("tasks:secret", {})).toBe("unset");
  });

  test.concurrent.each([
    [
      "a name of the host's own",
      ["CONVEX_CLOUD_URL", "x"],
      'Environment variable with name "CONVEX_CLOUD_URL" is built-in',
    ],
    ["a name with a dash", ["MY-NAME", "x"], "The environment variable name MY-NAME is invalid."],
    [
      "a value over 8 KiB",
      ["LONG", "x".repeat(8193)],
      "The environment variable value is 8193 bytes, which is too large.",
    ],
  ])("%s is refused", async (_, args, text) => {
    const { code, stderr } = await cli("env", "set", ...args);
    expect([code, stderr]).toEqual([1, expect.stringContaining(text)]);
  });
});

test("function-spec tells of functions and routes", async () => {
  const { url, functions } = JSON.parse((await cli("function-spec")).stdout);
  expect(url).toBe(running.url);
  expect(functions).toContainEqual({
    identifier: "tasks.js:shout",
    functionType: "Action",
    visibility: { kind: "public" },
    args: { type: "object", value: { text: { fieldType: { type: "string" }, optional: false } } },
    returns: { type: "string" },
  });
  expect(functions).toContainEqual({ functionType: "HttpAction", method: "GET", path: "/hello" });
});

test("deploy with flags says what it does, and its dry run does nothing", async () => {
  project.write({ ...FILES, "schema.ts": schema('.index("by_text_again", ["text"])') });
  const deploy = (...flags) =>
    project.run(["deploy", "--yes", ...flags], { url: running.url, byFlags: true });
  const dry = await deploy("--dry-run");
  expect([dry.code, dry.stderr]).toEqual([0, expect.stringContaining("by_text_again")]);
  expect(await client().query("more:one", {})).toBe(1);
  const { code, stderr } = await deploy();
  expect([code, stderr]).toEqual([0, expect.stringContaining("Deployed Convex functions")]);
  expect(stderr).toContain("[-] tasks.by_text   text");
  expect(stderr).toContain("[+] tasks.by_text_again   text");
  await expect(client().query("more:one", {})).rejects.toThrow("Could not find");
});

test("what was pushed is there after a restart, and HTTP actions too", async () => {
  await running.host.stop();
  running = await startTestHost(data);
  expect(await client().query("tasks:list", {})).toContain("from the CLI");
  expect(await (await fetch(`${running.host.ready.siteUrl}/hello`)).text()).toBe("hello");
  expect(running.lines).toEqual([]);
});
