/** Turns a Convex functions folder into one script. */

import { accessSync, constants } from "node:fs";
import { readdir, readFile, realpath } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";
import { withNames } from "./bundle-names.mjs";
import { ENTRY_SCRIPT } from "./paths.mjs";

/**
 * @typedef {object} Bundle
 * @property {string} code  a classic script that leaves the exports of each module in `globalThis.__modules`, by module path
 * @property {string} map  source map, JSON text; its sources are relative to the functions folder
 * @property {string[]} modules  module paths, without extension, with "/" between parts
 *
 * @typedef {object} Build  a bundle, and what it was made of
 * @property {Bundle} bundle
 * @property {string[]} files  absolute paths of every file that was read, but those of installed packages
 * @property {string[]} folders  absolute paths of the functions folder and those in it that are searched for modules
 *
 * @typedef {object} Building
 * @property {number} startedAt  ms since the epoch
 * @property {Promise<unknown>} begun  the bundler is at work, or has failed before
 * @property {Promise<Build>} result
 *
 * @typedef {import("esbuild").Plugin} Plugin
 */

/** The folder cannot be bundled; the message is one line with file and line number. */
export class BundleError extends Error {
  /**
   * @param {string} message
   * @param {Partial<Pick<Build, "files" | "folders">>} [seen]  a change of these may mend it
   */
  constructor(message, { files = [], folders = [] } = {}) {
    super(message);
    this.files = files;
    this.folders = folders;
  }
}

const ENTRY_POINT = /^[^.#\s][^.\s]*\.(?:ts|tsx|mts|cts|js|jsx|mjs|cjs)$/; // a name with more than one dot is no entry point
const TYPESCRIPT = /\.[mc]?tsx?$/;
const HAS_EXPORT = /^\s{0,100}(import|export)/m;
const MODULE_PART = /^(?=.*[A-Za-z0-9])[A-Za-z0-9_]+$/;
const SKIPPED = new Set(["_generated", "_deps", "node_modules"]);
const NODE_DIRECTIVE = /^(?:\s|\/\/.*|\/\*[^]*?\*\/)*(["'])use node\1/;
const AUTH_CONFIG = "auth.config"; // its name has a dot, and so has convex.config
const APP_CONFIG = "convex.config";
const INSTALLED = `${path.sep}node_modules${path.sep}`;
/** Of the bundler's process: its garbage is collected less often, and as often as ever once there is much of it. */
const COLLECTOR = { GOGC: "400", GOMEMLIMIT: "256MiB" };

/** Imports that Convex's bundler answers itself. @type {Plugin} */
const SHIMS = {
  name: "shims",
  setup({ onResolve, onLoad }) {
    const shim = (
      /** @type {RegExp} */ filter,
      /** @type {string} */ namespace,
      /** @type {string} */ contents,
    ) => {
      onResolve({ filter }, (args) => ({ path: args.path, namespace }));
      onLoad({ filter: /.*/, namespace }, () => ({ contents, loader: "js" }));
    };
    shim(/^server-only$/, "server-only-stub", "");
    shim(
      /^(node:)?async_hooks$/,
      "async-hooks-shim",
      "export const { AsyncLocalStorage, AsyncResource } = globalThis; export default { AsyncLocalStorage, AsyncResource };",
    );
  },
};

/** A `.wasm` file is imported as the compiled module. @type {Plugin} */
const WASM = {
  name: "wasm",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\.wasm$/ }, ({ resolveDir, path: file }) => ({
      path: path.resolve(resolveDir, file),
      namespace: "wasm",
    }));
    onLoad({ filter: /.*/, namespace: "wasm" }, async ({ path: file }) => ({
      contents: `export default new WebAssembly.Module(Uint8Array.from(atob(${JSON.stringify(
        await readFile(file, "base64"),
      )}), (character) => character.charCodeAt(0)));`,
    }));
  },
};

/**
 * @param {string} folder  absolute, or relative to the working directory
 * @returns {Promise<Bundle>}
 * @throws {BundleError}
 */
export async function bundleFunctions(folder) {
  return (await buildFunctions(folder)).bundle;
}

/**
 * @param {string} folder  absolute, or relative to the working directory
 * @param {() => void} [onBegun]  called when the bundler, which is a process of its own, is at work
 * @returns {Promise<Build>}
 * @throws {BundleError}
 */
export async function buildFunctions(folder, onBegun = () => {}) {
  const root = await realpath(path.resolve(folder)).catch((/** @type {NodeJS.ErrnoException} */ error) => {
    throw unreadable(path.resolve(folder), error);
  });
  /** @type {string[]} */
  const folders = [];
  const files = await entryPoints(root, folders);
  const modules = files.map(modulePath);
  try {
    const building = bundleModules(root, entrySource(files, modules), modules, [SHIMS, WASM]);
    setImmediate(onBegun);
    const { bundle, inputs } = await building;
    const named = { ...bundle, code: withNames(bundle.code, bundle.map) };
    return { bundle: named, folders, files: inputs.filter((file) => !file.includes(INSTALLED)) };
  } catch (error) {
    if (!isBuildFailure(error)) throw error;
    throw new BundleError(firstError(root, error), { folders, files: filesInQuestion(root, error) });
  }
}

/**
 * Begin to build the folder that a host is to serve, so that the caller may do something else meanwhile.
 *
 * @param {{ functions: string, explicit: boolean }} options  explicit: the folder was asked for
 * @returns {Building | undefined} undefined: nobody asked for it, and there is none that can be read
 */
export function beginToServe({ functions, explicit }) {
  return explicit || isReadable(functions) ? beginBuild(functions) : undefined;
}

/** @param {string} folder */
function isReadable(folder) {
  try {
    accessSync(folder, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Begin to build a folder.
 *
 * @param {string} folder
 * @returns {Building}
 */
export function beginBuild(folder) {
  const startedAt = Date.now();
  const { promise: begun, resolve } = Promise.withResolvers();
  const result = buildFunctions(folder, () => resolve(undefined));
  result.catch(() => {}); // a folder that is not served may be as broken as it likes
  const ended = result.then(
    () => {},
    () => {},
  );
  return { startedAt, begun: Promise.race([begun, ended]), result };
}

/**
 * Run the bundler over one entry script.
 *
 * @param {string} root  absolute; sources in the map are relative to it
 * @param {string} contents  of the entry script
 * @param {string[]} modules
 * @param {Plugin[]} plugins
 * @returns {Promise<{ bundle: Bundle, inputs: string[] }>}  inputs: absolute paths of the files that were read
 * @throws {import("esbuild").BuildFailure}
 */
export async function bundleModules(root, contents, modules, plugins) {
  const building = withVariables(COLLECTOR, () =>
    build({
      stdin: { contents, resolveDir: root, sourcefile: ENTRY_SCRIPT, loader: "js" },
      absWorkingDir: root,
      outfile: path.join(root, "functions.js"),
      write: false,
      bundle: true,
      format: "iife",
      platform: "browser",
      target: "esnext",
      conditions: ["convex", "module"],
      sourcemap: "external",
      sourcesContent: false,
      metafile: true,
      jsx: "automatic",
      logLevel: "silent",
      define: { "process.env.NODE_ENV": '"production"' },
      plugins,
    }),
  );
  const result = await building;
  const text = (/** @type {string} */ ending) =>
    result.outputFiles.find((output) => output.path.endsWith(ending))?.text ?? "";
  const inputs = Object.keys(result.metafile.inputs)
    .filter((input) => !/^[\w-]+:/.test(input)) // of a plugin
    .map((input) => path.resolve(root, input));
  return { bundle: { code: text(".js"), map: text(".map"), modules }, inputs };
}

/**
 * @template T
 * @param {Record<string, string>} variables  of a process that `start` starts, where they are not set
 * @param {() => T} start
 * @returns {T}
 */
function withVariables(variables, start) {
  const missing = Object.keys(variables).filter((name) => process.env[name] === undefined);
  for (const name of missing) process.env[name] = variables[name];
  try {
    return start();
  } finally {
    for (const name of missing) delete process.env[name];
  }
}

/**
 * @param {string} root
 * @param {string[]} folders  gets every folder that is looked into
 * @returns {Promise<string[]>} relative, sorted, with "/" between parts
 */
async function entryPoints(root, folders) {
  /** @type {string[]} */
  const files = [];
  for (const pending = [root]; pending.length > 0;) {
    const folder = /** @type {string} */ (pending.pop());
    const entries = await readdir(folder, { withFileTypes: true }).catch((error) => {
      throw unreadable(folder, error, folders);
    });
    if (folder !== root && entries.some(({ name }) => name === `${APP_CONFIG}.ts`)) continue; // the folder of a component
    folders.push(folder);
    for (const entry of entries) {
      const full = path.join(folder, entry.name);
      if (entry.isDirectory()) {
        if (!SKIPPED.has(entry.name) && !entry.name.startsWith(".")) pending.push(full);
      } else if (entry.isFile() && (await isEntryPoint(root, full, folders))) {
        files.push(relativeTo(root, full));
      }
    }
  }
  return files.sort();
}

/**
 * @param {string} root
 * @param {string} full
 * @param {string[]} folders
 */
async function isEntryPoint(root, full, folders) {
  const file = relativeTo(root, full);
  const config = isConfig(file);
  if (!config && (!ENTRY_POINT.test(path.basename(file)) || /\s/.test(file))) return false;
  const source = await readFile(full, "utf8").catch((error) => {
    throw unreadable(full, error, folders);
  });
  if (TYPESCRIPT.test(file) && !HAS_EXPORT.test(source)) return false;
  if (!config) checkName(file, folders);
  if (NODE_DIRECTIVE.test(source)) {
    throw new BundleError(`${file}: "use node" modules need Convex itself, this host does not run them`, {
      folders,
    });
  }
  return true;
}

/**
 * @param {string} what
 * @param {NodeJS.ErrnoException} error
 * @param {string[]} [folders]
 */
function unreadable(what, error, folders) {
  return new BundleError(`cannot read the functions folder ${what}: ${error.code ?? error.message}`, {
    folders,
  });
}

/** @param {string} root @param {string} full */
function relativeTo(root, full) {
  return path.relative(root, full).split(path.sep).join("/");
}

/** @param {string} file */
function isConfig(file) {
  return new RegExp(`^(?:${AUTH_CONFIG}|${APP_CONFIG})\\.(?:ts|js)$`).test(file);
}

/**
 * @param {string} file
 * @param {string[]} folders
 */
function checkName(file, folders) {
  const bad = modulePath(file)
    .split("/")
    .find((part) => !MODULE_PART.test(part));
  if (bad !== undefined) {
    throw new BundleError(
      `${file}: ${JSON.stringify(bad)} is no valid name of a module: use letters, digits and underscores`,
      { folders },
    );
  }
}

/** @param {string} file */
function modulePath(file) {
  return file.replace(/\.[a-z]+$/, "");
}

/**
 * The script that brings modules together.
 *
 * @param {string[]} files  as they are imported, relative to the entry script
 * @param {string[]} modules  their paths
 */
export function entrySource(files, modules) {
  const imports = files.map((file, i) => `import * as m${i} from ${JSON.stringify(`./${file}`)};`);
  const entries = modules.map((name, i) => `${JSON.stringify(name)}: m${i}`);
  return `${imports.join("\n")}\nglobalThis.__modules = { ${entries.join(", ")} };\n`;
}

/**
 * @param {unknown} error
 * @returns {error is import("esbuild").BuildFailure}
 */
export function isBuildFailure(error) {
  return error instanceof Error && "errors" in error && "warnings" in error;
}

/**
 * @param {string} root
 * @param {import("esbuild").BuildFailure} failure
 */
export function firstError(root, failure) {
  const [error] = failure.errors ?? [];
  if (error === undefined) return String(failure.message).split("\n", 1)[0] ?? "";
  const where = error.location;
  const text = TOP_LEVEL_AWAIT.test(error.text) ? AWAITS_REFUSED : error.text;
  if (where === null) return text;
  const file = relativeTo(root, path.resolve(root, where.file));
  return `${file}:${where.line}:${where.column + 1}: ${text}`;
}

const TOP_LEVEL_AWAIT = /^Top-level await /; // what the bundler says of it speaks of its own formats
const AWAITS_REFUSED = "Top-level awaits in source files are unsupported"; // Convex's words

const UNRESOLVED = /^Could not resolve "(\.[^"]*)"/;

/**
 * The files that errors are in, and those that relative imports did not find.
 *
 * @param {string} root
 * @param {import("esbuild").BuildFailure} failure
 */
function filesInQuestion(root, { errors }) {
  return errors.flatMap(({ text, location }) => {
    if (location === null) return [];
    const file = path.resolve(root, location.file);
    const missing = UNRESOLVED.exec(text)?.[1];
    return missing === undefined ? [file] : [file, path.resolve(path.dirname(file), missing)];
  });
}
