import { convexToJson, v } from "convex/values";
import { describe, expect, test } from "vitest";
import { encodeId } from "./ids.mjs";
import { compileValidator, printValidator, ValidatorError } from "./validators.mjs";

const TABLES = new Map([
  ["users", 10_001],
  ["tasks", 10_002],
  ["_storage", 4],
]);
const tables = {
  tableNumberOf: (name) => TABLES.get(name) ?? null,
  tableNameOf: (number) => [...TABLES].find(([, other]) => other === number)?.[0] ?? null,
};
const idIn = (number) => encodeId(number, new Uint8Array(16).fill(7));

function check(validator, value) {
  return compileValidator(validator.json).check(convexToJson(value), tables);
}

const bytes = new Uint8Array([1]).buffer;
const ALL_KINDS = v.object({
  nothing: v.null(),
  float: v.float64(),
  int: v.int64(),
  bool: v.boolean(),
  text: v.string(),
  data: v.bytes(),
  anything: v.any(),
  word: v.literal("on"),
  user: v.id("users"),
  file: v.id("_storage"),
  list: v.array(v.float64()),
  record: v.record(v.string(), v.int64()),
  inner: v.object({ maybe: v.optional(v.string()) }),
  either: v.union(v.string(), v.null()),
  at: v.commitTs(),
});
const FITTING = {
  nothing: null,
  float: NaN,
  int: 7n,
  bool: false,
  text: "",
  data: bytes,
  anything: [{ a: 1n }],
  word: "on",
  user: idIn(10_001),
  file: idIn(4),
  list: [1, -0],
  record: { a: 1n, b: 2n },
  inner: {},
  either: null,
  at: 1n,
};

describe("a value that fits", () => {
  test("passes every kind of validator", () => {
    expect(check(ALL_KINDS, FITTING)).toBeNull();
  });

  test("may hold an unresolved commit timestamp where an int64 is expected", () => {
    for (const validator of [v.commitTs(), v.int64()]) {
      expect(compileValidator(validator.json).check({ $commitTs: null }, tables)).toBeNull();
    }
    expect(compileValidator(v.float64().json).check({ $commitTs: null }, tables)).toMatch("v.float64()");
  });

  test("is found by the one member of a union that takes it", () => {
    const state = v.union(
      v.object({ kind: v.literal("pending") }),
      v.object({ kind: v.literal("failed"), error: v.string() }),
    );
    expect(check(state, { kind: "failed", error: "x" })).toBeNull();
    expect(check(v.union(v.union(v.literal(1n), v.literal(true))), 1n)).toBeNull();
    expect(check(v.literal(1.5), 1.5)).toBeNull();
  });

  test("may have fields named like those that every object inherits", () => {
    const validator = v.object({ constructor: v.string(), toString: v.optional(v.string()) });
    expect(check(validator, { constructor: "x" })).toBeNull();
    expect(check(validator, {})).toMatch("missing the required field `constructor`");
    expect(check(v.object({}), { valueOf: "x" })).toMatch("extra field `valueOf`");
  });
});

describe("a value that does not fit", () => {
  test.each(
    Object.keys(FITTING)
      .filter((field) => field !== "anything")
      .map((field) => [field, field === "nothing" || field === "either" ? 1 : null]),
  )("%s is refused for %j", (field, wrong) => {
    expect(check(ALL_KINDS, { ...FITTING, [field]: wrong })).toMatch(
      new RegExp(`^(Value does not match validator\\.\nPath: \\.${field}\nValue: |\`null\` does not match)`),
    );
  });

  test.each([
    [v.string(), 1, "Value does not match validator.\n\nValue: 1.0\nValidator: v.string()"],
    [v.float64(), 1n, "Value does not match validator.\n\nValue: 1\nValidator: v.float64()"],
    [v.object({}), bytes, 'Value does not match validator.\n\nValue: b"AQ=="\nValidator: v.object({})'],
    [
      v.record(v.string(), v.any()),
      [],
      "Value does not match validator.\n\nValue: []\nValidator: v.record(v.string(), v.any())",
    ],
    [
      v.object({ a: v.array(v.object({ b: v.boolean() })) }),
      { a: [{ b: true }, { b: "x" }] },
      'Value does not match validator.\nPath: .a[1].b\nValue: "x"\nValidator: v.boolean()',
    ],
    [
      v.object({ z: v.string(), a: v.optional(v.string()) }),
      { a: "x" },
      "Object is missing the required field `z`. Consider wrapping the field validator in `v.optional(...)` if this is expected.\n" +
        '\nObject: {a: "x"}\nValidator: v.object({a: v.optional(v.string()), z: v.string()})',
    ],
    [
      v.object({ a: v.object({ b: v.null() }) }),
      { a: { b: null, d: 1, c: 1 } },
      "Object contains extra field `c` that is not in the validator.\nPath: .a\nObject: {b: null, c: 1.0, d: 1.0}\nValidator: v.object({b: v.null()})",
    ],
    [v.literal("on"), "off", '`"off"` does not match literal validator `v.literal("on")`.'],
    [v.literal(1), 1n, "`1` does not match literal validator `v.literal(1.0)`."],
    [v.literal(0), -0, "`-0.0` does not match literal validator `v.literal(0.0)`."],
    [
      v.object({ n: v.literal(1n) }),
      { n: 2n },
      "`2` does not match literal validator `v.literal(<bigint>)`.Path: .n",
    ],
    [
      v.array(v.id("users")),
      [idIn(10_002)],
      `Found ID "${idIn(10_002)}" from table \`tasks\`, which does not match the table name in validator \`v.id("users")\`.Path: [0]`,
    ],
    [
      v.id("users"),
      idIn(4),
      `Found ID "${idIn(4)}" from a system table, which does not match the table name in validator \`v.id("users")\`.`,
    ],
    [
      v.id("users"),
      idIn(999),
      `Value does not match validator.\n\nValue: "${idIn(999)}"\nValidator: v.id("users")`,
    ],
    [v.id("users"), "x", 'Value does not match validator.\n\nValue: "x"\nValidator: v.id("users")'],
    [
      v.record(v.id("users"), v.string()),
      { x: "y" },
      'Value does not match validator.\nPath: .keys()\nValue: "x"\nValidator: v.id("users")',
    ],
    [
      v.object({ r: v.record(v.string(), v.string()) }),
      { r: { x: 1 } },
      "Value does not match validator.\nPath: .r.values()\nValue: 1.0\nValidator: v.string()",
    ],
    [
      v.union(v.object({ kind: v.literal("a") }), v.object({ kind: v.literal("b"), n: v.int64() })),
      { kind: "b" },
      'Value does not match validator.\n\nValue: {kind: "b"}\nValidator: v.union(v.object({kind: v.literal("a")}), v.object({kind: v.literal("b"), n: v.int64()}))',
    ],
    [v.union(v.object({ a: v.null() })), {}, "Object is missing the required field `a`."],
    [v.union(), 1, "Value does not match validator.\n\nValue: 1.0\nValidator: v.union()"],
  ])("%# has Convex's text", (validator, value, message) => {
    const error = check(validator, value);
    expect(error?.slice(0, message.length)).toBe(message);
    if (!message.endsWith("`a`.")) expect(error).toBe(message);
  });

  test("of one compiled validator does not leave a trace in the next answer", () => {
    const { check: checkList } = compileValidator(v.array(v.string()).json);
    const first = checkList(["a", 1], tables);
    expect(checkList(["a", 1], tables)).toBe(first);
    expect(checkList(["a"], tables)).toBeNull();
  });
});

describe("documents", () => {
  const table = compileValidator(v.object({ a: v.string() }).json, { document: true });
  const union = compileValidator(
    v.union(v.object({ a: v.string() }), v.object({ _id: v.string(), b: v.string() })).json,
    { document: true },
  );

  test("are checked without their system fields", () => {
    expect(table.check({ _id: "x", _creationTime: 1, a: "y" }, tables)).toBeNull();
    expect(union.check({ _id: "x", _creationTime: 1, b: "y" }, tables)).toBeNull();
    expect(table.check({ _id: "x", _creationTime: 1, a: "y", b: 1 }, tables)).toBe(
      'Object contains extra field `b` that is not in the validator.\n\nObject: {a: "y", b: 1.0}\nValidator: v.object({a: v.string()})',
    );
    expect(union.check({ _id: "x", _creationTime: 1 }, tables)).toBe(
      "Value does not match validator.\n\nValue: {}\nValidator: v.union(v.object({a: v.string()}), v.object({b: v.string()}))",
    );
  });

  test("keep inner fields that start with an underscore", () => {
    const inner = compileValidator(v.object({ a: v.object({}) }).json, { document: true });
    expect(inner.check({ a: { _x: 1 } }, tables)).toMatch("extra field `_x`");
  });
});

describe("validators themselves", () => {
  test("are printed as Convex prints them", () => {
    expect(printValidator(ALL_KINDS.json)).toBe(
      "v.object({anything: v.any(), at: v.commitTs(), bool: v.boolean(), data: v.bytes(), either: v.union(v.string(), v.null()), " +
        'file: v.id("_storage"), float: v.float64(), inner: v.object({maybe: v.optional(v.string())}), int: v.int64(), ' +
        'list: v.array(v.float64()), nothing: v.null(), record: v.record(v.string(), v.int64()), text: v.string(), user: v.id("users"), ' +
        'word: v.literal("on")})',
    );
    expect(printValidator(v.union(v.literal(true), v.literal(1e16), v.literal(NaN)).json)).toBe(
      "v.union(v.literal(true), v.literal(1e16), v.literal(<number>))",
    );
  });

  test.each([
    [{ type: "date" }, 'Unknown validator type "date"'],
    [undefined, "Unknown validator type undefined"],
    [{ type: "literal", value: null }, "Value null is not a valid literal."],
    [v.record(v.literal("a"), v.any()).json, "Records cannot have string literal keys"],
    [
      v.record(v.union(v.string(), v.union(v.literal("a"))), v.any()).json,
      "Records cannot have string literal keys",
    ],
    [
      v.record(v.int64(), v.any()).json,
      "Records can only have string keys. Your validator contains a record with key typed as `v.int64()`",
    ],
    [
      { type: "record", keys: { type: "string" }, values: { fieldType: { type: "any" }, optional: true } },
      "Records cannot have optional values",
    ],
    [v.id("a b").json, "Identifier a b has invalid character ' ': Identifiers can only contain"],
    [v.object({ "1a": v.any() }).json, "Invalid first character '1' in 1a: Identifiers must start with"],
    [v.object({ "a-b": v.any() }).json, "Identifier a-b has invalid character '-'"],
    [v.object({ é: v.any() }).json, "Field name é has invalid character 'é': Field names can only contain"],
    [v.object({ $a: v.any() }).json, "Field name $a starts with '$', which is reserved."],
    [v.object({ "": v.any() }).json, "Identifier cannot be empty"],
    [v.object({ __: v.any() }).json, "Identifier __ cannot have exclusively underscores"],
    [v.object({ ["a".repeat(65)]: v.any() }).json, "Identifier is too long (65 > maximum 64)"],
    [v.object({ ["a".repeat(1025)]: v.any() }).json, "Field name is too long (1025 > maximum 1024)"],
    [
      v.array(v.object({ a: v.object({ b: v.union(v.object({ "c d": v.any() })) }) })).json,
      "Invalid validator for key `a`: Invalid validator for key `b`: Identifier c d has invalid character ' '",
    ],
  ])("%# is refused in one line", (json, message) => {
    expect(() => compileValidator(json)).toThrow(ValidatorError);
    expect(() => compileValidator(json)).toThrow(message);
  });

  test("the longest name of a field is taken", () => {
    const name = "a".repeat(64);
    expect(compileValidator(v.object({ [name]: v.null() }).json).check({ [name]: null }, tables)).toBe(null);
  });
});
