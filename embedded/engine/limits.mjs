/** What one call may do: Convex's limits as defaults, and the account of a call against them. */

import { CallError } from "./errors.mjs";

const MIB = 1024 * 1024;

/**
 * @typedef {object} Limits
 * @property {number} documentsRead
 * @property {number} bytesRead
 * @property {number} databaseQueries  index ranges and gets
 * @property {number} documentsWritten
 * @property {number} bytesWritten
 * @property {number} functionsScheduled
 * @property {number} scheduledFunctionArgsBytes  of all functions that one call schedules
 * @property {number} argsBytes
 * @property {number} resultBytes
 * @property {number} depth  of calls inside calls
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

const NO_FILES = { used: 0, remaining: 0 }; // this host has no file storage

/** What a function has used so far, the functions it called included. */
export class Usage {
  /**
   * @param {Readonly<Limits>} limits
   * @param {Usage | null} [parent]  of the function that called it
   */
  constructor(limits, parent = null) {
    this.limits = limits;
    this.#parent = parent;
  }

  #parent;

  documentsRead = 0;
  bytesRead = 0;
  databaseQueries = 0;
  documentsWritten = 0;
  bytesWritten = 0;
  functionsScheduled = 0;
  scheduledFunctionArgsBytes = 0;

  /** @param {number} bytes  of one document, also when a filter drops it */
  readDocument(bytes) {
    this.#parent?.readDocument(bytes);
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
    this.#parent?.query();
    this.databaseQueries += 1;
    const { databaseQueries } = this.limits;
    if (this.databaseQueries > databaseQueries) {
      throw new CallError(
        `Too many reads in a single function execution (limit: ${databaseQueries}). ${READ_ADVICE}`,
      );
    }
  }

  /** @param {number} bytes  of one document */
  writeDocument(bytes) {
    this.#parent?.writeDocument(bytes);
    this.documentsWritten += 1;
    this.bytesWritten += bytes;
    const { documentsWritten, bytesWritten } = this.limits;
    if (this.documentsWritten > documentsWritten) {
      throw new CallError(`Too many writes in a single function execution (limit: ${documentsWritten})`);
    }
    if (this.bytesWritten > bytesWritten) {
      throw new CallError(
        `Too many bytes written in a single function execution (limit: ${bytesWritten} bytes)`,
      );
    }
  }

  /** @param {number} argsBytes  of one scheduled function */
  schedule(argsBytes) {
    this.#parent?.schedule(argsBytes);
    this.functionsScheduled += 1;
    this.scheduledFunctionArgsBytes += argsBytes;
    const { functionsScheduled, scheduledFunctionArgsBytes } = this.limits;
    if (this.functionsScheduled > functionsScheduled) {
      throw new CallError(`Too many functions scheduled by this mutation (limit: ${functionsScheduled})`);
    }
    if (this.scheduledFunctionArgsBytes > scheduledFunctionArgsBytes) {
      throw new CallError(
        `Too large total size of the arguments of scheduled functions (limit: ${scheduledFunctionArgsBytes} bytes)`,
      );
    }
  }

  /** @returns {Record<string, { used: number, remaining: number }>} as `ctx.meta.getTransactionMetrics()` gives it */
  metrics() {
    const { limits } = this;
    const metric = (/** @type {number} */ used, /** @type {number} */ limit) => ({
      used,
      remaining: Math.max(0, limit - used),
    });
    return {
      bytesRead: metric(this.bytesRead, limits.bytesRead),
      bytesWritten: metric(this.bytesWritten, limits.bytesWritten),
      databaseQueries: metric(this.databaseQueries, limits.databaseQueries),
      documentsRead: metric(this.documentsRead, limits.documentsRead),
      documentsWritten: metric(this.documentsWritten, limits.documentsWritten),
      functionsScheduled: metric(this.functionsScheduled, limits.functionsScheduled),
      scheduledFunctionArgsBytes: metric(this.scheduledFunctionArgsBytes, limits.scheduledFunctionArgsBytes),
      filesRead: NO_FILES,
      fileReadBytes: NO_FILES,
      filesWritten: NO_FILES,
      fileWriteBytes: NO_FILES,
    };
  }
}
