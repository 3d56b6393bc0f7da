import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkFile } from "./file-check.mjs";
import { TestEngine, writeFunctions } from "./testing.mjs";

const COMMAND = fileURLToPath(new URL("../check.mjs", import.meta.url));
const SCHEMA = `
  import { defineSchema, defineTable } from "convex/server";
  import { v } from "convex/values";
  export default defineSchema({ things: defineTable({ n: v.number() }).index("by_n", ["n"]) });`;
const THINGS = `
  import { mutationGeneric } from "convex/server";
  export const add = mutationGeneric(async (ctx, { n }) => ctx.db.insert("things", { n }));
  export const change = mutationGeneric(async (ctx, { id, n }) => ctx.db.patch(id, { n }));
  export const remove = mutationGeneric(async (ctx, { id }) => ctx.db.delete(id));`;

/** @type {TestEngine} */
let engine;
/** @type {string[]} */
let ids;
beforeEach(async () => {
  engine = new TestEngine();
  await engine.load(writeFunctions(engine.root, { "schema.ts": SCHEMA, "things.ts": THINGS }));
  ids = [1, 2, 3].map((n) => engine.call("things:add", { n }));
  engine.call("things:change", { id: ids[1], n: 9 });
  engine.call("things:remove", { id: ids[2] });
});
afterEach(() => rmSync(engine.root, { recursive: true }));

/** Change a file that no host has open, behind its back. */
function tamper(sql) {
  const database = new DatabaseSync(engine.file);
  database.exec(sql);
  database.close();
}

test("a file that the host has written is whole", () => {
  engine.engine.close();
  expect(checkFile(engine.file)).toEqual({ documents: 2, indexRows: 2, problems: [] });
});

test.each([
  ["a lost index row", "DELETE FROM ix WHERE pk = (SELECT max(pk) FROM docs)", /missing in index by_n/],
  [
    "an index row of another value",
    "UPDATE docs SET json = replace(json, '\"n\":9', '\"n\":8')",
    /missing in index by_n/,
  ],
  [
    "an index row too many",
    "INSERT INTO ix SELECT i, x'00', pk FROM ix LIMIT 1",
    /by_n of table 10001 has 3 rows for 2 documents/,
  ],
  ["rows of no index", "INSERT INTO ix SELECT 77, k, pk FROM ix LIMIT 1", /1 index rows belong to index 77/],
  ["a document in another's place", "UPDATE docs SET pk = pk + 100", /whose place is another/],
  [
    "a creation time that fell back",
    "UPDATE docs SET ct = 1 WHERE pk = (SELECT max(pk) FROM docs)",
    /not after the one before it/,
  ],
  [
    "a clock behind its documents",
    "UPDATE meta SET value = '0 0' WHERE key = 'clocks'",
    /after the newest time of the file/,
  ],
  ["documents of no table", "DELETE FROM tables WHERE number = 10001", /table 10001, which is not there/],
])("%s is found", (_what, sql, problem) => {
  engine.engine.close();
  tamper(sql);
  expect(checkFile(engine.file).problems).toContainEqual(expect.stringMatching(problem));
});

describe("search and vector indexes", () => {
  const INDEXED = `
    import { defineSchema, defineTable } from "convex/server";
    import { v } from "convex/values";
    export default defineSchema({
      things: defineTable({ n: v.number(), text: v.optional(v.string()), at: v.optional(v.array(v.number())) })
        .index("by_n", ["n"])
        .searchIndex("by_text", { searchField: "text", filterFields: ["n"] })
        .vectorIndex("by_place", { vectorField: "at", dimensions: 2, filterFields: ["n"] }),
    });`;
  const FILL = `
    import { mutationGeneric } from "convex/server";
    export const fill = mutationGeneric(async (ctx) => {
      await ctx.db.insert("things", { n: 1, text: "red apple red", at: [3, 4] });
      const id = await ctx.db.insert("things", { n: 2, text: "green pear", at: [1, 0] });
      await ctx.db.patch(id, { text: "yellow pear tree", at: [0, 2], n: 3 });
      await ctx.db.insert("things", { n: 4 });
    });`;
  beforeEach(async () => {
    await engine.load(writeFunctions(engine.root, { "schema.ts": INDEXED, "things.ts": FILL }));
    engine.call("things:fill", {});
    engine.engine.close();
  });

  test("are whole as the host writes them", () => {
    expect(checkFile(engine.file)).toMatchObject({ documents: 5, problems: [] });
  });

  test.each([
    ["a lost word", "DELETE FROM postings WHERE term = x'00726564'", /1 wrong rows in index by_text/],
    [
      "a word that is counted wrongly",
      "UPDATE postings SET n = 9 WHERE term = x'00726564'",
      /1 wrong rows in index by_text/,
    ],
    [
      "a word too many",
      "INSERT INTO postings SELECT i, x'0078', pk, 1, 1 FROM postings WHERE term = x'00726564'",
      /index by_text has \d+ postings, not \d+/,
    ],
    [
      "a lost vector",
      "DELETE FROM vectors WHERE pk = (SELECT min(pk) FROM vectors)",
      /wrong vector in index by_place/,
    ],
    ["another vector", "UPDATE vectors SET v = zeroblob(8)", /wrong vector in index by_place/],
    [
      "a vector too many",
      "INSERT INTO vectors SELECT i, pk + 77, v FROM vectors LIMIT 1",
      /index by_place has 3 vectors, not 2/,
    ],
    [
      "a wrong size",
      "UPDATE side_indexes SET tokens = tokens + 1",
      /counts 5 documents and 7 words, not 5 and 6/,
    ],
    [
      "rows of no index",
      "INSERT INTO vectors SELECT 77, pk, v FROM vectors LIMIT 1",
      /rows belong to index 77, which is not there/,
    ],
  ])("%s is found", (_what, sql, problem) => {
    tamper(sql);
    expect(checkFile(engine.file).problems).toContainEqual(expect.stringMatching(problem));
  });
});

test("a document or pushed code that is no JSON is a problem like any other", () => {
  engine.engine.close();
  tamper(
    "UPDATE docs SET json = '{' WHERE pk = (SELECT max(pk) FROM docs); INSERT INTO meta VALUES ('pushed', '{')",
  );
  expect(checkFile(engine.file).problems).toEqual([
    expect.stringMatching(/^document \w+ cannot be read$/),
    "the pushed code cannot be read",
  ]);
});

test("a file with overwritten pages is told of in lines, not thrown at", () => {
  for (let n = 0; n < 500; n++) engine.call("things:add", { n });
  engine.engine.close();
  const bytes = readFileSync(engine.file);
  bytes.fill(0x5a, 8 * 4096, bytes.length - 4096);
  writeFileSync(engine.file, bytes);
  const { problems } = checkFile(engine.file);
  expect(problems.length).toBeGreaterThan(0);
  for (const problem of problems) expect(problem).toMatch(/^[^\n]+$/);
});

test("no more than 20 problems are told", () => {
  for (let n = 0; n < 30; n++) engine.call("things:add", { n });
  engine.engine.close();
  tamper("DELETE FROM ix");
  expect(checkFile(engine.file).problems).toHaveLength(20);
});

test("the command says that a file is whole, or what is wrong with it, or why it cannot look", () => {
  const check = (...files) => spawnSync(process.execPath, [COMMAND, ...files], { encoding: "utf8" });
  expect(check(engine.file)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(/in use by another host\n$/),
  });
  engine.engine.close();
  expect(check(engine.file)).toMatchObject({
    status: 0,
    stdout: "whole: 2 documents, 2 index rows\n",
    stderr: "",
  });
  tamper("DELETE FROM ix WHERE pk = (SELECT max(pk) FROM docs)");
  expect(check(engine.file)).toMatchObject({
    status: 1,
    stdout: expect.stringContaining("missing in index by_n"),
  });
  const other = path.join(engine.root, "other");
  expect(check(other)).toMatchObject({ status: 1, stderr: expect.stringMatching(/other is not there\n$/) });
  writeFileSync(other, "");
  expect(check(other)).toMatchObject({ status: 1, stderr: expect.stringMatching(/not a host's file/) });
  expect(check()).toMatchObject({ status: 2, stderr: expect.stringContaining("usage:") });
}, 20_000);
