import { describe, expect, test } from "vitest";
import { Retries, retryDelay } from "./retries.mjs";

test.each([
  ["conflict", 0, 1, 100],
  ["conflict", 3, 1, 800],
  ["conflict", 9, 1, 51_200],
  ["conflict", 10, 1, 60_000],
  ["conflict", 5000, 1, 60_000],
  ["conflict", 2, 0.5, 200],
  ["conflict", 2, 0, 0],
  ["system", 0, 1, 500],
  ["system", 13, 1, 4_096_000],
  ["system", 14, 1, 7_200_000],
  ["cron", 4, 1, 8000],
  ["cron", 5, 1, 15_000],
])("after a %s and %i failures before it, with chance %d: %i ms", (kind, failures, chance, ms) => {
  expect(retryDelay(kind, failures, chance)).toBe(ms);
});

describe("what failed", () => {
  test("waits longer each time, and from the start again once it is forgotten", () => {
    const retries = new Retries(() => 1);
    expect(retries.at("a")).toBe(-Infinity);
    retries.failed("a", "conflict", 1000);
    expect(retries.at("a")).toBe(1100);
    retries.failed("a", "conflict", 1100);
    expect(retries.at("a")).toBe(1300);
    expect([...retries.ids.keys()]).toEqual(["a"]);
    retries.forget("a");
    expect(retries.ids.size).toBe(0);
    retries.failed("a", "conflict", 2000);
    expect(retries.at("a")).toBe(2100);
  });
});
