import { expect, test } from "vitest";
import { inFieldOrder, textInFieldOrder } from "./field-order.mjs";

const UNSORTED = { b: [{ d: 1, c: { $integer: "AAAAAAAAAAA=" } }], _id: "x", Z: null, a: { y: 1, x: 2 } };
const SORTED = '{"Z":null,"_id":"x","a":{"x":2,"y":1},"b":[{"c":{"$integer":"AAAAAAAAAAA="},"d":1}]}';

test("fields are in order of their names at every depth, capitals before _ before small letters", () => {
  expect(JSON.stringify(inFieldOrder(UNSORTED))).toBe(SORTED);
  expect(textInFieldOrder(JSON.stringify(UNSORTED), UNSORTED)).toBe(SORTED);
});

test("what is in order already is not copied", () => {
  const value = { a: [{ b: 1, c: 2 }], d: {} };
  expect(inFieldOrder(value)).toBe(value);
  expect(textInFieldOrder('{ "a": 1 }', { a: 1 })).toBe('{ "a": 1 }');
});

test("a field named __proto__ stays one", () => {
  const value = JSON.parse('{"b":1,"__proto__":{"z":1}}');
  expect(JSON.stringify(inFieldOrder(value))).toBe('{"__proto__":{"z":1},"b":1}');
});

test("in a text, names that are integers have their places as texts", () => {
  const value = { b: [{ 9: 1, 10: 2, a: { 2: "x", 11: null } }], a: 1 };
  expect(textInFieldOrder(JSON.stringify(value), value)).toBe(
    '{"a":1,"b":[{"10":2,"9":1,"a":{"11":null,"2":"x"}}]}',
  );
});
