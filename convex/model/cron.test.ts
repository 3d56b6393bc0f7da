import { describe, expect, test } from "vitest";
import { lastBy, nextAfter, readWhen, sameWhen, type Timing, type When } from "./cron";

const after = (when: When, from: string, count: number) => {
  const found = [];
  let at = Date.parse(from);
  for (let i = 0; i < count; i++) {
    at = nextAfter(when, at)!;
    found.push(new Date(at).toISOString().replace(":00.000Z", "Z"));
  }
  return found;
};
const cron = (text: string, timeZone = "UTC") => readWhen({ cron: text, timeZone }, 0);

describe("daylight saving", () => {
  // Berlin: 02:00 to 03:00 is missing on 2026-03-29, and comes twice on 2026-10-25.
  test.each([
    [
      "a time that is missing comes right behind the gap",
      "30 2 * * *",
      "2026-03-28T02:00Z",
      ["2026-03-29T01:00Z", "2026-03-30T00:30Z"],
    ],
    [
      "several that are missing come once",
      "0,30 2 * * *",
      "2026-03-28T02:00Z",
      ["2026-03-29T01:00Z", "2026-03-30T00:00Z"],
    ],
    [
      "a time that comes twice is done the first time",
      "30 2 * * *",
      "2026-10-24T01:00Z",
      ["2026-10-25T00:30Z", "2026-10-26T01:30Z"],
    ],
    [
      "times by a step through a range are times",
      "0-30/15 2 * * *",
      "2026-03-28T02:00Z",
      ["2026-03-29T01:00Z", "2026-03-30T00:00Z", "2026-03-30T00:15Z"],
    ],
    [
      "a rhythm leaves out what is missing",
      "*/30 2 * * *",
      "2026-03-28T02:00Z",
      ["2026-03-30T00:00Z", "2026-03-30T00:30Z"],
    ],
    [
      "a rhythm goes on through the hour that comes twice",
      "0 * * * *",
      "2026-10-24T23:30Z",
      ["2026-10-25T00:00Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z"],
    ],
  ])("%s", (_, text, from, expected) => {
    expect(after(cron(text, "Europe/Berlin"), from, expected.length)).toEqual(expected);
  });
});

test.each([
  ["the last day of a month", "0 0 L * *", "2027-01-31T12:00Z", ["2027-02-28T00:00Z", "2027-03-31T00:00Z"]],
  ["the 31st", "0 0 31 * *", "2026-01-31T12:00Z", ["2026-03-31T00:00Z", "2026-05-31T00:00Z"]],
  ["29 February", "0 0 29 2 *", "2026-01-01T00:00Z", ["2028-02-29T00:00Z", "2032-02-29T00:00Z"]],
  [
    "a day or a weekday, as in cron",
    "0 0 13 * 5",
    "2026-02-01T00:00Z",
    ["2026-02-06T00:00Z", "2026-02-13T00:00Z"],
  ],
  ["Sunday as 7", "0 0 * * 7", "2026-01-01T00:00Z", ["2026-01-04T00:00Z"]],
  [
    "a day that begins with a star and a weekday, as in cron",
    "0 0 */2 * 1",
    "2026-02-01T00:00Z",
    ["2026-02-09T00:00Z", "2026-02-23T00:00Z"],
  ],
  ["a nickname", "@daily", "2026-01-01T00:00Z", ["2026-01-02T00:00Z"]],
  ["blanks between the fields", "  0   0 * *  MON-FRI ", "2026-01-02T00:00Z", ["2026-01-05T00:00Z"]],
])("%s", (_, text, from, expected) => {
  expect(after(cron(text), from, expected.length)).toEqual(expected);
});

test("an interval keeps to its anchor", () => {
  const when = readWhen({ everyMs: 1_500 }, 1_000_000);
  expect(nextAfter(when, 1_000_000)).toBe(1_001_500);
  expect(nextAfter(when, 0)).toBe(1_001_500);
  expect(nextAfter(when, 1_001_499)).toBe(1_001_500);
  expect(nextAfter(when, 1_001_500)).toBe(1_003_000);
  expect(nextAfter(when, 1_000_000 + 1_500 * 1_000_000 + 7)).toBe(1_000_000 + 1_500 * 1_000_001);
});

test.each<[string, When]>([
  ["each minute", cron("* * * * *")],
  ["once a day, in Berlin", cron("30 2 * * *", "Europe/Berlin")],
  ["twice an hour, in Lord Howe", cron("*/30 * * * *", "Australia/Lord_Howe")],
  ["29 February", cron("0 0 29 2 *")],
  ["an interval", readWhen({ everyMs: 7_777 }, Date.UTC(2026, 0, 1))],
])("the last occurrence by a time is the one that a walk finds: %s", (_, when) => {
  const first = nextAfter(when, Date.UTC(2026, 2, 28))!;
  const walked = [first];
  while (walked.length < 40) walked.push(nextAfter(when, walked.at(-1)!)!);
  for (const [i, by] of walked.entries()) {
    expect(lastBy(when, first, by)).toBe(by);
    expect(lastBy(when, first, by + 1)).toBe(by);
    if (i > 0) expect(lastBy(when, first, by - 1)).toBe(walked[i - 1]);
  }
});

describe("bad input", () => {
  test.each<[string, Timing, string]>([
    ["no time at all", {}, "cron, everyMs, at: none is given"],
    ["two kinds of time", { cron: "* * * * *", everyMs: 1_000 }, "cron and everyMs are given"],
    ["a day that never comes", { cron: "0 0 31 2 *" }, 'cron: \\"0 0 31 2 *\\": no such day ever comes'],
    ["another such day", { cron: "0 0 31 4,6,9,11 *" }, "no such day ever comes"],
    ["four fields", { cron: "* * * *" }, "use five fields"],
    ["six fields", { cron: "* * * * * *" }, "use five fields"],
    ["no fields", { cron: "" }, "use five fields"],
    ["a date in place of a cron", { cron: "2026-01-01T00:00:00Z" }, "use five fields"],
    ["a colon", { cron: "0:0 0 * * *" }, "use five fields"],
    ["minute 60", { cron: "60 * * * *" }, "minute: 60"],
    ["words", { cron: "a b c d e" }, "illegal characters"],
    ["a step of nothing", { cron: "*/0 * * * *" }, "stepping"],
    ["a range backwards", { cron: "5-1 * * * *" }, "larger"],
    ["@reboot", { cron: "@reboot" }, "use five fields"],
    ["an overlong cron", { cron: `${"0,".repeat(96)}0 * * * *` }, "201 characters; at most 200"],
    [
      "an unknown zone",
      { cron: "* * * * *", timeZone: "Mars/Olympus" },
      'timeZone: \\"Mars/Olympus\\" is not known',
    ],
    ["an offset for a zone", { cron: "* * * * *", timeZone: "+02:00" }, "timeZone"],
    ["an empty zone", { cron: "* * * * *", timeZone: "" }, "timeZone"],
    ["a zone for an interval", { everyMs: 1_000, timeZone: "UTC" }, "only a cron has one"],
    ["an interval below a second", { everyMs: 999 }, "everyMs: 999 is outside 1000 to"],
    ["half a millisecond", { everyMs: 1_000.5 }, "whole number"],
    ["an interval over its bound", { everyMs: 366 * 24 * 3_600_000 + 1 }, "everyMs"],
    ["no number", { at: NaN }, "at: NaN"],
  ])("%s is refused with its field", (_, timing, text) => {
    expect(() => readWhen(timing, 0)).toThrow(text);
  });

  test.each<[string, Timing]>([
    ["the shortest interval", { everyMs: 1_000 }],
    ["the longest interval", { everyMs: 366 * 24 * 3_600_000 }],
    ["the longest cron", { cron: `${"0,".repeat(95)}00 * * * *` }],
  ])("%s is taken", (_, timing) => {
    expect(readWhen(timing, 0)).toBeDefined();
  });
});

test("times are the same but for what an interval counts from", () => {
  expect(sameWhen(readWhen({ everyMs: 1_000 }, 1), readWhen({ everyMs: 1_000 }, 2))).toBe(true);
  expect(sameWhen(readWhen({ everyMs: 1_000 }, 1), readWhen({ everyMs: 2_000 }, 1))).toBe(false);
  expect(sameWhen(cron("0 0 * * *"), cron(" 0  0 * * *"))).toBe(true);
  expect(sameWhen(cron("0 0 * * *"), cron("0 0 * * *", "Asia/Tokyo"))).toBe(false);
  expect(sameWhen(readWhen({ at: 5 }, 0), readWhen({ at: 6 }, 0))).toBe(false);
});
