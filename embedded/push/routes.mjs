/** What the CLI asks of a deployment over HTTP: pushes, variables, logs, and what the deployment is. Everything is for the admin only. */

import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate } from "node:zlib";
import { AuthError } from "../auth.mjs";
import { EngineError } from "../engine-client.mjs";
import { MAX_BODY_BYTES, parseJsonObject, readBody } from "../http/body.mjs";
import { HttpError } from "../http/errors.mjs";
import { formatReply } from "../http/formats.mjs";
import { bundleInlineQuery } from "./modules.mjs";
import { NO_DIFF } from "./pushes.mjs";

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {object} PushHost  what these routes answer for
 * @property {import("../auth.mjs").Authenticator} authenticator
 * @property {import("../serving.mjs").Serving} serving
 * @property {import("./pushes.mjs").Pushes} pushes
 * @property {import("./function-log.mjs").FunctionLog} functionLog
 * @property {string} url
 * @property {string} siteUrl
 * @typedef {(host: any, request: Request, url: URL) => Promise<string>} Route  the JSON text of a 200
 * @typedef {(host: PushHost, body: Record<string, any>) => Promise<unknown>} AdminRoute  answers with what becomes JSON
 */

/** Of a body as it is sent, and again of what it is unpacked to. */
export const MAX_PUSH_BYTES = 64 * 1024 * 1024;
const POLL_MS = 60_000; // as long as Convex holds a request for logs
const NAME = "signalbox";

/** @type {Record<string, (data: Buffer, options: { maxOutputLength: number }) => Promise<Buffer>>} */
const ENCODINGS = {
  br: promisify(brotliDecompress),
  gzip: promisify(gunzip),
  deflate: promisify(inflate),
};

/** @type {Record<string, Route>} */
export const PUSH_POST_ROUTES = {
  "/api/deploy2/start_push": withKey(({ pushes }, body) => pushes.start(body)),
  "/api/deploy2/evaluate_push": withKey(async ({ pushes }, body) => ({
    schemaChange: (await pushes.evaluate(body)).schemaChange,
  })),
  "/api/deploy2/evaluate_schema": withKey(async ({ pushes }, body) => ({
    componentSchemaEvaluations: { "": (await pushes.evaluate(body, { evaluate: true })).evaluation },
    newComponentDefinitions: [],
  })),
  "/api/deploy2/wait_for_schema": withKey(({ pushes }, body) => pushes.waitForSchema(body.schemaChange)),
  "/api/deploy2/finish_push": withKey(async ({ pushes }, body) =>
    body.dryRun === true ? NO_DIFF : await pushes.finish(body.startPush),
  ),
  "/api/deploy2/report_push_completed": withKey(async () => null),
  "/api/get_config_hashes": withKey(async ({ serving }) => {
    const { functions = "convex/", serverVersion = null } = serving.pushed ?? {};
    return { config: { functions }, moduleHashes: [], udfServerVersion: serverVersion, nodeVersion: null };
  }),
  "/api/export/request/zip": noSnapshots("npx convex export"),
  "/api/import/start_upload": noSnapshots("npx convex import"),
  "/api/run_test_function": runTestFunction,
  "/api/update_environment_variables": updateEnvironment,
  "/api/v1/update_environment_variables": updateEnvironment,
};

/** @type {Record<string, Route>} */
export const PUSH_GET_ROUTES = {
  "/api/v1/get_canonical_urls": async (host, request) => {
    await requireAdmin(host, request.headers.authorization);
    return JSON.stringify({ convexCloudUrl: host.url, convexSiteUrl: host.siteUrl });
  },
  "/api/v1/list_environment_variables": async (host, request) => {
    await requireAdmin(host, request.headers.authorization);
    return JSON.stringify({ environmentVariables: await host.serving.inquire({ op: "environment" }) });
  },
  "/api/check_admin_key": async (host, request) => {
    await requireAdmin(host, request.headers.authorization);
    return JSON.stringify({ success: true });
  },
  "/api/shapes2": describeShapes,
  "/api/stream_function_logs": streamLogs,
  "/api/stream_udf_execution": streamLogs,
};

/**
 * A route whose body shows the admin key.
 *
 * @param {AdminRoute} answer
 * @returns {Route}
 */
function withKey(answer) {
  return async (host, request) => {
    const body = await readPushBody(host, request);
    await requireAdmin(host, keyHeader(body.adminKey));
    return JSON.stringify(await answer(host, body));
  };
}

/**
 * What the CLI begins an export or import of a snapshot with, which this host does not have.
 *
 * @param {string} command
 * @returns {Route}
 */
function noSnapshots(command) {
  return async (host, request) => {
    await requireAdmin(host, request.headers.authorization);
    throw new HttpError(
      400,
      "SnapshotsUnavailable",
      `${command} needs Convex itself: this host has no snapshots, its data are the one file host.sqlite`,
    );
  };
}

/** @param {unknown} adminKey  of a body @returns {string | undefined} what a request's header would show */
function keyHeader(adminKey) {
  return typeof adminKey === "string" ? `Convex ${adminKey}` : undefined;
}

/**
 * @param {PushHost} host
 * @param {string | undefined} authorization
 * @throws {HttpError} 403, as Convex has it
 */
async function requireAdmin({ authenticator }, authorization) {
  const admin = await Promise.resolve()
    .then(() => authenticator.fromHeader(authorization))
    .then(
      (caller) => caller.admin,
      (error) => {
        if (error instanceof AuthError) return false;
        throw error;
      },
    );
  if (admin) return;
  throw new HttpError(
    403,
    "BadDeployKey",
    `The provided deploy key was invalid for deployment '${NAME}'. Double check that the environment this key was generated for matches the desired deployment.`,
  );
}

/**
 * The CLI shows the key in a header as well, so that only what the operator sends may be larger than other requests.
 *
 * @param {PushHost} host
 * @param {Request} request
 * @returns {Promise<number>} bytes, packed and again unpacked
 */
async function bodyLimit(host, { headers }) {
  const isAdmin = requireAdmin(host, headers.authorization).then(
    () => true,
    () => false,
  );
  return (await isAdmin) ? MAX_PUSH_BYTES : MAX_BODY_BYTES;
}

/**
 * @param {PushHost} host
 * @param {Request} request
 * @returns {Promise<Record<string, any>>}
 * @throws {HttpError} 400, 413, 415
 */
async function readPushBody(host, request) {
  const limit = await bodyLimit(host, request);
  const body = await readBody(request, limit);
  const encoding = request.headers["content-encoding"];
  if (encoding === undefined || encoding === "identity") return parseJsonObject(body);
  const unpack = ENCODINGS[encoding];
  if (unpack === undefined) {
    throw new HttpError(
      415,
      "UnsupportedMediaType",
      `The request body is encoded as ${encoding}, not br, gzip or deflate`,
    );
  }
  try {
    return parseJsonObject(await unpack(body, { maxOutputLength: limit }));
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error);
    if (code === "ERR_BUFFER_TOO_LARGE") {
      throw new HttpError(413, "PayloadTooLarge", `The request body is larger than ${limit} bytes`);
    }
    if (error instanceof HttpError) throw error;
    throw new HttpError(400, "BadRequest", `The request body is not valid ${encoding}`);
  }
}

/** @type {Route} */
async function runTestFunction(host, request) {
  const { adminKey, args = {}, bundle, format = "json" } = await readPushBody(host, request);
  await requireAdmin(host, keyHeader(adminKey));
  if (typeof bundle?.path !== "string" || typeof bundle.source !== "string") {
    throw new HttpError(400, "BadJsonBody", "'bundle' needs a 'path' and a 'source'");
  }
  const reply = await host.serving.ask({
    op: "evaluate",
    bundle: await bundleInlineQuery(bundle),
    args: JSON.stringify([Array.isArray(args) ? (args[0] ?? {}) : args]),
    caller: { admin: true, identity: null },
  });
  if (!reply.ok && reply.refusal !== undefined)
    throw new HttpError(400, reply.refusal.code, reply.refusal.text);
  return formatReply(reply, format === "json" ? "json" : "convex_encoded_json");
}

/** @type {Route} */
async function updateEnvironment(host, request) {
  await requireAdmin(host, request.headers.authorization);
  const { changes } = await readPushBody(host, request);
  if (!Array.isArray(changes) || !changes.every(isChange)) {
    throw new HttpError(
      400,
      "BadJsonBody",
      "'changes' must be an array of { name, value }, value null to unset",
    );
  }
  try {
    await host.serving.changeEnvironment(changes.map(({ name, value }) => ({ name, value: value ?? null })));
  } catch (error) {
    if (!(error instanceof EngineError) || error.refusal === undefined) throw error;
    throw new HttpError(400, error.refusal.code, error.refusal.text);
  }
  return "null";
}

/** @param {any} change */
function isChange(change) {
  return (
    typeof change?.name === "string" && (typeof change.value === "string" || (change.value ?? null) === null)
  );
}

/**
 * The tables that `npx convex mcp` names beside the declared ones. The shapes of their documents are what Convex
 * answers as long as it has not inferred them: a host that reads every document for that would stand still.
 *
 * @type {Route}
 */
async function describeShapes(host, request) {
  await requireAdmin(host, request.headers.authorization);
  const args = JSON.stringify([{ paginationOpts: { cursor: null, numItems: 1 } }]);
  const caller = { admin: true, identity: null };
  const reply = await host.serving.ask({
    op: "call",
    kind: "query",
    path: "_system/cli/tables:default",
    args,
    caller,
  });
  const { page } = JSON.parse(reply.value);
  return JSON.stringify(
    Object.fromEntries(page.map((/** @type {{ name: string }} */ { name }) => [name, { type: "Unknown" }])),
  );
}

/** @type {Route} */
async function streamLogs(host, request, url) {
  await requireAdmin(host, request.headers.authorization);
  const cursor = Number(url.searchParams.get("cursor") ?? 0);
  if (!Number.isFinite(cursor)) throw new HttpError(400, "BadRequest", "'cursor' must be a number");
  const gone = new AbortController();
  request.on("close", () => gone.abort());
  const { entries, newCursor } = await host.functionLog.poll(cursor, POLL_MS, gone.signal);
  return JSON.stringify({ entries, newCursor });
}
