/** Sends a body back as it comes, for `npx convex network-test`: nothing of it is held. */

import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { HttpError } from "./errors.mjs";

export const MAX_ECHO_BYTES = 128 * 1024 * 1024; // Convex's own; `--speed-test` sends 64 MiB

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 * @param {number} [limit]  bytes
 * @throws {HttpError} 413 when the client says beforehand that it is larger; one that does not is cut off
 */
export async function echo(request, response, limit = MAX_ECHO_BYTES) {
  const length = request.headers["content-length"];
  if (Number(length ?? 0) > limit) {
    throw new HttpError(413, "PayloadTooLarge", `The request body is larger than ${limit} bytes`);
  }
  response.writeHead(200, {
    "content-type": "application/octet-stream",
    ...(length === undefined ? {} : { "content-length": length }),
  });
  let size = 0;
  const bounded = new Transform({
    transform(piece, _, done) {
      size += piece.length;
      if (size > limit) done(new Error("too large"));
      else done(null, piece);
    },
  });
  await pipeline(request, bounded, response).catch(() => {}); // the client went away or sent too much: both sockets are closed by now
}
