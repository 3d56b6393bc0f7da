import { createHash, createHmac } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { FIXTURE, TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

const NOW = 1_700_000_000_123;
/** @type {TestEngine} */
let engine;
beforeAll(async () => {
  engine = new TestEngine({ now: () => NOW });
  await engine.load(FIXTURE, { MODE: "fast", PATH: "/bin" });
});
afterAll(() => engine.dispose());

test("time stands still in a call and while modules are loaded", () => {
  const { loadedWith, ...times } = engine.call("runtime:time");
  expect(times).toEqual({ before: NOW, after: NOW, made: NOW, text: "string", loadedAt: NOW });
  expect(loadedWith).toBeLessThan(1);
});

test("chance differs from call to call and stays in its bounds", () => {
  const [a, b] = [engine.call("runtime:chance"), engine.call("runtime:chance")];
  expect(a.random).not.toEqual(b.random);
  expect(a.uuid).not.toBe(b.uuid);
  expect(a.uuid).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  for (const value of [...a.random, ...b.random]) expect(value >= 0 && value < 1).toBe(true);
});

test.each([
  ["fetch", "Uncaught Error: Can't use fetch() in queries and mutations. Please consider using an action."],
  [
    "setTimeout",
    "Uncaught Error: Can't use setTimeout in queries and mutations. Please consider using an action.",
  ],
  [
    "setInterval",
    "Uncaught Error: Can't use setInterval in queries and mutations. Please consider using an action.",
  ],
])("%s is refused in Convex's words", (name, text) => {
  expect(() => engine.call("runtime:forbidden", { name })).toThrow(text);
});

test("Node's own globals are not there", () => {
  for (const name of ["Buffer", "require", "setImmediate"]) {
    expect(() => engine.call("runtime:forbidden", { name })).toThrow("TypeError: call is not a function");
  }
});

test("a promise that never resolves fails the call and undoes it", () => {
  expect(() => engine.call("runtime:never")).toThrow("Server Error\nReturned promise will never resolve");
  expect(engine.call("jobs:bag")).toEqual([]);
});

test("a rejected promise that nobody awaits fails the call, and a later handler is in time", () => {
  expect(() => engine.call("runtime:leaveRejection")).toThrow(
    /Server Error\nUncaught Error: Invalid argument `id` for `db\.delete`: Unable to decode ID: Invalid ID length 8\n$/,
  );
  expect(engine.call("jobs:bag")).toEqual([]);
  expect(engine.call("runtime:catchLate")).toBe("caught");
});

test("a rejection inside a call inside a call can be caught by its caller alone", () => {
  expect(engine.call("runtime:callRejecting")).toContain(
    "Uncaught Error: Invalid argument `id` for `db.delete`",
  );
  expect(engine.call("items:noop")).toBeNull();
});

test("text, URLs, base64 and clones work in the functions' own realm", () => {
  expect(engine.call("runtime:text")).toEqual({
    back: "Grüße, 世界 🚦",
    isBytes: true,
    href: "https://example.com/a?b=1#c",
    b: "1",
    bad: "TypeError",
    base64: "c2lnbmFs",
    plain: "signal",
    clone: true,
  });
});

test.each(["SHA-1", "SHA-256", "SHA-384", "SHA-512"])("%s is that of node:crypto", (algorithm) => {
  const text = "signalbox";
  const expected = createHash(algorithm.replace("-", "").toLowerCase()).update(text).digest("base64");
  expect(engine.call("runtime:digest", { algorithm, text })).toEqual({ $bytes: expected });
});

test("an unknown digest is refused", () => {
  expect(() => engine.call("runtime:digest", { algorithm: "MD5", text: "" })).toThrow("NotSupportedError");
});

test("HMAC signs as node:crypto does and refuses a forged signature", () => {
  const expected = createHmac("sha256", "key").update("message").digest("base64");
  expect(engine.call("runtime:hmac", { secret: "key", text: "message" })).toEqual({
    signature: { $bytes: expected },
    verifies: true,
    forgedVerifies: false,
  });
});

test("functions see the declared variables and no others", () => {
  expect(engine.call("runtime:environment")).toEqual({ mode: "fast", path: null });
});

test("log lines look as Convex prints them", () => {
  expect(engine.reply("runtime:logs").logLines).toEqual([
    "[LOG] 'text' 1 {\n  a: [ true, null ],\n  'b-c': 'd'\n}",
    "[WARN] 'careful'",
    "[ERROR] 'shown'",
    "[INFO] work: 0ms",
  ]);
});

test("the log of a call ends at 256 lines and says so", () => {
  const { logLines } = engine.reply("runtime:logs", { lines: 252 });
  expect(logLines).toHaveLength(256);
  expect(logLines.at(-1)).toBe("[ERROR] Log overflow (maximum 256). Remaining log lines omitted.");
  expect(engine.reply("runtime:logs", { lines: 251 }).logLines.at(-1)).toBe("[DEBUG] 250");
});

test("module state survives between calls, and with `strict` it never does, nor from a call to one inside it", async () => {
  const state = (/** @type {TestEngine} */ one) => [1, 2, 3].map(() => one.call("runtime:stateOfModule"));
  expect(state(engine)).toEqual([1, 2, 3]);
  const strict = new TestEngine({ strict: true });
  await strict.load();
  expect(state(strict)).toEqual([1, 1, 1]);
  expect(strict.call("runtime:statesInside")).toEqual([2, 1, 1]);
  strict.dispose();
});

test("what is evaluated anew for a call cannot use the database while it is", async () => {
  const root = temporaryFolder();
  const strict = new TestEngine({ root, strict: true });
  await strict.load(
    writeFunctions(root, {
      "tries.ts": `import { queryGeneric as query } from "convex/server";
        let seen = "";
        try { (globalThis as any).Convex.syscall("1.0/queryStream", '{"query":{}}'); } catch (error: any) { seen = error.message; }
        const [random, now] = [Math.random(), Date.now()];
        export const told = query({ args: {}, handler: async () => ({ seen, random, now }) });`,
    }),
  );
  const first = strict.call("tries:told");
  expect(first.seen).toBe("Can't use database at import time");
  expect(strict.call("tries:told")).toEqual(first); // the same chance and time for each evaluation
  strict.dispose();
});
