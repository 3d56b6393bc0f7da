/**
 * Runs queries and mutations, each to its end inside one synchronous call.
 *
 * A context has a microtask queue of its own that is emptied when an evaluation ends, so a whole async function runs before
 * `run` returns and nothing of it can be left over. A call inside a call runs in the next context: it ends before its caller
 * goes on, as if it had been one instruction, and shares no module state with it.
 */

import { createHash, createHmac, randomFillSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import vm from "node:vm";
import { isFault, OperatorError, StackMapper, SystemError, uncaughtText } from "./errors.mjs";

/**
 * @typedef {import("./errors.mjs").Thrown} Thrown
 * @typedef {{ code: string, map: string, modules: string[] }} Bundle
 * @typedef {object} Handlers  what functions ask of the engine
 * @property {(op: string, args: string) => string} syscall  JSON texts; throws what the function is to see
 * @property {(line: string) => void} log
 * @typedef {{ ok: true, value: string } | { ok: false, thrown: Thrown | null }} Outcome  value: JSON text; null: the promise never settled
 * @typedef {object} Declared  what the modules declare, validators and schema as JSON
 * @property {{ path: string, kind: "query" | "mutation" | "action", visibility: "public" | "internal", args: any, returns: any }[]} functions
 * @property {string | null} schema
 * @property {string | null} crons
 * @property {boolean} http
 * @property {unknown} auth  what auth.config exports; undefined: there is none, null: it exports nothing
 * @property {{ path: string, method: string }[]} routes
 * @property {Record<string, any> | null} config  what the app or component of `convex.config.ts` exports of itself
 * @property {[name: string, declaration: { value: string, optional?: boolean }][]} env
 * @property {string[]} components
 * @typedef {{ context: vm.Context, api: any, declared: Declared }} FunctionContext  api: what prelude.js returns
 */

const LOAD_LIMIT_MS = 4_000; // as long as Convex lets modules run when they are imported
const TIMED_OUT = "ERR_SCRIPT_EXECUTION_TIMEOUT";
const BUNDLE_NAME = "functions.js";
const PRELUDE_NAME = "prelude.js";
const INSPECT = { depth: 5, breakLength: Infinity };

const prelude = new vm.Script(readFileSync(new URL(PRELUDE_NAME, import.meta.url), "utf8"), {
  filename: PRELUDE_NAME,
});
const settle = new vm.Script("0", { filename: "settle" });

/** Classes that are taken over as they are; their promises settle outside of queries and mutations, that is never. */
const WEB = {
  AbortController,
  AbortSignal,
  Blob,
  Event,
  EventTarget,
  FormData,
  Headers,
  ReadableStream,
  Request,
  Response,
  TransformStream,
  URL,
  URLSearchParams,
  WritableStream,
};

const encoder = new TextEncoder();
const SEEDS = 3;
const seeds = new Int32Array(SEEDS * 256);
let nextSeed = seeds.length;

export class Runtime {
  /**
   * @param {Bundle} bundle
   * @param {Record<string, string>} env  what functions see as `process.env`
   * @param {Handlers} handlers
   * @param {number} now  ms since the epoch, seen by modules while they are evaluated
   * @throws {OperatorError} a module cannot be evaluated
   */
  constructor(bundle, env, handlers, now) {
    this.#env = JSON.stringify(env);
    this.#handlers = handlers;
    this.#now = now;
    this.mapper = new StackMapper(BUNDLE_NAME, bundle.map);
    try {
      this.#script = new vm.Script(bundle.code, { filename: BUNDLE_NAME });
    } catch (error) {
      throw new OperatorError(`the functions cannot be compiled: ${/** @type {Error} */ (error).message}`);
    }
    const first = this.#makeContext();
    this.#contexts.push(first);
    /** @type {Declared} */
    this.declared = first.declared;
  }

  #env;
  #handlers;
  #now;
  #script;
  /** One for each depth of calls inside calls. @type {FunctionContext[]} */
  #contexts = [];
  /** @type {{ message: string, data?: string }} */
  #failure = { message: "" };
  /** What SQLite or the system could not do in this run; the function may have caught it, the engine must not. @type {unknown} */
  #fault = null;

  /**
   * Run a function to its end.
   *
   * @param {number} depth  0 for a call from outside
   * @param {string} path  of a query or mutation that was declared
   * @param {"query" | "mutation"} kind
   * @param {string} args  JSON text of a one-element array
   * @param {number} now  ms since the epoch
   * @returns {Outcome}
   * @throws {Error} what SQLite or the system could not do
   */
  run(depth, path, kind, args, now) {
    const { context, api } = (this.#contexts[depth] ??= this.#makeContext());
    api.start(path, kind, args, now, ...takeSeeds());
    settle.runInContext(context);
    const fault = this.#fault;
    this.#fault = null;
    if (fault !== null) throw fault;
    const outcome = api.takeOutcome();
    if (typeof outcome === "string") return { ok: true, value: outcome };
    return { ok: false, thrown: outcome === undefined ? null : { ...outcome } };
  }

  /** @returns {FunctionContext} a context in which the modules have been evaluated */
  #makeContext() {
    const context = vm.createContext(
      {},
      { microtaskMode: "afterEvaluate", codeGeneration: { strings: true, wasm: false } },
    );
    const api = prelude.runInContext(context)(this.#host(), this.#env);
    api.prepare(this.#now, ...takeSeeds());
    try {
      this.#script.runInContext(context, { timeout: LOAD_LIMIT_MS });
      return { context, api, declared: JSON.parse(api.collect()) };
    } catch (error) {
      if (/** @type {{ code?: unknown }} */ (error)?.code === TIMED_OUT) {
        throw new OperatorError(
          `the functions cannot be loaded: their modules run for more than ${LOAD_LIMIT_MS / 1000} s`,
        );
      }
      const text = uncaughtText(api.describeThrown(error), this.mapper);
      throw new OperatorError(`the functions cannot be loaded: ${text.trimEnd().replaceAll(/\n\s*/g, " ")}`, {
        code: "InvalidModules",
        text: `Failed to analyze ${moduleOf(text)}: ${text}`,
      });
    }
  }

  #host() {
    return {
      syscall: (/** @type {string} */ op, /** @type {string} */ args) => {
        try {
          return this.#handlers.syscall(op, args);
        } catch (error) {
          if (isFault(error) || error instanceof SystemError) this.#fault ??= error;
          const { message, data } = /** @type {{ message: string, data?: string }} */ (error);
          this.#failure = data === undefined ? { message } : { message, data };
          return undefined; // an error of this realm must not get into the context
        }
      },
      takeFailure: () => this.#failure,
      log: (/** @type {string} */ level, /** @type {unknown[]} */ values) =>
        this.#handlers.log(`[${level}] ${inspectAll(values)}`),
      logText: (/** @type {string} */ level, /** @type {string} */ text, /** @type {unknown[]} */ values) =>
        this.#handlers.log(`[${level}] ${[text, inspectAll(values)].join(" ").trimEnd()}`),
      inspect: (/** @type {unknown} */ value) => inspect(value, INSPECT),
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
      atob: (/** @type {string} */ text) => orUndefined(() => atob(text)),
      btoa: (/** @type {string} */ text) => orUndefined(() => btoa(text)),
      digest: (
        /** @type {string} */ hash,
        /** @type {Uint8Array} */ data,
        /** @type {Uint8Array} */ result,
      ) => result.set(createHash(hash).update(data).digest()),
      hmac: (
        /** @type {string} */ hash,
        /** @type {Uint8Array} */ key,
        /** @type {Uint8Array} */ data,
        /** @type {Uint8Array} */ result,
      ) => result.set(createHmac(hash, key).update(data).digest()),
      web: WEB,
    };
  }
}

/** @param {string} text  of an error with its frames */
function moduleOf(text) {
  const file = /\(\.\.\/convex\/(.+)\.[a-z]+:\d+:\d+\)/.exec(text)?.[1];
  return file === undefined ? "the pushed modules" : `${file}.js`;
}

/** @param {unknown[]} values */
function inspectAll(values) {
  return values.map((value) => inspect(value, INSPECT)).join(" ");
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

/** @returns {[number, number, number]} */
function takeSeeds() {
  if (nextSeed === seeds.length) {
    randomFillSync(seeds);
    nextSeed = 0;
  }
  const taken = seeds.subarray(nextSeed, (nextSeed += SEEDS));
  return /** @type {[number, number, number]} */ ([taken[0], taken[1], taken[2]]);
}
