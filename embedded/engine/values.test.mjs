import { convexToJson, getConvexSize } from "convex/values";
import { describe, expect, test } from "vitest";
import { Random } from "./random-values.mjs";
import {
  checkStored,
  checkValue,
  containsCommitTs,
  decodeFloat64,
  decodeInt64,
  encodeFloat64,
  encodeInt64,
  formatValue,
  resolveCommitTs,
  resolveCommitTsInText,
  textContainsCommitTs,
  ValueError,
  valueSize,
} from "./values.mjs";

const bytes = (...values) => convexToJson(new Uint8Array(values).buffer);

function nested(depth) {
  let value = null;
  for (let i = 0; i < depth; i++) value = i % 2 ? [value] : { a: value };
  return value;
}

function objectWith(fields) {
  return Object.fromEntries(Array.from({ length: fields }, (_, i) => [`f${i}`, null]));
}

describe("what may be a value", () => {
  test.each([
    ["64 levels", nested(64)],
    ["1024 fields", objectWith(1024)],
    ["8192 elements", new Array(8192).fill(null)],
    ["a field name of 1024 characters", { ["x".repeat(1024)]: 1 }],
    ["every printable ASCII character and the empty field name", { "": 1, " ~a$_": 2 }],
    ["names that every object inherits", JSON.parse('{"__proto__":1,"constructor":2}')],
    ["the special floats", [NaN, Infinity, -Infinity, -0].map(encodeFloat64)],
    ["empty bytes", { $bytes: "" }],
  ])("%s are accepted", (_, value) => {
    expect(checkValue(value)).toBe(valueSize(value));
  });

  test.each([
    [nested(65), "Value is too nested (nested 65 levels deep > maximum nesting 64)"],
    [objectWith(1025), "Object has too many fields (1025 > maximum number 1024)"],
    [new Array(8193).fill(null), "Array length is too long (8193 > maximum length 8192)"],
    [{ ["x".repeat(1025)]: 1 }, "Field name is too long (1025 > maximum 1024)"],
    [{ $set: [] }, "Field name $set starts with '$', which is reserved."],
    [{ a: 1, $integer: "AAAAAAAAAAA=" }, "Field name $integer starts with '$', which is reserved."],
    [{ $commitTs: null }, "Field name $commitTs starts with '$', which is reserved."],
    [{ $undefined: null }, "Field name $undefined starts with '$', which is reserved."],
    [
      { "a\n": 1 },
      "Field name a\n has invalid character '\\n': Field names can only contain non-control ASCII characters",
    ],
    [
      { "\x7f": 1 },
      "Field name \x7f has invalid character '\\u{7f}': Field names can only contain non-control ASCII characters",
    ],
    [
      { é: 1 },
      "Field name é has invalid character 'é': Field names can only contain non-control ASCII characters",
    ],
    [{ $integer: "AAAA" }, "Int64 must be exactly eight bytes"],
    [{ $float: "AAAA" }, "Float64 must be exactly eight bytes"],
    [{ $float: "AAAAAAAA8D8=" }, "Float64 1 should be encoded as a number"],
    [{ $bytes: "A" }, "Malformed $bytes field"],
    [{ $bytes: "AA=A" }, "Malformed $bytes field"],
    [{ $bytes: 1 }, "Malformed $bytes field"],
    [undefined, "undefined is not a supported Convex type"],
  ])("%# is refused with Convex's text", (value, message) => {
    expect(() => checkValue(value)).toThrow(new ValueError(message));
    expect(() => checkValue([{ inner: value }])).toThrow(ValueError);
  });

  test("a depth that would exhaust the stack is refused like any other", () => {
    const value = JSON.parse("[".repeat(200_000) + "]".repeat(200_000));
    expect(() => checkValue(value)).toThrow("nested 65 levels deep");
  });

  test("32 MiB is the largest value and one byte more is too large", () => {
    const text = "x".repeat(32 * 1024 * 1024 - 2);
    expect(checkValue(text)).toBe(32 * 1024 * 1024);
    expect(() => checkValue(`${text}x`)).toThrow("Value is too large (32.00 MiB > maximum size 32 MiB)");
    expect(() => checkValue(["x".repeat(1024), text])).toThrow(
      "Value is too large (32.00 MiB > maximum size 32 MiB)",
    );
  });
});

describe("what may be a document", () => {
  test("16 levels and 1 MiB are accepted, with or without the system fields", () => {
    expect(() => checkStored({ _id: "x", _creationTime: 1, deep: nested(15) })).not.toThrow();
    expect(checkStored({ a: "x".repeat(1024 * 1024 - 6) })).toBe(1024 * 1024);
  });

  test.each([
    [
      { a: nested(16) },
      "isn't a valid document: Document is too nested (nested 17 levels deep > maximum nesting 16)",
    ],
    [
      { _x: 1 },
      "{_x: 1.0} isn't a valid document: Field '_x' starts with an underscore, which is only allowed for system fields like '_id'",
    ],
    [{ a: "x".repeat(1024 * 1024 - 5) }, "Value is too large (1.00 MiB > maximum size 1 MiB)"],
    [{ a: "x".repeat(1536 * 1024) }, "Value is too large (1.50 MiB > maximum size 1 MiB)"],
    [[], "Documents must be objects"],
    [bytes(1), "Documents must be objects"],
    [null, "Documents must be objects"],
  ])("%# is refused with Convex's text", (value, message) => {
    expect(() => checkStored(value)).toThrow(message);
  });

  test("fields below the top may start with an underscore", () => {
    expect(() => checkStored({ a: { _x: 1 } })).not.toThrow();
  });
});

describe("the size of a value", () => {
  test("is what Convex counts", () => {
    const random = new Random(4);
    for (let round = 0; round < 2_000; round++) {
      const value = random.value();
      const encoded = convexToJson(value);
      expect(valueSize(encoded)).toBe(getConvexSize(value));
      expect(checkValue(encoded)).toBe(getConvexSize(value));
    }
    expect(valueSize("é😀".repeat(500))).toBe(2 + 6 * 500);
    expect(valueSize(undefined)).toBe(0);
  });
});

describe("other forms", () => {
  test("numbers of both kinds come back as they went in", () => {
    for (const int of [0n, -1n, 2n ** 63n - 1n, -(2n ** 63n)])
      expect(decodeInt64(encodeInt64(int))).toBe(int);
    for (const float of [0, -0, 1.5, NaN, Infinity]) expect(decodeFloat64(encodeFloat64(float))).toBe(float);
    expect(encodeInt64(258n)).toEqual(convexToJson(258n));
    expect(encodeFloat64(-0)).toEqual(convexToJson(-0));
  });

  test.each([
    [null, "null"],
    [true, "true"],
    [1, "1.0"],
    [-1.5, "-1.5"],
    [0.00001, "0.00001"],
    [0.0000012, "1.2e-6"],
    [1e15, "1000000000000000.0"],
    [1.5e16, "1.5e16"],
    [encodeFloat64(-0), "-0.0"],
    [encodeFloat64(NaN), "NaN"],
    [encodeFloat64(-Infinity), "-inf"],
    [encodeInt64(-7n), "-7"],
    [bytes(1, 2), 'b"AQI="'],
    ['a"\\\n\0\x1b é', '"a\\"\\\\\\n\\0\\u{1b} é"'],
    [{ b: [1, "x"], a: {} }, '{a: {}, b: [1.0, "x"]}'],
  ])("%j is printed as %s", (value, printed) => {
    expect(formatValue(value)).toBe(printed);
  });
});

describe("the commit timestamp's placeholder", () => {
  const document = { at: { $commitTs: null }, list: [{ at: { $commitTs: null } }], other: 1 };

  test("is a value where it is allowed, as large as an int64", () => {
    expect(checkValue({ $commitTs: null }, { commitTs: true })).toBe(9);
    expect(checkValue(document, { commitTs: true, document: true })).toBe(valueSize(document));
    expect(() => checkValue({ $commitTs: 1 }, { commitTs: true })).toThrow(ValueError);
    expect(() => checkValue(document)).toThrow("Field name $commitTs starts with '$', which is reserved.");
  });

  test("is found anywhere and replaced everywhere", () => {
    const resolved = resolveCommitTs(document, 99n);
    expect(resolved).toEqual({ at: encodeInt64(99n), list: [{ at: encodeInt64(99n) }], other: 1 });
    expect(containsCommitTs(document)).toBe(true);
    expect(containsCommitTs(resolved)).toBe(false);
    expect(containsCommitTs(document.list)).toBe(true);
  });

  test("is replaced in a text as in the value, and not in a string that looks like it", () => {
    const value = { ...document, quoted: '{"$commitTs":null}', ["__proto__"]: { at: { $commitTs: null } } };
    const text = JSON.stringify(value);
    expect(textContainsCommitTs(text)).toBe(true);
    expect(resolveCommitTsInText(text, 99n)).toBe(JSON.stringify(resolveCommitTs(value, 99n)));
    expect(textContainsCommitTs(JSON.stringify({ quoted: value.quoted }))).toBe(false);
  });

  test("leaves what has none of it as it is", () => {
    expect(resolveCommitTs(document, 99n)).not.toBe(document);
    const without = { list: [{ at: 1 }], other: null };
    expect(resolveCommitTs(without, 99n)).toBe(without);
  });
});
