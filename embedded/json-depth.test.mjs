import { expect, test } from "vitest";
import { isTooDeep, MAX_JSON_DEPTH } from "./json-depth.mjs";

const arrays = (depth) => "[".repeat(depth) + "]".repeat(depth);
const objects = (depth) => '{"a":'.repeat(depth) + "1" + "}".repeat(depth);

test.each([arrays, objects])("the limit is allowed and one level more is not (%s)", (nested) => {
  expect([isTooDeep(nested(MAX_JSON_DEPTH)), isTooDeep(nested(MAX_JSON_DEPTH + 1))]).toEqual([false, true]);
});

test.each([
  ["many brackets next to each other", `[${"[],".repeat(500)}[]]`],
  ["brackets inside of a string", JSON.stringify("[".repeat(500))],
  ["brackets after an escaped quote", JSON.stringify(`"${"[".repeat(500)}`)],
  ["an open string", `"${"[".repeat(500)}`],
])("%s are not depth", (_, text) => {
  expect(isTooDeep(text)).toBe(false);
});

test.each([
  ["closing brackets inside of a string", `${JSON.stringify("]".repeat(300))},`],
  ["a string that ends in a backslash", `${JSON.stringify("\\")},`],
])("%s hide no depth", (_, before) => {
  expect(isTooDeep(`[${before}${arrays(MAX_JSON_DEPTH)}]`)).toBe(true);
});
