/** The endpoints that call functions: read a request into a call, run it, write its outcome. */

import { isTooDeep } from "../json-depth.mjs";
import { canonicalPath, pathError } from "../paths.mjs";
import { ofHttp } from "../request-context.mjs";
import { decodeTs, encodeTs } from "../sync/timestamps.mjs";
import { readJson } from "./body.mjs";
import { clientVersion, defaultFormat } from "./client-version.mjs";
import { HttpError } from "./errors.mjs";
import { formatReply, readFormat } from "./formats.mjs";

/**
 * @typedef {import("./api.mjs").Host} Host
 * @typedef {import("./api.mjs").Request} Request
 * @typedef {import("./api.mjs").Route} Route
 * @typedef {import("../calls.mjs").AnyCall} AnyCall
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {import("./formats.mjs").Format} Format
 */

const MAX_BATCH = 1_000; // queries in one request, all of which run before anything else

/** @type {Record<string, Route>} */
export const CALL_POST = {
  "/api/query": async (host, request) => answer(host, request, "query", await readJson(request)),
  "/api/mutation": async (host, request) => answer(host, request, "mutation", await readJson(request)),
  "/api/action": async (host, request) => answer(host, request, "action", await readJson(request)),
  "/api/function": async (host, request) => {
    host.authenticator.requireAdmin(request.headers.authorization);
    return answer(host, request, "any", await readJson(request));
  },
  "/api/query_ts": async ({ engine }) => JSON.stringify({ ts: encodeTs(engine.ts) }),
  "/api/query_at_ts": answerAtTs,
  "/api/query_batch": answerBatch,
};

/** @type {Record<string, Route>} */
export const CALL_GET = {
  "/api/query": async (host, request, url) => {
    const { path, format, args } = Object.fromEntries(url.searchParams);
    return answer(host, request, "query", { path, format, args: args === undefined ? {} : parseArgs(args) });
  },
};

const RUN_PREFIX = "/api/run/";

/** @param {string} pathname @returns {boolean} whether the URL itself names the function */
export function namesFunction(pathname) {
  return pathname.startsWith(RUN_PREFIX);
}

/** @type {Route} */
export async function answerByUrl(host, request, url) {
  const { args, format } = await readJson(request);
  const segments = url.pathname.slice(RUN_PREFIX.length).split("/").map(decodeSegment);
  const name = segments.pop();
  if (segments.length === 0 || name === null || segments.includes(null)) {
    throw new HttpError(
      400,
      "MissingIdentifier",
      "Path or function name not provided in path, e.g. /api/run/messages/list",
    );
  }
  const call = { args, format: format ?? "json", path: `${segments.join("/")}:${name}` };
  return answer(host, request, "any", call);
}

/**
 * @param {Host} host
 * @param {Request} request
 * @param {AnyCall["kind"]} kind
 * @param {Record<string, unknown>} body
 */
async function answer(host, request, kind, body) {
  const { format, ...call } = readCall(request, body);
  const caller = await host.authenticator.authenticate(request.headers.authorization);
  return formatReply(await run(host, { ...call, kind, caller, request: ofHttp(request) }), format);
}

/** @type {Route} */
async function answerAtTs(host, request) {
  const body = await readJson(request);
  const { format, ...call } = readCall(request, body);
  const ts = decodeTs(body.ts);
  if (ts === null)
    throw new HttpError(400, "BadJsonBody", "'ts' must be the base64 of 8 bytes, as /api/query_ts gives it");
  const caller = await host.authenticator.authenticate(request.headers.authorization);
  const reply = await run(host, { ...call, kind: "query", caller, at: String(ts), request: ofHttp(request) });
  return formatReply(reply, format);
}

/**
 * Several queries of one moment.
 *
 * @type {Route}
 */
async function answerBatch(host, request) {
  const { queries } = await readJson(request);
  if (!Array.isArray(queries) || queries.length > MAX_BATCH)
    throw new HttpError(400, "BadJsonBody", `'queries' must be an array of at most ${MAX_BATCH} queries`);
  const calls = queries.map((body) => readCall(request, body ?? {}));
  const caller = await host.authenticator.authenticate(request.headers.authorization);
  const at = host.engine.ts;
  const context = ofHttp(request);
  const replies = await Promise.all(
    calls.map(({ path, args }) => run(host, { path, args, kind: "query", caller, at, request: context })),
  );
  const results = replies.map((reply, i) => formatReply(reply, calls[i]?.format ?? "json"));
  return `{"results":[${results.join(",")}]}`;
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
 * @param {Request} request
 * @param {Record<string, unknown>} body
 * @returns {{ path: string, args: string, format: Format }}
 */
function readCall(request, { path, args = {}, format, componentPath = "" }) {
  if (typeof path !== "string") throw badBody("'path' must name a function, as in 'module:function'");
  const error = pathError(path);
  if (error !== null) throw new HttpError(400, "BadConvexFunctionIdentifier", error);
  if (componentPath !== "" && componentPath !== null)
    throw new HttpError(400, "ComponentPathNotFound", `Component path '${componentPath}' not found`);
  const [first = {}, ...others] = Array.isArray(args) ? args : [args];
  if (typeof first !== "object" || first === null || Array.isArray(first) || others.length > 0)
    throw badBody("'args' must be an object, or an array with one object");
  const client = clientVersion(request.headers["convex-client"]?.toString());
  return {
    path: canonicalPath(path),
    args: `[${JSON.stringify(first)}]`,
    format: readFormat(format, defaultFormat(client)),
  };
}

/** @param {string} segment */
function decodeSegment(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return null;
  }
}

/** @param {string} text */
function parseArgs(text) {
  if (isTooDeep(text))
    throw new HttpError(400, "BadQueryArgs", "'args' is no valid JSON: recursion limit exceeded");
  try {
    return JSON.parse(text);
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    throw new HttpError(400, "BadQueryArgs", `'args' is no valid JSON: ${message}`);
  }
}

/** @param {string} message */
function badBody(message) {
  return new HttpError(400, "BadJsonBody", message);
}
