import { describe, expect, test } from "vitest";
import { nextRun, nextRunSkipping } from "./cron.mjs";
import { nextOccurrence, parseCronExpression } from "./cron-expression.mjs";

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;

/** Numbers from 0 to 1 that are the same in each run of the tests. */
function seeded(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = seeded(42);
const whole = (min, max) => min + Math.floor(random() * (max - min + 1));
const oneOf = (choices) => choices[whole(0, choices.length - 1)];

/** The text of a field and, told apart from the parser, which values it names. */
function randomField(min, max) {
  const value = () => whole(min, max);
  const from = (start, end, step) => {
    const values = [];
    const length = max - min + 1;
    for (let at = 0; at <= (end - start + length) % length; at += step)
      values.push(min + ((start - min + at) % length));
    return values;
  };
  const item = () => {
    const [a, b, step] = [value(), value(), whole(1, max - min)];
    return oneOf([
      [`${a}`, [a]],
      [`${a}-${b}`, from(a, b, 1)],
      [`${a}/${step}`, from(a, max, step)],
      [`${a}-${b}/${step}`, from(a, b, step)],
    ]);
  };
  if (random() < 0.4) return { text: "*", values: from(min, max, 1) };
  if (random() < 0.2) {
    const step = whole(1, max - min);
    return { text: `*/${step}`, values: from(min, max, step) };
  }
  const items = Array.from({ length: whole(1, 3) }, item);
  return { text: items.map(([text]) => text).join(","), values: items.flatMap(([, values]) => values) };
}

/** Looks at each minute from `afterMs` on, which is too slow for anything but a test. */
function bruteForce([minutes, hours, days, months, weekdays], afterMs, limitMs) {
  const named = (field, value) => field.values.includes(value);
  for (let ms = Math.floor(afterMs / MINUTE_MS) * MINUTE_MS + MINUTE_MS; ms < limitMs; ms += MINUTE_MS) {
    const date = new Date(ms);
    const byDay = named(days, date.getUTCDate());
    const byWeekday = named(weekdays, date.getUTCDay());
    const onDay = weekdays.text === "*" ? byDay : days.text === "*" ? byWeekday : byDay || byWeekday;
    if (!onDay || !named(months, date.getUTCMonth() + 1)) {
      ms = Math.floor(ms / DAY_MS) * DAY_MS + DAY_MS - MINUTE_MS; // no minute of this day
      continue;
    }
    if (named(hours, date.getUTCHours()) && named(minutes, date.getUTCMinutes())) return ms;
  }
  return null;
}

describe("the next time of a cron expression", () => {
  test("is the first minute that its fields name, for 600 expressions", () => {
    let compared = 0;
    for (let round = 0; round < 600; round++) {
      const fields = [
        randomField(0, 59),
        randomField(0, 23),
        randomField(1, 31),
        randomField(1, 12),
        randomField(0, 6),
      ];
      const text = fields.map((field) => field.text).join(" ");
      const afterMs = Date.UTC(
        2023,
        whole(0, 11),
        whole(1, 31),
        whole(0, 23),
        whole(0, 59),
        whole(0, 59),
        whole(0, 999),
      );
      const expected = bruteForce(fields, afterMs, afterMs + 3 * 366 * DAY_MS);
      if (expected === null) continue; // farther away than is worth the search
      compared += 1;
      const found = nextOccurrence(parseCronExpression(text), afterMs);
      expect({ text, after: new Date(afterMs), next: new Date(found ?? 0) }).toEqual({
        text,
        after: new Date(afterMs),
        next: new Date(expected),
      });
    }
    expect(compared).toBeGreaterThan(500);
  });
});

describe("the run after a late one", () => {
  test("is on the beat, in the future, and the first that is not, for every kind of schedule", () => {
    const schedules = [
      () => ({ type: "interval", seconds: whole(1, 100) }),
      () => ({ type: "interval", minutes: whole(1, 100) }),
      () => ({ type: "interval", hours: whole(1, 100) }),
      () => ({ type: "hourly", minuteUTC: whole(0, 59) }),
      () => ({ type: "daily", hourUTC: whole(0, 23), minuteUTC: whole(0, 59) }),
      () => ({ type: "weekly", dayOfWeek: oneOf(["sunday", "saturday"]), hourUTC: whole(0, 23) }),
      () => ({ type: "monthly", day: whole(1, 31), hourUTC: whole(0, 23) }),
      () => ({ type: "cron", cron: `${whole(0, 59)} */${whole(1, 23)} * * *` }),
    ];
    for (let round = 0; round < 400; round++) {
      const schedule = oneOf(schedules)();
      const start = Date.UTC(2024, whole(0, 11), whole(1, 28), whole(0, 23)) + whole(0, 10 ** 6);
      const previous = nextRun(schedule, start, { first: true });
      const now = previous + whole(0, 3 * DAY_MS);
      let expected = nextRun(schedule, previous, { first: false });
      while (expected <= now) expected = nextRun(schedule, expected, { first: false });
      expect([schedule, nextRunSkipping(schedule, previous, now)]).toEqual([schedule, expected]);
    }
  });
});
