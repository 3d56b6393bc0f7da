/**
 * Runs queries and mutations, each to its end inside one synchronous call.
 *
 * A context has a microtask queue of its own that is emptied when an evaluation ends, so a whole async function runs before
 * `run` returns and nothing of it can be left over. A call inside a call runs in the next context: it ends before its caller
 * goes on, as if it had been one instruction, and shares no module state with it.
 */

import { randomFillSync } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import vm from "node:vm";
import { REALM_SCRIPTS } from "../host-files.mjs";
import { CallError, isFault, OperatorError, StackMapper, SystemError, uncaughtText } from "./errors.mjs";
import { makeRealmHost } from "./realm-host.mjs";
import { runHostMicrotasks, takeRejections } from "./rejections.mjs";

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
 * @typedef {{ context: vm.Context, api: any }} FunctionContext  api: what prelude.js returns
 */

const AUTH_CONFIG = "auth.config";
const UNSET_IN_AUTH_CONFIG =
  /^Uncaught Error: (?=Environment variable \S+ is used in auth config file but its value was not set\n)/;
const LOAD_LIMIT_MS = 4_000; // as long as Convex lets modules run when they are imported
const TIMED_OUT = "ERR_SCRIPT_EXECUTION_TIMEOUT";
const BUNDLE_NAME = "functions.js";
const PRELUDE_NAME = "prelude.js";
const REALM = [
  "clone",
  "console",
  "crypto",
  "differences",
  "events",
  "performance",
  "random",
  "text",
  "wasm",
  "web",
];
const MAX_IDLE_ROUNDS = 16; // of the host's microtasks, while a function waits for one of the host's promises

/** @param {string} file */
function compile(file) {
  return new vm.Script(readFileSync(path.join(REALM_SCRIPTS, file), "utf8"), { filename: file });
}

/** Compiled bundles: what they declare is read in one runtime, and they run in another. @type {WeakMap<Bundle, vm.Script>} */
const scripts = new WeakMap();

/**
 * @param {Bundle} bundle
 * @returns {vm.Script}
 * @throws {OperatorError} it is no JavaScript
 */
function scriptOf(bundle) {
  let script = scripts.get(bundle);
  if (script !== undefined) return script;
  try {
    script = new vm.Script(bundle.code, { filename: BUNDLE_NAME });
  } catch (error) {
    throw new OperatorError(`the functions cannot be compiled: ${/** @type {Error} */ (error).message}`);
  }
  scripts.set(bundle, script);
  return script;
}

const prelude = compile(PRELUDE_NAME);
const realm = REALM.map((name) => ({ name, script: compile(`realm/${name}.js`) }));
const settle = new vm.Script("0", { filename: "settle" });

const SEEDS = 3;
const seeds = new Int32Array(SEEDS * 256);
let nextSeed = seeds.length;

export class Runtime {
  /**
   * @param {Bundle} bundle
   * @param {Record<string, string>} env  what functions see as `process.env`
   * @param {Handlers} handlers
   * @param {number} now  ms since the epoch, seen by modules while they are evaluated
   * @param {{ strict?: boolean, declares?: boolean, seeds?: [number, number, number] }} [options]  strict: every call gets modules of its
   *   own, so that no state of theirs survives; declares: it is for what the modules declare, and refuses an `auth.config` that reads a
   *   variable which is not in `env`; seeds: of what modules draw while they are evaluated
   * @throws {OperatorError} a module cannot be evaluated
   */
  constructor(bundle, env, handlers, now, { strict = false, declares = false, seeds = takeSeeds() } = {}) {
    this.#env = JSON.stringify(env);
    this.#handlers = handlers;
    this.#now = now;
    this.#importSeeds = seeds;
    this.#strict = strict;
    this.#declares = declares;
    this.#checksAuthConfig = declares && bundle.modules.includes(AUTH_CONFIG);
    this.mapper = new StackMapper(BUNDLE_NAME, bundle.map);
    this.#script = scriptOf(bundle);
    this.#contexts.push(this.#makeContext(LOAD_LIMIT_MS));
  }

  /** What the first evaluation finds, if it is asked for. */
  declared = /** @type {Declared} */ ({});
  #env;
  #handlers;
  #now;
  #strict;
  #declares;
  #checksAuthConfig;
  #script;
  #importSeeds; // the same whenever the modules are evaluated, as on Convex
  #importing = false;
  #waiting = 0; // promises of the host, that the running function uses and that have not settled
  #moved = false; // whether that number has changed
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
    const { context, api } = this.#contextAt(depth);
    const waitingOutside = this.#waiting; // the promises that the caller of this call waits for
    this.#waiting = 0;
    api.start(path, kind, args, now, ...takeSeeds());
    settle.runInContext(context);
    runHostMicrotasks();
    for (let idle = 0; this.#waiting > 0 && idle < MAX_IDLE_ROUNDS; idle++) {
      this.#moved = false;
      settle.runInContext(context);
      runHostMicrotasks();
      if (this.#moved) idle = 0;
    }
    const rejections = takeRejections(api.ownsPromise, depth === 0);
    const outcome = api.takeOutcome();
    // What still waits for something must not go on in the middle of another call.
    if (outcome === undefined || this.#waiting > 0) delete this.#contexts[depth];
    this.#waiting = waitingOutside;
    const fault = this.#fault;
    this.#fault = null;
    if (fault !== null) throw fault;
    if (typeof outcome === "object") return { ok: false, thrown: { ...outcome } };
    if (rejections.length > 0) return { ok: false, thrown: { ...api.describeThrown(rejections[0]) } };
    return outcome === undefined ? { ok: false, thrown: null } : { ok: true, value: outcome };
  }

  /** @param {number} depth @returns {FunctionContext} */
  #contextAt(depth) {
    if (this.#strict) return this.#makeContext();
    return (this.#contexts[depth] ??= this.#makeContext());
  }

  /**
   * @param {number} [limitMs]  for the modules, which are to be described; the guard watches those that are evaluated for a call
   * @returns {FunctionContext} a context in which the modules have been evaluated
   */
  #makeContext(limitMs) {
    const context = vm.createContext(
      vm.constants.DONT_CONTEXTIFY, // an ordinary global object: each use of a global costs a contextified one a call of the host
      { microtaskMode: "afterEvaluate", codeGeneration: { strings: false, wasm: true } },
    );
    const parts = Object.fromEntries(realm.map(({ name, script }) => [name, script.runInContext(context)]));
    const api = prelude.runInContext(context)(this.#host(), this.#env, parts);
    api.prepare(this.#now, ...this.#importSeeds);
    const [importing, failure] = [this.#importing, this.#failure];
    this.#importing = true;
    try {
      this.#script.runInContext(context, limitMs === undefined ? {} : { timeout: limitMs });
      runHostMicrotasks();
      takeRejections(api.ownsPromise, false); // nobody waits for them; a function cannot be to blame
      api.collect();
      if (this.#declares && limitMs !== undefined) this.declared = JSON.parse(api.describe());
      return { context, api };
    } catch (error) {
      if (/** @type {{ code?: unknown }} */ (error)?.code === TIMED_OUT) {
        throw new OperatorError(
          `the functions cannot be loaded: their modules run for more than ${LOAD_LIMIT_MS / 1000} s`,
        );
      }
      const text = uncaughtText(api.describeThrown(error), this.mapper);
      if (UNSET_IN_AUTH_CONFIG.test(text)) {
        const what = text.replace(UNSET_IN_AUTH_CONFIG, "");
        throw new OperatorError(what.trimEnd().replaceAll(/\n\s*/g, " "), {
          code: "AuthConfigMissingEnvironmentVariable", // the CLI tells by it which variable to set
          text: what,
        });
      }
      throw new OperatorError(`the functions cannot be loaded: ${text.trimEnd().replaceAll(/\n\s*/g, " ")}`, {
        code: "InvalidModules",
        text: `Failed to analyze ${moduleOf(text)}: ${text}`,
      });
    } finally {
      [this.#importing, this.#failure] = [importing, failure];
    }
  }

  #host() {
    return {
      ...makeRealmHost(this.#handlers, (stack) => this.mapper.frames(stack)),
      syscall: (/** @type {string} */ op, /** @type {string} */ args) => {
        try {
          if (this.#importing) throw new CallError("Can't use database at import time");
          return this.#handlers.syscall(op, args);
        } catch (error) {
          if (isFault(error) || error instanceof SystemError) this.#fault ??= error;
          const { message, data } = /** @type {{ message: string, data?: string }} */ (error);
          this.#failure = data === undefined ? { message } : { message, data };
          return undefined; // an error of this realm must not get into the context
        }
      },
      isAuthConfig: (/** @type {string} */ stack) =>
        this.#checksAuthConfig && this.mapper.frames(stack).includes(`/${AUTH_CONFIG}.`),
      takeFailure: () => this.#failure,
      waitsFor: (/** @type {1 | -1} */ change) => {
        this.#waiting += change;
        this.#moved = true;
      },
    };
  }
}

/** @param {string} text  of an error with its frames */
function moduleOf(text) {
  const file = /\(\.\.\/convex\/(.+)\.[a-z]+:\d+:\d+\)/.exec(text)?.[1];
  return file === undefined ? "the pushed modules" : `${file}.js`;
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
