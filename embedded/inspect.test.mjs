import { expect, test } from "vitest";
import { inspect } from "./inspect.mjs";

test("an array is on one line unless one of its members has several", () => {
  expect(inspect([1, [true, null], []])).toBe("[ 1, [ true, null ], [] ]");
  expect(inspect([{ a: 1 }, 2])).toBe("[\n  {\n    a: 1\n  },\n  2\n]");
});

test("keys are quoted when they are no names, and symbols are shown", () => {
  expect(inspect({ 0: 1, "b-c": 2, [Symbol("s")]: 3 })).toBe("{\n  0: 1,\n  'b-c': 2,\n  [Symbol(s)]: 3\n}");
});

test("five levels of containers are shown, and no more", () => {
  expect(inspect([[[[[1]]]]])).toBe("[ [ [ [ [ 1 ] ] ] ] ]");
  expect(inspect([[[[[[1], {}]]]]])).toBe("[ [ [ [ [ [Array], [Object] ] ] ] ] ]");
});

test("a string of 32,768 characters is whole, one more is cut and says so", () => {
  expect(inspect("x".repeat(32_768))).toBe(`'${"x".repeat(32_768)}'`);
  expect(inspect("x".repeat(32_769))).toBe(`'${"x".repeat(32_768)}'... 1 more character`);
});

test("an error has its fields and its cause on its line", () => {
  const error = Object.assign(new RangeError("far", { cause: "wind" }), { code: 7 });
  expect(inspect(error)).toBe("{ [RangeError: far] [cause]: 'wind', code: 7 }");
});

test("the keys of a Map stay on one line, its values and the members of a Set do not", () => {
  expect(inspect(new Map([[{ a: [1] }, { b: 2 }]]))).toBe("Map (1) {\n  { a: [ 1 ] } => {\n    b: 2\n  }\n}");
  expect(inspect({ set: new Set([1, 2]), none: new Set() })).toBe(
    "{\n  set: Set (2) {\n    1,\n    2\n  },\n  none: Set (0) {}\n}",
  );
});

test("control characters are escaped, others stay", () => {
  expect(inspect("it's\n\u0001\u007fé")).toBe("'it\\'s\\n\\x01\u007fé'");
});
