/** Serves HTTP actions: on the site's port, and below /http on the API's. */

import { AuthError } from "../auth.mjs";
import { readBody } from "./body.mjs";
import { sendError } from "./api.mjs";
import { withoutRequestId } from "../failures.mjs";
import { ofHttp } from "../request-context.mjs";

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 * @typedef {import("../actions/client.mjs").ActionCaller} ActionCaller
 * @typedef {import("./api.mjs").Host & { actions: import("../actions/client.mjs").ActionsClient, siteUrl: string }} SiteHost
 */

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]); // that a route can have
const BODILESS = new Set(["GET", "HEAD", "OPTIONS"]); // for Convex, whatever the client sends
const EMPTY_STATUSES = new Set([204, 304]);
const OWN_HEADERS = new Set(["connection", "keep-alive", "transfer-encoding"]); // node writes these itself
const FRAMES = /\n( {4}at .*\n)*$/; // of the handler; what it has called has its frames in the message

/**
 * Answer one request with the HTTP action that is routed for it; never throws.
 *
 * @param {SiteHost} host
 * @param {Request} request
 * @param {Response} response
 * @param {string} target  path and query within the site
 */
export async function serveSite(host, request, response, target) {
  const gone = new AbortController();
  response.once("close", () => {
    if (!response.writableEnded) gone.abort();
  });
  try {
    const { method = "GET" } = request;
    if (!METHODS.has(method)) return refuseMethod(response);
    const body = await readBody(request); // also where it is not handed on: the connection goes on behind it
    const caller = await siteCaller(host, request.headers.authorization);
    const reply = await host.actions.runHttp(
      {
        method,
        url: requestUrl(host, request, target),
        headers: headerPairs(request.rawHeaders),
        body: BODILESS.has(method) ? null : body,
        caller,
        request: ofHttp(request, { trusted: caller.refusal === undefined }),
      },
      { onPart: (part) => writePart(response, part), gone: gone.signal },
    );
    if (reply.ok) response.end();
    else if (!response.headersSent) sendFailure(response, reply);
    else response.destroy(); // cut off in the middle: its client must not take this for the end
  } catch (error) {
    sendError(host, response, error);
  }
}

/**
 * @param {SiteHost} host
 * @param {Request} request
 * @param {string} target
 * @returns {string} as the client wrote it, a proxy in between that tells of https included
 */
function requestUrl({ siteUrl }, { headers }, target) {
  const path = target.startsWith("/") ? target : "/";
  const forwarded = headers["x-forwarded-proto"];
  const scheme = forwarded === "https" ? "https" : "http";
  const origin = `${scheme}://${headers.host ?? ""}`;
  return (URL.canParse(origin) ? origin : siteUrl) + path;
}

/**
 * @param {Response} response
 * @param {import("../actions/http.mjs").Part} part
 */
function writePart(response, part) {
  if (response.destroyed) return;
  try {
    if ("broken" in part) response.destroy();
    else if ("chunk" in part) response.write(part.chunk);
    else writeHead(response, part.head);
  } catch {
    response.destroy(); // a header that HTTP cannot carry, or a body of another length than the handler's content-length
  }
}

/**
 * @param {Response} response
 * @param {import("../actions/http.mjs").Head} head
 */
function writeHead(response, { status, headers, body, last }) {
  const own = headers.filter(([name]) => !OWN_HEADERS.has(name));
  const hasLength = own.some(([name]) => name === "content-length");
  if (
    last &&
    !hasLength &&
    !EMPTY_STATUSES.has(status) &&
    (body !== null || response.req.method !== "HEAD")
  ) {
    own.push(["content-length", String(body?.length ?? 0)]);
  }
  response.strictContentLength = hasLength && response.req.method !== "HEAD";
  response.writeHead(status, own.flat());
  if (last) response.end(body ?? undefined);
  else response.write(body);
}

/**
 * @param {SiteHost} host
 * @param {string | undefined} authorization
 * @returns {Promise<ActionCaller>}
 */
async function siteCaller({ authenticator }, authorization) {
  try {
    return await authenticator.authenticate(authorization);
  } catch (error) {
    if (!(error instanceof AuthError)) throw error;
    return { admin: false, identity: null, refusal: error.message }; // the header may be meant for the handler
  }
}

/** @param {string[]} raw  names and values in turn */
function headerPairs(raw) {
  /** @type {[string, string][]} */
  const pairs = [];
  for (let at = 0; at + 1 < raw.length; at += 2) pairs.push([raw[at] ?? "", raw[at + 1] ?? ""]);
  return pairs;
}

/** @param {Response} response */
function refuseMethod(response) {
  response.writeHead(405, { allow: [...METHODS].join(","), "content-length": 0, connection: "close" });
  response.end();
}

/**
 * @param {Response} response
 * @param {import("../engine-client.mjs").Failure} failure
 */
function sendFailure(response, { code, message, data }) {
  if (code !== undefined) return sendJson(response, 503, { code, message: withoutRequestId(message) });
  const [head = ""] = message.split("\n", 1);
  const trace = withoutRequestId(message);
  const described = { code: `${head}: ${trace.replace(FRAMES, "")}`, trace };
  sendJson(response, 500, data === undefined ? described : { ...described, data: JSON.parse(data) });
}

/**
 * @param {Response} response
 * @param {number} status
 * @param {object} value
 */
function sendJson(response, status, value) {
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
}
