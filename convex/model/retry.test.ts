import { describe, expect, test } from "vitest";
import { DEFAULT_RETRY, ISOLATE_AFTER_LOSSES, MAX_LOSSES } from "../constants";
import { backoffMs, judge, type Ending, type Standing } from "./retry";

const fresh: Standing = {
  failures: 0,
  losses: 0,
  isolate: false,
  cancelRequested: false,
  retry: DEFAULT_RETRY,
};
const failed: Ending = {
  kind: "failed",
  error: { code: "boom", message: "it broke" },
  retryable: true,
  notBeforeMs: null,
};
const lost = (blamed: boolean): Ending => ({
  kind: "lost",
  error: { code: "heartbeat_timeout", message: "silent" },
  blamed,
});
const almostOne = 1 - Number.EPSILON;

describe("backoffMs", () => {
  test.each([
    [1, 1_000],
    [2, 2_000],
    [3, 4_000],
    [9, 256_000],
    [10, 300_000], // the cap
    [99, 300_000],
  ])("failure %i waits less than %i ms and maybe nothing", (failures, bound) => {
    expect(backoffMs(DEFAULT_RETRY, failures, 0)).toBe(0);
    expect(backoffMs(DEFAULT_RETRY, failures, 0.5)).toBe(bound / 2);
    expect(backoffMs(DEFAULT_RETRY, failures, almostOne)).toBeLessThanOrEqual(bound);
  });
});

describe("judge", () => {
  test("a failure retries until the attempts are burnt, then fails with its cause", () => {
    expect(judge(failed, fresh, 0.5)).toMatchObject({ next: "retry", failures: 1, delayMs: 500 });
    expect(judge(failed, { ...fresh, failures: 1 }, 0.5)).toMatchObject({ next: "retry", delayMs: 1_000 });
    expect(judge(failed, { ...fresh, failures: 2 }, 0.5)).toMatchObject({
      next: "failed",
      failures: 3,
      error: { code: "boom" },
    });
  });

  test("an error that no retry can mend fails at once", () => {
    expect(judge({ ...failed, retryable: false }, fresh, 0.5)).toMatchObject({ next: "failed", failures: 1 });
  });

  test("a retry waits at least as long as its worker was told to", () => {
    expect(judge({ ...failed, notBeforeMs: 30_000 }, fresh, 0.5)).toMatchObject({ delayMs: 30_000 });
    expect(judge({ ...failed, notBeforeMs: 10 }, fresh, 0.5)).toMatchObject({ delayMs: 500 });
  });

  test("a released run burns no attempt and goes back at once", () => {
    expect(judge({ kind: "released" }, { ...fresh, failures: 2 }, 0.9)).toMatchObject({
      next: "retry",
      failures: 2,
      delayMs: 0,
    });
  });

  test("a run lost with its worker burns no attempt, one to blame for it does and is isolated", () => {
    expect(judge(lost(false), fresh, 0)).toMatchObject({
      next: "retry",
      failures: 0,
      losses: 1,
      isolate: false,
    });
    expect(judge(lost(true), fresh, 0)).toMatchObject({
      next: "retry",
      failures: 1,
      losses: 1,
      isolate: true,
    });
    expect(judge(lost(true), { ...fresh, failures: 2 }, 0)).toMatchObject({ next: "failed", failures: 3 });
  });

  test("a task that may run once is not run again after a loss", () => {
    const once = { ...fresh, retry: { ...DEFAULT_RETRY, maxAttempts: 1 } };
    expect(judge(lost(false), once, 0)).toMatchObject({ next: "failed", failures: 1 });
  });

  test("losses isolate the task and end it at their own limit, not one before", () => {
    expect(judge(lost(false), { ...fresh, losses: ISOLATE_AFTER_LOSSES - 2 }, 0).isolate).toBe(false);
    expect(judge(lost(false), { ...fresh, losses: ISOLATE_AFTER_LOSSES - 1 }, 0).isolate).toBe(true);
    expect(judge(lost(false), { ...fresh, losses: MAX_LOSSES - 2 }, 0).next).toBe("retry");
    expect(judge(lost(false), { ...fresh, losses: MAX_LOSSES - 1 }, 0).next).toBe("failed");
  });

  test.each<[Ending, string]>([
    [failed, "cancelled"],
    [{ kind: "released" }, "cancelled"],
    [{ kind: "cancelled" }, "cancelled"],
    [lost(false), "cancelled"],
    [lost(true), "cancelled"],
    [{ kind: "succeeded", output: null }, "succeeded"], // it was quicker than the cancel
  ])("a task that is being cancelled does not come back: %j", (ending, next) => {
    expect(judge(ending, { ...fresh, cancelRequested: true }, 0).next).toBe(next);
  });
});
