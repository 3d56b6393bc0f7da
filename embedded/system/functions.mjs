/**
 * The functions that the CLI and dashboards call for what the host knows of itself. Only the admin may call them.
 *
 * They read through the syscalls that the app's own functions use, so that a live one runs again when what it read has changed.
 */

import { TABLE_OF_TABLES } from "../engine/reads.mjs";
import { dashboardFunctions } from "./dashboard-functions.mjs";
import { ENVIRONMENT_TABLE, readEnvironment } from "./environment.mjs";
import { ANY, countTable, native, PAGE_LIMITS, readTablePage, STRING } from "./native.mjs";
import { describeSchema } from "./schema-description.mjs";

/**
 * @typedef {import("../engine/functions.mjs").FunctionEntry} FunctionEntry
 * @typedef {import("./native.mjs").Native} Native
 * @typedef {object} Facts  what they tell of the functions that are served
 * @property {() => Record<string, unknown>[]} apiSpec  one entry for each function and route, as Convex describes them
 * @property {string | null} schema  what `schema.default.export()` returned
 * @property {Record<string, string>} environment  what functions see
 */

/**
 * @param {Facts} facts
 * @returns {FunctionEntry[]}
 */
export function systemFunctions(facts) {
  return [
    native("cli/tables:default", { paginationOpts: ANY }, listTables),
    native("cli/tableData:default", { table: STRING, order: ANY, paginationOpts: ANY }, tablePage),
    native("cli/tableSize:default", { tableName: STRING }, (call, { tableName }) =>
      countTable(call, tableName),
    ),
    native("cli/queryTable:default", { tableName: STRING }, (call, { tableName }) => {
      countTable(call, tableName);
      return String(Math.random()); // Convex's own too: any value is new, so that each change of the table is seen
    }),
    native("cli/queryEnvironmentVariables:default", {}, listEnvironment),
    native("cli/queryEnvironmentVariables:get", { name: STRING }, (_, { name }) => {
      const value = facts.environment[name];
      return JSON.stringify(value === undefined ? null : { name, value });
    }),
    native("cli/modules:apiSpec", { componentId: ANY }, () => JSON.stringify(facts.apiSpec()), {
      optional: ["componentId"],
    }),
    native("cli/convexUrl:cloudUrl", {}, () => JSON.stringify(facts.environment.CONVEX_CLOUD_URL ?? null)),
    native("cli/queryImport:list", {}, () => "[]"), // none is under way, as the CLI wants to know first
    native("frontend/components:list", {}, () => "[]"),
    native(
      "frontend/getSchemas:default",
      { componentId: ANY },
      // None is ever in progress: a push validates and activates its schema at once.
      () => JSON.stringify(facts.schema === null ? {} : { active: describeSchema(facts.schema) }),
      { optional: ["componentId"] },
    ),
    ...dashboardFunctions(facts.environment, listEnvironment),
  ];
}

/** @type {Native} */
function listTables(call) {
  call.frame.reads?.addMissingTable(TABLE_OF_TABLES);
  const page = call.app.store
    .tables()
    .filter(({ name }) => !name.startsWith("_"))
    .map(({ name }) => ({ name }));
  return JSON.stringify({ page, isDone: true, continueCursor: "end" });
}

/** @type {Native} */
function tablePage(call, { table, order, paginationOpts: { cursor, endCursor, numItems } }) {
  return readTablePage(call, { table, order, cursor, endCursor, numItems, ...PAGE_LIMITS });
}

/** @type {Native} */
function listEnvironment(call) {
  const { store } = call.app;
  const table = store.table(ENVIRONMENT_TABLE);
  if (table === undefined) {
    call.frame.reads?.addMissingTable(ENVIRONMENT_TABLE);
    return "[]";
  }
  call.frame.reads?.addRange({
    table,
    index: table.byCreationTime,
    low: Buffer.alloc(0),
    high: null,
    descending: false,
  });
  const documents = [...store.rows(table)].map(({ json }) => JSON.parse(json));
  const names = Object.keys(readEnvironment(store));
  return JSON.stringify(documents.sort((one, other) => names.indexOf(one.name) - names.indexOf(other.name)));
}
