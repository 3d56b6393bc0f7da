/** The functions by which Convex's dashboard, and suites that use them as it does, look at a deployment and edit its tables. */

import { CallError } from "../engine/errors.mjs";
import { TABLE_OF_TABLES } from "../engine/reads.mjs";
import {
  addDocuments,
  clearPage,
  createTable,
  deleteDocuments,
  getById,
  listById,
  pageOfTable,
  patchDocuments,
  replaceDocument,
  scanTable,
  SHOWN_AS,
  tableSize,
} from "./dashboard-documents.mjs";
import { listCrons, pageOfJobs } from "./dashboard-schedules.mjs";
import { ANY, native, objectOf, STRING } from "./native.mjs";

/**
 * @typedef {import("./native.mjs").Native} Native
 * @typedef {import("./native.mjs").ValidatorJson} ValidatorJson
 * @typedef {import("../engine/functions.mjs").FunctionEntry} FunctionEntry
 * @typedef {Record<string, ValidatorJson>} Args
 */

const NUMBER = { type: "number" };
const NULLABLE_STRING = { type: "union", value: [STRING, { type: "null" }] };
const DOCUMENT = objectOf({ id: STRING, tableName: STRING });
const PAGINATION = objectOf(
  {
    cursor: NULLABLE_STRING,
    endCursor: NULLABLE_STRING,
    id: NUMBER,
    maximumBytesRead: NUMBER,
    maximumRowsRead: NUMBER,
    numItems: NUMBER,
  },
  ["endCursor", "id", "maximumBytesRead", "maximumRowsRead"],
);

const MAX_MAPPED = 1000; // tables, as Convex has it

/**
 * @param {Record<string, string>} environment  what functions see
 * @param {Native} listEnvironment
 * @returns {FunctionEntry[]}
 */
export function dashboardFunctions(environment, listEnvironment) {
  const variable = (/** @type {string} */ name) => () => JSON.stringify(environment[name] ?? null);
  return [
    mutation("addDocument", { table: STRING, documents: array(ANY) }, addDocuments),
    mutation("clearTablePage", { tableName: STRING, cursor: NULLABLE_STRING }, clearPage),
    mutation("createTable", { table: STRING }, createTable),
    mutation("deleteDocuments", { toDelete: array(DOCUMENT) }, deleteDocuments),
    mutation("patchDocumentsFields", { table: STRING, fields: ANY, ids: array(STRING) }, patchDocuments, [
      "ids",
    ]),
    mutation("replaceDocument", { id: STRING, document: ANY }, replaceDocument),
    query("getById", { id: STRING }, getById),
    query("getTableMapping", {}, mapTables),
    query("listById", { ids: array(DOCUMENT) }, listById),
    query("listCronJobs", {}, listCrons),
    query("listTableScan", { table: STRING, limit: NUMBER }, scanTable),
    query("paginatedScheduledJobs", { paginationOpts: PAGINATION, udfPath: STRING }, pageOfJobs, ["udfPath"]),
    query(
      "paginatedTableDocuments",
      { paginationOpts: PAGINATION, table: STRING, filters: NULLABLE_STRING },
      pageOfTable,
    ),
    query("tableSize", { tableName: STRING }, tableSize),
    native("frontend/convexCloudUrl:default", {}, variable("CONVEX_CLOUD_URL")),
    native("frontend/convexSiteUrl:default", {}, variable("CONVEX_SITE_URL")),
    native("frontend/getVersion:default", {}, () => "null"), // Convex's where nobody has pushed: the host keeps no version of who did
    native("frontend/listEnvironmentVariables:default", {}, listEnvironment),
  ];
}

/** @param {string} name @param {Args} args @param {Native} run @param {string[]} [optional] */
function query(name, args, run, optional) {
  return ofComponent("query", name, args, run, optional);
}

/** @param {string} name @param {Args} args @param {Native} run @param {string[]} [optional] */
function mutation(name, args, run, optional) {
  return ofComponent("mutation", name, args, run, optional);
}

/**
 * @param {"query" | "mutation"} kind
 * @param {string} name
 * @param {Args} args
 * @param {Native} run
 * @param {string[]} [optional]  arguments that may be left out
 */
function ofComponent(kind, name, args, run, optional = []) {
  const withComponent = { ...args, componentId: NULLABLE_STRING };
  /** @type {Native} */
  const inApp = (call, given) => {
    const { componentId = null } = given;
    if (componentId === null) return run(call, given);
    throw new CallError(
      `Component ${componentId} not found: components need Convex itself, this host has none`,
    );
  };
  return native(`frontend/${name}:default`, withComponent, inApp, {
    kind,
    optional: ["componentId", ...optional],
  });
}

/** The names of tables by the numbers that ids carry. @type {Native} */
function mapTables(call) {
  call.frame.reads?.addMissingTable(TABLE_OF_TABLES);
  const shown = call.app.store.tables().flatMap(({ number, name }) => {
    const text = name.startsWith("_") ? SHOWN_AS.get(name) : name;
    return text === undefined ? [] : [[String(number), text]];
  });
  return JSON.stringify(Object.fromEntries(shown.slice(0, MAX_MAPPED)));
}

/** @param {ValidatorJson} value */
function array(value) {
  return { type: "array", value };
}
