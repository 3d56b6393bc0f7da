import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { temporaryFolder, TestEngine, writeFunctions } from "./testing.mjs";

const FUNCTIONS = `
  import { log, makeFunctionReference, mutationGeneric as mutation, queryGeneric as query } from "convex/server";
  import { v } from "convex/values";

  const { ip, now, requestId, userAgent } = log.vars;
  export const read = query({ args: {}, handler: () => log.audit({ seen: ["a", { ip, now }], requestId, userAgent }) });
  export const write = mutation({
    args: { lines: v.number(), bytes: v.number(), variables: v.number() },
    handler: async (ctx, { lines, bytes, variables }) => {
      await ctx.db.insert("rows", {});
      const body = { text: "", variables: Array.from({ length: variables }, () => now) };
      const framed = JSON.stringify({ text: "", variables: Array.from({ length: variables }, () => ({ $var: "now" })) }).length;
      body.text = "x".repeat(bytes - framed - variables * 1026);
      for (let line = 0; line < lines; line++) await log.audit(body);
    },
  });
  export const nested = mutation({
    args: {},
    handler: async (ctx) => {
      for (let call = 0; call < 2; call++)
        await ctx.runMutation(makeFunctionReference<"mutation">("m:write"), { lines: 251, bytes: 100, variables: 0 });
    },
  });
  export const unknown = query({
    args: {},
    handler: () => (globalThis as any).Convex.asyncSyscall("1.0/auditLog", JSON.stringify({ body: { a: { $var: "mood" } } })),
  });
  export const rows = query({ args: {}, handler: async (ctx) => (await ctx.db.query("rows").collect()).length });
`;

const root = temporaryFolder();
const engine = new TestEngine({ root });
beforeAll(() => engine.load(writeFunctions(root, { "m.ts": FUNCTIONS })));
afterAll(() => {
  engine.dispose();
  rmSync(root, { recursive: true, force: true });
});

const call = (/** @type {string} */ path, args = {}) => {
  const [reply] = engine.serve([engine.message(path, args)]).replies;
  return reply.ok ? JSON.parse(reply.value) : reply.message.split("\n")[1];
};

describe("log.audit", () => {
  test("is taken from queries and mutations, with its variables", () => {
    expect([call("m:read"), call("m:write", { lines: 1, bytes: 2_000, variables: 1 })]).toEqual([null, null]);
  });

  test.each([
    [
      { lines: 500, bytes: 100, variables: 0 },
      "Function execution exceeded the maximum of 500 audit log lines.",
    ],
    [
      { lines: 1, bytes: 100_000, variables: 0 },
      "An audit log line may have a maximum possible size of 100000 bytes, but this line could be up to 100001 bytes.",
    ],
    [
      { lines: 1, bytes: 100_000, variables: 20 },
      "An audit log line may have a maximum possible size of 100000 bytes, but this line could be up to 100001 bytes.",
    ],
  ])("has Convex's bounds: %j is taken, and more is not and writes nothing", (fits, message) => {
    expect(call("m:write", fits)).toBe(null);
    const rows = call("m:rows");
    const more = fits.lines > 1 ? { ...fits, lines: fits.lines + 1 } : { ...fits, bytes: fits.bytes + 1 };
    expect([call("m:write", more), call("m:rows")]).toEqual([message, rows]);
  });

  test("may have 4 MB from one call", () => {
    expect(call("m:write", { lines: 40, bytes: 100_000, variables: 0 })).toBe(null);
    expect(call("m:write", { lines: 41, bytes: 100_000, variables: 0 })).toMatch(
      "Audit logs exceed function execution limits",
    );
    expect(call("m:write", { lines: 400, bytes: 11_000, variables: 10 })).toBe(
      "The total maximum possible size of audit log lines from a single function execution is 4000000 bytes, but this execution could produce up to 4400000 bytes.",
    );
  });

  test("counts the lines of calls inside a call", () => {
    expect(call("m:nested")).toBe("Function execution exceeded the maximum of 500 audit log lines.");
  });

  test("refuses a variable that Convex does not know", () => {
    expect(call("m:unknown")).toBe('Unknown audit log variable: "mood"');
  });
});
