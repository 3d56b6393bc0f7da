/** The transport's errors: the request never became a call of a function. */

import { AuthError } from "../auth.mjs";
import { withoutRequestId } from "../failures.mjs";

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
  if (error instanceof AuthError) return new HttpError(error.status, error.code, error.message);
  return null;
}

/** @type {Record<string, number>} */
const STATUS_OF_FAILURE = { TimestampTooOld: 400 };

/**
 * @param {import("../engine-client.mjs").Failure & { code: string }} failure  of the system, not of the function
 * @returns {HttpError}
 */
export function systemError({ code, message }) {
  return new HttpError(STATUS_OF_FAILURE[code] ?? 503, code, withoutRequestId(message));
}

/** @type {Record<string, [status: string, code: string, message: string]>} */
const REFUSALS = {
  HPE_HEADER_OVERFLOW: [
    "431 Request Header Fields Too Large",
    "HeadersTooLarge",
    "The request headers are larger than 16 KiB",
  ],
  ERR_HTTP_REQUEST_TIMEOUT: ["408 Request Timeout", "RequestTimeout", "The request did not arrive in time"],
};
/** @type {[status: string, code: string, message: string]} */
const NOT_HTTP = ["400 Bad Request", "BadRequest", "The request is not valid HTTP"];

/**
 * The `clientError` listener of a server: says on the bare socket what was wrong with a request that could not be read.
 *
 * @param {NodeJS.ErrnoException} error
 * @param {import("node:stream").Duplex} socket
 */
export function refuseConnection(error, socket) {
  if (!socket.writable) return;
  const [status, code, message] = REFUSALS[error.code ?? ""] ?? NOT_HTTP;
  endBare(socket, status, code, message);
}

/**
 * Answer on a bare socket, and close it.
 *
 * @param {import("node:stream").Duplex} socket
 * @param {string} status  as in "400 Bad Request"
 * @param {string} code
 * @param {string} message
 */
export function endBare(socket, status, code, message) {
  const body = Buffer.from(JSON.stringify({ code, message }));
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body.toString("utf8")}`,
  );
}
