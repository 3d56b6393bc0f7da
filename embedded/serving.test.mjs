import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { anyApi } from "convex/server";
import { ConvexClient, ConvexHttpClient } from "convex/browser";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { WebSocket } from "ws";
import { temporaryFolder, writeFunctions } from "./engine/testing.mjs";
import { startHost } from "./host.mjs";

const QUICKLY = { timeout: 6_000, interval: 20 }; // it takes 0.2 s, and longer on a machine that has much else to do

let root = "";
let lines = [];
let hosts = [];
beforeEach(() => {
  root = temporaryFolder();
  lines = [];
  hosts = [];
});
afterEach(async () => {
  for (const host of hosts) await host.stop();
  rmSync(root, { recursive: true });
});

async function start(functions, settings = {}) {
  const options = {
    functions,
    watch: true,
    data: path.join(root, "data"),
    port: 0,
    sitePort: 0,
    host: "127.0.0.1",
    adminKey: "signalbox|test-admin-key",
    synchronous: "normal",
    ...settings,
  };
  const host = await startHost(options, {
    log: (line) => lines.push(line),
    onFatal: (error) => lines.push(error.message),
  });
  hosts.push(host);
  return new ConvexHttpClient(host.ready.url);
}

const says = (text, up = ".") =>
  `import { query } from "${up}/_generated/server"; export const word = query({ args: {}, handler: () => ${text} });`;
const GENERATED = { "_generated/server.js": `export { queryGeneric as query } from "convex/server";` };
const word = (client) => client.query(anyApi.words.word, {});
const write = (folder, file, text) => writeFileSync(path.join(folder, file), text);

test("a changed file is served within about a second, and live queries run again", async () => {
  const folder = writeFunctions(root, { ...GENERATED, "words.ts": says('"one"') });
  const client = await start(folder);
  const live = new ConvexClient(client.url, { webSocketConstructor: WebSocket });
  const seen = [];
  live.onUpdate(anyApi.words.word, {}, (value) => seen.push(value));
  await vi.waitFor(() => expect(seen).toEqual(["one"]));
  write(folder, "words.ts", says('"two"'));
  await vi.waitFor(() => expect(seen).toEqual(["one", "two"]), QUICKLY);
  expect(await word(client)).toBe("two");
  expect(lines).toEqual(["functions reloaded"]);
  await live.close();
});

test("a version that is refused leaves the one before serving, with one line that says where", async () => {
  const folder = writeFunctions(root, { ...GENERATED, "words.ts": says('"good"') });
  const client = await start(folder);
  write(folder, "words.ts", "export const a = 1;\nexport const b = ;\n");
  const refused = "functions not reloaded, the last good version keeps serving: ";
  await vi.waitFor(() => expect(lines).toEqual([`${refused}words.ts:2:18: Unexpected ";"`]), QUICKLY);
  expect(await word(client)).toBe("good");
  write(folder, "words.ts", "export const a = 1;\nthrow new Error('no');\n");
  await vi.waitFor(() => expect(lines).toHaveLength(2), QUICKLY);
  expect(lines[1]).toMatch(
    /^functions not reloaded[^\n]*Error: no at <anonymous> \(\.\.\/convex\/words\.ts:2:7\)$/,
  );
  expect(await word(client)).toBe("good");
  write(folder, "words.ts", says('"good"'));
  await vi.waitFor(() => expect(lines.at(-1)).toBe("functions reloaded"), QUICKLY);
  expect(await word(client)).toBe("good");
});

test("new, renamed and deleted files count, also in new folders, and one that is written by renaming", async () => {
  const folder = writeFunctions(root, { ...GENERATED, "words.ts": says('"first"') });
  const client = await start(folder);
  mkdirSync(path.join(folder, "deep"));
  write(folder, "deep/more.ts", says('"more"', ".."));
  await vi.waitFor(async () => expect(await client.query("deep/more:word", {})).toBe("more"), QUICKLY);
  write(folder, "deep/more.ts", says('"even more"', ".."));
  await vi.waitFor(async () => expect(await client.query("deep/more:word", {})).toBe("even more"), QUICKLY);
  write(folder, ".words.swp", says('"renamed"'));
  renameSync(path.join(folder, ".words.swp"), path.join(folder, "words.ts"));
  await vi.waitFor(async () => expect(await word(client)).toBe("renamed"), QUICKLY);
  rmSync(path.join(folder, "deep"), { recursive: true });
  await vi.waitFor(
    async () => expect(client.query("deep/more:word", {})).rejects.toThrow("Could not find"),
    QUICKLY,
  );
});

test("files outside of the folder that are imported count, also one that was missing", async () => {
  mkdirSync(path.join(root, "shared"));
  write(root, "shared/text.ts", 'export default "outside";');
  const folder = writeFunctions(root, {
    ...GENERATED,
    "words.ts": `import text from "../shared/text"; ${says("text")}`,
  });
  const client = await start(folder);
  expect(await word(client)).toBe("outside");
  write(root, "shared/text.ts", 'export default "changed";');
  await vi.waitFor(async () => expect(await word(client)).toBe("changed"), QUICKLY);
  write(folder, "words.ts", `import text from "../shared/later"; ${says("text")}`);
  await vi.waitFor(
    () => expect(lines.at(-1)).toContain('words.ts:1:18: Could not resolve "../shared/later"'),
    QUICKLY,
  );
  write(root, "shared/later.ts", 'export default "later";');
  await vi.waitFor(async () => expect(await word(client)).toBe("later"), QUICKLY);
});

test("a folder that is made anew is still watched", async () => {
  const folder = writeFunctions(root, { ...GENERATED, "words.ts": says('"old"') });
  const client = await start(folder);
  renameSync(folder, `${folder}-before`);
  await vi.waitFor(
    () => expect(lines.at(-1)).toMatch(/cannot read the functions folder .*: ENOENT$/),
    QUICKLY,
  );
  writeFunctions(root, { ...GENERATED, "words.ts": says('"new"') });
  await vi.waitFor(async () => expect(await word(client)).toBe("new"), { timeout: 10_000 });
  write(folder, "words.ts", says('"newer"'));
  await vi.waitFor(async () => expect(await word(client)).toBe("newer"), QUICKLY);
});

test("a schema that stored documents break is not taken, and is as soon as they fit", async () => {
  const schema = (type) =>
    `import { defineSchema, defineTable } from "convex/server"; import { v } from "convex/values"; export default defineSchema({ rows: defineTable({ n: ${type} }) });`;
  const folder = writeFunctions(root, {
    "rows.ts": `import { mutationGeneric } from "convex/server"; export const add = mutationGeneric((ctx, row) => ctx.db.insert("rows", row));
      export const clear = mutationGeneric(async (ctx) => { for (const row of await ctx.db.query("rows").collect()) await ctx.db.delete(row._id); });`,
    "schema.ts": schema("v.string()"),
  });
  const client = await start(folder);
  await client.mutation(anyApi.rows.add, { n: "text" });
  write(folder, "schema.ts", schema("v.number()"));
  await vi.waitFor(
    () => expect(lines.at(-1)).toContain("Schema validation failed: Document with ID"),
    QUICKLY,
  );
  await client.mutation(anyApi.rows.add, { n: "more text" });
  await client.mutation(anyApi.rows.clear, {});
  write(folder, "schema.ts", schema("v.optional(v.number())"));
  await vi.waitFor(() => expect(lines.at(-1)).toBe("functions reloaded"), QUICKLY);
  await expect(client.mutation(anyApi.rows.add, { n: "text" })).rejects.toThrow("does not match the schema");
});

test("nothing is watched when that is switched off", async () => {
  const folder = writeFunctions(root, { ...GENERATED, "words.ts": says('"one"') });
  const client = await start(folder, { watch: false });
  write(folder, "words.ts", says('"two"'));
  await new Promise((resolve) => setTimeout(resolve, 700));
  expect(await word(client)).toBe("one");
  expect(lines).toEqual([]);
});
