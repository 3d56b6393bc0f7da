/** Turns a Convex functions folder into one script. */

import { readdir, readFile } from "node:fs/promises";
import path from "node:path";
import { build } from "esbuild";

/**
 * @typedef {object} Bundle
 * @property {string} code  a classic script that leaves the exports of each module in `globalThis.__modules`, by module path
 * @property {string} map  source map, JSON text; its sources are relative to the functions folder
 * @property {string[]} modules  module paths, without extension, with "/" between parts
 */

/** The folder cannot be bundled; the message is one line with file and line number. */
export class BundleError extends Error {}

const ENTRY_POINT = /^[^.]+\.(?:ts|tsx|js|jsx|mjs)$/; // a name with more than one dot is no entry point
const MODULE_PART = /^(?=.*[A-Za-z0-9])[A-Za-z0-9_]+$/;
const SKIPPED = new Set(["_generated", "_deps", "node_modules"]);
const NODE_DIRECTIVE = /^(?:\s|\/\/.*|\/\*[^]*?\*\/)*(["'])use node\1/;
const AUTH_CONFIG = "auth.config"; // its name has a dot, and so has convex.config
const APP_CONFIG = "convex.config";

/**
 * @param {string} folder  absolute, or relative to the working directory
 * @returns {Promise<Bundle>}
 * @throws {BundleError}
 */
export async function bundleFunctions(folder) {
  const root = path.resolve(folder);
  const files = await entryPoints(root);
  const modules = files.map(modulePath);
  const result = await build({
    stdin: {
      contents: entrySource(files, modules),
      resolveDir: root,
      sourcefile: "convex:entry",
      loader: "js",
    },
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
    jsx: "automatic",
    logLevel: "silent",
    define: { "process.env.NODE_ENV": '"production"' },
  }).catch((/** @type {import("esbuild").BuildFailure} */ error) => {
    throw new BundleError(firstError(root, error));
  });
  const text = (/** @type {string} */ ending) =>
    result.outputFiles.find((output) => output.path.endsWith(ending))?.text ?? "";
  return { code: text(".js"), map: text(".map"), modules };
}

/**
 * @param {string} root
 * @returns {Promise<string[]>} relative, sorted, with "/" between parts
 */
async function entryPoints(root) {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch(
    (/** @type {NodeJS.ErrnoException} */ error) => {
      throw new BundleError(`cannot read the functions folder ${root}: ${error.code ?? error.message}`);
    },
  );
  /** @type {string[]} */
  const files = [];
  for (const entry of entries) {
    const file = path.relative(root, path.join(entry.parentPath, entry.name)).split(path.sep).join("/");
    const folders = file.split("/").slice(0, -1);
    if (!entry.isFile() || folders.some((part) => SKIPPED.has(part) || part.startsWith("."))) continue;
    const config = folders.length === 0 && isConfig(entry.name);
    if (!config && !ENTRY_POINT.test(entry.name)) continue;
    if (!config) checkName(file);
    if (NODE_DIRECTIVE.test(await readFile(path.join(root, file), "utf8"))) {
      throw new BundleError(`${file}: "use node" modules need Convex itself, this host does not run them`);
    }
    files.push(file);
  }
  return files.sort();
}

/** @param {string} name */
function isConfig(name) {
  return new RegExp(`^(?:${AUTH_CONFIG}|${APP_CONFIG})\\.(?:ts|js)$`).test(name);
}

/** @param {string} file */
function checkName(file) {
  const bad = modulePath(file)
    .split("/")
    .find((part) => !MODULE_PART.test(part));
  if (bad !== undefined) {
    throw new BundleError(
      `${file}: ${JSON.stringify(bad)} is no valid name of a module: use letters, digits and underscores`,
    );
  }
}

/** @param {string} file */
function modulePath(file) {
  return file.replace(/\.[a-z]+$/, "");
}

/**
 * @param {string[]} files
 * @param {string[]} modules
 */
function entrySource(files, modules) {
  const imports = files.map((file, i) => `import * as m${i} from ${JSON.stringify(`./${file}`)};`);
  const entries = modules.map((name, i) => `${JSON.stringify(name)}: m${i}`);
  return `${imports.join("\n")}\nglobalThis.__modules = { ${entries.join(", ")} };\n`;
}

/**
 * @param {string} root
 * @param {import("esbuild").BuildFailure} failure
 */
function firstError(root, failure) {
  const [error] = failure.errors ?? [];
  if (error === undefined) return String(failure.message).split("\n", 1)[0] ?? "";
  const where = error.location;
  if (where === null) return error.text;
  const file = path.relative(root, path.resolve(root, where.file)).split(path.sep).join("/");
  return `${file}:${where.line}:${where.column + 1}: ${error.text}`;
}
