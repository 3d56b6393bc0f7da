/** What one call may do: Convex's limits as defaults, and the account of a call against them. */

import { CallError } from "./errors.mjs";
import { formatUnits } from "./format.mjs";
import { MAX_DOCUMENT_BYTES, MAX_DOCUMENT_DEPTH } from "./values.mjs";

const MIB = 1024 * 1024;

/**
 * @typedef {object} TransactionLimits  what a function may also set for a call it makes
 * @property {number} documentsRead  those that a filter drops included
 * @property {number} bytesRead
 * @property {number} databaseQueries  index ranges and gets
 * @property {number} documentsWritten
 * @property {number} bytesWritten
 * @property {number} functionsScheduled
 * @property {number} scheduledFunctionArgsBytes  of all functions that one call schedules
 *
 * @typedef {TransactionLimits & { argsBytes: number, resultBytes: number, depth: number }} Limits  depth: of calls inside calls
 */

/** @type {Readonly<Limits>} */
export const CONVEX_LIMITS = Object.freeze({
  documentsRead: 32_000,
  bytesRead: 16 * MIB,
  databaseQueries: 4_096,
  documentsWritten: 16_000,
  bytesWritten: 16 * MIB,
  functionsScheduled: 1_000,
  scheduledFunctionArgsBytes: 16 * MIB,
  argsBytes: 16 * MIB,
  resultBytes: 16 * MIB,
  depth: 8,
});

const READ_ADVICE =
  "Consider using smaller limits in your queries, paginating your queries, or using indexed queries with a selective index range expressions.";
const MAX_JOB_ARGS_BYTES = 4 * MIB; // Convex only warns above it
const WARNING_SHARE = 0.8; // of a limit: from here on Convex warns

/** @type {string[]} */
const NONE = [];
/** @type {ReadonlyMap<string, { bytes: number, depth: number }>} */
const NO_LARGE = new Map();
const NO_FILES = { used: 0, remaining: 0 }; // this host has no file storage

/** What a call has used so far, the functions inside it included. */
export class Usage {
  /** @param {Readonly<TransactionLimits>} limits  in force now; a call inside the call may have tighter ones */
  constructor(limits) {
    this.limits = limits;
    this.#outermost = limits;
  }

  #outermost;
  #largestJob = 0;
  /** Documents near the limit of one, as they were written last. @type {Map<string, { bytes: number, depth: number }>} */
  #large = new Map();

  documentsRead = 0;
  bytesRead = 0;
  databaseQueries = 0;
  documentsWritten = 0;
  bytesWritten = 0;
  functionsScheduled = 0;
  scheduledFunctionArgsBytes = 0;

  /** @param {number} bytes  of one document, also when a filter drops it */
  readDocument(bytes) {
    this.documentsRead += 1;
    this.bytesRead += bytes;
    const { documentsRead, bytesRead } = this.limits;
    if (this.documentsRead > documentsRead) {
      throw new CallError(
        `Too many documents read in a single function execution (limit: ${documentsRead}). ${READ_ADVICE}`,
      );
    }
    if (this.bytesRead > bytesRead) {
      throw new CallError(
        `Too many bytes read in a single function execution (limit: ${bytesRead} bytes). ${READ_ADVICE}`,
      );
    }
  }

  /** One more index range or get. */
  query() {
    this.databaseQueries += 1;
    const { databaseQueries } = this.limits;
    if (this.databaseQueries > databaseQueries) {
      throw new CallError(
        `Too many reads in a single function execution (limit: ${databaseQueries}). ${READ_ADVICE}`,
      );
    }
  }

  /**
   * @param {number} bytes  of one document; 0 when it is deleted
   * @param {string} id
   * @param {number} [depth]  levels of nesting
   */
  writeDocument(bytes, id, depth = 0) {
    this.documentsWritten += 1;
    this.bytesWritten += bytes;
    const { documentsWritten, bytesWritten } = this.limits;
    if (this.documentsWritten > documentsWritten) {
      throw new CallError(`Too many writes in a single function execution (limit: ${documentsWritten})`);
    }
    if (this.bytesWritten > bytesWritten) {
      throw new CallError(
        `Too many bytes written in a single function execution (limit: ${formatUnits(bytesWritten)})`,
      );
    }
    if (bytes > MAX_DOCUMENT_BYTES * WARNING_SHARE || depth > MAX_DOCUMENT_DEPTH * WARNING_SHARE) {
      this.#large.set(id, { bytes, depth });
    } else if (this.#large.size > 0) this.#large.delete(id);
  }

  /** @param {number} argsBytes  of one scheduled function */
  schedule(argsBytes) {
    const { functionsScheduled, scheduledFunctionArgsBytes } = this.limits;
    if (this.functionsScheduled >= functionsScheduled) {
      throw new CallError(`Too many functions scheduled by this mutation (limit: ${functionsScheduled})`);
    }
    if (this.scheduledFunctionArgsBytes + argsBytes > scheduledFunctionArgsBytes) {
      throw new CallError(
        `Too large total size of the arguments of scheduled functions from this mutation (limit: ${scheduledFunctionArgsBytes} bytes)`,
      );
    }
    this.functionsScheduled += 1;
    this.scheduledFunctionArgsBytes += argsBytes;
    this.#largestJob = Math.max(this.#largestJob, argsBytes);
  }

  /**
   * Set tighter limits for a call inside the call.
   *
   * @param {Partial<TransactionLimits>} budget  that the inner call may use on top of what was used so far
   * @returns {Readonly<TransactionLimits>} the limits before, to be put back
   */
  tighten(budget) {
    const before = this.limits;
    const tightened = { ...before };
    for (const name of /** @type {(keyof TransactionLimits)[]} */ (Object.keys(CONVEX_LIMITS))) {
      if (budget[name] !== undefined) tightened[name] = Math.min(before[name], this[name] + budget[name]);
    }
    this.limits = tightened;
    return before;
  }

  /** For `forgetWritesSince`. */
  writes() {
    const { documentsWritten, bytesWritten } = this;
    return {
      documentsWritten,
      bytesWritten,
      large: this.#large.size === 0 ? NO_LARGE : new Map(this.#large),
    };
  }

  /** @param {ReturnType<Usage["writes"]>} mark  what was written after it has been undone */
  forgetWritesSince({ documentsWritten, bytesWritten, large }) {
    if (this.#large.size > 0) this.#large = new Map(large);
    this.documentsWritten = documentsWritten;
    this.bytesWritten = bytesWritten;
  }

  /**
   * @param {number} argsBytes  of the call
   * @param {number} resultBytes
   * @param {{ argsBytes: number, resultBytes: number }} limits
   * @returns {string[]} Convex's warnings about limits that were nearly reached
   */
  warnings(argsBytes, resultBytes, limits) {
    if (!this.#isNearLimit(argsBytes, resultBytes, limits)) return NONE;
    const outermost = this.#outermost;
    const reads = ` ${READ_ADVICE}`;
    const single = "Large arguments for a single scheduled function from this mutation";
    return [
      warning("Large size of the function arguments", argsBytes, limits.argsBytes, " bytes"),
      warning(
        "Many documents read in a single function execution",
        this.documentsRead,
        outermost.documentsRead,
        "",
        reads,
      ),
      warning(
        "Many reads in a single function execution",
        this.databaseQueries,
        outermost.databaseQueries,
        "",
        reads,
      ),
      warning(
        "Many bytes read in a single function execution",
        this.bytesRead,
        outermost.bytesRead,
        " bytes",
        reads,
      ),
      warning(
        "Many writes in a single function execution",
        this.documentsWritten,
        outermost.documentsWritten,
      ),
      warning(
        "Many bytes written in a single function execution",
        this.bytesWritten,
        outermost.bytesWritten,
        " bytes",
      ),
      warning(
        "Many functions scheduled by this mutation",
        this.functionsScheduled,
        outermost.functionsScheduled,
      ),
      warning(
        "Large total size of the arguments of scheduled functions from this mutation",
        this.scheduledFunctionArgsBytes,
        outermost.scheduledFunctionArgsBytes,
        " bytes",
      ),
      this.#largestJob > MAX_JOB_ARGS_BYTES
        ? `${single}. This will become a hard error in the future (actual: ${this.#largestJob} bytes, limit: ${MAX_JOB_ARGS_BYTES} bytes).`
        : warning(single, this.#largestJob, MAX_JOB_ARGS_BYTES, " bytes"),
      ...this.#largeDocuments(),
      warning("Large size of the function return value", resultBytes, limits.resultBytes, " bytes"),
    ].filter((text) => text !== null);
  }

  #largeDocuments() {
    const [largest] = [...this.#large].sort(([, a], [, b]) => b.bytes - a.bytes);
    const [deepest] = [...this.#large].sort(([, a], [, b]) => b.depth - a.depth);
    if (largest === undefined || deepest === undefined) return [];
    const size = `Large document written with ID "${largest[0]}"`;
    const nesting = `Deeply nested document written with ID "${deepest[0]}"`;
    return [
      warning(size, largest[1].bytes, MAX_DOCUMENT_BYTES, " bytes"),
      warning(nesting, deepest[1].depth, MAX_DOCUMENT_DEPTH, " levels"),
    ];
  }

  /**
   * @param {number} argsBytes
   * @param {number} resultBytes
   * @param {{ argsBytes: number, resultBytes: number }} limits
   */
  #isNearLimit(argsBytes, resultBytes, limits) {
    const outermost = this.#outermost;
    return (
      this.#large.size > 0 ||
      argsBytes > limits.argsBytes * WARNING_SHARE ||
      resultBytes > limits.resultBytes * WARNING_SHARE ||
      this.#largestJob > MAX_JOB_ARGS_BYTES * WARNING_SHARE ||
      this.documentsRead > outermost.documentsRead * WARNING_SHARE ||
      this.bytesRead > outermost.bytesRead * WARNING_SHARE ||
      this.databaseQueries > outermost.databaseQueries * WARNING_SHARE ||
      this.documentsWritten > outermost.documentsWritten * WARNING_SHARE ||
      this.bytesWritten > outermost.bytesWritten * WARNING_SHARE ||
      this.functionsScheduled > outermost.functionsScheduled * WARNING_SHARE ||
      this.scheduledFunctionArgsBytes > outermost.scheduledFunctionArgsBytes * WARNING_SHARE
    );
  }

  /** @returns {Record<string, { used: number, remaining: number }>} as `ctx.meta.getTransactionMetrics()` gives it */
  metrics() {
    const metric = (/** @type {keyof TransactionLimits} */ name) => ({
      used: this[name],
      remaining: this.limits[name] - this[name],
    });
    return {
      bytesRead: metric("bytesRead"),
      bytesWritten: metric("bytesWritten"),
      databaseQueries: metric("databaseQueries"),
      documentsRead: metric("documentsRead"),
      documentsWritten: metric("documentsWritten"),
      functionsScheduled: metric("functionsScheduled"),
      scheduledFunctionArgsBytes: metric("scheduledFunctionArgsBytes"),
      filesRead: NO_FILES,
      fileReadBytes: NO_FILES,
      filesWritten: NO_FILES,
      fileWriteBytes: NO_FILES,
    };
  }
}

/**
 * @param {"args" | "returns"} part  of an action, which is not run here
 * @param {number} bytes
 * @param {{ argsBytes: number, resultBytes: number }} limits
 * @returns {string | null} Convex's warning of a size near its limit
 */
export function actionSizeWarning(part, bytes, { argsBytes, resultBytes }) {
  return part === "args"
    ? warning("Large size of the action arguments", bytes, argsBytes, " bytes")
    : warning("Large size of the action return value", bytes, resultBytes, " bytes");
}

/**
 * @param {string} text
 * @param {number} actual
 * @param {number} limit
 * @param {string} [unit]
 * @param {string} [advice]
 */
function warning(text, actual, limit, unit = "", advice = "") {
  if (actual <= Math.floor(limit * WARNING_SHARE) || actual > limit) return null;
  return `${text} (actual: ${actual}${unit}, limit: ${limit}${unit}).${advice}`;
}
