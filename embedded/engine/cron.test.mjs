import { cronJobs } from "convex/server";
import { describe, expect, test } from "vitest";
import { CronError, nextRun, nextRunSkipping, parseCrons } from "./cron.mjs";

const at = (text) => Date.parse(`${text}Z`);
const iso = (ms) => new Date(ms).toISOString().slice(0, 16);
const kindOf = (path) =>
  ({ "jobs:sweep": "mutation", "jobs:call": "action", "jobs:read": "query", "a/b:default": "action" })[
    path
  ] ?? null;

function after(schedule, text) {
  return iso(nextRun(schedule, at(text), { first: false }));
}

function afterCron(cron, text) {
  return after({ type: "cron", cron }, text);
}

describe("an interval", () => {
  test.each([
    [{ seconds: 20 }, 20_000],
    [{ minutes: 3 }, 180_000],
    [{ hours: 2 }, 7_200_000],
  ])("of %j runs at once, then one period after it was due", (period, ms) => {
    const schedule = { type: "interval", ...period };
    expect(nextRun(schedule, 1_000_123, { first: true })).toBe(1_000_123);
    expect(nextRun(schedule, 1_000_123, { first: false })).toBe(1_000_123 + ms);
  });

  test("keeps its beat when it is late, and skips what it missed", () => {
    const schedule = { type: "interval", seconds: 10 };
    expect(nextRunSkipping(schedule, 1_000, 2_000)).toBe(11_000);
    expect(nextRunSkipping(schedule, 1_000, 10_999)).toBe(11_000);
    expect(nextRunSkipping(schedule, 1_000, 11_000)).toBe(21_000);
    expect(nextRunSkipping(schedule, 1_000, 10 ** 12)).toBe(10 ** 12 + 1_000);
  });
});

describe("a time of the clock", () => {
  test.each([
    [{ type: "hourly" }, "2024-01-01T10:00", "2024-01-01T11:00"],
    [{ type: "hourly", minuteUTC: 30 }, "2024-01-01T10:29:59.999", "2024-01-01T10:30"],
    [{ type: "hourly", minuteUTC: 30 }, "2024-01-01T10:30", "2024-01-01T11:30"],
    [{ type: "daily", hourUTC: 0 }, "2024-02-28T12:00", "2024-02-29T00:00"],
    [{ type: "daily", hourUTC: 23, minuteUTC: 59 }, "2024-12-31T23:59", "2025-01-01T23:59"],
    [{ type: "weekly", dayOfWeek: "sunday", hourUTC: 5 }, "2024-01-01T00:00", "2024-01-07T05:00"],
    [
      { type: "weekly", dayOfWeek: "saturday", hourUTC: 5, minuteUTC: 1 },
      "2024-01-06T05:00",
      "2024-01-06T05:01",
    ],
    [{ type: "monthly", day: 31, hourUTC: 0 }, "2024-01-31T00:00", "2024-03-31T00:00"],
    [{ type: "monthly", day: 1, hourUTC: 7, minuteUTC: 5 }, "2024-01-01T07:05", "2024-02-01T07:05"],
  ])("%j after %s is %s", (schedule, from, expected) => {
    expect(after(schedule, from)).toBe(expected);
  });

  test("is waited for at first, and what was missed is skipped", () => {
    const schedule = { type: "daily", hourUTC: 6 };
    expect(iso(nextRun(schedule, at("2024-01-01T06:00"), { first: true }))).toBe("2024-01-02T06:00");
    expect(iso(nextRunSkipping(schedule, at("2024-01-01T06:00"), at("2024-01-05T07:00")))).toBe(
      "2024-01-06T06:00",
    );
    expect(iso(nextRunSkipping(schedule, at("2024-01-01T06:00"), at("2024-01-02T05:59")))).toBe(
      "2024-01-02T06:00",
    );
    expect(iso(nextRunSkipping(schedule, at("2024-01-01T06:00"), at("2024-01-02T06:00")))).toBe(
      "2024-01-03T06:00",
    );
    expect(iso(nextRunSkipping(schedule, at("2024-01-01T06:00"), at("2024-01-01T06:01")))).toBe(
      "2024-01-02T06:00",
    );
  });
});

describe("a cron expression", () => {
  test.each([
    ["* * * * *", "2024-01-01T00:00:59", "2024-01-01T00:01"],
    ["*/20 * * * *", "2024-01-01T00:41", "2024-01-01T01:00"],
    ["5/20 * * * *", "2024-01-01T00:26", "2024-01-01T00:45"],
    ["10-30/10 8 * * *", "2024-01-01T08:10", "2024-01-01T08:20"],
    ["1,5,9 0 * * *", "2024-01-01T00:05", "2024-01-01T00:09"],
    ["0 22-2 * * *", "2024-01-01T23:00", "2024-01-02T00:00"],
    ["0 22-2/2 * * *", "2024-01-02T00:00", "2024-01-02T02:00"],
    ["15 7 * * *", "2024-01-01T07:15", "2024-01-02T07:15"],
    ["0\t0 \t29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"],
    ["0 0 * JAN,jul *", "2024-01-31T00:00", "2024-07-01T00:00"],
    ["0 0 * NOV-FEB *", "2024-02-29T00:00", "2024-11-01T00:00"],
    ["0 0 * * 0", "2024-01-01T00:00", "2024-01-07T00:00"],
    ["0 0 * * MON-FRI", "2024-01-05T00:00", "2024-01-08T00:00"],
    ["0 0 * * fri-mon", "2024-01-02T00:00", "2024-01-05T00:00"],
    ["0 0 13 * FRI", "2024-01-05T00:00", "2024-01-12T00:00"],
    ["0 0 13 * FRI", "2024-01-12T00:00", "2024-01-13T00:00"],
    ["0 0 */10 * *", "2024-01-21T00:00", "2024-01-31T00:00"],
    ["0 0 L * *", "2024-02-01T00:00", "2024-02-29T00:00"],
    ["0 0 L-3 * *", "2024-02-01T00:00", "2024-02-26T00:00"],
    ["0 0 LW * *", "2024-03-01T00:00", "2024-03-29T00:00"],
    ["0 0 15W * *", "2024-06-01T00:00", "2024-06-14T00:00"],
    ["0 0 16W * *", "2024-06-01T00:00", "2024-06-17T00:00"],
    ["0 0 1W * *", "2024-06-01T00:00", "2024-06-03T00:00"],
    ["0 0 31W * *", "2024-03-01T00:00", "2024-03-29T00:00"],
    ["0 0 * * 5L", "2024-01-01T00:00", "2024-01-26T00:00"],
    ["0 0 * * FRIL", "2024-10-01T00:00", "2024-10-25T00:00"],
    ["0 0 * * TUE#2", "2024-01-01T00:00", "2024-01-09T00:00"],
    ["0 0 * * L", "2024-01-01T00:00", "2024-01-06T00:00"],
    ["5,* 0 * * *", "2024-01-01T00:05", "2024-01-02T00:00"], // a star behind a comma is the first value, as in Convex
    ["0005 00 * * *", "2024-01-01T00:00", "2024-01-01T00:05"],
  ])("%s after %s is %s", (cron, from, expected) => {
    expect(afterCron(cron, from)).toBe(expected);
  });
});

describe("a crons module", () => {
  test("is read as it is exported", () => {
    const crons = cronJobs();
    crons.interval("sweep", { seconds: 1 }, "jobs:sweep", { deep: [1n] });
    crons.cron("call", "0 0 L * *", "jobs:call");
    crons.hourly("default export", { minuteUTC: 59 }, "a/b:default");
    expect(parseCrons(crons.export(), kindOf)).toEqual([
      {
        name: "sweep",
        path: "jobs:sweep",
        args: '[{"deep":[{"$integer":"AQAAAAAAAAA="}]}]',
        schedule: { type: "interval", seconds: 1 },
      },
      { name: "call", path: "jobs:call", args: "[{}]", schedule: { type: "cron", cron: "0 0 L * *" } },
      {
        name: "default export",
        path: "a/b:default",
        args: "[{}]",
        schedule: { type: "hourly", minuteUTC: 59 },
      },
    ]);
    expect(parseCrons(null, kindOf)).toEqual([]);
  });

  const cron = (expression) => ({ type: "cron", cron: expression });
  test.each([
    [{ type: "interval" }, "Exactly one of (seconds, minutes, hours) should be specified"],
    [
      { type: "interval", seconds: 1, hours: 1 },
      "Exactly one of (seconds, minutes, hours) should be specified",
    ],
    [{ type: "interval", seconds: 0 }, "Interval must be an integer greater than 0"],
    [{ type: "interval", minutes: -1 }, "Interval must be an integer greater than 0"],
    [{ type: "interval", minutes: 1.5 }, "Invalid JSON: minutes must be an integer"],
    [{ type: "hourly", minuteUTC: 60 }, 'minuteUTC must be 0-59 in {"type":"hourly","minuteUTC":60}'],
    [{ type: "hourly", minuteUTC: -1 }, 'minuteUTC must be 0-59 in {"type":"hourly","minuteUTC":-1}'],
    [{ type: "daily", hourUTC: 24 }, 'hourUTC must be 0-23 in {"type":"daily","hourUTC":24}'],
    [
      { type: "weekly", dayOfWeek: "noday", hourUTC: 1 },
      "Invalid JSON: dayOfWeek must be one of sunday, monday, tuesday, wednesday, thursday, friday, saturday",
    ],
    [
      { type: "monthly", day: 32, hourUTC: 1 },
      'day of month must be 1-31 in {"type":"monthly","day":32,"hourUTC":1}',
    ],
    [
      { type: "monthly", day: 0, hourUTC: 1 },
      'day of month must be 1-31 in {"type":"monthly","day":0,"hourUTC":1}',
    ],
    [{ type: "yearly" }, 'Invalid JSON: unknown type "yearly"'],
    [cron("* * * *"), 'Failed to parse cron expression: "* * * *" has 4 fields instead of 5'],
    [cron("* * * * * *"), 'Failed to parse cron expression: "* * * * * *" has 6 fields instead of 5'],
    [cron("60 * * * *"), 'Failed to parse cron expression: "60" is no minute (0 to 59)'],
    [cron("*/0 * * * *"), 'Failed to parse cron expression: "0" is no minute (1 to 59)'],
    [cron("0 */24 * * *"), 'Failed to parse cron expression: "24" is no hour (1 to 23)'],
    [cron("0 0 */31 * *"), 'Failed to parse cron expression: "31" is no day of month (1 to 30)'],
    [cron("* * 0 * *"), 'Failed to parse cron expression: "0" is no day of month (1 to 31)'],
    [cron("* * * 13 *"), 'Failed to parse cron expression: "13" is no month (1 to 12)'],
    [cron("* * * * 7"), 'Failed to parse cron expression: "7" is no day of week (0 to 6)'],
    [cron("* * * * MON#6"), 'Failed to parse cron expression: "6" is no day of week (1 to 5)'],
    [cron("* * L-31 * *"), 'Failed to parse cron expression: "31" is no day of month (1 to 30)'],
    [cron("*,5 * * * *"), 'Failed to parse cron expression: "*" is no minute (0 to 59)'],
    [cron("5- * * * *"), 'Failed to parse cron expression: "5-" is no minute (0 to 59)'],
    [cron("x * * * *"), 'Failed to parse cron expression: "x" is no minute (0 to 59)'],
    [cron("* * * * * "), 'Failed to parse cron expression: "* * * * * " has 6 fields instead of 5'],
    [cron(" * * * * *"), 'Failed to parse cron expression: " * * * * *" has 6 fields instead of 5'],
    [cron("*-5 * * * *"), 'Failed to parse cron expression: "*-5" is no minute (0 to 59)'],
    [cron("* * l * *"), 'Failed to parse cron expression: "l" is no day of month (1 to 31)'],
    [cron("* * L,1 * *"), 'Failed to parse cron expression: "L" is no day of month (1 to 31)'],
    [cron("* * 5W,6 * *"), 'Failed to parse cron expression: "5W" is no day of month (1 to 31)'],
    [cron("* * * * MONDAY"), 'Failed to parse cron expression: "MONDAY" is no day of week (0 to 6)'],
    [cron("0 0 30 2 *"), 'The cron spec "0 0 30 2 *" will never match any time'],
    [cron("0 0 31 4,6,9,11 *"), 'The cron spec "0 0 31 4,6,9,11 *" will never match any time'],
  ])("with the schedule %j is refused in one line", (schedule, message) => {
    const json = JSON.stringify({ "my cron": { name: "jobs:sweep", args: [{}], schedule } });
    expect(() => parseCrons(json, kindOf)).toThrow(
      new CronError(`The cron job 'my cron' has a bad schedule: ${message}`),
    );
  });

  test("with a name that Convex cannot store is refused", () => {
    const json = (/** @type {string} */ name) =>
      JSON.stringify({ [name]: { name: "jobs:sweep", args: [{}], schedule: { type: "hourly" } } });
    expect(parseCrons(json("it's 1_a-B"), kindOf)).toHaveLength(1);
    expect(() => parseCrons(json("täglich"), kindOf)).toThrow(
      "CronIdentifier täglich has invalid character 'ä': CronIdentifiers can only contain ASCII letters",
    );
  });

  test.each([
    ["jobs:none", "schedules a function that does not exist: jobs:none"],
    ["jobs:read", "schedules a query function, only actions and mutations can be scheduled: jobs:read"],
  ])("that schedules %s is refused", (target, message) => {
    const json = JSON.stringify({ c: { name: target, args: [{}], schedule: { type: "hourly" } } });
    expect(() => parseCrons(json, kindOf)).toThrow(new CronError(`The cron job 'c' ${message}`));
  });
});
