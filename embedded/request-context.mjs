/** Of which request a function runs: what `getRequestMetadata` tells it, and the id by which errors and logs name it. */

import { hash } from "node:crypto";
import { requestId } from "./failures.mjs";

/**
 * One for all functions that run for a request, those which they call included.
 *
 * @typedef {object} RequestContext
 * @property {string} id  16 hex digits, or what the client has named it
 * @property {string | null} ip  of the client; null: the host itself began it
 * @property {string | null} userAgent
 * @property {string | null} authToken  the user's token that was shown, and let pass
 * @property {string | null} scheduledFunctionId  of the job that it is part of
 */

const MAX_IP_BYTES = 256; // both as in Convex, which cuts what is longer
const MAX_USER_AGENT_BYTES = 512;
const VISIBLE = /^[\x20-\x7e\t]+$/;
const BEARER = /^bearer (.*)$/i;

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {{ trusted?: boolean }} [credential]  trusted: what the request shows was let pass
 * @returns {RequestContext}
 */
export function ofHttp(request, { trusted = true } = {}) {
  const { authorization = "", "convex-request-id": named } = request.headers;
  return {
    id: typeof named === "string" && VISIBLE.test(named) ? named : requestId(),
    ...clientOf(request),
    authToken: (trusted ? BEARER.exec(authorization)?.[1]?.trim() : undefined) ?? null,
    scheduledFunctionId: null,
  };
}

/**
 * @param {{ headers: import("node:http").IncomingHttpHeaders, socket: { remoteAddress?: string } }} request  a WebSocket's upgrade, too
 * @returns {Pick<RequestContext, "ip" | "userAgent">}
 */
export function clientOf({ headers, socket }) {
  const [forwarded] = headers["x-forwarded-for"]?.toString().split(",", 1) ?? [];
  return {
    ip: start(forwarded?.trim() ?? socket.remoteAddress, MAX_IP_BYTES),
    userAgent: start(headers["user-agent"], MAX_USER_AGENT_BYTES),
  };
}

/**
 * Of a mutation or action that came over a WebSocket: clients can tell the id themselves.
 *
 * @param {string} session  the client's id of it
 * @param {number} request  the client's number
 * @param {Pick<RequestContext, "ip" | "userAgent" | "authToken">} client
 * @returns {RequestContext}
 */
export function ofSocket(session, request, { ip, userAgent, authToken }) {
  const id = hash("sha256", `${session}|${request}`).slice(0, 16);
  return { id, ip, userAgent, authToken, scheduledFunctionId: null };
}

/** @param {string | null} scheduledFunctionId  null: a cron's @returns {RequestContext} */
export function ofHost(scheduledFunctionId) {
  return { id: requestId(), ip: null, userAgent: null, authToken: null, scheduledFunctionId };
}

/** @param {RequestContext} context @returns {object} what `getRequestMetadata` answers */
export function requestMetadata({ id, ip, userAgent, authToken, scheduledFunctionId }) {
  return { ip, userAgent, requestId: id, scheduledFunctionId, authToken };
}

/** @param {string | undefined} text @param {number} bytes @returns {string | null} */
function start(text, bytes) {
  if (text === undefined) return null;
  if (Buffer.byteLength(text) <= bytes) return text;
  return new TextDecoder().decode(Buffer.from(text).subarray(0, bytes), { stream: true });
}
