/** Algorithms and keys of Web Cryptography in queries and mutations, and how they are refused. */

/**
 * @typedef {{ name: string, hash?: { name: string }, namedCurve?: string, [parameter: string]: any }} Algorithm
 * @typedef {{ handle: import("node:crypto").KeyObject, type: "secret" | "public" | "private", algorithm: Algorithm }} Key
 *   algorithm: as `CryptoKey` shows it
 */

/** What a function is told, as a DOMException of that name. */
export class SubtleError extends Error {
  /** @param {string} name @param {string} message */
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

/** @param {Algorithm} algorithm @returns {string} as node:crypto calls its hash */
export function hashOf({ hash }) {
  const name = String(hash?.name ?? hash).toUpperCase();
  if (!/^SHA-(1|256|384|512)$/.test(name)) {
    throw new SubtleError("NotSupportedError", `Unrecognized or invalid algorithm ${name.toLowerCase()}`);
  }
  return name.replace("-", "").toLowerCase();
}

/** @param {string} name */
export function unsupported(name) {
  return new SubtleError("NotSupportedError", `Unrecognized or invalid algorithm ${name.toLowerCase()}`);
}
