import { describe, expect, test } from "vitest";
import { CATCH_UP_BATCH, ON_TIME_MS } from "../constants";
import { decide, firesAt, type CatchUp } from "./catchup";
import { nextAfter, type When } from "./cron";

const HOUR = 3_600_000;
const MINUTE = 60_000;
const noon = Date.UTC(2026, 0, 15, 12);
const everyTen: When = { kind: "interval", everyMs: 10 * MINUTE, anchor: noon };
const at = (minutes: number) => noon + minutes * MINUTE;
const nominal = (t: number) => t;
const policy = (policy: CatchUp["policy"], windowMs = 24 * HOUR): CatchUp => ({ policy, windowMs });

describe("what was missed while nobody looked", () => {
  // The host is down from 12:05 to `now`; the next occurrence would have been at 12:10.
  test.each([
    ["skip gives up all when the last is late", policy("skip"), at(65), [], at(70), [at(10), at(60)]],
    ["skip does the last when that is on time", policy("skip"), at(61), [at(60)], at(70), [at(10), at(50)]],
    ["once does the last", policy("once"), at(65), [at(60)], at(70), [at(10), at(50)]],
    ["once within its window", policy("once", 5 * MINUTE), at(65), [at(60)], at(70), [at(10), at(50)]],
    ["once beyond its window", policy("once", 5 * MINUTE), at(65) + 1, [], at(70), [at(10), at(60)]],
    ["all does a batch of them", policy("all"), at(65), [10, 20, 30, 40, 50].map(at), at(60), null],
    [
      "all within its window",
      policy("all", 25 * MINUTE),
      at(65),
      [40, 50, 60].map(at),
      at(70),
      [at(10), at(30)],
    ],
    ["all with none in its window", policy("all", 0), at(65), [], at(70), [at(10), at(60)]],
  ])("%s", (_, catchUp, now, fire, next, missed) => {
    expect(decide(everyTen, catchUp, at(10), now, nominal)).toEqual({
      fire,
      next,
      missed: missed && { first: missed[0], last: missed[1] },
    });
  });

  test.each(["skip", "once", "all"] as const)("at most a minute late nothing is missed, under %s", (name) => {
    const everySecond: When = { kind: "interval", everyMs: 1_000, anchor: noon };
    const first = noon + 1_000;
    const seconds = (from: number) => Array.from({ length: CATCH_UP_BATCH }, (_, i) => from + i * 1_000);
    const onTime = decide(everySecond, policy(name), first, first + ON_TIME_MS, nominal);
    expect(onTime).toEqual({ fire: seconds(first), next: first + CATCH_UP_BATCH * 1_000, missed: null });
    const late = decide(everySecond, policy(name), first, first + ON_TIME_MS + 1, nominal);
    expect(late.fire.length).toBe(name === "all" ? CATCH_UP_BATCH : 1);
  });

  test("nothing is done before its time, also when the clock went back", () => {
    const due = decide(everyTen, policy("all"), at(10), at(10) - 1, nominal);
    expect(due).toEqual({ fire: [], next: at(10), missed: null });
    expect(decide(everyTen, policy("all"), at(10), at(10), nominal).fire).toEqual([at(10)]);
  });

  test("years of missed occurrences are decided at once", () => {
    const daily: When = { kind: "cron", cron: "30 2 * * *", timeZone: "Europe/Berlin" };
    const first = nextAfter(daily, noon)!;
    const now = Date.UTC(2046, 5, 1);
    const { fire, missed } = decide(daily, policy("once"), first, now, nominal);
    expect(fire.map((t) => new Date(t).toISOString())).toEqual(["2046-05-31T00:30:00.000Z"]);
    expect(missed).toEqual({ first, last: Date.UTC(2046, 4, 30, 0, 30) });
  });

  test("a single time is done once", () => {
    const once: When = { kind: "once", at: at(10) };
    expect(decide(once, policy("once"), at(10), at(10), nominal)).toEqual({
      fire: [at(10)],
      next: null,
      missed: null,
    });
    const late = decide(once, policy("skip"), at(10), at(12), nominal);
    expect(late).toEqual({ fire: [], next: null, missed: { first: at(10), last: at(10) } });
  });

  test("all, a batch at a time, is every occurrence once", () => {
    const done: number[] = [];
    let next: number | null = at(10);
    while (next !== null && next <= at(600)) {
      const due = decide(everyTen, policy("all"), next, at(600), nominal);
      expect(due.missed).toBeNull();
      done.push(...due.fire);
      next = due.next;
    }
    expect(done).toEqual(Array.from({ length: 60 }, (_, i) => at(10 * (i + 1))));
  });
});

describe("jitter", () => {
  test("is the same at every look, differs between schedules, and stays in its bounds", () => {
    const offsets = (seed: string, jitterMs: number) =>
      Array.from({ length: 200 }, (_, i) => firesAt(everyTen, jitterMs, seed, at(10 * i)) - at(10 * i));
    const mine = offsets("a", 5 * MINUTE);
    expect(mine).toEqual(offsets("a", 5 * MINUTE));
    expect(mine).not.toEqual(offsets("b", 5 * MINUTE));
    for (const offset of mine)
      expect(offset >= 0 && offset <= 5 * MINUTE && Number.isInteger(offset)).toBe(true);
    const mean = mine.reduce((sum, offset) => sum + offset, 0) / mine.length;
    expect(mean / MINUTE).toBeGreaterThan(2);
    expect(mean / MINUTE).toBeLessThan(3);
    expect(new Set(offsets("a", 1))).toEqual(new Set([0, 1]));
  });

  test("never reaches the next occurrence", () => {
    for (let i = 0; i < 200; i++) {
      const fires = firesAt(everyTen, 24 * HOUR, "a", at(10 * i));
      expect(fires).toBeLessThan(at(10 * (i + 1)));
    }
  });

  test("an occurrence whose own time has not come waits for it", () => {
    const late = (t: number) => t + 4 * MINUTE;
    const due = decide(everyTen, policy("once"), at(10), at(62), late);
    expect(due).toEqual({ fire: [at(50)], next: at(60), missed: { first: at(10), last: at(40) } });
    expect(decide(everyTen, policy("once"), at(60), at(63), late).fire).toEqual([]);
    expect(decide(everyTen, policy("once"), at(60), at(64), late).fire).toEqual([at(60)]);
  });
});
