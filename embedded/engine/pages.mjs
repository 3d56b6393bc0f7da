/** Pages of a query's documents, and the cursors between them. */

import { createHash } from "node:crypto";
import { CallError } from "./errors.mjs";
import { rowKey } from "./index-keys.mjs";
import { behind, compileSource, upTo } from "./index-range.mjs";
import { Query } from "./query.mjs";

/**
 * @typedef {import("./query.mjs").QueryJson} QueryJson
 * @typedef {import("./query.mjs").Reader} Reader
 * @typedef {import("./store.mjs").Row} Row
 *
 * @typedef {object} PageRequest
 * @property {QueryJson} query
 * @property {string | null} cursor
 * @property {string | null} endCursor
 * @property {string | null} journal  where the page of an earlier run ended; of no account if that was another query
 * @property {number} pageSize
 * @property {number | null} maximumRowsRead
 * @property {number | null} [maximumBytesRead]
 *
 * @typedef {{ kind: "end" } | { kind: "after", key: Buffer }} Position
 */

const FINGERPRINT_BYTES = 8;
const AT_END = 0;
const AFTER_KEY = 1;

/**
 * @param {Reader} reader
 * @param {PageRequest} request
 * @returns {{ json: string, endCursor: string }} the page as JSON text, and where it ends
 * @throws {CallError}
 */
export function readPage(reader, request) {
  const { query, cursor, endCursor, journal, pageSize, maximumRowsRead, maximumBytesRead } = request;
  const print = fingerprint(query);
  const start = cursor === null ? null : decodeCursor(print, cursor);
  const end = endCursor === null ? journaledEnd(print, journal) : decodeCursor(print, endCursor);
  const whole = compileSource(reader.store, reader.ts, query.source);
  if (whole === null || start?.kind === "end") {
    return pageResult([], true, encodeCursor(print, { kind: "end" }), null);
  }
  let range = start === null ? whole : behind(whole, start.key);
  if (end?.kind === "after") range = upTo(range, end.key);

  let rowsRead = 0;
  let bytesRead = 0;
  /** @type {Row[]} */
  const seen = [];
  const running = new Query(
    {
      ...reader,
      onRow: (json) => {
        reader.onRow(json);
        rowsRead += 1;
        bytesRead += json.length;
      },
    },
    range,
    query.operators,
  );
  /** @type {string[]} */
  const page = [];
  const cut = () => rowsRead >= (maximumRowsRead ?? Infinity) || bytesRead >= (maximumBytesRead ?? Infinity);
  let ended = false;
  while (!cut() && (end !== null || page.length < pageSize)) {
    const json = running.next();
    if (json === null) {
      ended = true;
      break;
    }
    page.push(json);
    seen.push(/** @type {Row} */ (running.last));
  }
  running.close();
  const { last } = running;
  /** @type {Position} */
  let position = { kind: "end" };
  if (ended) position = end ?? position;
  else if (last !== undefined) position = { kind: "after", key: rowKey(range.index, last) };
  else if (start !== null) position = start;
  const middle = !ended && end !== null ? seen[Math.floor((seen.length - 1) / 2)] : undefined;
  const split =
    middle === undefined ? null : encodeCursor(print, { kind: "after", key: rowKey(range.index, middle) });
  return pageResult(page, position.kind === "end", encodeCursor(print, position), split);
}

/**
 * @param {string[]} page
 * @param {boolean} isDone
 * @param {string} continueCursor
 * @param {string | null} splitCursor  given when a page with a fixed end was too long to be read at once
 */
function pageResult(page, isDone, continueCursor, splitCursor) {
  const rest = {
    isDone,
    continueCursor,
    splitCursor,
    pageStatus: splitCursor === null ? null : "SplitRequired",
  };
  return { json: `{"page":[${page.join(",")}],${JSON.stringify(rest).slice(1)}`, endCursor: continueCursor };
}

/** @param {QueryJson} query @returns {Buffer} binds a cursor to its query */
function fingerprint(query) {
  return createHash("sha256").update(JSON.stringify(query)).digest().subarray(0, FINGERPRINT_BYTES);
}

/**
 * @param {Buffer} print
 * @param {Position} position
 */
function encodeCursor(print, position) {
  const tail =
    position.kind === "end" ? Buffer.of(AT_END) : Buffer.concat([Buffer.of(AFTER_KEY), position.key]);
  return Buffer.concat([print, tail]).toString("base64url");
}

/**
 * @param {Buffer} print
 * @param {string} cursor
 * @returns {Position}
 * @throws {CallError}
 */
function decodeCursor(print, cursor) {
  const bytes = Buffer.from(cursor, "base64url");
  const kind = bytes[FINGERPRINT_BYTES];
  if (kind !== AT_END && kind !== AFTER_KEY) throw invalidCursor("Failed to parse cursor");
  if (!bytes.subarray(0, FINGERPRINT_BYTES).equals(print)) {
    throw invalidCursor(
      "Tried to run a query starting from a cursor, but it looks like this cursor is from a different query.",
    );
  }
  return kind === AT_END ? { kind: "end" } : { kind: "after", key: bytes.subarray(FINGERPRINT_BYTES + 1) };
}

/**
 * @param {Buffer} print
 * @param {string | null} journal
 * @returns {Position | null}
 */
function journaledEnd(print, journal) {
  if (journal === null || !Buffer.from(journal, "base64url").subarray(0, FINGERPRINT_BYTES).equals(print))
    return null;
  return decodeCursor(print, journal);
}

/** @param {string} reason */
function invalidCursor(reason) {
  const data = { isConvexSystemError: true, paginationError: "InvalidCursor" };
  return new CallError(`InvalidCursor: ${reason}`, JSON.stringify(data));
}
