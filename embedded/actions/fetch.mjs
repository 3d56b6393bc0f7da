/** `fetch` as actions have it: Node's, with Convex's header, limits of redirects and words when it fails. */

import { currentRun } from "./runs.mjs";
import { web } from "./web.mjs";

const { fetch: nodeFetch } = globalThis;
const USER_AGENT = "Convex/1.0"; // unless the request names another

/** What Convex's HTTP client says for what Node's finds, after "error sending request for url (...)". @type {Record<string, string>} */
const FAILURES = {
  ECONNREFUSED: "client error (Connect): tcp connect error: Connection refused (os error 111)",
  EAI_AGAIN:
    "client error (Connect): dns error: failed to lookup address information: Temporary failure in name resolution",
  ENOTFOUND:
    "client error (Connect): dns error: failed to lookup address information: Name or service not known",
  ECONNRESET: "client error (SendRequest): connection error: Connection reset by peer (os error 104)",
  UND_ERR_SOCKET: "client error (SendRequest): connection closed before message completed",
};

/** @type {Record<string, string>} */
const REDIRECTS = {
  "unexpected redirect": "fetch attempted redirect",
  "redirect count exceeded": "fetch too many redirects",
};

/**
 * @param {string | URL | Request} resource
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function fetch(resource, options) {
  const run = currentRun("fetch()");
  const request = new web.Request(resource, options);
  if (!request.headers.has("user-agent")) request.headers.set("user-agent", USER_AGENT);
  const signal = AbortSignal.any([run.ending.signal, request.signal]);
  const response = await run.follow("fetch", async () => {
    try {
      return await nodeFetch(request, { signal });
    } catch (error) {
      throw request.signal.aborted
        ? new DOMException("The signal has been aborted", "AbortError")
        : told(error, request.url);
    }
  });
  return Object.setPrototypeOf(response, web.Response.prototype);
}

/**
 * @param {unknown} error  of Node's fetch
 * @param {string} url
 */
function told(error, url) {
  if (!(error instanceof TypeError) || !(error.cause instanceof Error)) return error;
  const { code, message } = /** @type {Error & { code?: string }} */ (error.cause);
  const redirect = REDIRECTS[message];
  if (redirect !== undefined) return new TypeError(redirect);
  // Node says nothing of a 407 but that it failed; Convex's own proxy answers so for addresses that are not public.
  if (message === "" && code === undefined) return new Error(`Request to ${url} forbidden`);
  return new Error(`error sending request for url (${url}): ${FAILURES[code ?? ""] ?? message}`);
}
