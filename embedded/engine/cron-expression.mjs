/**
 * Cron expressions as Convex reads them: minute, hour, day of month, month, day of week; UTC, Sunday is 0.
 *
 * Beyond lists, ranges (which may wrap around) and steps: `L`, `L-3`, `LW`, `15W` for the day of month; `5L` (the last Friday),
 * `5#2` (the second) and `L` (Saturday) for the day of week. When both days are given a date needs only one of them.
 */

/**
 * @typedef {{ name: string, min: number, max: number, words?: string[] }} Field
 * @typedef {(date: CalendarDate) => boolean} DayRule
 * @typedef {{ day: number, weekday: number, daysInMonth: number }} CalendarDate
 * @typedef {object} CronExpression
 * @property {Set<number>} minutes
 * @property {Set<number>} hours
 * @property {Set<number>} months  1 to 12
 * @property {DayRule} includesDay
 */

const MINUTE_MS = 60_000;
const DAY_MS = 86_400_000;
// A 29th of February may be 8 years away; with the rest of its year nothing that ever comes is farther.
const SEARCH_DAYS = 9 * 366;
const ANY_START_MS = Date.UTC(2000, 0, 1);

/** @type {[Field, Field, Field, Field, Field]} */
const FIELDS = [
  { name: "minute", min: 0, max: 59 },
  { name: "hour", min: 0, max: 23 },
  { name: "day of month", min: 1, max: 31 },
  {
    name: "month",
    min: 1,
    max: 12,
    words: ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
  },
  { name: "day of week", min: 0, max: 6, words: ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] },
];
const MAX_LAST_OFFSET = 30;
const MAX_NTH = 5;

/** An expression that Convex refuses; the message is Convex's text and, behind it, what is wrong. */
export class CronExpressionError extends Error {}

/** @param {string} reason */
function unreadable(reason) {
  return new CronExpressionError(`Failed to parse cron expression: ${reason}`);
}

/**
 * @param {string} text  five fields, with spaces or tabs between them
 * @returns {CronExpression}
 * @throws {CronExpressionError}
 */
export function parseCronExpression(text) {
  const parts = text.split(/[ \t]+/);
  if (parts.length !== FIELDS.length) {
    throw unreadable(`${JSON.stringify(text)} has ${parts.length} fields instead of 5`);
  }
  const [minute, hour, day, month, weekday] = FIELDS;
  const [minutes = "", hours = "", days = "", months = "", weekdays = ""] = parts;
  const expression = {
    minutes: parseList(minutes, minute),
    hours: parseList(hours, hour),
    months: parseList(months, month),
    includesDay: parseDays(days, day, weekdays, weekday),
  };
  if (nextOccurrence(expression, ANY_START_MS) === null) {
    throw new CronExpressionError(`The cron spec ${JSON.stringify(text)} will never match any time`);
  }
  return expression;
}

/**
 * @param {CronExpression} expression
 * @param {number} afterMs
 * @returns {number | null} ms of the first full minute after `afterMs` that the expression names; null: there is none
 */
export function nextOccurrence({ minutes, hours, months, includesDay }, afterMs) {
  const startMs = (Math.floor(afterMs / MINUTE_MS) + 1) * MINUTE_MS;
  const firstDayMs = Math.floor(startMs / DAY_MS) * DAY_MS;
  for (let day = 0; day <= SEARCH_DAYS; day++) {
    const dayMs = firstDayMs + day * DAY_MS;
    if (!months.has(new Date(dayMs).getUTCMonth() + 1) || !includesDay(calendarDate(dayMs))) continue;
    for (let timeMs = Math.max(startMs, dayMs); timeMs < dayMs + DAY_MS; timeMs += MINUTE_MS) {
      const date = new Date(timeMs);
      if (hours.has(date.getUTCHours()) && minutes.has(date.getUTCMinutes())) return timeMs;
    }
  }
  return null;
}

/** @param {number} dayMs @returns {CalendarDate} */
function calendarDate(dayMs) {
  const date = new Date(dayMs);
  const daysInMonth = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  return { day: date.getUTCDate(), weekday: date.getUTCDay(), daysInMonth };
}

/**
 * @param {string} days
 * @param {Field} dayField
 * @param {string} weekdays
 * @param {Field} weekdayField
 * @returns {DayRule}
 */
function parseDays(days, dayField, weekdays, weekdayField) {
  const byDay = parseDayOfMonth(days, dayField);
  const byWeekday = parseDayOfWeek(weekdays, weekdayField);
  if (weekdays === "*") return byDay;
  if (days === "*") return byWeekday;
  return (date) => byDay(date) || byWeekday(date);
}

/** @param {string} text @param {Field} field @returns {DayRule} */
function parseDayOfMonth(text, field) {
  const last = /^L(?:-(\d+))?(W)?$/.exec(text);
  if (last !== null) {
    const offset =
      last[1] === undefined ? 0 : parseNumber(last[1], { ...field, min: 1, max: MAX_LAST_OFFSET });
    const wanted = (/** @type {CalendarDate} */ date) => date.daysInMonth - offset;
    return last[2] === undefined ? (date) => date.day === wanted(date) : nearestWeekday(wanted);
  }
  const nearest = /^(\d+)W$/.exec(text);
  if (nearest !== null) {
    const day = parseNumber(nearest[1] ?? "", field);
    return nearestWeekday(() => day);
  }
  const days = parseList(text, field);
  return (date) => days.has(date.day);
}

/**
 * @param {(date: CalendarDate) => number} wanted  day of the date's month
 * @returns {DayRule} the Monday to Friday closest to that day, within the month
 */
function nearestWeekday(wanted) {
  return (date) => {
    const day = wanted(date);
    if (day < 1 || day > date.daysInMonth) return false;
    const weekday = (((date.weekday + day - date.day) % 7) + 7) % 7;
    if (weekday === 6) return date.day === (day === 1 ? 3 : day - 1);
    if (weekday === 0) return date.day === (day === date.daysInMonth ? day - 2 : day + 1);
    return date.day === day;
  };
}

/** @param {string} text @param {Field} field @returns {DayRule} */
function parseDayOfWeek(text, field) {
  if (text === "L") return (date) => date.weekday === 6;
  const special = /^(\w+?)(?:(L)|#(\d+))$/.exec(text);
  if (special !== null) {
    const weekday = parseNumber(special[1] ?? "", field);
    if (special[2] !== undefined)
      return (date) => date.weekday === weekday && date.day + 7 > date.daysInMonth;
    const nth = parseNumber(special[3] ?? "", { ...field, words: undefined, min: 1, max: MAX_NTH });
    return (date) => date.weekday === weekday && Math.ceil(date.day / 7) === nth;
  }
  const weekdays = parseList(text, field);
  return (date) => weekdays.has(date.weekday);
}

/**
 * A star alone is everything; behind a comma Convex reads it as the field's first value.
 *
 * @param {string} text
 * @param {Field} field
 * @returns {Set<number>}
 */
function parseList(text, field) {
  const [first = "", ...others] = (text === "*" ? "*/1" : text).split(",");
  if (first.startsWith("*") && !first.startsWith("*/")) throw misplaced(first, field);
  return new Set([first, ...others].flatMap((item) => parseItem(item, field)));
}

/** @param {string} item  "5", "5-9", "5/2" or "5-9/2", from a star too @param {Field} field @returns {number[]} */
function parseItem(item, field) {
  const parts = /^(\*|\w+)(?:-(\w+))?(?:\/(\d+))?$/.exec(item);
  if (parts === null) throw misplaced(item, field);
  const [, from = "", to, every] = parts;
  const start = from === "*" ? field.min : parseNumber(from, field);
  const step = every === undefined ? 1 : parseNumber(every, stepOf(field));
  const open = every === undefined ? start : field.max;
  const end = to === undefined ? open : parseNumber(to, field);

  const values = [];
  const length = field.max - field.min + 1;
  const span = end >= start ? end - start : end - start + length;
  for (let i = 0; i <= span; i += step) values.push(field.min + ((start - field.min + i) % length));
  return values;
}

/** @param {Field} field @returns {Field} */
function stepOf({ name, min, max }) {
  return { name, min: 1, max: max - min };
}

/** @param {string} text @param {Field} field @returns {number} */
function parseNumber(text, field) {
  const word = field.words?.indexOf(text.toUpperCase()) ?? -1;
  const number = word >= 0 ? field.min + word : /^\d+$/.test(text) ? Number(text) : NaN;
  if (!(number >= field.min && number <= field.max)) throw misplaced(text, field);
  return number;
}

/** @param {string} text @param {Field} field */
function misplaced(text, { name, min, max }) {
  return unreadable(`${JSON.stringify(text)} is no ${name} (${min} to ${max})`);
}
