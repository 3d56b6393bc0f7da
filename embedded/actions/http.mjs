/** Runs an HTTP action: from a plain request to the parts of an answer, all of which can cross threads. */

import { setImmediate } from "node:timers/promises";
import { NO_FILE_STORAGE } from "../engine/errors.mjs";

const MAX_RESPONSE_BYTES = 20 * 1024 * 1024; // as Convex, for all of a body

/**
 * @typedef {import("./client.mjs").HttpCall} HttpCall
 * @typedef {import("./runs.mjs").Run} Run
 * @typedef {{ status: number, headers: [string, string][], body: Uint8Array | null, last: boolean }} Head  `last`: this is all of it
 * @typedef {{ head: Head } | { chunk: Uint8Array } | { broken: string }} Part  broken: why the body ends before its end
 * @typedef {object} Router  the default export of `http.ts`
 * @property {(path: string, method: string) => unknown} lookup
 * @property {(args: string, route: string) => Promise<string>} runRequest
 */

/**
 * @param {Run} run
 * @param {Record<string, Record<string, any>>} modules  exports by module path
 * @param {Omit<HttpCall, "caller">} request
 * @param {(part: Part) => void} send  the head first
 * @param {AbortSignal} signal  aborted when the client goes away
 */
export async function answerRequest(run, modules, { method, url, headers, body }, send, signal) {
  /** @type {Router | undefined} */
  const router = modules.http?.default;
  const route = routedPath(new URL(url).pathname, modules["convex.config"]?.default?.export().httpPrefix);
  if (router === undefined || route === null) {
    return send(plain("This Convex deployment does not have HTTP actions enabled."));
  }
  if ((router.lookup(route, method) ?? null) === null) return send(plain("No matching routes found"));
  const request = new Request(url, {
    method,
    headers,
    body: /** @type {Uint8Array<ArrayBuffer> | null} */ (body),
    signal,
  });
  run.exchange = { request, response: null };
  await router.runRequest(JSON.stringify({ url, method, headerPairs: headers }), route);
  const { response } = run.exchange;
  if (response === null) throw new Error("HTTP actions must return a Response");
  await sendResponse(run, response, method === "HEAD", send);
}

/**
 * @param {string} pathname  of the request
 * @param {string} [prefix]  below which the app's `convex.config.ts` puts its routes; ends with "/"
 * @returns {string | null} what is looked up among the routes; null: it is not below the prefix
 */
function routedPath(pathname, prefix) {
  if (prefix === undefined) return pathname;
  return pathname.startsWith(prefix) ? pathname.slice(prefix.length - 1) : null;
}

/**
 * The two calls that npm convex's router makes around a handler.
 *
 * @param {Run | undefined} run
 * @param {string} op
 * @param {{ response?: unknown }} args
 */
export function answerJsSyscall(run, op, { response }) {
  if (run?.exchange) {
    if (op === "requestFromConvexJson") return run.exchange.request;
    if (op === "convexJsonFromResponse") {
      if (!(response instanceof Response)) throw new Error("HTTP actions must return a Response");
      run.exchange.response = response;
      return { status: response.status };
    }
  }
  if (op.startsWith("storage/")) throw new Error(NO_FILE_STORAGE);
  throw new Error(`Unknown JS syscall: ${op}`);
}

/**
 * @param {Run} run
 * @param {Response} response
 * @param {boolean} headOnly
 * @param {(part: Part) => void} send
 */
async function sendResponse(run, response, headOnly, send) {
  const { status, body } = response;
  const headers = [...response.headers];
  if (status < 200) throw new RangeError(`HTTP actions cannot answer with the status ${status}`);
  if (body === null || headOnly) {
    send({ head: { status, headers, body: null, last: true } });
    return body?.cancel();
  }
  const reader = body.getReader();
  const first = await reader.read();
  let next = reader.read();
  // A body that was there from the start has one piece, and its end shows at once: then the answer has a length and is one message.
  const ended = await Promise.race([next.then(({ done }) => done), setImmediate(false)]);
  let sent = 0;
  const piece = (/** @type {unknown} */ value) => {
    if (!(value instanceof Uint8Array)) throw new TypeError("A Response's body must be made of Uint8Arrays");
    sent += value.length;
    if (sent <= MAX_RESPONSE_BYTES) return value;
    const tooLarge = "HttpResponseTooLarge: HTTP actions support responses up to 20 MiB";
    run.log(`[ERROR] ${tooLarge}`);
    throw new Error(tooLarge);
  };
  const bytes = first.done ? null : piece(first.value);
  send({ head: { status, headers, body: bytes, last: ended || first.done } });
  try {
    for (let read = await next; !read.done; read = await next) {
      send({ chunk: piece(read.value) });
      next = reader.read();
    }
  } catch (error) {
    send({ broken: error instanceof Error ? error.message : String(error) });
    reader.cancel().catch(() => {});
  }
}

/**
 * @param {string} text
 * @returns {Part}
 */
function plain(text) {
  return {
    head: {
      status: 404,
      headers: [["content-type", "text/plain; charset=utf-8"]],
      body: new TextEncoder().encode(text),
      last: true,
    },
  };
}
