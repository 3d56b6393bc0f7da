/** Serves HTTP actions: on the site's port, and below /http on the API's. */

import { AuthError } from "../auth.mjs";
import { readBody } from "./body.mjs";
import { sendError } from "./api.mjs";
import { withoutRequestId } from "../failures.mjs";

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 * @typedef {import("../actions/client.mjs").ActionCaller} ActionCaller
 * @typedef {import("./api.mjs").Host & { actions: import("../actions/client.mjs").ActionsClient, siteUrl: string }} SiteHost
 */

const OWN_HEADERS = new Set(["connection", "content-length", "keep-alive", "transfer-encoding"]); // node writes these itself

/**
 * Answer one request with the HTTP action that is routed for it; never throws.
 *
 * @param {SiteHost} host
 * @param {Request} request
 * @param {Response} response
 * @param {string} target  path and query within the site
 */
export async function serveSite(host, request, response, target) {
  try {
    const answer = await host.actions.runHttp({
      method: request.method ?? "GET",
      url: host.siteUrl + (target.startsWith("/") ? target : "/"),
      headers: headerPairs(request.rawHeaders),
      body: await readBody(request),
      caller: await siteCaller(host, request.headers.authorization),
    });
    if (!("status" in answer)) return sendFailure(response, answer);
    const headers = answer.headers.filter(([name]) => !OWN_HEADERS.has(name));
    response.writeHead(answer.status, headers.flat());
    response.end(answer.body);
  } catch (error) {
    sendError(host, response, error);
  }
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

/**
 * @param {Response} response
 * @param {import("../engine-client.mjs").Reply} reply
 */
function sendFailure(response, reply) {
  const message = reply.ok ? "" : reply.message;
  const [head = ""] = message.split("\n");
  const trace = withoutRequestId(message);
  const [first = ""] = trace.split("\n");
  const data = reply.ok || reply.data === undefined ? "" : `,"data":${reply.data}`;
  const body = Buffer.from(
    `{"code":${JSON.stringify(`${head}: ${first}`)},"trace":${JSON.stringify(trace)}${data}}`,
  );
  response.writeHead(500, { "content-type": "application/json", "content-length": body.length });
  response.end(body);
}
