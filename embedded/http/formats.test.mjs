import { expect, test } from "vitest";
import { formatReply, formatValue } from "./formats.mjs";

const float = (value) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return JSON.stringify({ $float: bytes.toString("base64") });
};

test.each([
  ["a plain value", '{"a":[1,null,"x"]}', { a: [1, null, "x"] }],
  ["text that looks like an encoded value", '["\\"$integer","$5"]', ['"$integer', "$5"]],
  ["an int64", '{"$integer":"AQAAAAAAAIA="}', "-9223372036854775807"],
  ["bytes", '[{"$bytes":"AQI="}]', ["AQI="]],
  ["NaN", float(NaN), "NaN"],
  ["infinity", float(-Infinity), "-Infinity"],
  ["negative zero", float(-0), -0],
  [
    "a field named like a prototype's",
    '{"__proto__":{"$bytes":""},"b":1}',
    JSON.parse('{"__proto__":"","b":1}'),
  ],
])("%s reads well in the clean format", (_, text, value) => {
  expect(JSON.parse(formatValue(text, "json"))).toEqual(value);
});

test("the encoded format is the engine's own text", () => {
  const text = '{"a":{"$integer":"AQAAAAAAAAA="}}';
  expect(formatValue(text, "convex_encoded_json")).toBe(text);
});

test.each(["json", "convex_encoded_json"])("numbers are written as floats in %s", (format) => {
  const written = (/** @type {string} */ text) => formatValue(text, format);
  expect(written("3")).toBe("3.0");
  expect(written('{"1":-10,"a":[0,1.5,2e+21,5e-324],"b":"7 \\\\","c":"\\"8\\\\\\"","d":12}')).toBe(
    '{"1":-10.0,"a":[0.0,1.5,2e+21,5e-324],"b":"7 \\\\","c":"\\"8\\\\\\"","d":12.0}',
  );
  const long = JSON.stringify(`"${"9\\".repeat(1_000_000)}`);
  expect(written(`[${long},1]`)).toBe(`[${long},1.0]`);
});

test("an answer without error data has no such field", () => {
  const failed = JSON.parse(formatReply({ ok: false, message: "m", logLines: ["l"] }, "json"));
  expect(failed).toEqual({ status: "error", errorMessage: "m", logLines: ["l"] });
});
