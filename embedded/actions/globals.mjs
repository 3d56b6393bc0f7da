/**
 * Makes this thread's realm look like Convex's runtime for actions: what Convex does not have is taken away, and what must end
 * with its action (timers, fetches) knows which action that is.
 */

import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { logger } from "./console.mjs";
import { fetch } from "./fetch.mjs";
import { currentRun, runs } from "./runs.mjs";
import { boundCiphers, web } from "./web.mjs";

const MAX_TIMER_MS = 2 ** 31 - 1; // Node runs a longer timer at once

/** @param {string} text  names with white space between them */
const names = (text) => text.trim().split(/\s+/);

/** What Convex's runtime has beyond the language itself. */
const WEB = names(`
  AbortController AbortSignal Blob Crypto CryptoKey DOMException Event EventTarget File FormData Headers Performance PerformanceEntry
  PerformanceMark PerformanceMeasure ReadableStream ReadableStreamBYOBReader ReadableStreamDefaultReader Request Response
  SubtleCrypto TextDecoder TextDecoderStream TextEncoder TextEncoderStream TransformStream URL URLSearchParams
  WritableStream WritableStreamDefaultWriter atob btoa crypto fetch performance structuredClone`);

/** Names that the language itself defines. */
const LANGUAGE = names(`
  AggregateError Array ArrayBuffer AsyncDisposableStack Atomics BigInt BigInt64Array BigUint64Array Boolean DataView Date
  DisposableStack Error EvalError FinalizationRegistry Float16Array Float32Array Float64Array Function Infinity Int16Array
  Int32Array Int8Array Intl Iterator JSON Map Math NaN Number Object Promise Proxy RangeError ReferenceError Reflect RegExp
  Set SharedArrayBuffer String SuppressedError Symbol SyntaxError TypeError URIError Uint16Array Uint32Array Uint8Array
  Uint8ClampedArray WeakMap WeakRef WeakSet WebAssembly decodeURI decodeURIComponent encodeURI encodeURIComponent escape eval
  globalThis isFinite isNaN parseFloat parseInt undefined unescape`);

/** Node's own fetch and streams look these up in the realm where they run; the functions do not get to see them by name. */
const NODES_OWN = names("Buffer MessageChannel MessagePort clearImmediate queueMicrotask setImmediate");
const NODES_TIMERS = names("clearInterval clearTimeout setInterval setTimeout");

/**
 * Change the globals of this thread, once, before the first functions are evaluated.
 *
 * @param {object} Convex  the syscalls
 */
export function installGlobals(Convex) {
  const kept = new Set([...WEB, ...LANGUAGE, ...NODES_OWN, ...NODES_TIMERS]);
  for (const name of Object.getOwnPropertyNames(globalThis)) {
    if (!kept.has(name)) Reflect.deleteProperty(globalThis, name);
  }
  define({ Convex, console: logger, self: globalThis, AsyncLocalStorage, AsyncResource });
  define({ ...web, fetch });
  boundCiphers();
  forbidCodeOfStrings();
  Atomics.wait = () => {
    throw new TypeError("Atomics.wait cannot be called in this context");
  };
}

/** As Convex's V8 is told to; `node:vm`, by which the functions come, goes on. */
function forbidCodeOfStrings() {
  const refuse = () => {
    throw new EvalError("Code generation from strings disallowed for this context");
  };
  const kinds = [() => {}, async () => {}, function* () {}, async function* () {}];
  for (const { constructor } of kinds) {
    const refusing = new Proxy(constructor, { apply: refuse, construct: refuse });
    Object.defineProperty(constructor.prototype, "constructor", { value: refusing, configurable: true });
  }
  define({ Function: (() => {}).constructor, eval: refuse });
}

/** @param {Record<string, unknown>} values */
function define(values) {
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
}

/* ---- timers: numbers, as browsers have them ---- */

const node = { setTimeout, setInterval, clearTimeout };
let lastTimer = 0;

/**
 * @param {"setTimeout" | "setInterval"} name
 * @returns {(handler: (...args: any[]) => void, timeoutMs?: number, ...args: any[]) => number}
 */
function starter(name) {
  return (handler, timeoutMs, ...args) => {
    const run = currentRun(name);
    if (typeof handler !== "function") throw new TypeError(`The handler of ${name} must be a function`);
    const id = ++lastTimer;
    const wait = Math.min(Math.max(0, Number(timeoutMs) || 0), MAX_TIMER_MS);
    const fire = () => {
      if (name === "setTimeout") run.timers.delete(id);
      handler(...args);
    };
    run.timers.set(id, node[name](fire, wait));
    return id;
  };
}

/** @param {number} id */
function stop(id) {
  const timers = runs.getStore()?.timers;
  node.clearTimeout(timers?.get(id));
  timers?.delete(id);
}

/** What the functions see under names that in the realm itself stay Node's. @type {Record<string, unknown>} */
export const SHADOWS = {
  ...Object.fromEntries(NODES_OWN.map((name) => [name, undefined])),
  setTimeout: starter("setTimeout"),
  setInterval: starter("setInterval"),
  clearTimeout: stop,
  clearInterval: stop,
};
