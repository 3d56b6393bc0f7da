import { spawnSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, test } from "vitest";
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
