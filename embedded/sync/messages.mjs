/** Writes the sync protocol's server messages as JSON text. */

import { encodeTs } from "./timestamps.mjs";

/**
 * @typedef {import("../engine-client.mjs").Reply} Reply
 * @typedef {{ querySet: number, identity: number, ts: string }} Version  `ts` in decimal nanoseconds
 */

/**
 * @param {Version} start
 * @param {Version} end
 * @param {string[]} modifications
 * @param {number | null} clockSkewMs  by which the client's clock is ahead; null: it has not told its time
 */
export function transition(start, end, modifications, clockSkewMs) {
  const clocks =
    clockSkewMs === null ? "" : `,"clientClockSkew":${clockSkewMs},"serverTs":${Date.now()}000000`;
  return `{"type":"Transition","startVersion":${version(start)},"endVersion":${version(end)},"modifications":[${modifications.join(",")}]${clocks}}`;
}

/** @param {Version} version */
function version({ querySet, identity, ts }) {
  return `{"querySet":${querySet},"identity":${identity},"ts":"${encodeTs(ts)}"}`;
}

/**
 * @param {Reply} reply
 * @returns {(queryId: number) => string} writes the modification with this result, for any query that has it
 */
export function queryModification(reply) {
  const rest = `"logLines":${JSON.stringify(reply.logLines)},"journal":${JSON.stringify(reply.journal ?? null)}}`;
  const [type, result] = reply.ok
    ? ["QueryUpdated", `"value":${reply.value}`]
    : ["QueryFailed", `"errorMessage":${JSON.stringify(reply.message)}${errorData(reply)}`];
  return (queryId) => `{"type":"${type}","queryId":${queryId},${result},${rest}`;
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
 * @param {boolean} authUpdateAttempted  false: a token that had been taken has expired
 */
export function authError(error, baseVersion, authUpdateAttempted) {
  return JSON.stringify({ type: "AuthError", error, baseVersion, authUpdateAttempted });
}

/** @param {string} error */
export function fatalError(error) {
  return JSON.stringify({ type: "FatalError", error });
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
