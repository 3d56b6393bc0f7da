/** Spells function paths and says why one may not be called. */

/** Name of the script that brings an app's modules together. */
export const ENTRY_SCRIPT = "convex:entry";

/** What is served until there are functions. @type {import("./bundle.mjs").Bundle} */
export const NO_FUNCTIONS = Object.freeze({
  code: "globalThis.__modules = {};",
  map: '{"version":3,"sources":[],"names":[],"mappings":""}',
  modules: [],
});

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

const MAX_NAME_CHARS = 64;
const PLAIN_PATH = /^(?:[A-Za-z0-9]\w{0,63}\/)*[A-Za-z0-9]\w{0,63}(?:\.js)?(?::[A-Za-z]\w{0,63})?$/;

/**
 * @param {string} path  as a client gave it
 * @returns {string | null} why it cannot name a function, in Convex's words; null: it can. A foreign ending, as of "data.json:f",
 *   is let through: such a function is not found
 */
export function pathError(path) {
  if (PLAIN_PATH.test(path)) return null;
  const colon = path.lastIndexOf(":");
  const module = colon === -1 ? path : path.slice(0, colon);
  const error = moduleError(module) ?? (colon === -1 ? null : nameError(path.slice(colon + 1)));
  return error === null ? null : `${path} is not a valid path to a Convex function. ${error}`;
}

/** @param {string} module */
function moduleError(module) {
  if (module.startsWith("/")) return `Module paths must be relative (${module} is absolute).`;
  const parts = module.split("/");
  for (const part of parts) {
    if (part === "" || part === "." || part === "..") return `Invalid path component "${part}" in ${module}.`;
    if (part.length > MAX_NAME_CHARS) {
      const head = part.slice(0, MAX_NAME_CHARS);
      return `Path component is too long (${part.length} > maximum ${MAX_NAME_CHARS}): ${head}...`;
    }
    if (!/^[A-Za-z0-9_.]+$/.test(part)) {
      return `Path component ${part} can only contain alphanumeric characters, underscores, or periods.`;
    }
    if (!/[A-Za-z0-9]/.test(part))
      return `Path component ${part} must have at least one alphanumeric character.`;
  }
  return null;
}

/** @param {string} name */
function nameError(name) {
  if (name === "") return "Identifier cannot be empty";
  const [first = ""] = name;
  if (!/[A-Za-z_]/.test(first)) {
    return `Invalid first character '${first}' in ${name}: Identifiers must start with an alphabetic character or underscore`;
  }
  const [bad] = /[^A-Za-z0-9_]/u.exec(name) ?? [];
  if (bad !== undefined) {
    return `Identifier ${name} has invalid character '${bad}': Identifiers can only contain alphanumeric characters or underscores`;
  }
  if (name.length > MAX_NAME_CHARS)
    return `Identifier is too long (${name.length} > maximum ${MAX_NAME_CHARS})`;
  return /[A-Za-z0-9]/.test(name) ? null : `Identifier ${name} must have at least one alphanumeric character`;
}

/**
 * @param {string} path
 * @param {{ any: boolean }} [asked]  any: for a function of whatever kind, which only the admin may
 */
export function functionNotFound(path, { any } = { any: false }) {
  return `Could not find ${any ? "" : "public "}function for '${displayPath(path)}'. Did you forget to run \`npx convex dev\`?`;
}

/**
 * @param {string} path
 * @param {string} asked
 * @param {FunctionInfo["kind"]} defined
 */
export function wrongKind(path, asked, defined) {
  return `Trying to execute ${modulePath(path)} as ${capitalized(asked)}, but it is defined as ${capitalized(defined)}.`;
}

/** @param {string} path  canonical @returns {string} with the file's name: "folder/module.js:export" */
export function modulePath(path) {
  const colon = path.lastIndexOf(":");
  return `${path.slice(0, colon)}.js:${path.slice(colon + 1)}`;
}

/** @param {string} path  canonical @returns {string} as people write it: without ":default" */
export function displayPath(path) {
  return path.endsWith(":default") ? path.slice(0, -":default".length) : path;
}

/** @param {string} word */
function capitalized(word) {
  return word.charAt(0).toUpperCase() + word.slice(1);
}
