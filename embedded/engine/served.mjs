/** Holds the functions that are served, and takes new ones: all of a load or nothing of it. */

import { formatLogLine } from "../log-lines.mjs";
import { functionNotFound, NO_FUNCTIONS } from "../paths.mjs";
import { analyzePush, prepareInlineQuery, PUSHED } from "../push/ops.mjs";
import { changeEnvironment, expectEnvironment } from "../system/environment.mjs";
import { checkArgs, checkReturns } from "./call-values.mjs";
import { importPhase } from "./import-phase.mjs";
import { applySchema, prepareDeployment, requiredVariables } from "./deployment.mjs";
import { CallError } from "./errors.mjs";
import { actionSizeWarning } from "./limits.mjs";

/**
 * @typedef {import("./call.mjs").App} App
 * @typedef {import("./runtime.mjs").Bundle} Bundle
 */

export class Served {
  /**
   * @param {object} parts
   * @param {import("./store.mjs").Store} parts.store
   * @param {import("./scheduler.mjs").Scheduler} parts.scheduler
   * @param {Readonly<import("./limits.mjs").Limits>} parts.limits
   * @param {import("./runtime.mjs").Handlers} parts.handlers  functions' way to the engine
   * @param {() => number} parts.now  ms since the epoch
   * @param {boolean} parts.strict  every call evaluates the modules anew
   * @param {typeof prepareDeployment} [parts.prepare]
   */
  constructor({ store, scheduler, limits, handlers, now, strict, prepare = prepareDeployment }) {
    this.#store = store;
    this.#scheduler = scheduler;
    this.#limits = limits;
    this.#handlers = handlers;
    this.#now = now;
    this.#strict = strict;
    this.#prepare = prepare;
  }

  #store;
  #scheduler;
  #limits;
  #handlers;
  #now;
  #strict;
  #prepare;
  /** What calls work on; null until functions are loaded. @type {App | null} */
  app = null;
  /** Whether there are functions of the app's own, so that what is scheduled may run. */
  isActive = false;
  /** @type {import("./runtime.mjs").Declared | null} */
  #declared = null;
  /** @type {readonly string[]} */
  #modules = [];

  /**
   * Activate functions, keep what was pushed and change variables.
   *
   * @param {object} message
   * @param {Bundle | null} message.bundle  null: there are none yet
   * @param {Record<string, string | undefined>} message.env
   * @param {import("../system/environment.mjs").Change[]} [message.changes]  of variables in the file
   * @param {string} [message.pushed]  kept in the file
   * @param {Record<string, string>} [message.expected]  refused when the file's variables are others
   * @returns {string} what the functions are, as JSON text
   * @throws {import("./errors.mjs").OperatorError} they cannot be served: those of before are, and nothing has changed
   */
  load({ bundle, env, changes = [], pushed, expected }) {
    const store = this.#store;
    const before = this.app;
    const mark = store.savepoint();
    try {
      if (expected !== undefined) expectEnvironment(store, expected);
      if (changes.length > 0) changeEnvironment(store, changes, requiredVariables(this.#declared));
      if (pushed !== undefined) store.setMeta(PUSHED, pushed);
      const { code } = bundle ?? NO_FUNCTIONS;
      const { at, seeds } = importPhase(store, code, this.#now());
      const deployment = this.#prepare(bundle ?? NO_FUNCTIONS, env, this.#handlers, at, store, {
        strict: this.#strict,
        seeds,
      });
      if (bundle !== null) applySchema(store, deployment.schema);
      const { runtime, functions, schema } = deployment;
      // Before the crons: the scheduler looks their functions up in it.
      this.app = { store, scheduler: this.#scheduler, limits: this.#limits, runtime, functions, schema };
      if (bundle !== null) this.#scheduler.setCrons(deployment.crons, this.#now());
      this.isActive = bundle !== null;
      this.#declared = deployment.declared;
      this.#modules = bundle?.modules ?? [];
      store.release();
      return deployment.description;
    } catch (error) {
      this.app = before;
      store.rollback(mark);
      throw error;
    }
  }

  /**
   * @param {Parameters<typeof analyzePush>[1]} push
   * @returns {ReturnType<typeof analyzePush>} what it declares and changes
   * @throws {import("./errors.mjs").OperatorError} it cannot be served
   */
  analyze(push) {
    return analyzePush(this.#state(), push);
  }

  /**
   * Make the query that one module exports ready to run on the data that is there.
   *
   * @param {App} app  what is served
   * @param {{ bundle: Bundle, env: Record<string, string | undefined> }} module
   * @throws {import("./errors.mjs").OperatorError} with Convex's code and text
   */
  prepareInline(app, module) {
    return prepareInlineQuery({ ...this.#state(), app }, module);
  }

  /**
   * Hold what an action was given, or returns, against its validators; the action itself runs elsewhere.
   *
   * @param {{ path: string, part: "args" | "returns", value: string }} message
   * @returns {{ value: string, logLines: string[] }} the value with its fields in order, and Convex's warning of a size near its limit
   * @throws {CallError}
   */
  check({ path, part, value }) {
    const entry = this.app?.functions.get(path);
    if (this.app === null || entry === undefined) throw new CallError(functionNotFound(path));
    const { bytes, ...checked } =
      part === "args" ? checkArgs(this.app, entry, value) : checkReturns(this.app, entry, value);
    const warning = actionSizeWarning(part, bytes, this.app.limits);
    return {
      value: "args" in checked ? checked.args : checked.value,
      logLines: warning === null ? [] : [formatLogLine("WARN", [warning])],
    };
  }

  /** @returns {import("../push/ops.mjs").Served} */
  #state() {
    const [app, declared, modules, store] = [this.app, this.#declared, this.#modules, this.#store];
    return { app, declared, modules, store, handlers: this.#handlers, now: this.#now() };
  }
}
