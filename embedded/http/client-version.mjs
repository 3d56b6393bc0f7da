/** Knows official clients by the name and version they send, and refuses those that Convex refuses. */

import { HttpError } from "./errors.mjs";

/**
 * @typedef {object} ClientVersion
 * @property {string} client  "npm", "python", ...; "unknown" without a header
 * @property {readonly number[] | null} version  major, minor, patch; null: not a version
 * @property {string} text  the version as it was given
 */

/** @type {ClientVersion} */
const UNKNOWN = { client: "unknown", version: null, text: "unknownversion" };
const NAMES = new Map([["python-convex", "python"]]);
const VERSION = /^(\d+)\.(\d+)\.(\d+)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$/;

const NPM = {
  unsupported: [0, 19, 1],
  deprecated: [0, 19, 1],
  cleanFormat: [1, 4, 1],
  advice: "Update your Convex npm version with `npx convex update` or `npm update`.",
};
const PYTHON = {
  unsupported: [0, 0, 2],
  deprecated: [0, 2, 0],
  cleanFormat: [0, 5, 0],
  advice: "Update your Convex python version with `pip install --upgrade convex`.",
};
const RUST = {
  unsupported: [0, 0, 1],
  deprecated: [0, 0, 1],
  cleanFormat: [0, 0, 0],
  advice: "Update your Convex rust version with `cargo update -p convex` or by updating `Cargo.toml`.",
};
/** @type {Record<string, typeof NPM>} */
const RULES = { npm: NPM, "npm-cli": NPM, actions: NPM, python: PYTHON, rust: RUST };
const CHUNKS_SINCE = [1, 28, 0];

/**
 * @param {string | undefined} header  Convex-Client, as in "npm-1.48.0"
 * @returns {ClientVersion}
 * @throws {HttpError} 400
 */
export function clientVersion(header) {
  if (header === undefined) return UNKNOWN;
  const parts = header.split("-");
  if (parts.length < 2) {
    throw invalidVersion(
      `Failed to parse client version string: '${header}'. Expected format is {client_name}-{semver}, e.g. my-esolang-client-0.0.1`,
    );
  }
  for (let at = 1; at < parts.length; at++) {
    const text = parts.slice(at).join("-");
    const version = parseVersion(text);
    if (version !== null) return { client: clientName(parts.slice(0, at)), version, text };
  }
  return { client: clientName(parts.slice(0, 1)), version: null, text: parts.slice(1).join("-") };
}

/**
 * @param {string} text  the VERSION of /api/VERSION/sync, which npm clients send
 * @returns {ClientVersion}
 * @throws {HttpError} 400
 */
export function clientVersionInPath(text) {
  const version = parseVersion(text);
  if (version === null) throw invalidVersion(`Failed to parse client version: '${text}' is not a version`);
  return { client: "npm", version, text };
}

/**
 * @param {ClientVersion} client
 * @returns {{ state: "Unsupported" | "UpgradeRequired", message: string } | null} null: nothing to say
 */
export function deprecation({ client, version, text }) {
  const rules = RULES[client];
  if (rules === undefined) return null;
  if (version === null || compare(version, rules.unsupported) <= 0) {
    const message = `The Convex ${client} package at version ${text} is no longer supported. ${rules.advice}`;
    return { state: "Unsupported", message };
  }
  if (compare(version, rules.deprecated) > 0) return null;
  return {
    state: "UpgradeRequired",
    message: `The Convex ${client} package at ${text} is deprecated and will no longer be supported soon. When this version is no longer supported, requests to Convex will fail, so it is best to upgrade and redeploy your application as soon as possible. ${rules.advice}`,
  };
}

/**
 * @param {ClientVersion} client
 * @returns {import("./formats.mjs").Format} of answers to requests that do not name one
 */
export function defaultFormat({ client, version }) {
  const since = RULES[client]?.cleanFormat;
  const isOld = since !== undefined && version !== null && compare(version, since) < 0;
  return isOld ? "convex_encoded_json" : "json";
}

/** @param {ClientVersion} client @returns {boolean} whether it puts TransitionChunks together */
export function takesChunks({ client, version }) {
  return client === "npm" && version !== null && compare(version, CHUNKS_SINCE) >= 0;
}

/** @param {string[]} parts */
function clientName(parts) {
  const name = parts.join("-").toLowerCase();
  return NAMES.get(name) ?? name;
}

/** @param {string} text */
function parseVersion(text) {
  const [, ...numbers] = VERSION.exec(text) ?? [];
  return numbers.length === 0 ? null : numbers.map(Number);
}

/**
 * @param {readonly number[]} a
 * @param {readonly number[]} b
 */
function compare(a, b) {
  for (const [i, one] of a.entries()) if (one !== b[i]) return one - (b[i] ?? 0);
  return 0;
}

/** @param {string} message */
function invalidVersion(message) {
  return new HttpError(400, "InvalidClientVersion", message);
}
