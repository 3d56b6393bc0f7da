/**
 * One call from outside with all the calls inside it: they share an account, a clock, a commit timestamp and the log lines.
 *
 * The writes of a call are in the store's log from the call's beginning on; whoever starts the call opens the savepoint.
 */

import { CallError, uncaughtText } from "./errors.mjs";
import { Usage } from "./limits.mjs";
import { answerSyscall } from "./syscalls/index.mjs";

/**
 * @typedef {import("./functions.mjs").FunctionEntry} FunctionEntry
 * @typedef {FunctionEntry & { kind: "query" | "mutation" }} Callable
 * @typedef {import("./limits.mjs").Limits} Limits
 * @typedef {import("./query.mjs").Query} Query
 * @typedef {import("./query.mjs").Reader} Reader
 * @typedef {import("./reads.mjs").Reads} Reads
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {{ admin: boolean, identity: object | null }} Caller
 *
 * @typedef {object} App  what calls work on
 * @property {Store} store
 * @property {import("./scheduler.mjs").Scheduler} scheduler
 * @property {Readonly<Limits>} limits
 * @property {import("./runtime.mjs").Runtime} runtime
 * @property {import("./functions.mjs").FunctionTable} functions
 * @property {import("./schema.mjs").Schema} schema
 *
 * @typedef {object} Frame  one running function
 * @property {Callable} entry
 * @property {Usage} usage
 * @property {Map<number, Query>} queries  not read to their end
 * @property {boolean} paginated
 * @property {boolean} journaled  its page is what the subscription's journal tells of
 * @property {Reads | null} reads
 */

const MAX_LOG_LINES = 256;
const MAX_LOG_LINE_CHARS = 32 * 1024;
const COMMIT_TS = '{"$commitTs":null}'; // no text inside a JSON string can look like this: its quotes would be escaped

export class Call {
  /**
   * @param {App} app
   * @param {object} options
   * @param {Caller} options.caller
   * @param {number} options.now  ms since the epoch, for all of the call
   * @param {Reads | null} [options.reads]  told what the call reads
   * @param {string | null} [options.journal]  where its page ended when it ran before
   * @param {string | null} [options.job]  id of the scheduled function that runs
   */
  constructor(app, { caller, now, reads = null, journal = null, job = null }) {
    this.app = app;
    this.caller = caller;
    this.now = now;
    this.job = job;
    this.journal = journal;
    this.snapshotTs = app.store.ts;
    this.ts = app.store.nextTs();
    this.#reads = reads;
    this.#logStart = app.store.log.length;
  }

  /** @type {string[]} */
  logLines = [];

  #reads;
  #logStart;
  /** @type {Frame[]} */
  #frames = [];

  /** @returns {Frame} the innermost running function */
  get frame() {
    return /** @type {Frame} */ (this.#frames.at(-1));
  }

  /**
   * Run a function to its end.
   *
   * @param {Callable} entry
   * @param {string} args  JSON text of a one-element array
   * @returns {string} JSON text
   * @throws {CallError}
   */
  run(entry, args) {
    const value = this.#run(entry, args, new Usage(this.app.limits), this.#reads, true);
    if (value.includes(COMMIT_TS)) {
      throw new CallError("A commit timestamp that is not resolved yet cannot be returned to a client.");
    }
    return value;
  }

  /**
   * Run a function from inside another one, as part of its transaction. What a failing mutation wrote is undone.
   *
   * @param {Callable} entry
   * @param {string} args  JSON text of a one-element array
   * @param {{ snapshot: boolean, limits?: Partial<Limits> }} options  snapshot: see the documents as they were before this call wrote
   * @returns {string} JSON text
   * @throws {CallError}
   */
  runNested(entry, args, { snapshot, limits = {} }) {
    const { store, limits: outer } = this.app;
    if (this.#frames.length >= outer.depth) {
      throw new CallError(`Functions call each other too deeply (limit: ${outer.depth})`);
    }
    const usage = new Usage({ ...outer, ...limits }, this.frame.usage);
    if (snapshot) {
      return store.without(this.#logStart, () => this.#run(entry, args, usage, null, false));
    }
    const mark = store.savepoint();
    try {
      const value = this.#run(entry, args, usage, this.frame.reads, false);
      store.release();
      return value;
    } catch (error) {
      store.rollback(mark);
      throw error;
    }
  }

  /** @param {string} line */
  log(line) {
    const room = MAX_LOG_LINES - this.logLines.length;
    if (room > 1) this.logLines.push(line.slice(0, MAX_LOG_LINE_CHARS));
    else if (room === 1) {
      this.logLines.push(`[ERROR] Log overflow (maximum ${MAX_LOG_LINES}). Remaining log lines omitted.`);
    }
  }

  /** @param {string} op @param {string} args @returns {string} */
  syscall(op, args) {
    return answerSyscall(this, op, args);
  }

  /** What a query of the innermost function reads with. @returns {Reader} */
  reader() {
    const { usage, reads } = this.frame;
    return {
      store: this.app.store,
      ts: this.ts,
      onRow: (json) => usage.readDocument(json.length),
      reads,
    };
  }

  /**
   * @param {Callable} entry
   * @param {string} args
   * @param {Usage} usage
   * @param {Reads | null} reads
   * @param {boolean} journaled
   */
  #run(entry, args, usage, reads, journaled) {
    checkArgs(this.app, entry, args);
    /** @type {Frame} */
    const frame = { entry, usage, queries: new Map(), paginated: false, journaled, reads };
    this.#frames.push(frame);
    try {
      const outcome = this.app.runtime.run(this.#frames.length - 1, entry.path, entry.kind, args, this.now);
      if (!outcome.ok) throw this.#failure(outcome.thrown);
      checkReturns(this.app, entry, outcome.value);
      return outcome.value;
    } finally {
      for (const query of frame.queries.values()) query.close();
      this.#frames.pop();
    }
  }

  /** @param {import("./errors.mjs").Thrown | null} thrown */
  #failure(thrown) {
    if (thrown === null)
      return new CallError("Uncaught Error: The function waits for a promise that never resolves");
    return new CallError(uncaughtText(thrown, this.app.runtime.mapper), thrown.data);
  }
}

/**
 * @param {Pick<App, "store" | "limits">} app
 * @param {Pick<FunctionEntry, "args">} entry
 * @param {string} args  JSON text of a one-element array
 * @throws {CallError} the function does not take these
 */
export function checkArgs({ store, limits }, entry, args) {
  if (args.length > limits.argsBytes) {
    throw new CallError(`Arguments are too large (limit: ${limits.argsBytes} bytes)`);
  }
  if (entry.args === null) return;
  const error = entry.args.check(JSON.parse(args)[0], store);
  if (error !== null) throw new CallError(`ArgumentValidationError: ${error}`);
}

/**
 * @param {Pick<App, "store" | "limits">} app
 * @param {Pick<FunctionEntry, "returns">} entry
 * @param {string} value  JSON text
 * @throws {CallError} the function must not return this
 */
export function checkReturns({ store, limits }, entry, value) {
  if (value.length > limits.resultBytes) {
    throw new CallError(`Function return value is too large (limit: ${limits.resultBytes} bytes)`);
  }
  if (entry.returns === null) return;
  const error = entry.returns.check(JSON.parse(value), store);
  if (error !== null) throw new CallError(`ReturnsValidationError: ${error}`);
}
