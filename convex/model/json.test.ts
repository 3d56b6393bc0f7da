import { expect, test } from "vitest";
import { isJson, scans } from "./json";

const documents = [
  "null",
  " true ",
  "false",
  "0",
  "-0",
  "-1.5e+10",
  "1E5",
  "12.25",
  '""',
  '"a\\n\\u00e9\\"\\\\/"',
  '"é😀"',
  "[]",
  "{}",
  "[ ]",
  "{ }",
  "[1,[2,[]],{}]",
  '{"a":1,"b":{"c":[true,null]}}',
  '\t{ "a" : [ 1 , 2 ] , "" : "" }\r\n',
];

const garbage = [
  "",
  " ",
  "nul",
  "nulll",
  "True",
  "01",
  "-",
  "1.",
  ".5",
  "1e",
  "1e+",
  "+1",
  "0x1",
  "NaN",
  "Infinity",
  '"',
  '"\\"',
  '"\\x"',
  '"\\u12g4"',
  '"\n"',
  "'a'",
  "[",
  "]",
  "[1,]",
  "[,1]",
  "[1 2]",
  "[1}",
  "{",
  '{"a"}',
  '{"a":}',
  '{"a":1,}',
  "{a:1}",
  '{"a":1 "b":2}',
  '{"a":1]',
  "1 2",
  "[] []",
  "\u00a01",
  "[1]x",
];

test.each(documents)("%j is JSON", (text) => {
  expect(scans(text)).toBe(true);
  expect(() => void JSON.parse(text)).not.toThrow();
});

test.each(garbage)("%j is not JSON", (text) => {
  expect(scans(text)).toBe(false);
  expect(() => void JSON.parse(text)).toThrow();
});

test("it agrees with the parser on texts with a character changed, dropped or doubled", () => {
  let seed = 7;
  const draw = (below: number) => (seed = (seed * 48271) % 2147483647) % below;
  const chars = '[]{}:,"\\ 01.eE+-tnu\u0000';
  let valid = 0;
  for (let i = 0; i < 20_000; i++) {
    const text = documents[draw(documents.length)]!;
    const at = draw(text.length + 1);
    const char = chars[draw(chars.length)]!;
    const changed =
      text.slice(0, at) + ["", char, text[at] ?? "", char + char][draw(4)]! + text.slice(at + draw(2));
    let parses = true;
    try {
      JSON.parse(changed);
    } catch {
      parses = false;
    }
    if (parses) valid += 1;
    expect(scans(changed), JSON.stringify(changed)).toBe(parses);
  }
  expect(valid).toBeGreaterThan(1_000);
});

test("a large text is scanned, whatever its depth", () => {
  const deep = 1_000_000;
  expect(isJson("[".repeat(deep) + "]".repeat(deep))).toBe(true);
  expect(isJson("[".repeat(deep) + "]".repeat(deep - 1))).toBe(false);
});
