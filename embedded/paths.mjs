/** Spells function paths and says why one may not be called. */

/** Name of the script that brings an app's modules together. */
export const ENTRY_SCRIPT = "convex:entry";

/**
 * @typedef {object} FunctionInfo
 * @property {"query" | "mutation" | "action"} kind
 * @property {"public" | "internal"} visibility
 */

/**
 * One spelling for the many that clients use: "mod.js:fn" and "mod:fn" are the same, "mod" is its default export.
 *
 * @param {string} path
 */
export function canonicalPath(path) {
  const colon = path.lastIndexOf(":");
  const module = colon === -1 ? path : path.slice(0, colon);
  const name = colon === -1 ? "default" : path.slice(colon + 1);
  return `${module.endsWith(".js") ? module.slice(0, -3) : module}:${name}`;
}

/** @param {string} path */
export function functionNotFound(path) {
  return `Could not find public function for '${displayPath(path)}'. Did you forget to run \`npx convex dev\`?`;
}

/**
 * @param {string} path
 * @param {string} asked
 * @param {FunctionInfo["kind"]} defined
 */
export function wrongKind(path, asked, defined) {
  const colon = path.lastIndexOf(":");
  const name = `${path.slice(0, colon)}.js:${path.slice(colon + 1)}`;
  return `Trying to execute ${name} as ${capitalized(asked)}, but it is defined as ${capitalized(defined)}.`;
}

/** @param {string} path  canonical */
function displayPath(path) {
  return path.endsWith(":default") ? path.slice(0, -":default".length) : path;
}

/** @param {string} word */
function capitalized(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
