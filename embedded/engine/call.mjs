/**
 * One call from outside with all the calls inside it: they share an account, a clock, a commit timestamp and the log lines.
 *
 * The writes of a call are in the store's log from the call's beginning on; whoever starts the call opens the savepoint.
 */

import { addLogLine, formatLogLine } from "../log-lines.mjs";
import { ofHost } from "../request-context.mjs";
import { AuditLog } from "./audit-log.mjs";
import { checkArgs, checkReturns } from "./call-values.mjs";
import { CallError, endText, uncaughtText } from "./errors.mjs";
import { Usage } from "./limits.mjs";
import { answerSyscall } from "./syscalls/index.mjs";
import { resolveCommitTsInText, textContainsCommitTs } from "./values.mjs";

/**
 * @typedef {import("./functions.mjs").FunctionEntry & { kind: "query" | "mutation" }} Callable
 * @typedef {import("./limits.mjs").Limits} Limits
 * @typedef {import("./limits.mjs").TransactionLimits} TransactionLimits
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
 * @property {Usage} usage  the call's; a snapshot's own
 * @property {Map<number, Query>} queries  not read to their end
 * @property {boolean} paginated
 * @property {boolean} journaled  its page is what the subscription's journal tells of
 * @property {Reads | null} reads
 */

export class Call {
  /**
   * @param {App} app
   * @param {object} options
   * @param {Caller} options.caller
   * @param {number} options.now  ms since the epoch, for all of the call
   * @param {Reads | null} [options.reads]  told what the call reads
   * @param {string | null} [options.journal]  where its page ended when it ran before
   * @param {string | null} [options.job]  id of the scheduled function that runs
   * @param {import("../request-context.mjs").RequestContext | null} [options.request]  null: the host began it
   */
  constructor(app, { caller, now, reads = null, journal = null, job = null, request = null }) {
    this.app = app;
    this.caller = caller;
    this.now = now;
    this.job = job;
    this.#request = request;
    this.journal = journal;
    this.snapshotTs = app.store.ts;
    this.ts = app.store.nextTs();
    this.usage = new Usage(app.limits);
    this.#reads = reads;
    this.#logStart = app.store.log.length;
  }

  /** @type {string[]} */
  logLines = [];

  #reads;
  #request;
  #logStart;
  /** @type {AuditLog | null} */
  #auditLog = null;
  #readApart = 0; // bytes, from snapshots: these have limits of their own
  /** @type {Frame[]} */
  #frames = [];

  /** @returns {{ bytesRead: number, bytesWritten: number }} of documents, snapshots included */
  bytes() {
    const { bytesRead, bytesWritten } = this.usage;
    return { bytesRead: bytesRead + this.#readApart, bytesWritten };
  }

  get request() {
    return (this.#request ??= ofHost(this.job));
  }

  /** Of the scheduled function that all of this is part of. @returns {string | null} */
  get scheduledFunctionId() {
    return this.job ?? this.#request?.scheduledFunctionId ?? null;
  }

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
    const { argsBytes, value, valueBytes } = this.#run(entry, args, this.usage, this.#reads, true);
    this.#auditLog?.check();
    for (const warning of this.usage.warnings(argsBytes, valueBytes, this.app.limits)) {
      this.logLines.push(formatLogLine("WARN", [warning]));
    }
    if (!textContainsCommitTs(value)) return value;
    const { log, ts } = this.app.store;
    return resolveCommitTsInText(value, log.length > this.#logStart ? this.ts : ts); // one that wrote nothing has that of what it read
  }

  /**
   * Run a function from inside another one, as part of its transaction. What a failing mutation wrote is undone.
   *
   * @param {Callable} entry
   * @param {string} args  JSON text of a one-element array
   * @param {{ snapshot: boolean, budget?: Partial<TransactionLimits> }} options  snapshot: see the documents as they were before this
   *   call wrote; budget: what it may use on top of what was used so far
   * @returns {string} JSON text
   * @throws {CallError}
   */
  runNested(entry, args, { snapshot, budget = {} }) {
    const { store, limits } = this.app;
    if (this.#frames.length > limits.depth) {
      throw new CallError(
        "Cross component call depth limit exceeded. Do you have an infinite loop in your app?",
      );
    }
    const run = (/** @type {Usage} */ usage, /** @type {Reads | null} */ reads) => {
      try {
        return this.#run(entry, args, usage, reads, false).value;
      } catch (error) {
        throw error instanceof CallError ? new CallError(endText(error.message), error.data) : error;
      }
    };
    if (snapshot) {
      const usage = new Usage(this.usage.limits);
      usage.tighten(budget);
      try {
        return store.without(this.#logStart, () => run(usage, null));
      } finally {
        this.#readApart += usage.bytesRead;
      }
    }
    const { usage, reads } = this.frame;
    const outer = usage.tighten(budget);
    const written = usage.writes();
    const mark = store.savepoint();
    try {
      const value = run(usage, reads);
      store.release();
      return value;
    } catch (error) {
      store.rollback(mark);
      usage.forgetWritesSince(written);
      throw error;
    } finally {
      usage.limits = outer;
    }
  }

  /** @param {string} line */
  log(line) {
    addLogLine(this.logLines, line);
  }

  /** @param {unknown} body */
  audit(body) {
    (this.#auditLog ??= new AuditLog()).add(body);
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
    const commitTs = this.#frames.at(-1)?.entry.kind === "mutation";
    const { bytes: argsBytes, args: ordered } = checkArgs(this.app, entry, args, { commitTs });
    /** @type {Frame} */
    const frame = { entry, usage, queries: new Map(), paginated: false, journaled, reads };
    this.#frames.push(frame);
    try {
      if (entry.native !== undefined) {
        const value = entry.native(this, JSON.parse(ordered)[0]);
        return { argsBytes, value, valueBytes: value.length };
      }
      const outcome = this.app.runtime.run(
        this.#frames.length - 1,
        entry.path,
        entry.kind,
        ordered,
        this.now,
      );
      if (!outcome.ok) throw this.#failure(outcome.thrown);
      const { bytes, value } = checkReturns(this.app, entry, outcome.value, { commitTs: true });
      return { argsBytes, value, valueBytes: bytes };
    } finally {
      for (const query of frame.queries.values()) query.close();
      this.#frames.pop();
    }
  }

  /** @param {import("./errors.mjs").Thrown | null} thrown */
  #failure(thrown) {
    if (thrown === null) return new CallError("Returned promise will never resolve");
    return new CallError(uncaughtText(thrown, this.app.runtime.mapper), thrown.data);
  }
}
