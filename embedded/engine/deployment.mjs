/** Activates a bundle: its functions, schema, crons and variables, all or nothing. */

import { AuthConfigError, parseProviders } from "../auth/providers.mjs";
import { functionEnvironment } from "../env.mjs";
import { CronError, parseCrons } from "./cron.mjs";
import { OperatorError } from "./errors.mjs";
import { FunctionTable } from "./functions.mjs";
import { Runtime } from "./runtime.mjs";
import { checkStoredDocument, parseSchema, SchemaError } from "./schema.mjs";
import { compileValidator, ValidatorError } from "./validators.mjs";

/**
 * @typedef {import("./runtime.mjs").Bundle} Bundle
 * @typedef {import("./schema.mjs").Schema} Schema
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./store.mjs").Table} Table
 * @typedef {object} Deployment
 * @property {Runtime} runtime
 * @property {FunctionTable} functions
 * @property {Schema} schema
 * @property {import("./cron.mjs").CronSpec[]} crons
 * @property {string} description  what `load` answers, JSON text
 */

/** What `use` of npm `convex` misses in a definition that no bundler of Convex has seen. */
const UNKNOWN_COMPONENT = "componentDefinitionPath";
const REFUSALS = [AuthConfigError, CronError, SchemaError, ValidatorError];

/**
 * Evaluate a bundle and read what it declares. Nothing is activated and nothing is written.
 *
 * @param {Bundle} bundle
 * @param {Record<string, string | undefined>} environment  the host's
 * @param {import("./runtime.mjs").Handlers} handlers
 * @param {number} now  ms since the epoch
 * @returns {Deployment}
 * @throws {OperatorError}
 */
export function prepareDeployment(bundle, environment, handlers, now) {
  try {
    const names = [...new Set([...Object.keys(environment)])];
    const everything = functionEnvironment(environment, names);
    const first = new Runtime(bundle, everything, handlers, now);
    const { declared } = first;
    if (declared.components.length > 0) {
      throw new OperatorError(
        `convex.config.ts: the component ${JSON.stringify(declared.components[0])} needs Convex itself, this host has no components`,
      );
    }
    const env = functionEnvironment(
      environment,
      declared.env.map(([name]) => name),
    );
    checkEnvironment(declared.env, env);
    const functions = new FunctionTable(declared.functions);
    const description = {
      functions: functions.describe(),
      http: declared.http,
      env: declared.env.map(([name]) => name),
      auth: parseProviders(declared.auth),
    };
    return {
      runtime: new Runtime(bundle, env, handlers, now),
      functions,
      schema: parseSchema(declared.schema),
      crons: parseCrons(declared.crons, (path) => functions.get(path)?.kind ?? null),
      description: JSON.stringify(description),
    };
  } catch (error) {
    if (error instanceof OperatorError && error.message.includes(UNKNOWN_COMPONENT)) {
      throw new OperatorError(
        "convex.config.ts: it uses a component: components need Convex itself, this host has none",
      );
    }
    if (REFUSALS.some((kind) => error instanceof kind)) {
      throw new OperatorError(oneLine(/** @type {Error} */ (error).message));
    }
    throw error;
  }
}

/**
 * Bring the store to a schema: its tables exist, its indexes are filled, and every document fits.
 *
 * @param {Store} store  inside a savepoint that is rolled back when this throws
 * @param {Schema} schema
 * @throws {OperatorError} a stored document does not fit
 */
export function applySchema(store, schema) {
  for (const name of schema.tables.keys()) store.ensureTable(name);
  for (const table of store.tables()) {
    if (table.name.startsWith("_")) continue;
    const declared = schema.tables.get(table.name);
    checkDocuments(store, schema, table);
    store.setIndexes(table, [
      ...(declared?.indexes ?? []),
      ...(declared?.stagedIndexes ?? []).map((index) => ({ ...index, staged: true })),
    ]);
    store.setSideIndexes(table, [...(declared?.searchIndexes ?? []), ...(declared?.vectorIndexes ?? [])]);
  }
}

/**
 * @param {Store} store
 * @param {Schema} schema
 * @param {Table} table
 */
function checkDocuments(store, schema, table) {
  const validator = schema.schemaValidation ? schema.tables.get(table.name)?.validator : undefined;
  const wanted = validator === undefined ? null : JSON.stringify(validator.json);
  if (store.validatedAs(table) === wanted) return; // documents were checked then, and each write since
  if (wanted !== null) {
    for (const row of store.rows(table)) {
      const error = checkStoredDocument(schema, table.name, JSON.parse(row.json), store);
      if (error !== null) throw new OperatorError(`Schema validation failed: ${oneLine(error)}`);
    }
  }
  store.setValidatedAs(table, wanted);
}

/**
 * @param {import("./runtime.mjs").Declared["env"]} declared
 * @param {Record<string, string>} env
 */
function checkEnvironment(declared, env) {
  for (const [name, { value, optional }] of declared) {
    const set = env[name];
    if (set === undefined) {
      if (optional === true) continue;
      throw new OperatorError(`convex.config.ts declares the environment variable ${name}, which is not set`);
    }
    const error = compileValidator(JSON.parse(value)).check(set, {
      tableNumberOf: () => null,
      tableNameOf: () => null,
    });
    if (error !== null) throw new OperatorError(`environment variable ${name}: ${oneLine(error)}`);
  }
}

/** @param {string} text */
function oneLine(text) {
  return text.trim().replaceAll(/\s*\n\s*/g, " ");
}
