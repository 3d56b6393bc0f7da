/** Days and months of a time zone, as budgets count them. Pure. */
import type { Period } from "../budget.validators";
import { lastBy, nextAfter, readWhen } from "./cron";

const DAY_MS = 24 * 3_600_000;

const BEGINS = {
  day: { cron: "0 0 * * *", backMs: 3 * DAY_MS },
  month: { cron: "0 0 1 * *", backMs: 63 * DAY_MS },
};

/** Refuse a name that is no time zone. */
export function checkZone(zone: string): string {
  readWhen({ cron: BEGINS.day.cron, timeZone: zone }, 0);
  return zone;
}

/**
 * The period in which `now` lies, in milliseconds since the epoch: from its first to before its last moment. What counts in
 * total or for a run began at 0 and has no end.
 */
export function periodAt(period: Period, zone: string, now: number): { from: number; until: number | null } {
  if (period === "total" || period === "run") return { from: 0, until: null };
  const { cron, backMs } = BEGINS[period];
  const when = readWhen({ cron, timeZone: zone }, 0);
  const earlier = nextAfter(when, now - backMs)!; // a year at most lies between two of these
  return { from: lastBy(when, earlier, now), until: nextAfter(when, now) };
}
