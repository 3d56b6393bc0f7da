import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestEngine, temporaryFolder, writeFunctions } from "./testing.mjs";

const FUNCTIONS = `
  import { createFunctionHandle, makeFunctionReference, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
  import { v } from "convex/values";
  const ref = (name: string) => makeFunctionReference<any>(name) as any;

  export const add = mutation({
    args: { text: v.string() },
    handler: async (ctx, { text }) => {
      await ctx.db.insert("notes", { text });
      return text.toUpperCase();
    },
  });
  export const all = query({ args: {}, handler: async (ctx) => (await ctx.db.query("notes").collect()).map(({ text }: any) => text) });
  export const echo = query({ args: { value: v.any() }, handler: async (_ctx, { value }) => value });

  export const handles = mutation(async (ctx) => {
    const [adds, reads] = [await createFunctionHandle(ref("calls:add")), await createFunctionHandle(ref("calls:all"))];
    const value = await ctx.runMutation(adds as any, { text: "by handle" });
    const job = await ctx.scheduler.runAfter(0, adds as any, { text: "by job" });
    return { handle: adds, again: await createFunctionHandle(adds as any), value, read: await ctx.runQuery(reads as any, {}), job };
  });
  export const useHandle = mutation({ args: { handle: v.string() }, handler: (ctx, { handle }) => ctx.runMutation(handle as any, { text: "x" }) });
  export const handleOf = mutation({ args: { name: v.string() }, handler: (_ctx, { name }) => createFunctionHandle(ref(name)) });

  export const pass = mutation({
    args: { value: v.any() },
    handler: async (ctx, { value }) => {
      const id = await ctx.db.insert("values", { value });
      const inner = await ctx.runQuery(ref("calls:echo"), { value });
      await ctx.db.patch(id, { value: inner });
      await ctx.db.replace(id, { value: (await ctx.db.get(id))!.value });
      return (await ctx.db.query("values").order("desc").first())!.value;
    },
  });

  /** Values that Convex does not know, on each way that a value can take. */
  const unknown: Record<string, () => any> = {
    Set: () => new Set([1]), Map: () => new Map([["a", 1]]), Date: () => new Date(0), RegExp: () => /x/, Function: () => () => 1,
    symbol: () => Symbol("s"), instance: () => new (class Point { x = 1 })(), inside: () => ({ deep: [new Set(["y"])] }),
    big: () => 2n ** 63n, undefinedInArray: () => [undefined],
  };
  export const bring = mutation({
    args: { kind: v.string(), way: v.string() },
    handler: async (ctx, { kind, way }) => {
      const value = unknown[kind]!();
      switch (way) {
        case "write": return await ctx.db.insert("values", { value });
        case "argument": return await ctx.runQuery(ref("calls:echo"), { value });
        case "job": return await ctx.scheduler.runAfter(0, ref("calls:echo"), { value });
        default: return value;
      }
    },
  });

  export const callKind = query({
    args: { udfType: v.string() },
    handler: (_ctx, { udfType }) => (globalThis as any).Convex.asyncSyscall("1.0/runUdf", JSON.stringify({ udfType, name: "calls:all", args: {} })),
  });
  export const requestMetadata = query({ args: {}, handler: () => (globalThis as any).Convex.asyncSyscall("1.0/getRequestMetadata", "{}") });
  export const functionMetadata = query({ args: {}, handler: async () => JSON.parse(await (globalThis as any).Convex.asyncSyscall("1.0/getFunctionMetadata", "{}")) });
`;

const root = temporaryFolder();
const engine = new TestEngine({ root });
beforeAll(() => engine.load(writeFunctions(root, { "calls.ts": FUNCTIONS })));
afterAll(() => {
  engine.dispose();
  rmSync(root, { recursive: true, force: true });
});

describe("a function handle", () => {
  test("is called and scheduled like a reference, and is its own handle", () => {
    const { handle, again, value, read, job } = engine.call("calls:handles");
    expect(handle).toMatch(/^function:\/\//);
    expect(again).toBe(handle);
    expect({ value, read }).toEqual({ value: "BY HANDLE", read: ["by handle"] });
    expect(job).toEqual(expect.any(String));
    engine.serve([]);
    expect(engine.call("calls:all")).toEqual(["by handle", "by job"]);
    expect(engine.call("calls:useHandle", { handle })).toBe("X");
  });

  test("of a function that is not there is not found", () => {
    expect(() => engine.call("calls:handleOf", { name: "calls:gone" })).toThrow("Function handle not found");
    expect(() => engine.call("calls:useHandle", { handle: "function://nonsense" })).toThrow(
      "Function handle not found",
    );
  });
});

describe("values on their way", () => {
  test.each([
    ["int64", { $integer: "AAAAAAAAAIA=" }],
    ["bytes", { $bytes: "AAECAw==" }],
    ["NaN", { $float: "AAAAAAAA+H8=" }],
    ["-0", { $float: "AAAAAAAAAIA=" }],
    ["-Infinity", { $float: "AAAAAAAA8P8=" }],
    ["an empty key and inner underscores", { "": 1, _x: { _y: null } }],
    ["unicode", { text: "Grüße 🚦 \u0000\uffff" }],
    ["a long text", "é".repeat(500_000)],
  ])("%s passes arguments, calls, documents and results unchanged", (_what, value) => {
    expect(engine.call("calls:pass", { value })).toEqual(value);
  });

  test("a text of six million characters passes between functions", () => {
    const value = "x".repeat(6_000_000);
    expect(() => engine.call("calls:pass", { value })).toThrow(
      "Value is too large (5.72 MiB > maximum size 1 MiB)",
    );
    expect(engine.call("calls:echo", { value })).toBe(value);
  });

  test.each(["return", "write", "argument", "job"])("what Convex does not know is named: %s", (way) => {
    const bring = (/** @type {string} */ kind) => () => engine.call("calls:bring", { kind, way });
    expect(bring("Set")).toThrow("Set[1] is not a supported Convex type");
    expect(bring("Map")).toThrow('Map[["a",1]] is not a supported Convex type');
    expect(bring("Date")).toThrow("is not a supported Convex type");
    expect(bring("RegExp")).toThrow("is not a supported Convex type");
    expect(bring("instance")).toThrow('Point {"x":1} is not a supported Convex type');
    expect(bring("inside")).toThrow('Set["y"] is not a supported Convex type');
    expect(bring("symbol")).toThrow("is not a supported Convex type");
    expect(bring("Function")).toThrow("is not a supported Convex type");
    expect(bring("big")).toThrow("does not fit into a 64-bit signed integer");
    expect(bring("undefinedInArray")).toThrow("undefined is not a valid Convex value");
    expect(engine.call("calls:all")).toEqual(expect.any(Array));
  });
});

describe("a query", () => {
  test("calls queries only", () => {
    expect(() => engine.call("calls:callKind", { udfType: "mutation" })).toThrow(
      "Cannot call a Mutation function from a Query function",
    );
    expect(() => engine.call("calls:callKind", { udfType: "snapshotQuery" })).toThrow(
      "Cannot call a SnapshotQuery function from a Query function",
    );
    expect(() => engine.call("calls:callKind", { udfType: "query" })).not.toThrow();
  });

  test("knows its own name and not its request", () => {
    expect(engine.call("calls:functionMetadata")).toEqual({
      name: "calls:functionMetadata",
      componentPath: "",
    });
    expect(() => engine.call("calls:requestMetadata")).toThrow("Cannot get request metadata in a Query");
  });
});
