/** The web's classes and functions where Convex's differ from Node's, for actions. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { Script } from "node:vm";
import { forgivingAtob } from "../base64.mjs";
import { serverError } from "../failures.mjs";
import { REALM_SCRIPTS } from "../host-files.mjs";
import { runs } from "./runs.mjs";

const USE_NODE =
  "Consider calling an action defined in Node.js instead (https://docs.convex.dev/functions/actions).";

/**
 * Ends the action, whatever it makes of the error.
 *
 * @param {string} message
 * @returns {never}
 */
function throwUncatchable(message) {
  const error = new Error(message);
  const run = runs.getStore();
  run?.fail(serverError(`${message}\n${run.frames(error.stack ?? "")}`));
  throw error;
}

/**
 * @param {string} operation
 * @param {string} className
 */
function throwNotImplemented(operation, className) {
  throwUncatchable(`Not implemented: ${operation} for ${className}. ${USE_NODE}`);
}

const differences = new Script(readFileSync(path.join(REALM_SCRIPTS, "realm/differences.js"), "utf8"), {
  filename: "differences.js",
}).runInThisContext()({ DOMException, throwNotImplemented });

/** Convex has one length of AES-GCM's IV and tag, and packs no keys. */
export function boundCiphers() {
  for (const name of /** @type {const} */ (["encrypt", "decrypt"])) {
    const node = SubtleCrypto.prototype[name];
    /**
     * @this {SubtleCrypto}
     * @param {any} algorithm
     * @param {any} key
     * @param {any} data
     */
    async function bounded(algorithm, key, data) {
      const { name: cipher, iv, tagLength } = algorithm;
      if (String(cipher).toUpperCase() === "AES-GCM") {
        if (tagLength !== undefined && tagLength !== 128) {
          throw new DOMException("tag length must be 128 bits", "NotSupportedError");
        }
        if (iv?.byteLength !== 12) {
          throw new DOMException("AES-GCM IV must be 96 bits", "NotSupportedError");
        }
      }
      return node.call(this, algorithm, key, data);
    }
    Object.defineProperty(SubtleCrypto.prototype, name, {
      value: bounded,
      writable: true,
      configurable: true,
    });
  }
  for (const name of ["wrapKey", "unwrapKey"]) {
    const refuse = async () => throwNotImplemented(name, "SubtleCrypto");
    Object.defineProperty(SubtleCrypto.prototype, name, {
      value: refuse,
      writable: true,
      configurable: true,
    });
  }
}

const { structuredClone: nodeClone } = globalThis;

/** By the names that functions know. */
export const web = {
  /** @type {typeof Request} */
  Request: differences.Request(Request),
  /** @type {typeof Response} */
  Response: differences.Response(Response),
  /** @type {typeof TextDecoder} */
  TextDecoder: differences.TextDecoder(TextDecoder),
  /** @type {typeof URL} */
  URL: differences.URL(URL),

  /** @param {string} text */
  atob(text) {
    try {
      return forgivingAtob(String(text));
    } catch {
      throw new DOMException(
        "Failed to execute 'atob': The string is not correctly encoded",
        "InvalidCharacterError",
      );
    }
  },

  /**
   * @param {unknown} value
   * @param {object} [options]
   */
  structuredClone(value, options) {
    if (options !== undefined) throwUncatchable("structuredClone with transfer not supported");
    try {
      return nodeClone(value);
    } catch {
      throw new Error("could not deserialize value");
    }
  },
};
