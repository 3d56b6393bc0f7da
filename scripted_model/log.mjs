/** Remembers the last requests, so that a test can ask what reached the server. */

const KEPT = 1_000;

/**
 * @typedef {object} Entry
 * @property {number} id        counts from 1
 * @property {number} at        ms since the epoch
 * @property {string} model
 * @property {string} script
 * @property {boolean} stream
 * @property {number | null} status  null until the answer has begun
 * @property {number} promptTokens  of the prompt that is answered; 0: it was refused
 * @property {number} chunks    tokens sent so far
 * @property {boolean} done     the answer is over, in whatever way
 * @property {boolean} aborted  the client left before its end
 * @property {number} turn      answers in the conversation, and this one
 */

export class RequestLog {
  /** @type {Entry[]} */
  #entries = [];
  #count = 0;

  /**
   * @param {Pick<Entry, "model" | "script" | "stream" | "turn">} request
   * @param {number} at
   * @returns {Entry} to be kept up to date by the caller
   */
  add(request, at) {
    const so = { status: null, promptTokens: 0, chunks: 0, done: false, aborted: false };
    const entry = { id: ++this.#count, at, ...request, ...so };
    this.#entries.push(entry);
    if (this.#entries.length > KEPT) this.#entries.shift();
    return entry;
  }

  /** The newest entries, oldest first, and how many there were in all. */
  view() {
    return { total: this.#count, requests: this.#entries };
  }
}
