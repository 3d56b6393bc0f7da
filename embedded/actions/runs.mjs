/** Knows, anywhere below an action, which action it is. */

import { AsyncLocalStorage } from "node:async_hooks";
import { addLogLine } from "../log-lines.mjs";

const MAX_SYSCALLS = 8; // in flight for one action; the ones after them wait, as in Convex

/**
 * @typedef {import("../engine-client.mjs").Failure} Failure
 * @typedef {(op: string, args: string) => Promise<string>} Syscall  JSON texts
 */

/** One action or HTTP action from its start to its end, with all that ends with it. */
export class Run {
  /**
   * @param {number} id
   * @param {object} does
   * @param {Syscall} does.syscall  asks the main thread
   * @param {(failure: Failure) => void} does.fail  answers now, whatever the action still does
   * @param {(thrown: unknown) => Failure} does.describe
   * @param {(stack: string) => string} does.frames  a stack's frames in the app's files
   */
  constructor(id, { syscall, fail, describe, frames }) {
    this.id = id;
    this.#syscall = syscall;
    this.fail = fail;
    this.describe = describe;
    this.frames = frames;
  }

  /** @type {string[]} */
  logLines = [];
  /** Timers that are set, by the number that the action knows. @type {Map<number, NodeJS.Timeout>} */
  timers = new Map();
  /** When `console.time` was called, by label. @type {Map<string, number>} */
  stopwatches = new Map();
  /** Aborted when the run ends: what it fetches then is given up. */
  ending = new AbortController();
  /** Of an HTTP action. @type {{ request: Request, response: Response | null } | null} */
  exchange = null;

  #syscall;
  /** What was begun and has not ended, by Convex's names. @type {string[]} */
  #pending = [];
  #inFlight = 0;
  /** @type {(() => void)[]} */
  #waiting = [];

  get ended() {
    return this.ending.signal.aborted;
  }

  /** @param {string} line */
  log(line) {
    addLogLine(this.logLines, line);
  }

  /**
   * @template T
   * @param {string} name
   * @param {() => Promise<T>} operation  which the action should wait for
   * @returns {Promise<T>}
   */
  async follow(name, operation) {
    this.#pending.push(name);
    try {
      return await operation();
    } finally {
      this.#pending.splice(this.#pending.indexOf(name), 1);
    }
  }

  /** Convex's warning of what the action has begun and did not wait for; to be called when its handler is done. */
  warnOfUnawaited() {
    const { length } = this.#pending;
    if (length === 0) return;
    const names = [...new Set(this.#pending)].sort().join(", ");
    this.log(
      `[WARN] ${length} unawaited operation${length === 1 ? "" : "s"}: [${names}]. Async operations should be awaited or they might not run. See https://docs.convex.dev/functions/actions#dangling-promises for more information.`,
    );
  }

  /** @type {Syscall} */
  call(op, args) {
    const name = op.replace("1.0/", "").replace("actions/", ""); // as Convex cuts it
    return this.follow(name, () => this.#call(op, args));
  }

  /** @type {Syscall} */
  async #call(op, args) {
    if (this.#inFlight === MAX_SYSCALLS) {
      await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    } else {
      this.#inFlight += 1;
    }
    if (this.ended) return new Promise(() => {}); // nobody is left to go on with the answer
    try {
      return await this.#syscall(op, args);
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#inFlight -= 1;
      else next(); // it takes over the place
    }
  }

  /** Nothing of the run goes on: as when Convex drops the isolate of an action that has ended. */
  end() {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
    this.ending.abort();
  }
}

/** @type {AsyncLocalStorage<Run>} */
export const runs = new AsyncLocalStorage();

/**
 * @param {string} what  is asked for
 * @returns {Run}
 * @throws {Error} no action runs: a module is being imported
 */
export function currentRun(what) {
  const run = runs.getStore();
  if (run === undefined) throw new Error(`${what} unsupported at import time`);
  return run;
}
