/** The HTTP API: reads a request into a call of a function and writes the answer. */

import { requestId } from "../failures.mjs";
import { canonicalPath } from "../paths.mjs";
import { encodeTs, decodeTs } from "../sync/timestamps.mjs";
import { parseJsonObject, readBody } from "./body.mjs";
import { asHttpError, HttpError } from "./errors.mjs";
import { formatReply } from "./formats.mjs";
import { metrics, METRICS_TYPE } from "./metrics.mjs";

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {import("../calls.mjs").AnyCall} AnyCall
 * @typedef {object} Host  what the API answers for
 * @property {import("../auth.mjs").Authenticator} authenticator
 * @property {import("../calls.mjs").Calls} calls
 * @property {Pick<import("../engine-client.mjs").EngineClient, "ts" | "ask">} engine
 * @property {(line: string) => void} log
 * @typedef {(host: Host, request: Request, url: URL) => Promise<string>} Route  the JSON text of a 200
 */

/** @type {Record<string, Route>} */
const POST_ROUTES = {
  "/api/query": async (host, request) => runBody(host, request, "query"),
  "/api/mutation": async (host, request) => runBody(host, request, "mutation"),
  "/api/action": async (host, request) => runBody(host, request, "action"),
  "/api/function": async (host, request) => {
    if (!host.authenticator.fromHeader(request.headers.authorization).admin) {
      throw new HttpError(403, "Forbidden", "/api/function is for the admin key only");
    }
    return runBody(host, request, "any");
  },
  "/api/query_ts": async ({ engine }) => JSON.stringify({ ts: encodeTs(engine.ts) }),
  "/api/query_at_ts": runQueryAtTs,
};

/** @type {Record<string, Route>} */
const GET_ROUTES = {
  "/api/query": async (host, request, url) => {
    const { path, format, args } = Object.fromEntries(url.searchParams);
    const body = { path, format, args: args === undefined ? {} : parseArgsText(args) };
    return runCall(host, request, "query", body);
  },
};

/** @type {Record<string, string>} */
const TEXT_ROUTES = {
  "/version": "signalbox-embedded",
  "/instance_name": "signalbox",
  "/instance_version": "signalbox-embedded",
};

const RUN_PREFIX = "/api/run/";

/**
 * Answer one request of the API; never throws.
 *
 * @param {Host} host
 * @param {Request} request
 * @param {Response} response
 */
export async function serveApi(host, request, response) {
  try {
    const url = new URL(request.url ?? "/", "http://host");
    if (request.method === "OPTIONS") return sendPreflight(request, response);
    const text = TEXT_ROUTES[url.pathname];
    if (text !== undefined && (request.method === "GET" || request.method === "HEAD")) {
      return send(response, 200, "text/plain; charset=utf-8", text);
    }
    if (url.pathname === "/metrics" && request.method === "GET") {
      return send(response, 200, METRICS_TYPE, await metrics(host.engine));
    }
    send(response, 200, "application/json", await route(request, url)(host, request, url));
  } catch (error) {
    sendError(host, response, error);
  }
}

/**
 * @param {Request} request
 * @param {URL} url
 * @returns {Route}
 */
function route(request, url) {
  const { pathname } = url;
  const isRun = pathname.startsWith(RUN_PREFIX);
  const post = isRun ? runByUrl : POST_ROUTES[pathname];
  const get = GET_ROUTES[pathname];
  if (post === undefined && get === undefined)
    throw new HttpError(404, "NotFound", `No endpoint ${pathname} on this host`);
  const found = request.method === "POST" ? post : request.method === "GET" ? get : undefined;
  if (found === undefined)
    throw new HttpError(405, "MethodNotAllowed", `${pathname} does not take ${request.method}`);
  return found;
}

/** @type {Route} */
async function runByUrl(host, request, url) {
  const body = parseJsonObject(await readBody(request));
  let segments;
  try {
    segments = decodeURIComponent(url.pathname.slice(RUN_PREFIX.length)).split("/");
  } catch {
    throw new HttpError(400, "BadRequest", "The URL is not valid percent-encoded UTF-8");
  }
  const name = segments.pop();
  if (segments.length === 0)
    throw new HttpError(400, "BadRequest", "/api/run takes a path of a module and a function");
  return runCall(host, request, "any", { ...body, path: `${segments.join("/")}:${name}` });
}

/**
 * @param {Host} host
 * @param {Request} request
 * @param {AnyCall["kind"]} kind
 */
async function runBody(host, request, kind) {
  return runCall(host, request, kind, parseJsonObject(await readBody(request)));
}

/**
 * This host keeps one version of its data: a query at a timestamp is answered as long as nothing was committed since.
 *
 * @type {Route}
 */
async function runQueryAtTs(host, request) {
  const body = parseJsonObject(await readBody(request));
  const wanted = decodeTs(body.ts);
  if (wanted === null)
    throw new HttpError(400, "BadRequest", "'ts' must be the base64 of 8 bytes, as /api/query_ts gives it");
  const { call, format } = readCall(host, request, "query", body);
  const reply = await run(host, call);
  if (reply.ok && BigInt(reply.ts ?? 0) !== wanted) {
    throw new HttpError(
      400,
      "TimestampTooOld",
      "The data has changed since this timestamp and older versions are not kept",
    );
  }
  return formatReply(reply, format);
}

/**
 * @param {Host} host
 * @param {Request} request
 * @param {AnyCall["kind"]} kind
 * @param {Record<string, unknown>} body
 */
async function runCall(host, request, kind, body) {
  const { call, format } = readCall(host, request, kind, body);
  return formatReply(await run(host, call), format);
}

/**
 * @param {Host} host
 * @param {AnyCall} call
 * @returns {Promise<Reply>}
 */
function run(host, call) {
  return new Promise((resolve) => host.calls.run(call, resolve));
}

/**
 * @param {Host} host
 * @param {Request} request
 * @param {AnyCall["kind"]} kind
 * @param {Record<string, unknown>} body
 * @returns {{ call: AnyCall, format: import("./formats.mjs").Format }}
 */
function readCall(host, request, kind, { path, args = {}, format = "json", componentPath }) {
  const caller = host.authenticator.fromHeader(request.headers.authorization);
  if (typeof path !== "string" || path === "")
    throw new HttpError(400, "BadJsonBody", "'path' must name a function, as in 'module:function'");
  if (format !== "json" && format !== "convex_encoded_json") {
    throw new HttpError(400, "BadJsonBody", "'format' must be json or convex_encoded_json");
  }
  if (componentPath !== undefined && componentPath !== null && componentPath !== "") {
    throw new HttpError(400, "BadJsonBody", "'componentPath' must be empty: this host has no components");
  }
  const [first = {}, ...others] = Array.isArray(args) ? args : [args];
  if (typeof first !== "object" || first === null || Array.isArray(first) || others.length > 0) {
    throw new HttpError(400, "BadJsonBody", "'args' must be an object, or an array with one object");
  }
  return { call: { kind, path: canonicalPath(path), args: `[${JSON.stringify(first)}]`, caller }, format };
}

/** @param {string} text */
function parseArgsText(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new HttpError(
      400,
      "BadRequest",
      `'args' is not valid JSON: ${/** @type {Error} */ (error).message}`,
    );
  }
}

/**
 * @param {Host} host
 * @param {Response} response
 * @param {unknown} error
 */
export function sendError(host, response, error) {
  const known = asHttpError(error);
  if (known !== null) {
    if (known.status === 413) response.setHeader("connection", "close"); // the rest of the body is not read
    return send(
      response,
      known.status,
      "application/json",
      JSON.stringify({ code: known.code, message: known.message }),
    );
  }
  const id = requestId();
  host.log(
    `request ${id} failed: ${error instanceof Error ? error.stack?.replaceAll("\n", " | ") : String(error)}`,
  );
  send(
    response,
    500,
    "application/json",
    JSON.stringify({
      code: "InternalServerError",
      message: `[Request ID: ${id}] The host failed: see its log`,
    }),
  );
}

/**
 * @param {Response} response
 * @param {number} status
 * @param {string} type
 * @param {string} text
 */
function send(response, status, type, text) {
  const body = Buffer.from(text);
  response.writeHead(status, {
    "content-type": type,
    "content-length": body.length,
    "access-control-allow-origin": "*",
  });
  response.end(body);
}

/**
 * @param {Request} request
 * @param {Response} response
 */
function sendPreflight(request, response) {
  response.writeHead(204, {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers":
      request.headers["access-control-request-headers"] ?? "authorization, content-type, convex-client",
    "access-control-max-age": "86400",
  });
  response.end();
}
