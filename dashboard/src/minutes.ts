/** What the minutes of the statistics add up to. Pure. */
import type { FunctionReturnType } from "convex/server";
import type { api } from "../../convex/_generated/api";
import type { Counters } from "../../convex/upkeep.validators";

export type Minute = FunctionReturnType<typeof api.stats.read>[number];

export const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

const NOTHING: Required<Counters> = {
  ...{ submitted: 0, started: 0, retried: 0, succeeded: 0, failed: 0, cancelled: 0, skipped: 0 },
  ...{ waitMs: 0, runMs: 0, modelCalls: 0, inputTokens: 0, outputTokens: 0, costMicros: 0 },
};

/** The last hour in whole minutes, the one that `now` is in included. */
export function hourOf(now: number): { from: number; to: number } {
  const to = (Math.floor(now / MINUTE_MS) + 1) * MINUTE_MS;
  return { from: to - HOUR_MS, to };
}

/** A row for each minute, also for those in which nothing happened. */
export function minutesOf(rows: readonly Minute[], from: number, to: number): Minute[] {
  const known = new Map(rows.map((row) => [row.bucket, row]));
  return Array.from({ length: (to - from) / MINUTE_MS }, (_, at) => {
    const bucket = from + at * MINUTE_MS;
    return known.get(bucket) ?? { bucket, ...NOTHING };
  });
}

export function sumOf(minutes: readonly Counters[]): Required<Counters> {
  const sum = { ...NOTHING };
  for (const minute of minutes)
    for (const name of Object.keys(NOTHING) as (keyof Counters)[]) sum[name] += minute[name] ?? 0; // minutes of before there was money
  return sum;
}

/** The mean time of the runs that ended, in milliseconds; NaN when none did. */
export function perRun({ runMs, succeeded, failed, cancelled, retried }: Counters): number {
  const runs = succeeded + failed + cancelled + retried;
  return runs === 0 ? NaN : runMs / runs;
}
