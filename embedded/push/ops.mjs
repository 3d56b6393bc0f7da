/** What the engine answers to a push before it is activated. Nothing here writes. */

import { parseProviders } from "../auth/providers.mjs";
import { prepareDeployment } from "../engine/deployment.mjs";
import { OperatorError } from "../engine/errors.mjs";
import { FunctionTable } from "../engine/functions.mjs";
import { parseSchema } from "../engine/schema.mjs";
import { readEnvironment } from "../system/environment.mjs";
import { analysis } from "./describe.mjs";
import { diffIndexes, indexConfigs } from "./index-diff.mjs";

/**
 * @typedef {import("../engine/call.mjs").App} App
 * @typedef {import("../engine/runtime.mjs").Bundle} Bundle
 * @typedef {import("../engine/runtime.mjs").Declared} Declared
 * @typedef {import("../engine/runtime.mjs").Handlers} Handlers
 * @typedef {import("../engine/store.mjs").Store} Store
 *
 * @typedef {object} Served  what runs now
 * @property {App | null} app
 * @property {Declared | null} declared
 * @property {readonly string[]} modules
 * @property {Store} store
 * @property {Handlers} handlers
 * @property {number} now  ms since the epoch
 */

/** Where pushed code is kept in the file. */
export const PUSHED = "pushed";

/**
 * @param {Served} served
 * @param {{ bundle: Bundle, env: Record<string, string | undefined>, serverVersion: string, evaluate?: boolean }} push  evaluate: say what it costs, for which documents are counted
 * @throws {OperatorError} the code cannot be served
 */
export function analyzePush({ app, declared: old, modules, store, handlers, now }, push) {
  const { bundle, env, serverVersion, evaluate = false } = push;
  const { schema, declared } = prepareDeployment(bundle, env, handlers, now, store, { complete: false });
  const before = app?.schema ?? parseSchema(null);
  return {
    analysis: analysis(declared, bundle.modules, serverVersion, now),
    auth: parseProviders(declared.auth),
    schema: declared.schema,
    variables: readEnvironment(store),
    indexDiff: diffIndexes(before, schema),
    moduleDiff: difference(modules, bundle.modules),
    cronDiff: diffCrons(old?.crons ?? null, declared.crons),
    schemaDiff:
      (old?.schema ?? null) === declared.schema
        ? null
        : { previous_schema: old?.schema ?? null, next_schema: declared.schema },
    evaluation: evaluate ? evaluateSchema(store, before, schema) : null,
  };
}

/**
 * What a push would cost: how many documents have to be looked at for each table and index.
 *
 * @param {Store} store
 * @param {import("../engine/schema.mjs").Schema} before
 * @param {import("../engine/schema.mjs").Schema} after
 */
function evaluateSchema(store, before, after) {
  const documents = (/** @type {string} */ name) => {
    const table = store.table(name);
    return table === undefined ? 0 : store.count(table);
  };
  const [old, next] = [indexConfigs(before), indexConfigs(after)];
  const prediction = (
    /** @type {import("./index-diff.mjs").IndexConfig} */ config,
    /** @type {string} */ change,
  ) => ({
    ...config,
    change,
    needsBackfill: change === "added",
    numDocs: documents(config.name.split(".", 1)[0] ?? ""),
  });
  return {
    definitionPath: "",
    schemaValidation: after.schemaValidation,
    tables: [...after.tables.values()].map(({ name, validator }) => {
      const table = store.table(name);
      const known = table !== undefined && store.validatedAs(table) === JSON.stringify(validator.json);
      const outcome = !after.schemaValidation ? "notValidated" : known ? "supersetOfEnforced" : "mustWalk";
      return {
        name,
        outcome,
        numDocs: documents(name),
        sizeBytes: table === undefined ? 0 : store.sizeOf(table),
      };
    }),
    indexes: [
      ...[...next].map(([key, config]) => prediction(config, changeOf(old.get(key), config))),
      ...[...old].filter(([key]) => !next.has(key)).map(([, config]) => prediction(config, "dropped")),
    ],
  };
}

/**
 * @param {import("./index-diff.mjs").IndexConfig | undefined} before
 * @param {import("./index-diff.mjs").IndexConfig} after
 */
function changeOf(before, after) {
  if (before === undefined) return "added";
  if (before.staged === after.staged) return "identical";
  return after.staged ? "disabled" : "enabled";
}

/**
 * @param {string | null} before
 * @param {string | null} after
 */
function diffCrons(before, after) {
  const old = JSON.parse(before ?? "{}");
  const next = JSON.parse(after ?? "{}");
  const { added, removed } = difference(Object.keys(old), Object.keys(next));
  const changed = (/** @type {string} */ name) => JSON.stringify(old[name]) !== JSON.stringify(next[name]);
  return {
    added,
    deleted: removed,
    updated: Object.keys(next).filter((name) => name in old && changed(name)),
  };
}

/**
 * @param {readonly string[]} before
 * @param {readonly string[]} after
 */
function difference(before, after) {
  return {
    added: after.filter((one) => !before.includes(one)),
    removed: before.filter((one) => !after.includes(one)),
  };
}

/**
 * Make the one query that a module exports ready to run on the data that is there.
 *
 * @param {Served & { app: App }} served
 * @param {{ bundle: Bundle, env: Record<string, string | undefined> }} message  bundle: of one module
 * @returns {{ app: App, entry: import("../engine/call.mjs").Callable }}
 * @throws {OperatorError} with Convex's code and text
 */
export function prepareInlineQuery({ app, store, handlers, now }, { bundle, env }) {
  const { runtime, functions, declared } = evaluated(bundle, env, handlers, now, store);
  const [module = ""] = bundle.modules;
  for (const { path } of declared.functions) {
    if (path !== `${module}:default`)
      throw refused("InvalidTestQuery", "Only `export default` is supported.");
  }
  const entry = functions.get(`${module}:default`);
  if (entry === undefined) throw refused("InvalidTestQuery", "Default export is not a Convex function.");
  if (entry.kind !== "query") {
    const kind = entry.kind === "mutation" ? "Mutations" : "Actions";
    throw refused("UnsupportedTestQuery", `${kind} are not supported in the REPL yet.`);
  }
  const table = new FunctionTable(declared.functions);
  return {
    app: { ...app, runtime, functions: table },
    entry: /** @type {import("../engine/call.mjs").Callable} */ (table.find(entry.path, "query", true)),
  };
}

/**
 * @param {Bundle} bundle
 * @param {Record<string, string | undefined>} env
 * @param {Handlers} handlers
 * @param {number} now
 * @param {Store} store
 */
function evaluated(bundle, env, handlers, now, store) {
  try {
    return prepareDeployment(bundle, env, handlers, now, store, { complete: false });
  } catch (error) {
    if (!(error instanceof OperatorError)) throw error;
    throw refused("InvalidModules", `Could not analyze the given module:\n${error.refusal.text}`);
  }
}

/** @param {string} code @param {string} text */
function refused(code, text) {
  return new OperatorError(text, { code, text });
}
