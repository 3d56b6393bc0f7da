/** The functions by which Convex's dashboard reads and edits tables, and lists the crons. */

import { intervalMs, WEEKDAYS } from "../engine/cron.mjs";
import { CallError } from "../engine/errors.mjs";
import { inFieldOrder } from "../engine/field-order.mjs";
import { jsonType } from "../engine/syscalls/arguments.mjs";
import { encodeInt64 } from "../engine/values.mjs";
import { modulePath } from "../paths.mjs";
import { ANY, native, readTablePage, STRING, syscall, tellingClient } from "./native.mjs";

/**
 * @typedef {import("./native.mjs").Call} Call
 * @typedef {import("./native.mjs").Native} Native
 * @typedef {import("../engine/functions.mjs").FunctionEntry} FunctionEntry
 * @typedef {import("../engine/cron.mjs").Schedule} Schedule
 */

// Convex's own numbers.
const MAX_IMPORTED = 4096; // documents
const CLEARED_PAGE = { numItems: 4000, maximumBytesRead: 3_000_000 };

const NUMBER = { type: "number" };
const NULLABLE_STRING = { type: "union", value: [STRING, { type: "null" }] };
const SUCCESS = '{"success":true}';
const DONE_AFTER = ',"done":false}'; // as `queryStreamNext` ends its answer
const VALUE_BEFORE = '{"value":';

/** @returns {FunctionEntry[]} */
export function dashboardFunctions() {
  return [
    mutation("addDocument", { table: STRING, documents: { type: "array", value: ANY } }, addDocuments),
    mutation("clearTablePage", { tableName: STRING, cursor: NULLABLE_STRING }, clearPage),
    query("listTableScan", { table: STRING, limit: NUMBER }, scanTable),
    query("listCronJobs", {}, listCrons),
  ];
}

/** @param {string} name @param {Parameters<typeof native>[1]} args @param {Native} run */
function query(name, args, run) {
  return ofComponent("query", name, args, run);
}

/** @param {string} name @param {Parameters<typeof native>[1]} args @param {Native} run */
function mutation(name, args, run) {
  return ofComponent("mutation", name, args, run);
}

/**
 * @param {"query" | "mutation"} kind
 * @param {string} name
 * @param {Parameters<typeof native>[1]} args
 * @param {Native} run
 */
function ofComponent(kind, name, args, run) {
  const withComponent = { ...args, componentId: NULLABLE_STRING };
  /** @type {Native} */
  const inApp = (call, given) => {
    const { componentId = null } = given;
    if (componentId === null) return run(call, given);
    throw new CallError(
      `Component ${componentId} not found: components need Convex itself, this host has none`,
    );
  };
  return native(`frontend/${name}:default`, withComponent, inApp, { kind, optional: ["componentId"] });
}

/** @type {Native} */
function addDocuments(call, { table, documents }) {
  if (documents.length > MAX_IMPORTED) {
    return JSON.stringify({
      error: `Can’t import more than ${MAX_IMPORTED} documents at once.`,
      success: false,
    });
  }
  tellingClient(() => {
    for (const value of documents) insert(call, table, value);
  });
  return SUCCESS;
}

/**
 * @param {Call} call
 * @param {string} table
 * @param {unknown} value
 */
function insert(call, table, value) {
  if (table.startsWith("_")) throw new CallError("System tables (prefixed with `_`) are read-only.");
  syscall(call, "1.0/insert", { table, value });
}

/** @type {Native} */
function clearPage(call, { tableName: table, cursor }) {
  refuseSystemTable(table);
  const answer = readTablePage(call, { table, order: "asc", cursor, ...CLEARED_PAGE });
  const { page, continueCursor, isDone } = JSON.parse(answer);
  for (const { _id: id } of page) syscall(call, "1.0/remove", { id });
  return JSON.stringify({ continueCursor, deleted: page.length, hasMore: !isDone });
}

/** @type {Native} */
function scanTable(call, { table: tableName, limit }) {
  if (tableName === "") return "[]";
  refuseSystemTable(tableName);
  checkLimit(limit);
  const source = { type: "FullTableScan", tableName, order: "desc" };
  const { queryId } = JSON.parse(
    syscall(call, "1.0/queryStream", { query: { source, operators: [{ limit }] }, version: null }),
  );
  const documents = [];
  for (;;) {
    const answer = syscall(call, "1.0/queryStreamNext", { queryId });
    if (!answer.endsWith(DONE_AFTER)) return `[${documents.join(",")}]`;
    documents.push(answer.slice(VALUE_BEFORE.length, -DONE_AFTER.length)); // parsed and printed again, numeric fields would change places
  }
}

/** @param {unknown} limit */
function checkLimit(limit) {
  if (Number.isSafeInteger(limit) && Number(limit) >= 0) return;
  const problem = `invalid ${Number.isSafeInteger(limit) ? "value" : "type"}: ${jsonType(limit)}, expected usize`;
  throw new CallError(`Invalid argument \`query\` for \`queryStream\`: ${problem}`);
}

/** @param {string} table */
function refuseSystemTable(table) {
  if (!table.startsWith("_")) return;
  throw new CallError("System tables can only be accessed from db.system.query().");
}

/** What Convex keeps in three tables: here one row tells of a cron and its next run, and nothing is kept of its past. @type {Native} */
function listCrons(call) {
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
      udfArgs: { $bytes: Buffer.from(args).toString("base64") },
      udfPath: modulePath(path),
    },
    lastRun: null,
    name,
    nextRun: {
      _creationTime,
      _id,
      cronJobId: _id,
      nextTs: encodeInt64(BigInt(Math.round(nextRun)) * 1_000_000n), // nanoseconds
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
