/** The HTTP API: finds the endpoint of a request, and writes its answer or what was wrong. */

import { NO_FILE_STORAGE } from "../engine/errors.mjs";
import { requestId } from "../failures.mjs";
import { AIDS_GET, AIDS_POST } from "./aids.mjs";
import { clientVersion, deprecation } from "./client-version.mjs";
import { echo } from "./echo.mjs";
import { asHttpError, HttpError } from "./errors.mjs";
import { answerByUrl, CALL_GET, CALL_POST, namesFunction } from "./function-calls.mjs";
import { PUSH_GET_ROUTES, PUSH_POST_ROUTES } from "../push/routes.mjs";
import { isLocal, metrics } from "./metrics.mjs";
import { METRICS_TYPE } from "./prometheus.mjs";

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 * @typedef {object} Host  what the API answers for
 * @property {import("../auth.mjs").Authenticator} authenticator
 * @property {import("../calls.mjs").Calls} calls
 * @property {Pick<import("../engine-client.mjs").EngineClient, "ts" | "ask">} engine
 * @property {(line: string) => void} log
 * @property {import("../faults.mjs").Faults} faults
 * @property {import("./metrics.mjs").Sources} sources  of the metrics
 * @property {import("../time-control.mjs").TimeControl | null} time  null: the machine's clock
 * @typedef {(host: Host, request: Request, url: URL) => Promise<string>} Route  the JSON text of a 200
 */

/** @type {Record<string, Route>} */
const POST_ROUTES = {
  ...CALL_POST,
  ...AIDS_POST,
  ...PUSH_POST_ROUTES,
};

/** @type {Record<string, Route>} */
const GET_ROUTES = {
  ...CALL_GET,
  ...AIDS_GET,
  ...PUSH_GET_ROUTES,
};

/** @type {Record<string, string>} */
const TEXT_ROUTES = {
  "/": "This Convex deployment is running. See https://docs.convex.dev/.",
  "/version": "signalbox-embedded",
  "/instance_name": "signalbox",
  "/instance_version": "signalbox-embedded",
};

/**
 * Answer one request of the API; never throws.
 *
 * @param {Host} host
 * @param {Request} request
 * @param {Response} response
 */
export async function serveApi(host, request, response) {
  try {
    allowOrigin(request, response);
    if (request.method === "OPTIONS") return sendPreflight(request, response);
    checkClient(request, response);
    const url = requestUrl(request);
    const isGet = request.method === "GET" || request.method === "HEAD";
    const text = TEXT_ROUTES[url.pathname];
    if (text !== undefined && isGet) return send(response, 200, "text/plain; charset=utf-8", text);
    if (url.pathname === "/echo" && request.method === "POST") return await echo(request, response);
    if (url.pathname === "/metrics" && isGet) {
      if (!isLocal(request) && !host.authenticator.fromHeader(request.headers.authorization).admin)
        throw new HttpError(403, "Forbidden", "/metrics is for this machine and for the admin key");
      return send(response, 200, METRICS_TYPE, await metrics(host.sources));
    }
    send(response, 200, "application/json", await route(url.pathname, isGet, request)(host, request, url));
  } catch (error) {
    sendError(host, response, error);
  }
}

const PLATFORM_PREFIX = "/api/v1/"; // of the deployment platform API
const STORAGE_PREFIX = "/api/storage/";

/**
 * @param {string} pathname
 * @param {boolean} isGet
 * @param {Request} request
 * @returns {Route}
 */
function route(pathname, isGet, { method }) {
  const post = namesFunction(pathname) ? answerByUrl : ownRoute(POST_ROUTES, pathname);
  const get = ownRoute(GET_ROUTES, pathname);
  if (post === undefined && get === undefined) {
    if (pathname.startsWith(PLATFORM_PREFIX)) {
      const reason = `${pathname} needs Convex itself: this host meters no usage and keeps no settings of a deployment`;
      throw new HttpError(400, "DeploymentApiUnavailable", reason); // the CLI asks six times where it is answered 404
    }
    if (pathname.startsWith(STORAGE_PREFIX)) {
      throw new HttpError(404, "FileStorageUnavailable", NO_FILE_STORAGE);
    }
    throw new HttpError(404, "NotFound", `No endpoint ${pathname} on this host`);
  }
  const found = method === "POST" ? post : isGet ? get : undefined;
  if (found === undefined)
    throw new HttpError(405, "MethodNotAllowed", `${pathname} does not take ${method}`);
  return found;
}

/**
 * @param {Record<string, Route>} routes
 * @param {string} pathname
 */
function ownRoute(routes, pathname) {
  return Object.hasOwn(routes, pathname) ? routes[pathname] : undefined;
}

/** @param {Request} request */
function requestUrl({ url = "/" }) {
  const parsed = URL.parse(url.startsWith("/") ? `http://host${url}` : url); // "//other/path" names no other host
  if (parsed === null) throw new HttpError(400, "BadRequest", "The request's target is not a URL");
  return parsed;
}

/**
 * Tell clients that are too old what Convex tells them, and refuse those that it refuses.
 *
 * @param {Request} request
 * @param {Response} response
 */
function checkClient(request, response) {
  const notice = deprecation(clientVersion(request.headers["convex-client"]?.toString()));
  if (notice === null) return;
  response.setHeader("x-convex-deprecation-state", notice.state);
  response.setHeader("x-convex-deprecation-message", notice.message);
  if (notice.state === "Unsupported") throw new HttpError(400, "ClientVersionUnsupported", notice.message);
}

/**
 * @param {Host} host
 * @param {Response} response
 * @param {unknown} error
 */
export function sendError(host, response, error) {
  const known = asHttpError(error);
  if (known !== null) {
    if (known.status === 413 || known.status === 503) response.setHeader("connection", "close"); // the rest of the body is not read
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
 * @param {string | Buffer} content
 */
function send(response, status, type, content) {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(content) });
  response.end(content); // a text goes out together with its headers, in one write
}

/**
 * Pages of every origin may call, as on Convex: what protects a function is its caller's token or key.
 *
 * @param {Request} request
 * @param {Response} response
 */
function allowOrigin(request, response) {
  const { origin } = request.headers;
  response.setHeader("access-control-allow-origin", origin ?? "*");
  if (origin === undefined) return;
  response.setHeader("access-control-allow-credentials", "true");
  response.setHeader("vary", "origin");
}

/**
 * @param {Request} request
 * @param {Response} response
 */
function sendPreflight(request, response) {
  response.writeHead(200, {
    "access-control-allow-methods": "GET,POST,OPTIONS,PATCH,DELETE,PUT",
    "access-control-allow-headers":
      request.headers["access-control-request-headers"] ?? "authorization, content-type, convex-client",
    "access-control-max-age": "86400",
    "content-length": 0,
  });
  response.end();
}
