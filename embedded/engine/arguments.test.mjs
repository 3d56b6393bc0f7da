import { rmSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { temporaryFolder, TestEngine, writeFunctions } from "./testing.mjs";

const FUNCTIONS = `
  import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
  import { v } from "convex/values";

  const syscall = async (op: string, args: object) => JSON.parse(await (globalThis as any).Convex.asyncSyscall(op, JSON.stringify(args)));
  const asking = (options: object) => ({ query: { source: { type: "FullTableScan", tableName: "rows", order: null }, operators: [] }, pageSize: 1, ...options });
  const reads: Record<string, (ctx: any) => any> = {
    table: (ctx) => ctx.db.query("a-b").collect(),
    pagedTable: (ctx) => ctx.db.query("a-b").paginate({ cursor: null, numItems: 1 }),
    unknownTable: (ctx) => ctx.db.query("nothing").collect(),
    field: (ctx) => ctx.db.query("rows").filter((q: any) => q.eq(q.field("a b.c"), 1)).collect(),
    pagedField: (ctx) => ctx.db.query("rows").filter((q: any) => q.eq(q.field("9"), 1)).paginate({ cursor: null, numItems: 1 }),
    noField: (ctx) => ctx.db.query("rows").filter((q: any) => q.eq(q.field("."), 1)).collect(),
    dottedField: async (ctx) => (await ctx.db.query("rows").filter((q: any) => q.eq(q.field(".n."), 1)).collect()).length,
    normalizeTable: (ctx) => ctx.db.normalizeId("a-b", "x"),
    normalizeNumber: (ctx) => ctx.db.normalizeId("rows", 5),
    noCursor: async (ctx) => (await ctx.db.query("rows").paginate({ numItems: 1 } as any)).page.length,
    numberCursor: () => syscall("1.0/queryPage", asking({ cursor: 5 })),
    fraction: () => syscall("1.0/queryPage", asking({ pageSize: 1.5 })),
    negative: () => syscall("1.0/queryPage", asking({ maximumRowsRead: -1 })),
    text: () => syscall("1.0/queryPage", asking({ pageSize: "3" })),
  };
  export const read = query({
    args: { what: v.string() },
    handler: async (ctx, { what }) => {
      try {
        return await reads[what]!(ctx);
      } catch (error: any) {
        return error.message;
      }
    },
  });

  const nested = (levels: number): any => (levels === 0 ? 1 : { a: nested(levels - 1) });
  const writes: Record<string, (ctx: any) => any> = {
    large: (ctx) => ctx.db.insert("rows", { text: "x".repeat(850_000) }),
    nested: (ctx) => ctx.db.insert("rows", { deep: nested(12) }),
    plain: (ctx) => ctx.db.insert("rows", { text: "x".repeat(830_000), deep: nested(10) }),
    small: async (ctx) => {
      const id = await writes.large!(ctx);
      await ctx.db.patch(id, { text: "" });
      return id;
    },
    gone: async (ctx) => {
      const id = await writes.large!(ctx);
      await ctx.db.delete(id);
      return id;
    },
    both: async (ctx) => [await writes.large!(ctx), await writes.nested!(ctx), await ctx.db.insert("rows", { text: "x".repeat(840_000) })],
  };
  export const write = mutation({ args: { what: v.string() }, handler: (ctx, { what }) => writes[what]!(ctx) });
  export const add = mutation({ args: { n: v.number() }, handler: (ctx, { n }) => ctx.db.insert("rows", { n }) });
`;

const root = temporaryFolder();
const engine = new TestEngine({ root });
beforeAll(async () => {
  await engine.load(writeFunctions(root, { "m.ts": FUNCTIONS }));
  engine.serve([1, 2].map((n) => engine.message("m:add", { n })));
});
afterAll(() => {
  engine.dispose();
  rmSync(root, { recursive: true, force: true });
});

const ask = (/** @type {string} */ path, /** @type {string} */ what) => {
  const [{ value, logLines }] = engine.serve([engine.message(path, { what })]).replies;
  return { value: JSON.parse(value), logLines };
};

const NAMES = "Identifiers can only contain alphanumeric characters or underscores";
const FIRST = "Identifiers must start with an alphabetic character or underscore";

describe("what a query names and wants is parsed as on Convex", () => {
  test.each([
    [
      "table",
      `Invalid argument \`query\` for \`queryStream\`: Identifier a-b has invalid character '-': ${NAMES}`,
    ],
    [
      "pagedTable",
      `Invalid argument \`query\` for \`queryPage\`: Identifier a-b has invalid character '-': ${NAMES}`,
    ],
    ["unknownTable", []],
    [
      "field",
      `Invalid argument \`query\` for \`queryStream\`: Identifier a b has invalid character ' ': ${NAMES}`,
    ],
    [
      "pagedField",
      `Invalid argument \`query\` for \`queryPage\`: Invalid first character '9' in 9: ${FIRST}`,
    ],
    ["noField", "Invalid argument `query` for `queryStream`: Empty path ."],
    ["dottedField", 1],
    [
      "normalizeTable",
      `Invalid argument \`table\` for \`db.normalizeId\`: Identifier a-b has invalid character '-': ${NAMES}`,
    ],
    [
      "normalizeNumber",
      "Invalid arguments for `db.normalizeId`: invalid type: integer `5`, expected a string",
    ],
    ["noCursor", 1],
    ["numberCursor", "Invalid arguments for `queryPage`: invalid type: integer `5`, expected a string"],
    ["fraction", "Invalid arguments for `queryPage`: invalid type: floating point `1.5`, expected usize"],
    ["negative", "Invalid arguments for `queryPage`: invalid value: integer `-1`, expected usize"],
    ["text", 'Invalid arguments for `queryPage`: invalid type: string "3", expected usize'],
  ])("%s", (what, expected) => {
    expect(ask("m:read", what).value).toEqual(expected);
  });
});

describe("a document near its limits", () => {
  const large = (/** @type {string} */ id, bytes = 850_070) =>
    `[WARN] Large document written with ID "${id}" (actual: ${bytes} bytes, limit: 1048576 bytes).`;
  const deep = (/** @type {string} */ id) =>
    `[WARN] Deeply nested document written with ID "${id}" (actual: 13 levels, limit: 16 levels).`;

  test("is warned of when it is written, by its size or its nesting", () => {
    const [size, nesting] = [ask("m:write", "large"), ask("m:write", "nested")];
    expect(size.logLines).toEqual([large(size.value)]);
    expect(nesting.logLines).toEqual([deep(nesting.value)]);
  });

  test("is not warned of below that, nor when it has shrunk or gone at the end", () => {
    expect(["plain", "small", "gone"].map((what) => ask("m:write", what).logLines)).toEqual([[], [], []]);
  });

  test("is the largest, and the deepest, of those that were written", () => {
    const { value, logLines } = ask("m:write", "both");
    expect(logLines).toEqual([large(value[0]), deep(value[1])]);
  });
});
