/** Remembers the newest runs of functions, for clients that follow them. */

import { randomUUID } from "node:crypto";
import { requestId } from "../failures.mjs";

/**
 * @typedef {object} Entry  one run that ended, as Convex tells of it
 * @property {"Completion"} kind
 * @property {"Query" | "Mutation" | "Action" | "HttpAction"} udfType
 * @property {string} identifier  "folder/module:function", or "GET /path"
 * @property {readonly string[]} logLines
 * @property {number} timestamp  s since the epoch
 * @property {number} executionTime  s
 * @property {unknown} success
 * @property {string | null} error
 * @typedef {{ kind: "query" | "mutation" | "action" | "http", path: string, logLines: readonly string[], ms: number, caller: string, error?: string, request?: string, cached?: boolean }} Run
 */

const MAX_ENTRIES = 1000; // Convex's own number
const MAX_CHARS = 8 * 1024 * 1024; // of all log lines together: a thousand runs may each have 256 lines of 32 KiB

/** @type {Record<Run["kind"], Entry["udfType"]>} */
const TYPES = { query: "Query", mutation: "Mutation", action: "Action", http: "HttpAction" };

export class FunctionLog {
  /** @param {() => number} [now]  ms since the epoch */
  constructor(now = Date.now) {
    this.#now = now;
  }

  #now;
  /** Oldest first. @type {{ cursor: number, chars: number, run: Run, at: number }[]} */
  #entries = [];
  #chars = 0;
  #lastCursor = 0;
  /** @type {Set<() => void>} */
  #waiting = new Set();

  /** @param {Run} run  that has just ended */
  add(run) {
    const at = this.#now();
    this.#lastCursor = Math.max(at, this.#lastCursor + 1e-3); // ms, as Convex's; runs of one ms are told apart
    const chars = run.logLines.reduce((sum, line) => sum + line.length, run.error?.length ?? 0);
    this.#entries.push({ cursor: this.#lastCursor, chars, run, at });
    this.#chars += chars;
    if (this.#entries.length > 2 * MAX_ENTRIES)
      this.#trim(MAX_ENTRIES); // seldom, since it moves them all
    else if (this.#chars > MAX_CHARS) this.#trim(this.#entries.length);
    for (const wake of this.#waiting) wake();
  }

  /** @param {number} count  how many may stay */
  #trim(count) {
    let first = Math.max(0, this.#entries.length - count);
    for (const { chars } of this.#entries.slice(0, first)) this.#chars -= chars;
    for (; this.#chars > MAX_CHARS; first++) this.#chars -= this.#entries[first]?.chars ?? 0;
    this.#entries.splice(0, first);
  }

  /**
   * The runs after a cursor, as soon as there are any.
   *
   * @param {number} cursor  0: from the oldest that is remembered
   * @param {number} timeoutMs  after this long with none
   * @param {AbortSignal} [signal]  the client is gone
   * @returns {Promise<{ entries: Entry[], newCursor: number }>}
   */
  async poll(cursor, timeoutMs, signal) {
    if (this.#lastCursor <= cursor || this.#entries.length === 0) await this.#news(timeoutMs, signal);
    const entries = this.#entries.slice(-MAX_ENTRIES).filter((entry) => entry.cursor > cursor);
    return {
      entries: entries.map(({ run, at }) => completion(run, at)),
      newCursor: entries.at(-1)?.cursor ?? cursor,
    };
  }

  /**
   * @param {number} timeoutMs
   * @param {AbortSignal} [signal]
   * @returns {Promise<void>}
   */
  #news(timeoutMs, signal) {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#waiting.delete(done);
        resolve();
      };
      const timer = setTimeout(done, timeoutMs).unref();
      this.#waiting.add(done);
      signal?.addEventListener("abort", done);
    });
  }
}

/**
 * @param {Run} run
 * @param {number} at  ms since the epoch
 */
function completion({ kind, path, logLines, ms, caller, error, request, cached = false }, at) {
  const identifier = path.endsWith(":default") ? path.slice(0, -":default".length) : path;
  return /** @type {Entry} */ ({
    kind: "Completion",
    udfType: TYPES[kind],
    componentPath: null,
    identifier,
    logLines,
    timestamp: at / 1000,
    cachedResult: cached,
    caller,
    parentExecutionId: null,
    executionTime: ms / 1000,
    success: null,
    error: error ?? null,
    requestId: request ?? requestId(),
    executionId: randomUUID(),
    willRetry: false,
    identityType: "unknown",
    environment: "isolate",
  });
}
