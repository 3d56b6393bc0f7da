import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FIXTURE, TestEngine } from "./testing.mjs";

const NOW = 1_700_000_000_123;
/** @type {TestEngine} */
let engine;
beforeAll(async () => {
  engine = new TestEngine({ now: () => NOW });
  await engine.load(FIXTURE, { MODE: "fast" });
});
afterAll(() => engine.dispose());

describe("globals", () => {
  test("are those of Convex's runtime, and none of Node's", () => {
    expect(engine.call("runtime:globals")).toEqual({
      missing: [],
      surplus: [],
      process: ["env"],
      exit: "undefined",
      wasm: "compiled",
      zone: expect.any(String),
      offset: expect.any(Number),
    });
  });

  test("have WebAssembly, compiled inside of the call", () => {
    expect(engine.call("runtime:webAssembly")).toEqual({ sums: [5, 5, 5], broken: "CompileError" });
  });

  test("are of the functions' own realm wherever code can tell", () => {
    expect(engine.call("runtime:ownRealm")).toEqual({
      digest: true,
      encoded: true,
      cloned: true,
      random: true,
      promise: true,
      headers: true,
      file: true,
      url: "TypeError",
      header: "TypeError",
      status: "RangeError",
      label: "RangeError",
      base64: "InvalidCharacterError",
      cloneFunction: "Error",
      weak: "TypeError",
      map: true,
      local: 5,
    });
  });

  test("events and abort signals are told at once", () => {
    expect(engine.call("runtime:events")).toEqual({
      seen: ["onabort", "aborted", "once"],
      results: [false, true],
      reason: "enough",
      aborted: true,
    });
  });

  test("bodies and streams can be read", async () => {
    // Not from inside a microtask: see rejections.mjs.
    const bodies = await new Promise((resolve, reject) =>
      setImmediate(() => {
        try {
          resolve(engine.call("runtime:bodies"));
        } catch (error) {
          reject(error);
        }
      }),
    );
    expect(bodies).toEqual({
      json: true,
      header: "b",
      text: "body",
      form: "value",
      bytes: "abc",
      chunks: "one+two",
      refused: true,
    });
  });

  test("performance goes on in a mutation and stands still in a query", () => {
    expect(engine.call("runtime:clocks")).toEqual({ origin: NOW, moved: true, measure: [4] });
    expect(engine.call("runtime:standingClock")).toBe(0);
  });

  test("process.env answers for names and shows none", () => {
    expect(engine.call("runtime:envProxy")).toEqual({ keys: [], has: false, mode: "fast" });
  });

  test("what Convex does not implement ends the function, caught or not", () => {
    expect(() => engine.call("runtime:uncatchable")).toThrow(
      /Server Error\nstructuredClone with transfer not supported\n {4}at handler/,
    );
  });
});

describe("console", () => {
  test("has Convex's methods and timers", () => {
    const { value, logLines } = engine.reply("runtime:timers");
    expect(JSON.parse(value)).toEqual([
      "debug",
      "error",
      "info",
      "log",
      "time",
      "timeEnd",
      "timeLog",
      "trace",
      "warn",
    ]);
    expect(logLines).toEqual([
      "[WARN] Timer 'a' already exists",
      expect.stringMatching(/^\[INFO\] a: \d+ms \{\n {2}more: 1\n\}$/),
      expect.stringMatching(/^\[INFO\] a: \d+ms$/),
      "[WARN] Timer 'a' does not exist",
      "[WARN] Timer 'default' does not exist",
      expect.stringMatching(/^\[LOG\] 'here' \n {4}at handler \(\.\.\/convex\/runtime\.ts:\d+:\d+\)\n$/),
    ]);
    expect(engine.reply("runtime:timers").logLines[0]).toBe("[WARN] Timer 'a' already exists");
  });

  test("prints values as Convex does, the fields of an object on lines of their own", () => {
    expect(engine.reply("runtime:logValues").logLines).toEqual([
      "[LOG] undefined null -0 10n Symbol(s) 'it\\'s\\n'",
      "[LOG] [] {} [ 1, , 3 ] {\n  a: {\n    b: {\n      c: [ 1 ]\n    }\n  }\n} Point {\n  x: 1,\n  y: 2\n} {\n  name: 'circle',\n  self: [Circular]\n}",
      `[LOG] Map (1) {\n  'k' => {\n    v: 1\n  }\n} Set (2) {\n  1,\n  'x'\n} ${String(new Date(0))} /x/g [Function (anonymous)] [Function: named]`,
      "[LOG] [RangeError: too far] Uint8Array [Uint8Array] {\n  0: 1,\n  1: 2\n} [Object: null prototype] {} [process.env]",
    ]);
  });

  test("cuts a long line and says so", () => {
    const [line] = engine.reply("runtime:longLog").logLines;
    expect(line).toHaveLength("[LOG] ".length + 32 * 1024 + " (truncated due to length)".length);
    expect(line).toMatch(/x \(truncated due to length\)$/);
  });
});

describe("what is thrown", () => {
  const message = (/** @type {string} */ what, path = "runtime:throwThing") => {
    try {
      engine.call(path, path === "runtime:throwThing" ? { what } : {});
    } catch (error) {
      return /** @type {any} */ (error);
    }
    throw new Error(`${what} was not thrown`);
  };

  test.each([
    ["undefined", /\nUncaught undefined\n$/],
    ["null", /\nUncaught null\n$/],
    ["number", /\nUncaught 42\n$/],
    ["object", /\nUncaught #<Object>\n$/],
    ["instance", /\nUncaught #<Thing>\n$/],
    ["array", /\nUncaught \[object Array\]\n$/],
    ["custom", /\nUncaught Custom: of its own\n {4}at .*runtime\.ts/],
    ["noMessage", /\nUncaught RangeError\n {4}at /],
    ["noName", /\nUncaught nameless\n {4}at /],
    ["cause", /\nUncaught Error: outside\n {4}at /],
    ["dom", /\nUncaught DataError: refused\n {4}at /],
    ["convexText", /\nUncaught ConvexError: plain text\n {4}at /],
    ["convexSubclass", /\nUncaught ConvexError: \{"left":0\.?0?\}\n {4}at /],
  ])("%s", (what, text) => expect(message(what).message).toMatch(text));

  test("a ConvexError carries its data, whatever class of it it is", () => {
    expect(message("convexText").data).toBe("plain text");
    expect(message("convexSubclass").data).toEqual({ left: 0 });
    expect(message("custom").data).toBeUndefined();
  });

  test("a message of more than 64 KiB is cut", () => {
    expect(message("long").message.match(/x+/)[0]).toHaveLength(2 ** 16 - "Uncaught Error: ".length);
  });

  test("a function that is not async may throw too", () => {
    expect(message("", "runtime:throwOutside").message).toMatch(
      /\nUncaught Error: not in a promise\n {4}at handler \(\.\.\/convex\/runtime\.ts:\d+:\d+\)\n$/,
    );
  });

  test("an async generator may be read to its end or fail on the way", () => {
    expect(engine.call("runtime:fromGenerator", { fail: false })).toEqual([0, 7]);
    expect(() => engine.call("runtime:fromGenerator", { fail: true })).toThrow("Uncaught Error: second page");
  });
});
