/** What Convex's dashboard lists of crons and scheduled functions, in the form of Convex's own tables. */

import { intervalMs, WEEKDAYS } from "../engine/cron.mjs";
import { inFieldOrder } from "../engine/field-order.mjs";
import { encodeInt64 } from "../engine/values.mjs";
import { modulePath } from "../paths.mjs";
import { PAGE_LIMITS, readPage } from "./native.mjs";

/**
 * @typedef {import("./native.mjs").Native} Native
 * @typedef {import("../engine/cron.mjs").Schedule} Schedule
 */

/** The states that have not ended, which lie beside each other in the scheduler's index: what runs comes before what waits. */
const UNFINISHED = {
  type: "IndexRange",
  indexName: "_scheduled_functions._by_state",
  range: [
    { type: "Gte", fieldPath: "state.kind", value: "inProgress" },
    { type: "Lte", fieldPath: "state.kind", value: "pending" },
  ],
  order: "asc",
};

/** @type {Native} */
export function pageOfJobs(call, { udfPath, paginationOpts: { cursor, endCursor, numItems } }) {
  const filter = { $eq: [{ $field: "name" }, { $literal: udfPath ?? null }] };
  const operators = udfPath === undefined ? [] : [{ filter }];
  const { page, ...rest } = JSON.parse(
    readPage(call, { source: UNFINISHED, operators }, { cursor, endCursor, numItems, ...PAGE_LIMITS }),
  );
  return JSON.stringify({ page: page.map(describeJob), ...rest });
}

/** @param {import("../engine/scheduler.mjs").Job & { _creationTime: number }} job */
function describeJob({ _creationTime, _id, name, args, scheduledTime, state }) {
  const due = nanoseconds(scheduledTime);
  return {
    _creationTime,
    _id,
    argsId: null,
    attempts: { occ_errors: 0, system_errors: 0 },
    completedTs: null,
    component: "",
    nextTs: due,
    originalScheduledTs: due,
    state: { type: state.kind },
    udfArgs: bytes(JSON.stringify(args)),
    udfPath: name,
  };
}

/** What Convex keeps in three tables: here one row tells of a cron and its next run, and nothing is kept of its past. @type {Native} */
export function listCrons(call) {
  const { store } = call.app;
  const table = /** @type {import("../engine/store.mjs").Table} */ (store.table("_cron_jobs"));
  const whole = { table, index: table.byCreationTime, low: Buffer.alloc(0), high: null, descending: false };
  call.frame.reads?.addRange(whole);
  return JSON.stringify([...store.rows(table)].map(({ json }) => describeCron(JSON.parse(json))));
}

/** @param {import("../engine/scheduler.mjs").Cron & { _creationTime: number }} cron */
function describeCron({ _creationTime, _id, name, path, args, schedule, nextRun, inProgress }) {
  return {
    _creationTime,
    _id,
    cronSpec: {
      cronSchedule: describeSchedule(JSON.parse(schedule)),
      udfArgs: bytes(args),
      udfPath: modulePath(path),
    },
    lastRun: null,
    name,
    nextRun: {
      _creationTime,
      _id,
      cronJobId: _id,
      nextTs: nanoseconds(nextRun),
      prevTs: null,
      state: { type: inProgress ? "inProgress" : "pending" },
    },
  };
}

/** @param {Schedule} schedule */
function describeSchedule(schedule) {
  const { type } = schedule;
  if (type === "cron") return { cronExpr: schedule.cron, type };
  if (type === "interval") return { seconds: encodeInt64(BigInt(intervalMs(schedule) / 1000)), type };
  /** @type {Record<string, string | number | null | undefined>} */
  const fields = { minuteUTC: null, ...schedule };
  if ("dayOfWeek" in schedule) fields.dayOfWeek = WEEKDAYS.get(schedule.dayOfWeek);
  const described = Object.entries(fields).map(([field, value]) => [
    field,
    typeof value === "number" ? encodeInt64(BigInt(value)) : value,
  ]);
  return inFieldOrder(Object.fromEntries(described));
}

/** @param {number} ms */
function nanoseconds(ms) {
  const whole = Math.floor(ms);
  return encodeInt64(BigInt(whole) * 1_000_000n + BigInt(Math.floor((ms - whole) * 1_000_000)));
}

/** @param {string} text */
function bytes(text) {
  return { $bytes: Buffer.from(text).toString("base64") };
}
