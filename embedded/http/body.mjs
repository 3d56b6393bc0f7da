/** Reads request bodies: bounded, valid UTF-8, valid JSON. */

import { isUtf8 } from "node:buffer";
import { isTooDeep } from "../json-depth.mjs";
import { HttpError } from "./errors.mjs";

export const MAX_BODY_BYTES = 20 * 1024 * 1024; // arguments may have 16 MiB, and JSON text is longer than the value

const BUSY = "The bodies of all requests that have not come whole are larger than this host holds, try again";

/** Counts what has come of all bodies that are not there yet: whoever sends many of them slowly may hold no more than this. */
export class Unfinished {
  /** @param {number} limit  bytes */
  constructor(limit) {
    this.limit = limit;
  }

  bytes = 0;
}

const UNFINISHED = new Unfinished(512 * 1024 * 1024);

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {number} [limit]
 * @param {Unfinished} [unfinished]  which it is counted with
 * @returns {Promise<Buffer>}
 * @throws {HttpError} 413 as soon as the limit is passed, 503 when there is too much of all bodies, 400 if the client goes away
 */
export function readBody(request, limit = MAX_BODY_BYTES, unfinished = UNFINISHED) {
  return new Promise((resolve, reject) => {
    const refuse = () =>
      reject(new HttpError(413, "PayloadTooLarge", `The request body is larger than ${limit} bytes`));
    if (Number(request.headers["content-length"] ?? 0) > limit) {
      refuse();
      return;
    }
    /** @type {Buffer[]} */
    const pieces = [];
    let size = 0;
    let counted = 0;
    const forget = () => {
      unfinished.bytes -= counted;
      counted = 0;
      pieces.length = 0;
    };
    const onData = (/** @type {Buffer} */ piece) => {
      size += piece.length;
      const isTooMuch = unfinished.bytes + piece.length > unfinished.limit;
      if (size <= limit && !isTooMuch) {
        counted += piece.length;
        unfinished.bytes += piece.length;
        pieces.push(piece);
        return;
      }
      request.off("data", onData).pause();
      forget();
      if (size > limit) refuse();
      else reject(new HttpError(503, "TooManyConcurrentRequests", BUSY));
    };
    request.on("data", onData);
    request.on("end", () => {
      resolve(pieces.length === 1 ? /** @type {Buffer} */ (pieces[0]) : Buffer.concat(pieces));
      forget();
    });
    request.on("close", forget);
    request.on("error", () => {
      reject(new HttpError(400, "BadRequest", "The request body ended early"));
    });
  });
}

const JSON_TYPE = /^application\/(?:json|[\w.-]+\+json)(?:\s*;|$)/i;

/**
 * The body of a request that must say that it is JSON: a page of another origin cannot, unless its browser has asked first.
 *
 * @param {import("node:http").IncomingMessage} request
 * @returns {Promise<Record<string, unknown>>}
 * @throws {HttpError}
 */
export async function readJson(request) {
  if (!JSON_TYPE.test(request.headers["content-type"] ?? "")) {
    throw new HttpError(400, "BadJsonBody", "Expected request with `Content-Type: application/json`");
  }
  return parseJsonObject(await readBody(request));
}

/**
 * @param {Buffer} body
 * @returns {Record<string, unknown>}
 * @throws {HttpError} 400
 */
export function parseJsonObject(body) {
  if (!isUtf8(body)) throw new HttpError(400, "BadJsonBody", "The request body is not valid UTF-8");
  const text = body.toString("utf8");
  if (isTooDeep(text)) {
    throw new HttpError(
      400,
      "BadJsonBody",
      "Failed to parse the request body as JSON: recursion limit exceeded",
    );
  }
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new HttpError(
      400,
      "BadJsonBody",
      `Failed to parse the request body as JSON: ${/** @type {Error} */ (error).message}`,
    );
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new HttpError(400, "BadJsonBody", "The request body must be a JSON object");
  }
  return value;
}
