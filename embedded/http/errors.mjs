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

/**
 * The `clientError` listener of a server: says on the bare socket what was wrong with a request that could not be read.
 *
 * @param {NodeJS.ErrnoException} error
 * @param {import("node:stream").Duplex} socket
 */
export function refuseConnection(error, socket) {
  if (!socket.writable) return;
  const [status, code, message] =
    error.code === "HPE_HEADER_OVERFLOW"
      ? [
          "431 Request Header Fields Too Large",
          "HeadersTooLarge",
          "The request headers are larger than 16 KiB",
        ]
      : ["400 Bad Request", "BadRequest", "The request is not valid HTTP"];
  const body = JSON.stringify({ code, message });
  socket.end(
    `HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
}
