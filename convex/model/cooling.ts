/** How a model does, as all workers together see it, and when that is so bad that nobody is to ask it. Pure. */
import { MINUTE_MS } from "../constants";
import type { ModelReport } from "../model.validators";
import type { Fault } from "../validators";

// As worker/router/rules.py has it for a single worker.
export const WINDOW_MS = 60_000; // failures older than this say nothing of a model
export const FAILURES = 3; // within it, before a model cools
export const SHORTEST_COOL_MS = 10_000;
export const LONGEST_COOL_MS = 30_000;
const KEPT = 30; // reports that are looked back on; older ones of the window are joined with the oldest of these

type Counts = { requests: number; failures: number; tokens: number };

export type Load = {
  minute: Counts & { start: number }; // the minute of the last report
  before: Counts; // the minute before
  total: Counts;
  recent: { at: number; requests: number; failures: number }[];
  error: Fault | null; // the last failure, of any kind
  errorAt: number | null;
};

const NONE: Counts = { requests: 0, failures: 0, tokens: 0 };

export const NO_LOAD: Load = {
  minute: { start: 0, ...NONE },
  before: NONE,
  total: NONE,
  recent: [],
  error: null,
  errorAt: null,
};

/** Count what a worker tells. */
export function counted(load: Load, report: ModelReport, now: number): Load {
  const start = Math.floor(now / MINUTE_MS) * MINUTE_MS;
  const same = load.minute.start === start;
  const { start: last, ...minute } = load.minute;
  const current = same ? minute : NONE;
  const recent = load.recent.filter(({ at }) => at > now - WINDOW_MS);
  const { requests, failures, error } = report;
  if (recent.length < KEPT) recent.push({ at: now, requests, failures });
  else {
    const newest = recent[recent.length - 1]!;
    recent[recent.length - 1] = {
      at: now,
      requests: newest.requests + requests,
      failures: newest.failures + failures,
    };
  }
  return {
    minute: { start, ...sum(current, report) },
    before: same ? load.before : last === start - MINUTE_MS ? minute : NONE,
    total: sum(load.total, report),
    recent,
    error: error ?? load.error,
    errorAt: error === null ? load.errorAt : now,
  };
}

const sum = (a: Counts, b: Counts): Counts => ({
  requests: a.requests + b.requests,
  failures: a.failures + b.failures,
  tokens: a.tokens + b.tokens,
});

/** For how long nobody is to ask a model, after a report that is counted in: at least half of its calls fail. */
export function cooldown(load: Load, report: ModelReport): number {
  if (report.failures === 0) return 0;
  const requests = load.recent.reduce((total, each) => total + each.requests, 0);
  const failures = load.recent.reduce((total, each) => total + each.failures, 0);
  if (failures < FAILURES || 2 * failures < requests) return 0;
  return Math.min(SHORTEST_COOL_MS * (failures - FAILURES + 1), LONGEST_COOL_MS);
}
