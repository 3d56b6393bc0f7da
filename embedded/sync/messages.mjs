/** Reads the sync protocol's client messages and writes its server messages as JSON text. */

import { encodeTs } from "./timestamps.mjs";

/**
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {{ querySet: number, identity: number, ts: string }} Version  `ts` in decimal nanoseconds
 */

/** The client broke the protocol: the socket closes with this as its reason. */
export class ProtocolError extends Error {}

/**
 * @param {string} text
 * @returns {Record<string, unknown>}
 * @throws {ProtocolError}
 */
export function parseMessage(text) {
  let message;
  try {
    message = JSON.parse(text);
  } catch {
    throw new ProtocolError("InvalidMessage: the frame is not valid JSON");
  }
  if (typeof message !== "object" || message === null || typeof message.type !== "string") {
    throw new ProtocolError("InvalidMessage: the frame is not a message with a type");
  }
  return message;
}

/**
 * @param {Record<string, unknown>} message
 * @param {string} field
 * @returns {number}
 * @throws {ProtocolError}
 */
export function readCount(message, field) {
  const value = message[field];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new ProtocolError(`InvalidMessage: ${field} must be an unsigned 32-bit integer`);
  }
  return value;
}

/**
 * @param {Record<string, unknown>} message
 * @param {string} field
 * @returns {string}
 * @throws {ProtocolError}
 */
export function readText(message, field) {
  const value = message[field];
  if (typeof value !== "string" || value === "")
    throw new ProtocolError(`InvalidMessage: ${field} must be a text`);
  return value;
}

/**
 * @param {Record<string, unknown>} message
 * @returns {string} JSON text of a one-element array
 * @throws {ProtocolError}
 */
export function readArgs({ args = [{}] }) {
  if (!Array.isArray(args) || args.length > 1)
    throw new ProtocolError("InvalidMessage: args must be an array with one object");
  return JSON.stringify(args.length === 0 ? [{}] : args);
}

/**
 * @param {Version} start
 * @param {Version} end
 * @param {string[]} modifications
 */
export function transition(start, end, modifications) {
  return `{"type":"Transition","startVersion":${version(start)},"endVersion":${version(end)},"modifications":[${modifications.join(",")}]}`;
}

/** @param {Version} version */
function version({ querySet, identity, ts }) {
  return `{"querySet":${querySet},"identity":${identity},"ts":"${encodeTs(ts)}"}`;
}

/**
 * @param {number} queryId
 * @param {Reply} reply
 */
export function queryModification(queryId, reply) {
  const rest = `"logLines":${JSON.stringify(reply.logLines)},"journal":${JSON.stringify(reply.journal ?? null)}}`;
  if (reply.ok) return `{"type":"QueryUpdated","queryId":${queryId},"value":${reply.value},${rest}`;
  return `{"type":"QueryFailed","queryId":${queryId},"errorMessage":${JSON.stringify(reply.message)}${errorData(reply)},${rest}`;
}

/** @param {number} queryId */
export function queryRemoved(queryId) {
  return `{"type":"QueryRemoved","queryId":${queryId}}`;
}

/**
 * @param {"MutationResponse" | "ActionResponse"} type
 * @param {number} requestId
 * @param {Reply} reply
 * @param {string} ts  decimal nanoseconds; only a mutation's answer has one
 */
export function response(type, requestId, reply, ts) {
  const isMutation = type === "MutationResponse";
  const head = `{"type":"${type}","requestId":${requestId},"success":${reply.ok}`;
  const logLines = `"logLines":${JSON.stringify(reply.logLines)}`;
  if (reply.ok)
    return `${head},"result":${reply.value}${isMutation ? `,"ts":"${encodeTs(ts)}"` : ""},${logLines}}`;
  return `${head},"result":${JSON.stringify(reply.message)}${isMutation ? ',"ts":null' : ""}${errorData(reply)},${logLines}}`;
}

/** @param {import("../engine-client.mjs").Failure} failure */
function errorData({ data }) {
  return data === undefined ? "" : `,"errorData":${data}`;
}

/**
 * @param {string} error
 * @param {number} baseVersion
 */
export function authError(error, baseVersion) {
  return JSON.stringify({ type: "AuthError", error, baseVersion, authUpdateAttempted: true });
}

export const PING = '{"type":"Ping"}';

/**
 * Pieces of a message that is too long for one frame; only npm clients put them together.
 *
 * @param {string} text
 * @param {string} transitionId
 * @param {number} chunkChars
 * @returns {string[]}
 */
export function chunks(text, transitionId, chunkChars) {
  const totalParts = Math.ceil(text.length / chunkChars);
  return Array.from({ length: totalParts }, (_, partNumber) => {
    const chunk = text.slice(partNumber * chunkChars, (partNumber + 1) * chunkChars);
    return JSON.stringify({ type: "TransitionChunk", chunk, partNumber, totalParts, transitionId });
  });
}
