/**
 * When a schedule falls due. Pure: no clock but the instants passed in, in milliseconds since the epoch.
 *
 * A cron is read in its time zone, as Debian's cron does. One without a `*` in minute and hour names times of the day: on a
 * day that lacks such a time it falls due at the first moment after the gap, and on a day that has it twice, at the first.
 * One with a `*` in either is a rhythm: it falls due at each matching minute that there is. A day of the month and a day of
 * the week both count when one of them begins with `*`; else either is enough.
 */
import { Cron } from "croner";
import type { Infer } from "convex/values";
import { MAX_CRON_CHARS, MIN_INTERVAL_MS } from "../constants";
import { refuse } from "../errors";
import type { vWhen } from "../schedule.validators";
import { checkInteger } from "./text";

export type When = Infer<typeof vWhen>;

const FIVE_FIELDS = /^[^\s:]+(?: [^\s:]+){4}$/; // croner takes a text with a colon for a date
const NICKNAME = /^@(?:yearly|annually|monthly|weekly|daily|midnight|hourly)$/i;
const MAX_INTERVAL_MS = 366 * 24 * 3_600_000; // longer ones are a cron's work
const ZONE = /^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/; // a name: an offset such as +02:00 knows no daylight saving

/** What a caller says about when: exactly one of the three. */
export type Timing = { cron?: string; timeZone?: string; everyMs?: number; at?: number };

/**
 * Read when a schedule is to fall due.
 *
 * @param anchor - from when an interval counts: its occurrences are `anchor` plus whole multiples of it
 * @throws invalid_argument, naming the field
 */
export function readWhen({ cron, timeZone, everyMs, at }: Timing, anchor: number): When {
  const given = Object.entries({ cron, everyMs, at }).flatMap(([field, value]) =>
    value === undefined ? [] : [field],
  );
  if (given.length !== 1) {
    const found = given.length === 0 ? "none is given" : `${given.join(" and ")} are given`;
    throw refuse("invalid_argument", `cron, everyMs, at: ${found}; give exactly one.`);
  }
  if (timeZone !== undefined && cron === undefined) {
    throw refuse("invalid_argument", "timeZone: only a cron has one; leave it out.");
  }
  if (cron !== undefined) {
    const zone = checkZone(timeZone ?? "UTC");
    return { kind: "cron", cron: checkCron(cron, zone), timeZone: zone };
  }
  if (everyMs !== undefined) {
    checkInteger("everyMs", everyMs, MIN_INTERVAL_MS, MAX_INTERVAL_MS);
    return { kind: "interval", everyMs, anchor };
  }
  return { kind: "once", at: checkInteger("at", at!, 0, 8.64e15) };
}

/** The same timing, whatever an interval counts from. */
export function sameWhen(one: When, other: When): boolean {
  const plain = (when: When) => JSON.stringify(when.kind === "interval" ? when.everyMs : when);
  return one.kind === other.kind && plain(one) === plain(other);
}

function checkZone(zone: string): string {
  try {
    if (!ZONE.test(zone)) throw new RangeError();
    new Intl.DateTimeFormat("en-US", { timeZone: zone });
    return zone;
  } catch {
    throw refuse(
      "invalid_argument",
      `timeZone: ${JSON.stringify(zone.slice(0, 80))} is not known. Use an IANA name such as Europe/Berlin.`,
    );
  }
}

function checkCron(text: string, zone: string): string {
  const cron = text.trim().replace(/\s+/g, " ");
  const bad = (why: string) =>
    refuse("invalid_argument", `cron: ${JSON.stringify(text.slice(0, 80))}: ${why}`);
  if (cron.length > MAX_CRON_CHARS) throw bad(`${cron.length} characters; at most ${MAX_CRON_CHARS}.`);
  if (!FIVE_FIELDS.test(cron) && !NICKNAME.test(cron)) {
    throw bad("use five fields: minute hour day-of-month month day-of-week.");
  }
  let next: number | null;
  try {
    next = nextAfter({ kind: "cron", cron, timeZone: zone }, 0);
  } catch (error) {
    throw bad((error as Error).message.replace(/^CronPattern: /, ""));
  }
  if (next === null) throw bad("no such day ever comes.");
  return cron;
}

/** The first occurrence behind `after`; null when there is none. */
export function nextAfter(when: When, after: number): number | null {
  if (when.kind === "once") return when.at > after ? when.at : null;
  if (when.kind === "interval") {
    const { anchor, everyMs } = when;
    return anchor + Math.max(1, Math.floor((after - anchor) / everyMs) + 1) * everyMs;
  }
  return reader(when).nextRun(new Date(after))?.getTime() ?? null;
}

/** The last occurrence from `from`, which is one itself, up to `by`. */
export function lastBy(when: When, from: number, by: number): number {
  if (when.kind === "once") return from;
  if (when.kind === "interval") return from + Math.floor((by - from) / when.everyMs) * when.everyMs;
  // What follows the latest minute that is still followed by one in time. Forwards only, so both directions agree.
  let [last, low, high] = [from, from, by];
  while (high - low > 0) {
    const middle = Math.ceil((low + high) / 2);
    const next = nextAfter(when, middle - 1);
    if (next !== null && next <= by) [last, low] = [next, Math.max(middle, next)];
    else high = middle - 1;
  }
  return last;
}

// Making one costs more than asking it, and one transaction asks many times. The same text always reads the same.
const readers = new Map<string, Cron>();

function reader({ cron, timeZone }: When & { kind: "cron" }): Cron {
  const name = `${timeZone} ${cron}`;
  const known = readers.get(name);
  if (known !== undefined) return known;
  const [minute = "", hour = "", day = "", month = "", weekday = ""] = cron.split(" ");
  const text = cron.startsWith("@") ? cron : [listed(minute), listed(hour), day, month, weekday].join(" ");
  const made = new Cron(text, {
    timezone: timeZone,
    mode: "5-part",
    fixedTimeRule: "no-wildcard",
    domAndDow: /^[*?]/.test(day) || /^[*?]/.test(weekday),
    paused: true,
  });
  if (readers.size >= 200) readers.clear();
  readers.set(name, made);
  return made;
}

/** Steps through a range, written out: croner takes any step for a rhythm. What it refuses stays as it is. */
function listed(field: string): string {
  return field.replace(/(?<![\d-])(\d+)-(\d+)\/(\d+)(?![\d/-])/g, (whole, ...parts: string[]) => {
    const [from, to, step] = parts.slice(0, 3).map(Number) as [number, number, number];
    if (step < 1 || step > 60 || from > to || to > 59) return whole;
    return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => from + i * step).join(",");
  });
}
