/** Knows, anywhere below an action, which action it is. */

import { AsyncLocalStorage } from "node:async_hooks";

/**
 * @typedef {object} Run
 * @property {number} id
 * @property {string[]} logLines
 * @property {(failure: import("../engine-client.mjs").Failure) => void} end  answer now, whatever the action still does
 */

/** @type {AsyncLocalStorage<Run>} */
export const runs = new AsyncLocalStorage();
