/** Activates a bundle: its functions, schema, crons and variables, all or nothing. */

import { AuthConfigError, parseProviders } from "../auth/providers.mjs";
import { functionEnvironment } from "../env.mjs";
import { apiSpec } from "../push/describe.mjs";
import { readEnvironment } from "../system/environment.mjs";
import { systemFunctions } from "../system/functions.mjs";
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
 * @property {import("./runtime.mjs").Declared} declared
 * @property {string} description  what `load` answers, JSON text
 */

/** What `use` of npm `convex` misses in a definition that no bundler of Convex has seen. */
const UNKNOWN_COMPONENT = "componentDefinitionPath";
const REFUSALS = [CronError, ValidatorError];

/**
 * Evaluate a bundle and read what it declares. Nothing is activated and nothing is written.
 *
 * @param {Bundle} bundle
 * @param {Record<string, string | undefined>} environment  the host's
 * @param {import("./runtime.mjs").Handlers} handlers
 * @param {number} now  ms since the epoch
 * @param {Store} store  holds variables too
 * @param {{ complete?: boolean, strict?: boolean, seeds?: [number, number, number] }} [options]  complete: every variable that is declared
 *   must be there; strict and seeds: of the runtime
 * @returns {Deployment}
 * @throws {OperatorError}
 */
export function prepareDeployment(
  bundle,
  environment,
  handlers,
  now,
  store,
  { complete = true, strict = false, seeds } = {},
) {
  try {
    const stored = readEnvironment(store);
    const everything = functionEnvironment(environment, Object.keys(environment), stored);
    const { declared } = new Runtime(bundle, everything, handlers, now, { declares: true, seeds });
    refuseComponents(declared);
    checkDeclarations(declared.env);
    const env = functionEnvironment(
      environment,
      declared.env.map(([name]) => name),
      stored,
    );
    if (complete) checkEnvironment(declared.env, env);
    const facts = { apiSpec: () => apiSpec(declared), schema: declared.schema, environment: env };
    const functions = new FunctionTable(declared.functions, systemFunctions(facts));
    const description = {
      functions: functions.describe(),
      http: declared.http,
      env: declared.env.map(([name]) => name),
      auth: parseProviders(declared.auth),
      variables: env,
      imported: seeds === undefined ? null : { at: now, seeds },
    };
    return {
      runtime: new Runtime(bundle, env, handlers, now, { strict, seeds }),
      functions,
      schema: parseSchema(declared.schema),
      crons: parseCrons(declared.crons, (path) => functions.get(path)?.kind ?? null),
      declared,
      description: JSON.stringify(description),
    };
  } catch (error) {
    if (error instanceof OperatorError && error.message.includes(UNKNOWN_COMPONENT)) {
      throw new OperatorError(
        "convex.config.ts: it uses a component: components need Convex itself, this host has none",
      );
    }
    if (error instanceof SchemaError) {
      const reason = error.message.slice(error.code.length + 2);
      const text = `Hit an error while evaluating your schema:\n${reason}`;
      throw new OperatorError(oneLine(error.message), { code: error.code, text });
    }
    if (error instanceof AuthConfigError) {
      throw new OperatorError(oneLine(error.message), { code: "InvalidAuthConfig", text: error.text });
    }
    if (REFUSALS.some((kind) => error instanceof kind)) {
      throw new OperatorError(oneLine(/** @type {Error} */ (error).message));
    }
    throw error;
  }
}

/** @param {import("./runtime.mjs").Declared} declared */
function refuseComponents({ components, config }) {
  const needs = "needs Convex itself, this host has no components";
  if (components.length > 0) {
    throw new OperatorError(`convex.config.ts: the component ${JSON.stringify(components[0])} ${needs}`);
  }
  const { name, args = [] } = config?.definitionType ?? {};
  if (args.length > 0) {
    throw new OperatorError(
      `convex.config.ts: the component ${JSON.stringify(name)} takes arguments and ${needs}`,
    );
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
      if (error !== null) {
        throw new OperatorError(`Schema validation failed: ${oneLine(error)}`, {
          code: "SchemaAlreadyFailed",
          text: error,
        });
      }
    }
  }
  store.setValidatedAs(table, wanted);
}

/**
 * The first document that does not fit a schema; nothing is written.
 *
 * @param {Store} store
 * @param {string | null} json  what `schema.default.export()` returned
 * @returns {{ error: string, tableName: string } | null}
 */
export function checkSchema(store, json) {
  const schema = parseSchema(json);
  if (!schema.schemaValidation) return null;
  for (const [name, { validator }] of schema.tables) {
    const table = store.table(name);
    if (table === undefined || store.validatedAs(table) === JSON.stringify(validator.json)) continue;
    for (const row of store.rows(table)) {
      const error = checkStoredDocument(schema, name, JSON.parse(row.json), store);
      if (error !== null) return { error, tableName: name };
    }
  }
  return null;
}

/** @param {import("./runtime.mjs").Declared | null} declared @returns {string[]} */
export function requiredVariables(declared) {
  return (declared?.env ?? []).filter(([, { optional }]) => optional !== true).map(([name]) => name);
}

/** @param {import("./runtime.mjs").Declared["env"]} declared */
function checkDeclarations(declared) {
  const other = declared.find(([, { value }]) => !isStringLike(JSON.parse(value)));
  if (other === undefined) return;
  throw new OperatorError(
    `convex.config.ts: the environment variable ${other[0]} has a non-string validator`,
    {
      code: "InvalidEnvVarDeclaration",
      text: `Env var \`${other[0]}\` on the app has a non-string validator. Component env vars must be declared with \`v.string()\`, \`v.literal("...")\`, or a union of those.`,
    },
  );
}

/**
 * @param {any} json  of a validator
 * @returns {boolean}
 */
function isStringLike({ type, value }) {
  if (type === "union") return value.every(isStringLike);
  return type === "string" || (type === "literal" && typeof value === "string");
}

/**
 * @param {import("./runtime.mjs").Declared["env"]} declared
 * @param {Record<string, string>} env
 */
function checkEnvironment(declared, env) {
  const missing = declared.filter(([name, { optional }]) => env[name] === undefined && optional !== true);
  if (missing.length > 0) {
    const names = missing.map(([name]) => name).join(", ");
    const text = `Required environment variables are not set: ${names}. Set them in the Convex dashboard or CLI before pushing.`;
    throw new OperatorError(`convex.config.ts declares the environment variable ${names}, which is not set`, {
      code: "MissingEnvironmentVariables",
      text,
    });
  }
  for (const [name, { value }] of declared) {
    if (env[name] === undefined) continue;
    const error = compileValidator(JSON.parse(value)).check(env[name], {
      tableNumberOf: () => null,
      tableNameOf: () => null,
    });
    if (error !== null) {
      throw new OperatorError(`environment variable ${name}: ${oneLine(error)}`, {
        code: "InvalidEnvironmentVariable",
        text: `Environment variable ${name} does not match its declared validator: ${error}`,
      });
    }
  }
}

/** @param {string} text */
function oneLine(text) {
  return text.trim().replaceAll(/\s*\n\s*/g, " ");
}
