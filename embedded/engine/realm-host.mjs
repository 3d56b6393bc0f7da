/** What the scripts in realm/ ask of the host: texts, numbers and byte views cross, and nothing that functions can hold. */

import { AsyncLocalStorage } from "node:async_hooks";
import { forgivingAtob } from "../base64.mjs";
import { inspect } from "../inspect.mjs";
import { formatLogLine } from "../log-lines.mjs";
import * as subtle from "./subtle.mjs";

/**
 * @typedef {import("./runtime.mjs").Handlers} Handlers
 * @typedef {keyof typeof subtle} SubtleName
 */

/**
 * Classes that functions get as they are here, wrapped by realm/web.js. Node loads what is behind most of them when it is looked at first, which
 * takes long for those of fetch: so there is a list for each part, and a part is loaded when a function uses one of its classes.
 */
const WEB = {
  basic: [
    "AsyncLocalStorage",
    "Blob",
    "File",
    "ReadableStream",
    "ReadableStreamBYOBReader",
    "ReadableStreamDefaultReader",
    "TransformStream",
    "URL",
    "URLSearchParams",
    "WritableStream",
    "WritableStreamDefaultWriter",
  ],
  fetch: ["FormData", "Headers", "Request", "Response"],
};
const classes = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (globalThis));

const encoder = new TextEncoder();

/**
 * @param {Pick<Handlers, "log">} handlers
 * @param {(stack: string) => string} frames  a stack's frames in the app's files
 */
export function makeRealmHost(handlers, frames) {
  return {
    log: (/** @type {string} */ level, /** @type {string[]} */ messages) =>
      handlers.log(formatLogLine(level, messages)),
    inspectAll: (/** @type {unknown[]} */ values) => values.map(inspect),
    frames,
    realTime: () => performance.now(),

    utf8Length: (/** @type {string} */ text) => Buffer.byteLength(text),
    utf8Write: (/** @type {string} */ text, /** @type {Uint8Array} */ target) =>
      encoder.encodeInto(text, target),
    textDecoder: (
      /** @type {string} */ label,
      /** @type {{ fatal: boolean, ignoreBOM: boolean }} */ options,
    ) => orUndefined(() => new TextDecoder(label, options)),
    decode: (
      /** @type {InstanceType<typeof TextDecoder>} */ decoder,
      /** @type {Uint8Array} */ bytes,
      /** @type {boolean} */ stream,
    ) => orUndefined(() => decoder.decode(bytes, { stream })),
    atob: (/** @type {string} */ text) => orUndefined(() => forgivingAtob(text)),
    btoa: (/** @type {string} */ text) => orUndefined(() => btoa(text)),

    subtle: askSubtle,
    describeKey: (/** @type {subtle.Key} */ { type, algorithm }) => ({ type, algorithm }),

    web: WEB,
    webClass: (/** @type {string} */ name) =>
      name === "AsyncLocalStorage" ? AsyncLocalStorage : classes[name],
    isHostObject: (/** @type {unknown} */ value) => value instanceof Object,
    isHostError: (/** @type {unknown} */ value) => value instanceof Error,
    kindOf,
  };
}

/**
 * @param {SubtleName} operation
 * @param {any[]} args
 * @returns {{ bytes?: Uint8Array, jwk?: string, handle?: subtle.Key, value?: boolean, error?: { name: string, message: string } }}
 */
function askSubtle(operation, args) {
  try {
    const result = /** @type {(...args: any[]) => any} */ (subtle[operation])(...args);
    if (typeof result === "boolean") return { value: result };
    if (operation === "importKey") return { handle: result };
    return result instanceof Uint8Array ? { bytes: result } : { jwk: JSON.stringify(result) };
  } catch (error) {
    const { name, message } = /** @type {Error} */ (error);
    return { error: { name: error instanceof subtle.SubtleError ? name : "OperationError", message } };
  }
}

/** @param {object} value @returns {"promise" | "bytes" | "array" | "object" | "other"} of what the host's realm made */
function kindOf(value) {
  if (value instanceof Promise) return "promise";
  if (value instanceof ArrayBuffer || value instanceof Uint8Array) return "bytes";
  const prototype = Object.getPrototypeOf(value);
  if (prototype === Array.prototype) return "array";
  return prototype === Object.prototype ? "object" : "other";
}

/**
 * @template T
 * @param {() => T} convert
 * @returns {T | undefined} undefined for what it throws at
 */
function orUndefined(convert) {
  try {
    return convert();
  } catch {
    return undefined;
  }
}
