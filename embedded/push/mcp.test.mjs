/** The MCP server of the CLI, by which agents look at a deployment. It wants a login in Convex's cloud, which a server here stands for. */

import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import path from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { temporaryFolder } from "../engine/testing.mjs";
import { Project, startTestHost } from "./testing.mjs";

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // starting the CLI takes 1 s, and longer on a machine that has much else to do

const FILES = {
  "schema.ts": `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values";
    export default defineSchema({ tasks: defineTable({ text: v.string() }).index("by_text", ["text"]) }, { schemaValidation: false });`,
  "tasks.ts": `import { mutationGeneric as mutation } from "convex/server";
    export const add = mutation(async (ctx, task) => { console.log("adding"); await ctx.db.insert(task.table ?? "tasks", { text: task.text }); });`,
};
const ONE_OFF = (/** @type {string} */ body) =>
  `import { query } from "convex:/_system/repl/wrappers.js"; export default query(async (ctx) => { ${body} });`;

/** @type {(name: string, args: object) => Promise<{ isError: boolean, answer: any }>} */
let tool;
/** @type {Record<string, string>} */
let chosen;
/** @type {(() => unknown)[]} */
const undo = [];
beforeAll(async () => {
  const data = temporaryFolder();
  const project = new Project(FILES);
  const { host, url } = await startTestHost(data);
  const cloud = createServer((_, response) => response.end('{"optInsToAccept":[]}'));
  await once(cloud.listen(0, "127.0.0.1"), "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (cloud.address());
  const login = path.join(project.root, `.convex-test-${port}`);
  mkdirSync(login);
  writeFileSync(path.join(login, "config.json"), '{"accessToken":"token"}');
  expect((await project.run(["dev", "--once"], { url })).code).toBe(0);

  const child = project.start(["mcp", "start"], {
    url,
    env: { CONVEX_PROVISION_HOST: `http://127.0.0.1:${port}` },
  });
  const ended = once(child, "close");
  const lines = createInterface(child.stdout);
  undo.push(async () => {
    child.kill();
    await Promise.all([ended, host.stop()]);
    cloud.close();
    for (const folder of [data, project.root]) rmSync(folder, { recursive: true });
  });
  let id = 0;
  const request = async (/** @type {string} */ method, /** @type {object} */ params) => {
    child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: ++id, method, params })}\n`);
    for (;;) {
      const [line] = await Promise.race([
        once(lines, "line"),
        ended.then(() => Promise.reject(new Error("it ended"))),
      ]);
      if (line.startsWith("{") && JSON.parse(line).id === id) return JSON.parse(line).result; // the CLI prints other lines too
    }
  };
  const clientInfo = { name: "test", version: "1" };
  await request("initialize", { protocolVersion: "2025-06-18", capabilities: {}, clientInfo });
  child.stdin.write('{"jsonrpc":"2.0","method":"notifications/initialized"}\n');
  tool = async (name, args) => {
    const { isError = false, content } = await request("tools/call", { name, arguments: args });
    return { isError, answer: JSON.parse(content[0].text) };
  };
  const { answer } = await tool("status", { projectDir: project.root });
  expect(answer.availableDeployments).toMatchObject([{ url }]);
  chosen = { deploymentSelector: answer.availableDeployments[0].deploymentSelector };
});
afterAll(() => Promise.all(undo.map((end) => end())));

test("run, data and logs", async () => {
  const args = JSON.stringify({ text: "one" });
  expect(await tool("run", { ...chosen, functionName: "tasks:add", args })).toMatchObject({ isError: false });
  const { answer } = await tool("data", { ...chosen, tableName: "tasks", order: "asc" });
  expect(answer.page).toMatchObject([{ text: "one" }]);
  const logs = await tool("logs", chosen);
  expect(logs.answer.entries).toContain("[CONVEX M(tasks:add)] [LOG] 'adding'");
});

test("tables: those that are declared, as they are declared, and those that are not", async () => {
  const args = JSON.stringify({ text: "one", table: "undeclared" });
  await tool("run", { ...chosen, functionName: "tasks:add", args });
  expect((await tool("tables", chosen)).answer.tables).toEqual({
    tasks: {
      schema: {
        tableName: "tasks",
        indexes: [{ indexDescriptor: "by_text", fields: ["text", "_creationTime"] }],
        searchIndexes: [],
        vectorIndexes: [],
        documentType: {
          type: "object",
          value: { text: { fieldType: { type: "string" }, optional: false } },
        },
      },
      inferredSchema: { type: "Unknown" },
    },
    undeclared: { inferredSchema: { type: "Unknown" } },
  });
});

test("one-off queries, and where they fail", async () => {
  const query = (/** @type {string} */ body) => tool("runOneoffQuery", { ...chosen, query: ONE_OFF(body) });
  const { answer } = await query('console.log("x"); return (await ctx.db.query("tasks").collect()).length;');
  expect(answer).toEqual({ result: 1, logLines: ["[LOG] 'x'"] });
  const failed = await query('throw new Error("bad");');
  expect(failed.isError).toBe(true);
  expect(failed.answer.error).toMatch(/Uncaught Error: bad.*\(\.\.\/convex\/testQuery\.js:1:\d+\)/);
});

test("variables", async () => {
  const value = 'two\nlines "quoted"';
  await tool("envSet", { ...chosen, name: "ODD", value });
  expect((await tool("envGet", { ...chosen, name: "ODD" })).answer).toEqual({ value });
  expect((await tool("envList", chosen)).answer).toEqual({ variables: [{ name: "ODD" }] });
});
