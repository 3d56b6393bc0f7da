/** What follows from the end of a run. Pure: time and chance are passed in. */
import { ISOLATE_AFTER_LOSSES, MAX_DELAY_MS, MAX_LOSSES } from "../constants";
import type { Fault, Outcome, Retry } from "../validators";

/**
 * How a run ended: reported by its worker, or found by the control plane.
 * `lost`: its worker went silent or died. begun: it had accepted the run; blamed: it died while it executed this very run.
 */
export type Ending = Outcome | { kind: "lost"; error: Fault; begun: boolean; blamed: boolean };

export type Standing = {
  failures: number;
  losses: number;
  releases: number; // in a row
  isolate: boolean;
  cancelRequested: boolean;
  retry: Retry;
};

export type Verdict = Pick<Standing, "failures" | "losses" | "releases" | "isolate"> &
  (
    | { next: "succeeded" | "cancelled" | "suspended" }
    | { next: "failed"; error: Fault }
    // keepsPlace: the task did nothing wrong, so it goes back to where it stood in line.
    | { next: "retry"; delayMs: number; keepsPlace: boolean; error: Fault | null }
  );

/**
 * Full jitter: anywhere between nothing and the exponential bound, so that what failed together does not come back
 * together (Brooker, "Exponential Backoff And Jitter").
 *
 * @param failures - attempts that failed so far, at least 1
 * @param random - in [0, 1)
 * @returns milliseconds
 */
export function backoffMs(retry: Retry, failures: number, random: number): number {
  return random * Math.min(retry.maxMs, retry.initialMs * retry.base ** (failures - 1));
}

/** A wait that a worker asked for, made safe: an agent's mistake must not put its task beyond every clock. */
export function boundedWaitMs(ms: number | null): number {
  return ms === null || Number.isNaN(ms) ? 0 : Math.min(Math.max(ms, 0), MAX_DELAY_MS);
}

/**
 * Decide what becomes of the task when a run of it has ended.
 *
 * A failure burns an attempt. A released run burns none, and comes back at once the first time and with backoff from then
 * on. A run that was lost burns one only if it is to blame for its worker's end, or if it had begun and the task may run
 * just once: else a single poison task would use up the attempts of every task that happened to run beside it. Losses have
 * a limit of their own, and after some of them the task runs in a process of its own.
 */
export function judge(ending: Ending, task: Standing, random: number): Verdict {
  const { failures, losses, isolate } = task;
  const same = { failures, losses, isolate, releases: 0 };
  switch (ending.kind) {
    case "succeeded":
      return { ...same, next: "succeeded" };
    case "cancelled":
      return { ...same, next: "cancelled" };
    case "suspended":
      return { ...same, next: task.cancelRequested ? "cancelled" : "suspended" };
    case "released": {
      const releases = task.releases + 1;
      if (task.cancelRequested) return { ...same, releases, next: "cancelled" };
      const backoff = releases === 1 ? 0 : backoffMs(task.retry, releases - 1, random);
      const delayMs = Math.max(backoff, boundedWaitMs(ending.notBeforeMs ?? null));
      return { ...same, releases, next: "retry", delayMs, keepsPlace: true, error: null };
    }
    case "failed": {
      const burnt = { ...same, failures: failures + 1 };
      if (task.cancelRequested) return { ...burnt, next: "cancelled" };
      if (!ending.retryable || burnt.failures >= task.retry.maxAttempts) {
        return { ...burnt, next: "failed", error: ending.error };
      }
      const backoff = backoffMs(task.retry, burnt.failures, random);
      const delayMs = Math.max(backoff, boundedWaitMs(ending.notBeforeMs));
      return { ...burnt, next: "retry", delayMs, keepsPlace: false, error: ending.error };
    }
    case "lost": {
      const spent = ending.blamed || (ending.begun && task.retry.maxAttempts === 1);
      const burnt = {
        ...same,
        failures: failures + (spent ? 1 : 0),
        losses: losses + 1,
        isolate: isolate || ending.blamed || losses + 1 >= ISOLATE_AFTER_LOSSES,
      };
      if (task.cancelRequested) return { ...burnt, next: "cancelled" };
      if (burnt.failures >= task.retry.maxAttempts || burnt.losses >= MAX_LOSSES) {
        return { ...burnt, next: "failed", error: ending.error };
      }
      // The first time it goes on at once: a worker that was replaced should cost its tasks no more than that.
      const waits = ending.blamed ? burnt.failures : losses;
      const delayMs = waits === 0 ? 0 : backoffMs(task.retry, waits, random);
      return { ...burnt, next: "retry", delayMs, keepsPlace: !ending.blamed, error: ending.error };
    }
  }
}
