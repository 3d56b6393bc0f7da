/** Reads what the CLI pushes, checks it, and turns its modules into one bundle. */

import path from "node:path";
import { bundleModules, entrySource, firstError, isBuildFailure } from "../bundle.mjs";
import { REPOSITORY } from "../host-files.mjs";
import { HttpError } from "../http/errors.mjs";
import { ENTRY_SCRIPT } from "../paths.mjs";

/**
 * @typedef {import("../bundle.mjs").Bundle} Bundle
 * @typedef {import("esbuild").Plugin} Plugin
 * @typedef {{ path: string, source: string, sourceMap?: string }} Module  path: as in "folder/tasks.js", "_deps/ABC.js"
 * @typedef {object} Push  what is pushed, checked
 * @property {Module[]} modules
 * @property {string} functions  the folder it was made from, as `convex.json` has it
 * @property {string} serverVersion  of npm `convex`
 * @property {boolean} dryRun
 */

const ROOT = path.join(path.parse(REPOSITORY).root, "pushed", "convex"); // pushed modules are in no folder
const NAMESPACE = "pushed";
const MAX_MODULES = 4096; // Convex's own number
const MAX_PART = 64;
const PART = /^(?=.*[A-Za-z0-9])[A-Za-z0-9_.]+$/;
const DEPENDENCIES = "_deps/";
const WRAPPERS = "convex:/_system/repl/wrappers.js";

/**
 * @param {Record<string, any>} request  the body of a push
 * @returns {Push}
 * @throws {HttpError} 400, in one line that names the module
 */
export function parsePush({
  appDefinition,
  componentDefinitions = [],
  functions = "convex/",
  dryRun = false,
}) {
  const { functions: all, changedModules = all } = isObject(appDefinition) ? appDefinition : {}; // the CLI up to 1.31.5 says `functions`
  if (!Array.isArray(changedModules)) {
    throw new HttpError(400, "BadJsonBody", "A push needs an 'appDefinition' with 'changedModules'");
  }
  const { definition, dependencies = [], schema, unchangedModuleHashes = [] } = appDefinition;
  const [component] = [
    ...dependencies,
    ...componentDefinitions.map((/** @type {any} */ one) => one?.definitionPath),
  ];
  if (component !== undefined) {
    throw refused(
      `convex.config.ts: the component ${JSON.stringify(component)} needs Convex itself, this host has no components`,
    );
  }
  if (unchangedModuleHashes.length > 0) {
    throw refused(`${unchangedModuleHashes[0]?.path}: this host keeps no single modules, push all of them`);
  }
  const modules = [...changedModules, ...[definition, schema].filter((one) => (one ?? null) !== null)];
  if (modules.length > MAX_MODULES) {
    throw refused(`Too many function files (${modules.length} > maximum ${MAX_MODULES}) in "convex/".`);
  }
  return {
    modules: modules.map(parseModule),
    functions: String(functions),
    serverVersion: String(appDefinition.udfServerVersion ?? ""),
    dryRun: dryRun === true,
  };
}

/** @param {any} module @returns {Module} */
function parseModule(module) {
  const { path: name, source, sourceMap, environment } = isObject(module) ? module : {};
  if (typeof name !== "string" || typeof source !== "string") {
    throw new HttpError(400, "BadJsonBody", "Each pushed module needs a 'path' and a 'source'");
  }
  checkPath(name);
  if (environment === "node") {
    throw refused(`${name}: "use node" modules need Convex itself, this host does not run them`);
  }
  return { path: name, source, ...(typeof sourceMap === "string" ? { sourceMap } : {}) };
}

/** @param {string} name */
function checkPath(name) {
  for (const part of name.split("/")) {
    if (part.length > MAX_PART) {
      throw refused(
        `Path component is too long (${part.length} > maximum ${MAX_PART}): ${part.slice(0, MAX_PART)}...`,
      );
    }
    if (!PART.test(part)) {
      throw refused(
        `${JSON.stringify(name)} is not a valid path to a Convex module. Path component ${part} can only contain alphanumeric characters, underscores, or periods.`,
      );
    }
  }
  if (!name.endsWith(".js")) throw refused(`Module path (${name}) must have extension js`);
}

/**
 * @param {Push} push
 * @returns {Promise<Bundle>}
 * @throws {HttpError} 400, in one line with file and line
 */
export async function bundlePush({ modules, functions }) {
  const entries = modules
    .map((module) => module.path)
    .filter((name) => !name.startsWith(DEPENDENCIES))
    .sort();
  return await inMemory(modules, entries, functions);
}

/**
 * The bundle of one module that a client wrote to be run once.
 *
 * @param {Module} module
 * @returns {Promise<Bundle>}
 * @throws {HttpError} 400
 */
export async function bundleInlineQuery(module) {
  checkPath(module.path);
  return await inMemory([module], [module.path], "convex/");
}

/**
 * @param {Module[]} modules
 * @param {string[]} entries  paths
 * @param {string} functions  as `convex.json` has it
 */
async function inMemory(modules, entries, functions) {
  const names = entries.map((entry) => entry.replace(/\.js$/, ""));
  try {
    const { bundle } = await bundleModules(ROOT, entrySource(entries, names), names, [
      fromMemory(modules, functions),
    ]);
    return { ...bundle, map: bundle.map.replaceAll(`"${NAMESPACE}:`, '"') }; // the sources of modules without a map of their own
  } catch (error) {
    if (!isBuildFailure(error)) throw error;
    throw refused(firstError(ROOT, error).replace(`${NAMESPACE}:`, ""));
  }
}

/**
 * Answers imports from the pushed modules, which need nothing else.
 *
 * @param {Module[]} modules
 * @param {string} functions
 * @returns {Plugin}
 */
function fromMemory(modules, functions) {
  const known = new Map(modules.map((module) => [module.path, module]));
  return {
    name: "pushed",
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /.*/ }, ({ path: wanted, importer, namespace }) => {
        const pushed = namespace === NAMESPACE;
        if (!pushed && path.basename(importer) !== ENTRY_SCRIPT) return undefined; // one of this host's own packages
        if (wanted === WRAPPERS) return { path: WRAPPERS, namespace: "wrappers" };
        const folder = pushed ? path.posix.dirname(importer) : ".";
        const found = path.posix.join(folder, wanted);
        if (wanted.startsWith(".") && known.has(found)) return { path: found, namespace: NAMESPACE };
        return { errors: [{ text: `Could not resolve "${wanted}"` }] };
      });
      onLoad({ filter: /.*/, namespace: NAMESPACE }, ({ path: name }) => {
        const { source = "", sourceMap } = known.get(name) ?? {};
        if (sourceMap === undefined) return { contents: source, loader: "js" };
        const comment = `\n//# sourceMappingURL=data:application/json;base64,${inlineMap({ path: name, source, sourceMap }, functions)}\n`;
        return { contents: source + comment, loader: "js" };
      });
      onLoad({ filter: /.*/, namespace: "wrappers" }, () => ({
        contents:
          'export { queryGeneric as query, internalQueryGeneric as internalQuery } from "convex/server";',
        loader: "js",
        resolveDir: REPOSITORY, // where this host's own `convex` is found
      }));
    },
  };
}

/**
 * Name the files of a module's map as they lie to the functions folder. The CLI names them as they lie to the module in its output.
 *
 * @param {Module} module
 * @param {string} functions  as `convex.json` has it
 * @returns {string} base64
 */
function inlineMap({ path: name, sourceMap = "{}" }, functions) {
  const map = parseMap(sourceMap);
  const sources = Array.isArray(map.sources) ? map.sources : [];
  map.sources = sources.map((source) =>
    path.posix.relative(functions, path.posix.join("out", path.posix.dirname(name), String(source))),
  );
  return Buffer.from(JSON.stringify(map)).toString("base64");
}

/** @param {string} text @returns {Record<string, any>} */
function parseMap(text) {
  try {
    const map = JSON.parse(text);
    return isObject(map) ? map : {};
  } catch {
    return {}; // positions are then those in the pushed module
  }
}

/** @param {unknown} value @returns {value is Record<string, any>} */
function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param {string} message */
function refused(message) {
  return new HttpError(400, "InvalidModules", message);
}
