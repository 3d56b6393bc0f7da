/** The transport's errors: the request never became a call of a function. */

import { AuthError } from "../auth.mjs";

/** Answered as `{ code, message }` with an HTTP status; the message is one line. */
export class HttpError extends Error {
  /**
   * @param {number} status
   * @param {string} code
   * @param {string} message
   */
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {unknown} error
 * @returns {HttpError | null} null: not the client's fault
 */
export function asHttpError(error) {
  if (error instanceof HttpError) return error;
  if (error instanceof AuthError) return new HttpError(401, error.code, error.message);
  return null;
}
