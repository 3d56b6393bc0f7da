/** Which occurrences of a schedule are to be done now. Pure. */
import type { Infer } from "convex/values";
import { CATCH_UP_BATCH, ON_TIME_MS } from "../constants";
import type { vCatchUp } from "../schedule.validators";
import { lastBy, nextAfter, type When } from "./cron";

export type CatchUp = Infer<typeof vCatchUp>;

export type Due = {
  fire: number[]; // the occurrences to do, oldest first
  next: number | null; // the first that is still to come, or that the next pass does
  missed: { first: number; last: number } | null; // those that are given up, from the first to the last
};

/**
 * Spread occurrences that fall due together: the same one by the same time at every look, and never up to the next one.
 *
 * @param seed - what tells schedules apart
 * @returns when the occurrence is done, at or behind its nominal time
 */
export function firesAt(when: When, jitterMs: number, seed: string, nominal: number): number {
  if (jitterMs === 0) return nominal;
  const next = nextAfter(when, nominal);
  const room = next === null ? jitterMs : Math.min(jitterMs, next - nominal - 1);
  return nominal + Math.floor(share(`${seed}:${nominal}`) * (room + 1));
}

/**
 * Decide about all occurrences from `first` on that have come by `now`.
 *
 * As long as the oldest of them is at most ON_TIME_MS late nothing was missed, and each is done. Beyond that the policy
 * decides: `skip` does the last one if that is on time; `once` does the last one, and `all` does each, if it is at most
 * `windowMs` late. At most CATCH_UP_BATCH come out at a time; `next` is then the one that goes on.
 */
export function decide(
  when: When,
  { policy, windowMs }: CatchUp,
  first: number,
  now: number,
  fires: (nominal: number) => number,
): Due {
  if (fires(first) > now) return { fire: [], next: first, missed: null };
  const last = lastDue(when, first, now, fires);
  const late = (nominal: number) => now - fires(nominal);
  let from: number | null = first;
  if (late(first) > ON_TIME_MS) {
    if (policy === "all") from = firstWithin(when, first, now - windowMs);
    else from = late(last) <= (policy === "skip" ? ON_TIME_MS : windowMs) ? last : null;
  }
  const fire: number[] = [];
  let next = from;
  while (next !== null && next <= last && fire.length < CATCH_UP_BATCH) {
    fire.push(next);
    next = nextAfter(when, next);
  }
  const gaveUp = from === null || from > last ? last : lastBefore(when, first, from);
  return {
    fire,
    next: fire.length > 0 ? next : nextAfter(when, last),
    missed: gaveUp === null ? null : { first, last: gaveUp },
  };
}

function lastDue(when: When, first: number, now: number, fires: (nominal: number) => number): number {
  const last = lastBy(when, first, now);
  // Its jitter ends before the occurrence behind it, so only the last one may still be waiting for its own.
  return fires(last) <= now || last === first ? last : lastBy(when, first, last - 1);
}

function firstWithin(when: When, first: number, since: number): number | null {
  return first >= since ? first : nextAfter(when, since - 1);
}

function lastBefore(when: When, first: number, before: number): number | null {
  return first >= before ? null : lastBy(when, first, before - 1);
}

/** A number in [0, 1) that looks random and is the same for the same text (FNV-1a, then the end of MurmurHash3). */
function share(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}
