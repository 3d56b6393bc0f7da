import { describe, expect, test } from "vitest";
import { afterVerb } from "./optimistic";
import { hourOf, minutesOf, perRun, sumOf } from "./minutes";
import { hrefOf, parseRoute } from "./route";
import { codeOf, dollars, messageOf, pretty, span, visible } from "./text";

test.each([
  ["plain text, tabs\tand\nlines", "plain text, tabs\tand\nlines"],
  ["\r\n", "\n"],
  ["\r", "␍"],
  ["\u001b[2J\u0000\u007f", "␛[2J␀␡"],
  ["\u0085\u200e\u202e\u2069\ufeff", "⟨U+0085⟩⟨U+200E⟩⟨U+202E⟩⟨U+2069⟩⟨U+FEFF⟩"],
  ["\ud800x\udc00", "⟨U+D800⟩x⟨U+DC00⟩"],
  ["שלום 👩‍💻 é", "שלום 👩‍💻 é"], // what is written from right to left, and what is joined, stays
])("%j is shown as %j", (text, shown) => expect(visible(text)).toBe(shown));

test.each([
  [0, "0 ms"],
  [999, "999 ms"],
  [1_000, "1.0 s"],
  [9_949, "9.9 s"],
  [9_950, "9 s"],
  [59_999, "59 s"],
  [60_000, "1 min"],
  [61_000, "1 min 1 s"],
  [3_600_000, "1 h"],
  [86_400_000 + 7_200_000, "1 d 2 h"],
  [-5, "0 ms"],
  [NaN, "?"],
])("%d ms is %s", (ms, text) => expect(span(ms)).toBe(text));

test.each([
  [0, "$0.00"],
  [1, "$0.000001"],
  [9_999, "$0.009999"],
  [10_000, "$0.010"],
  [999_400, "$0.999"],
  [1_000_000, "$1.00"],
  [12_345_678, "$12.35"],
])("%d micro-dollars are %s", (micros, text) => expect(dollars(micros)).toBe(text));

describe("addresses", () => {
  test.each([
    ["", [], {}],
    ["#/", [], {}],
    ["#/tasks/abc", ["tasks", "abc"], {}],
    ["#/tasks?status=failed&code=a%2Fb", ["tasks"], { status: "failed", code: "a/b" }],
    ["#/agents/a%2Fb%20c", ["agents", "a/b c"], {}],
    ["#/agents/%zz", ["agents", "%zz"], {}],
  ])("%s", (hash, path, query) => {
    const route = parseRoute(hash);
    expect([route.path, Object.fromEntries(route.query)]).toEqual([path, query]);
  });

  test("what is written is read again", () => {
    const path = ["agents", "ä/ö ?#&"];
    const query = { code: "a&b=c#d", empty: "", none: null };
    const route = parseRoute(hrefOf(path, query));
    expect([route.path, Object.fromEntries(route.query)]).toEqual([path, { code: "a&b=c#d" }]);
  });
});

test("what was wrong is said in the control plane's own words", () => {
  const refusal = Object.assign(new Error("[CONVEX Q(x:y)] long"), {
    data: { code: "forbidden", message: "No." },
  });
  expect([messageOf(refusal), codeOf(refusal)]).toEqual(["No.", "forbidden"]);
  expect(messageOf(new Error("[CONVEX M(a:b)] Server Error\nUncaught Error: it broke\n    at x"))).toBe(
    "it broke",
  );
  expect([messageOf("plain"), codeOf("plain")]).toEqual(["plain", null]);
});

test.each([
  ['{"a":[1]}', '{\n  "a": [\n    1\n  ]\n}'],
  ['"a\\nb"', "a\nb"],
  ["{broken", "{broken"],
])("%s is written %j", (json, text) => expect(pretty(json)).toBe(text));

test.each([
  ["cancel", "pending", "cancelled"],
  ["cancel", "running", undefined],
  ["cancel", "succeeded", undefined],
  ["retry", "failed", "pending"],
  ["retry", "succeeded", undefined],
  ["retry", "running", undefined],
  ["pause", "delayed", "paused"],
  ["pause", "running", undefined],
  ["resume", "paused", "pending"],
  ["resume", "pending", undefined],
] as const)("%s of a %s task makes it %s", (verb, before, after) =>
  expect(afterVerb(verb, before)).toBe(after),
);

test("the minutes of an hour, with those in which nothing happened", () => {
  const { from, to } = hourOf(3_661_000);
  expect([from, to]).toEqual([120_000, 3_720_000]);
  const none = minutesOf([], from, to);
  expect(none).toHaveLength(60);
  const [first] = none;
  const minutes = minutesOf([{ ...first!, bucket: 180_000, succeeded: 3, failed: 1, runMs: 800 }], from, to);
  expect(minutes[1]).toMatchObject({ bucket: 180_000, succeeded: 3 });
  expect(perRun(sumOf(minutes))).toBe(200);
  expect(perRun(sumOf(none))).toBeNaN();
});
