/** What follows from the end of a run. Pure: time and chance are passed in. */
import { ISOLATE_AFTER_LOSSES, MAX_LOSSES } from "../constants";
import type { Fault, Outcome, Retry } from "../validators";

/** How a run ended: reported by its worker, or found by the control plane. */
export type Ending = Outcome | { kind: "lost"; error: Fault; blamed: boolean }; // its worker went silent or died; blamed: while stepping this run

export type Standing = {
  failures: number;
  losses: number;
  isolate: boolean;
  cancelRequested: boolean;
  retry: Retry;
};

export type Verdict = Pick<Standing, "failures" | "losses" | "isolate"> &
  (
    | { next: "succeeded" | "cancelled" }
    | { next: "failed"; error: Fault }
    | { next: "retry"; delayMs: number; error: Fault | null }
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

/**
 * Decide what becomes of the task when a run of it has ended.
 *
 * A failure burns an attempt. A released run burns none. A run that was lost burns one only if it is to blame for its
 * worker's end, or if the task may run just once: else a single poison task would use up the attempts of every task that
 * happened to run beside it. Losses have a limit of their own, and after some of them the task runs in a process of its own.
 */
export function judge(ending: Ending, task: Standing, random: number): Verdict {
  const { failures, losses, isolate } = task;
  switch (ending.kind) {
    case "succeeded":
      return { failures, losses, isolate, next: "succeeded" };
    case "cancelled":
      return { failures, losses, isolate, next: "cancelled" };
    case "released":
      if (task.cancelRequested) return { failures, losses, isolate, next: "cancelled" };
      return { failures, losses, isolate, next: "retry", delayMs: 0, error: null };
    case "failed": {
      const burnt = { failures: failures + 1, losses, isolate };
      if (task.cancelRequested) return { ...burnt, next: "cancelled" };
      if (!ending.retryable || burnt.failures >= task.retry.maxAttempts) {
        return { ...burnt, next: "failed", error: ending.error };
      }
      const delayMs = Math.max(backoffMs(task.retry, burnt.failures, random), ending.notBeforeMs ?? 0);
      return { ...burnt, next: "retry", delayMs, error: ending.error };
    }
    case "lost": {
      const once = task.retry.maxAttempts === 1;
      const burnt = {
        failures: failures + (ending.blamed || once ? 1 : 0),
        losses: losses + 1,
        isolate: isolate || ending.blamed || losses + 1 >= ISOLATE_AFTER_LOSSES,
      };
      if (task.cancelRequested) return { ...burnt, next: "cancelled" };
      if (burnt.failures >= task.retry.maxAttempts || burnt.losses >= MAX_LOSSES) {
        return { ...burnt, next: "failed", error: ending.error };
      }
      const delayMs = backoffMs(task.retry, ending.blamed ? burnt.failures : 1, random);
      return { ...burnt, next: "retry", delayMs, error: ending.error };
    }
  }
}
