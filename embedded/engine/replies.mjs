/** The engine's answers to a message: what a client, or the operator, is told of an error, and what ends the batch instead. */

import { requestId } from "../failures.mjs";
import { endText, isFault, OperatorError } from "./errors.mjs";

/**
 * What a client may be told of; a fault of the disk ends the batch instead.
 *
 * @param {unknown} error
 * @returns {Error & { data?: string, code?: string }}
 */
export function expected(error) {
  if (error instanceof Error && !isFault(error)) return error;
  throw error;
}

/**
 * What is wrong with functions that cannot be served, for the operator and in Convex's words.
 *
 * @param {unknown} error
 */
export function refusal(error) {
  if (!(error instanceof OperatorError)) throw error;
  return { ok: false, message: error.message, refusal: error.refusal, logLines: [] };
}

/**
 * @param {Error & { data?: string, code?: string }} error  code: of the system's failures alone
 * @param {string[]} [logLines]
 * @returns {Extract<import("./subscriptions.mjs").Result, { ok: false }>}
 */
export function failure({ message, data, code }, logLines = []) {
  return {
    ok: false,
    message: `[Request ID: ${requestId()}] Server Error\n${code === undefined ? endText(message) : message}`,
    logLines,
    ...(data === undefined ? {} : { data }),
    ...(code === undefined ? {} : { code }),
  };
}
