import { closeSync, openSync, statSync, writeSync } from "node:fs";
import path from "node:path";
import { afterEach, expect, test } from "vitest";
import { TestHost } from "./testing.mjs";

const NOTES = `
  export const fill = mutation(async (ctx) => {
    for (let n = 0; n < 400; n++) await ctx.db.insert("notes", { n, text: "x".repeat(3000) });
  });
  export const list = query(async (ctx) => (await ctx.db.query("notes").collect()).length);
  export const touchAll = mutation(async (ctx) => {
    for (const { _id } of await ctx.db.query("notes").collect()) await ctx.db.patch(_id, { n: -1 });
  });
  export const two = query(async () => 1 + 1);`;

const host = new TestHost();
afterEach(() => host.dispose());

/** Overwrite pages in the middle of the file, where the documents are. @param {number} pages */
function damage(pages) {
  const file = path.join(host.root, "host.sqlite");
  const { size } = statSync(file);
  const descriptor = openSync(file, "r+");
  const junk = Buffer.alloc(pages * 4096, 0x5a);
  writeSync(descriptor, junk, 0, junk.length, Math.floor(size / 2 / 4096) * 4096);
  closeSync(descriptor);
}

test("a call that meets a broken page fails with a code, and the host goes on serving others", async () => {
  await host.start({ "notes.ts": NOTES });
  await host.call("mutation", "notes:fill");
  await host.stop();
  damage(1);
  await host.start({ "notes.ts": NOTES });
  for (const [kind, name] of [
    ["query", "notes:list"],
    ["mutation", "notes:touchAll"],
  ]) {
    expect(await host.post(`/api/${kind}`, { path: name, args: {} })).toEqual({
      httpStatus: 503,
      code: "DatabaseFault",
      message: "The database file cannot be used: database disk image is malformed",
    });
  }
  expect(await host.call("query", "notes:two")).toBe(2);
  expect(host.lines.filter((line) => line.startsWith("engine thread restarted"))).toHaveLength(2);
  for (const line of host.lines) expect(line).not.toContain("\n");
}, 20_000);
