/**
 * The numbers in what the holder of runs says of them. Kept as they come, one that no run can mean would make nonsense of every
 * sum that it goes into, and break those who read it as a count. Pure.
 */
import type { Reports } from "./reports";
import { checkInteger, checkNumber } from "./text";

const MOST = 1e15; // of a count: sums of these are exact

/** Refuse numbers that are none: counts below 0 or in parts, and any that are not finite. */
export function checkNumbers({ chunks, finished, steps, calls, progress, spending }: Reports): void {
  for (const { seq, call, attempt } of chunks) checkCounts("chunks", { seq, call, attempt });
  for (const { usage } of finished) checkCounts("usage", usage);
  for (const { usage } of steps ?? []) checkCounts("steps.usage", usage);
  for (const { call, attempt, costMicros, usage, startedMs, ms } of calls ?? []) {
    checkCounts("calls", { call, attempt, costMicros });
    checkCounts("calls.usage", usage);
    checkNumber("calls.startedMs", startedMs, 0, MOST);
    checkNumber("calls.ms", ms, 0, MOST);
  }
  for (const { progress: said } of progress ?? []) {
    if (said === null) continue;
    checkNumber("progress.done", said.done, -MOST, MOST);
    checkNumber("progress.total", said.total ?? 0, -MOST, MOST);
  }
  const spent = [...(spending ?? []), ...finished.flatMap((item) => item.spending ?? [])];
  for (const { spent: amounts, reserved, want } of spent) {
    for (const [field, amount] of Object.entries(amounts)) checkNumber(`spent.${field}`, amount, 0, MOST);
    for (const [field, amount] of Object.entries(reserved)) checkNumber(`reserved.${field}`, amount, 0, MOST);
    if (want === null) continue;
    for (const [field, amount] of Object.entries(want.need)) checkNumber(`want.${field}`, amount, 0, MOST);
  }
}

/** Each field of `of` that is a number has to be a count. */
function checkCounts(what: string, of: object | null | undefined): void {
  if (of == null) return;
  for (const [field, value] of Object.entries(of) as [string, unknown][]) {
    if (typeof value === "number") checkInteger(`${what}.${field}`, value, 0, MOST);
  }
}
