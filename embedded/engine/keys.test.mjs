import { compareValues as convexOrder, convexToJson } from "convex/values";
import { describe, expect, test } from "vitest";
import { compareValues, encodeIndexKey, encodeKey, keySuccessor } from "./keys.mjs";
import { Random } from "./random-values.mjs";

const LADDER = [
  undefined,
  null,
  -(2n ** 63n),
  -129n,
  -1n,
  0n,
  1n,
  2n ** 63n - 1n,
  -Infinity,
  -1e300,
  -1,
  -0,
  0,
  5e-324,
  1,
  Infinity,
  NaN,
  false,
  true,
  "",
  "\0",
  "\0a",
  "\x01",
  "a",
  "a\0",
  "a\0b",
  "a\x01",
  "aa",
  "b",
  "é",
  "\uffff",
  "😀",
  new Uint8Array([]).buffer,
  new Uint8Array([0]).buffer,
  new Uint8Array([0, 0]).buffer,
  new Uint8Array([1]).buffer,
  new Uint8Array([255]).buffer,
  [],
  [null],
  [null, null],
  [0n],
  ["a"],
  ["a", 1],
  [[]],
  {},
  { "": 1 },
  { a: 1 },
  { a: 1, b: 1 },
  { a: 2 },
  { b: null },
];

function encoded(value) {
  return value === undefined ? undefined : convexToJson(value);
}

describe("the order of values", () => {
  test("every pair of a ladder of all types sorts by key and by comparison as the ladder does", () => {
    for (const [i, low] of LADDER.entries()) {
      for (const [j, high] of LADDER.entries()) {
        const expected = Math.sign(i - j);
        expect(Buffer.compare(encodeKey(encoded(low)), encodeKey(encoded(high))), `${i} ${j}`).toBe(expected);
        expect(Math.sign(compareValues(encoded(low), encoded(high))), `${i} ${j}`).toBe(expected);
      }
    }
  });

  test("random values sort by key and by comparison as Convex's own comparison sorts them", () => {
    const random = new Random(1);
    for (let round = 0; round < 20_000; round++) {
      const [a, encodedA] = random.field();
      const [b, encodedB] = random.field();
      const expected = Math.sign(convexOrder(a, b));
      expect(Buffer.compare(encodeKey(encodedA), encodeKey(encodedB))).toBe(expected);
      expect(Math.sign(compareValues(encodedA, encodedB))).toBe(expected);
    }
  });

  test("an unresolved commit timestamp sorts after every other int64 and before every float", () => {
    expect(compareValues({ $commitTs: null }, encoded(2n ** 63n - 2n))).toBeGreaterThan(0);
    expect(compareValues({ $commitTs: null }, encoded(-Infinity))).toBeLessThan(0);
  });

  test("long and non-ASCII texts keep their order past the fast path", () => {
    const texts = [
      "a".repeat(47),
      "a".repeat(48),
      "a".repeat(49),
      `${"a".repeat(49)}é`,
      `${"a".repeat(49)}😀`,
      "b",
    ];
    const keys = texts.map((text) => encodeKey(text));
    expect([...keys].reverse().sort(Buffer.compare)).toEqual(keys);
  });
});

describe("keys of several fields", () => {
  test("sort field by field", () => {
    const random = new Random(2);
    for (let round = 0; round < 5_000; round++) {
      const fields = [random.field(), random.field(), random.field(), random.field()];
      const [a1, a2, b1, b2] = fields.map(([value]) => value);
      const [keyA1, keyA2, keyB1, keyB2] = fields.map(([, value]) => value);
      const expected = Math.sign(convexOrder(a1, b1) || convexOrder(a2, b2));
      expect(Buffer.compare(encodeIndexKey([keyA1, keyA2]), encodeIndexKey([keyB1, keyB2]))).toBe(expected);
    }
  });

  test("no key is the beginning of another, so a prefix and its successor hold exactly the keys with that first field", () => {
    const random = new Random(3);
    for (let round = 0; round < 5_000; round++) {
      const [wanted, encodedWanted] = random.field();
      const [first, encodedFirst] = random.below(2) ? [wanted, encodedWanted] : random.field();
      const low = encodeKey(encodedWanted);
      const high = keySuccessor(low);
      const key = encodeIndexKey([encodedFirst, random.field()[1]]);
      const inside = Buffer.compare(low, key) <= 0 && (high === null || Buffer.compare(key, high) < 0);
      expect(inside).toBe(convexOrder(first, wanted) === 0);
    }
  });

  test("nothing at all has the empty key, and no key follows it or a prefix of 255s", () => {
    expect(encodeIndexKey([])).toEqual(Buffer.alloc(0));
    expect(keySuccessor(Buffer.alloc(0))).toBeNull();
    expect(keySuccessor(Buffer.from([255, 255]))).toBeNull();
    expect(keySuccessor(Buffer.from([1, 255]))).toEqual(Buffer.from([2]));
  });
});

describe("the scratch buffer", () => {
  test("a key does not change when the next one is made", () => {
    const key = encodeKey("first");
    const copy = Buffer.from(key);
    encodeKey("second");
    expect(key).toEqual(copy);
  });

  test("a huge value in the middle of a key leaves its neighbours whole", () => {
    const huge = "\0".repeat(200_000);
    const key = encodeIndexKey(["a", [huge, { x: huge }], "z"]);
    expect(key.subarray(0, 3)).toEqual(encodeKey("a"));
    expect(key.subarray(-3)).toEqual(encodeKey("z"));
    expect(key.length).toBeGreaterThan(800_000);
    expect(encodeKey("a")).toEqual(key.subarray(0, 3));
  });

  test("what is not an encoded value is refused, and the next key is right", () => {
    expect(() => encodeKey({ $set: [] })).toThrow("$set is not an encoded value");
    expect(() => encodeKey({ $integer: "AAAA" })).toThrow("an encoded number of 3 bytes");
    expect(encodeKey(null)).toEqual(Buffer.from([3]));
  });
});
