import { describe, expect, test } from "vitest";
import { DEFAULT_RETRY, ISOLATE_AFTER_LOSSES, MAX_DELAY_MS, MAX_LOSSES } from "../constants";
import { backoffMs, judge, type Ending, type Standing } from "./retry";

const fresh: Standing = {
  failures: 0,
  losses: 0,
  releases: 0,
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
const lost = (blamed: boolean, begun = true): Ending => ({
  kind: "lost",
  error: { code: "heartbeat_timeout", message: "silent" },
  begun,
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

  test("a run that waits burns nothing, and ends the row of releases; one that was cancelled does not wait", () => {
    const asked: Ending = { kind: "suspended", step: "s", until: { ms: 1 } };
    const standing = { ...fresh, failures: 1, losses: 2, releases: 3 };
    const verdict = { next: "suspended", failures: 1, losses: 2, releases: 0, isolate: false };
    expect(judge(asked, standing, 0.5)).toEqual(verdict);
    expect(judge(asked, { ...standing, cancelRequested: true }, 0.5)).toMatchObject({ next: "cancelled" });
  });

  test("an error that no retry can mend fails at once", () => {
    expect(judge({ ...failed, retryable: false }, fresh, 0.5)).toMatchObject({ next: "failed", failures: 1 });
  });

  test("a retry waits at least as long as its worker was told to", () => {
    expect(judge({ ...failed, notBeforeMs: 30_000 }, fresh, 0.5)).toMatchObject({ delayMs: 30_000 });
    expect(judge({ ...failed, notBeforeMs: 10 }, fresh, 0.5)).toMatchObject({ delayMs: 500 });
  });

  test.each([
    [Infinity, MAX_DELAY_MS],
    [MAX_DELAY_MS + 1, MAX_DELAY_MS],
    [NaN, 500],
    [-1, 500],
  ])("an agent that asks for %d ms does not put its task beyond every clock", (notBeforeMs, delayMs) => {
    expect(judge({ ...failed, notBeforeMs }, fresh, 0.5)).toMatchObject({ next: "retry", delayMs });
  });

  test("a released run burns no attempt, keeps its place and comes back at once, but not for ever at once", () => {
    const released = (releases: number) =>
      judge({ kind: "released" }, { ...fresh, failures: 2, releases }, 0.5);
    expect(released(0)).toMatchObject({
      next: "retry",
      failures: 2,
      releases: 1,
      delayMs: 0,
      keepsPlace: true,
    });
    expect(released(1)).toMatchObject({ releases: 2, delayMs: 500 });
    expect(released(2)).toMatchObject({ releases: 3, delayMs: 1_000 });
    expect(judge(failed, { ...fresh, releases: 5 }, 0.5).releases).toBe(0);
  });

  test("what is lost through no fault of its own comes back at once, and from the second time on with backoff", () => {
    const almostOne = 0.999_999;
    expect(judge(lost(false), fresh, almostOne)).toMatchObject({ delayMs: 0 });
    const second = judge(lost(false), { ...fresh, losses: 1 }, almostOne);
    expect(second.next === "retry" && second.delayMs).toBeCloseTo(fresh.retry.initialMs, -1);
    const third = judge(lost(false), { ...fresh, losses: 2 }, almostOne);
    expect(third.next === "retry" && third.delayMs).toBeCloseTo(fresh.retry.initialMs * fresh.retry.base, -1);
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

  test("a task that may run once is not run again after a loss, unless that run had not begun", () => {
    const once = { ...fresh, retry: { ...DEFAULT_RETRY, maxAttempts: 1 } };
    expect(judge(lost(false), once, 0)).toMatchObject({ next: "failed", failures: 1 });
    expect(judge(lost(false, false), once, 0)).toMatchObject({ next: "retry", failures: 0 });
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
