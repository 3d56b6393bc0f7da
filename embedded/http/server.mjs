/** Creates the host's HTTP servers, with bounds on what a client may send and for how long. */

import { refuseConnection } from "./errors.mjs";
import { createServer } from "./node-http.mjs";

const MAX_HEADER_BYTES = 16 * 1024;
const HEADERS_LIMIT_MS = 20_000;
const REQUEST_LIMIT_MS = 120_000; // for all of a request to arrive, its body too
const CHECK_MS = 5_000;
const KEEP_ALIVE_MS = 75_000; // longer than clients keep a connection, so that they are the ones who close it
const MAX_HEADERS = 200;

/**
 * @param {import("node:http").RequestListener} listener
 * @param {{ requestMs?: number, headersMs?: number, checkMs?: number }} [limits]
 * @returns {import("node:http").Server} which does not listen yet
 */
export function createHttpServer(
  listener,
  { requestMs = REQUEST_LIMIT_MS, headersMs = HEADERS_LIMIT_MS, checkMs = CHECK_MS } = {},
) {
  /** @type {import("node:http").Server} */
  const server = createServer(
    {
      maxHeaderSize: MAX_HEADER_BYTES,
      headersTimeout: headersMs,
      requestTimeout: requestMs,
      connectionsCheckingInterval: checkMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      insecureHTTPParser: false, // two readings of where a request ends must not be possible
      requireHostHeader: true,
      noDelay: true,
      shouldUpgradeCallback: ({ headers }) =>
        headers.upgrade?.toLowerCase() === "websocket" && server.listenerCount("upgrade") > 0,
    },
    listener,
  );
  server.maxHeadersCount = MAX_HEADERS;
  server.on("clientError", refuseConnection);
  return server;
}
