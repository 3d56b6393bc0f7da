/** Knows, anywhere below an action, which action it is. */

import { AsyncLocalStorage } from "node:async_hooks";

/**
 * @typedef {object} Run
 * @property {number} id
 * @property {string[]} logLines
 * @property {(error: unknown, prefix?: string) => void} fail  end this run with an error it did not throw itself
 */

/** @type {AsyncLocalStorage<Run>} */
export const runs = new AsyncLocalStorage();
