/** Pages of a query's documents, and the cursors between them. */

import { createHash } from "node:crypto";
import { CallError } from "./errors.mjs";
import { behind, compileSource, upTo } from "./index-range.mjs";
import { Query } from "./query.mjs";
import { MAX_MATCHES } from "./text-search.mjs";
import { valueSize } from "./values.mjs";

/**
 * @typedef {import("./query.mjs").QueryJson} QueryJson
 * @typedef {import("./query.mjs").Reader} Reader
 * @typedef {import("./store.mjs").Row} Row
 *
 * @typedef {object} PageRequest
 * @property {QueryJson} query
 * @property {string | null} cursor
 * @property {string | null} endCursor
 * @property {string | null} journal  where the page of an earlier run ended
 * @property {number} pageSize  of no account when the page's end is given
 * @property {number | null} [maximumRowsRead]  likewise, and rows that a filter drops count
 * @property {number | null} [maximumBytesRead]  likewise
 * @property {{ documentsRead: number, bytesRead: number }} limits  of the whole call
 *
 * @typedef {{ kind: "end" } | { kind: "after", key: Buffer }} Position
 * @typedef {null | "SplitRecommended" | "SplitRequired"} PageStatus  what a client should do with a page: keep it, better cut it in
 *   two, or cut it in two since it is not whole
 */

const FINGERPRINT_BYTES = 8;
const SCAN_FIELDS = ["_creationTime"]; // also of a table that does not exist yet: its cursors are good when it does
const AT_END = 0;
const AFTER_KEY = 1;
const SOFT_SHARE = 3 / 4; // of a limit, above which a page is better cut in two
const SOFT_MAX_PAGE = 8192 * SOFT_SHARE; // documents
const SMALLEST_SPLIT = 3; // rows read

/**
 * @param {Reader} reader
 * @param {PageRequest} request
 * @returns {{ json: string, endCursor: string }} the page as JSON text, and where it ends
 * @throws {CallError}
 */
export function readPage(reader, request) {
  const { query, cursor, pageSize, limits } = request;
  const source = compileSource(reader.store, reader.ts, query.source);
  const isSearch = source !== null && "textIndex" in source;
  const print = fingerprint(query, isSearch ? [] : (source?.index.fields ?? SCAN_FIELDS));
  const start = cursor === null ? null : decodeCursor(print, cursor);
  const endCursor = request.endCursor ?? request.journal;
  const end = endCursor === null ? null : decodeCursor(print, endCursor);
  if (source === null || start?.kind === "end") {
    const position = end ?? { kind: /** @type {const} */ ("end") };
    return pageResult([], position, encodeCursor(print, position), null, null);
  }
  const from = start === null ? source : behind(source, start.key);
  const bounded = end?.kind === "after" ? upTo(from, end.key) : from;

  const account = isSearch
    ? new Account({ maximumRowsRead: MAX_MATCHES }, false)
    : new Account(request, end === null);
  const onRow = (/** @type {string} */ json, /** @type {Row} */ row) => {
    reader.onRow(json, row);
    account.add(json, row);
  };
  const running = new Query({ ...reader, onRow, isFull: () => account.isFull }, bounded, query.operators);
  /** @type {string[]} */
  const page = [];
  while (end !== null || page.length < pageSize) {
    const json = running.next();
    if (json === null) break;
    page.push(json);
  }
  running.close();
  /** @type {PageStatus} */
  let status = null;
  if (running.cut) status = "SplitRequired";
  else if (account.isNearlyFull(limits) || page.length > SOFT_MAX_PAGE) status = "SplitRecommended";
  /** @type {Position} */
  let position = { kind: "end" };
  if (end !== null) position = end;
  else if (!running.exhausted && running.last !== undefined) {
    position = { kind: "after", key: running.keyOf(running.last) };
  }
  const middle = isSearch ? undefined : account.middle; // half a search would take as long as a whole one
  const split =
    middle === undefined ? null : encodeCursor(print, { kind: "after", key: running.keyOf(middle) });
  return pageResult(page, position, encodeCursor(print, position), split, status);
}

/** What one page has read. */
class Account {
  /**
   * @param {Pick<PageRequest, "maximumRowsRead" | "maximumBytesRead">} limits
   * @param {boolean} bounded  whether they end the page: one whose end is given is read whole
   */
  constructor({ maximumRowsRead, maximumBytesRead }, bounded) {
    this.#maxRows = maximumRowsRead ?? Infinity;
    this.#maxBytes = maximumBytesRead ?? Infinity;
    this.#bounded = bounded;
  }

  #maxRows;
  #maxBytes;
  #bounded;
  #bytes = 0;
  /** @type {Row[]} */
  #rows = [];

  /**
   * @param {string} json
   * @param {Row} row
   */
  add(json, row) {
    this.#rows.push(row);
    this.#bytes += valueSize(JSON.parse(json));
  }

  get isFull() {
    return this.#bounded && (this.#rows.length >= this.#maxRows || this.#bytes >= this.#maxBytes);
  }

  /** @param {PageRequest["limits"]} limits */
  isNearlyFull({ documentsRead, bytesRead }) {
    return (
      this.#rows.length > Math.floor(Math.min(this.#maxRows, documentsRead) * SOFT_SHARE) ||
      this.#bytes > Math.floor(Math.min(this.#maxBytes, bytesRead) * SOFT_SHARE)
    );
  }

  /** Behind which row the page would be cut in two. */
  get middle() {
    const { length } = this.#rows;
    return length < SMALLEST_SPLIT ? undefined : this.#rows[Math.floor(length / 2)];
  }
}

/**
 * @param {string[]} page
 * @param {Position} end
 * @param {string} continueCursor
 * @param {string | null} splitCursor
 * @param {PageStatus} pageStatus
 */
function pageResult(page, end, continueCursor, splitCursor, pageStatus) {
  const rest = { isDone: end.kind === "end", continueCursor, splitCursor, pageStatus };
  return { json: `{"page":[${page.join(",")}],${JSON.stringify(rest).slice(1)}`, endCursor: continueCursor };
}

/**
 * @param {QueryJson} query
 * @param {readonly string[]} fields  of its index, in whose order the cursor's key is written
 * @returns {Buffer} binds a cursor to its query
 */
function fingerprint({ source, operators }, fields) {
  const text = JSON.stringify([{ ...source, order: source.order ?? "asc" }, operators, fields]);
  return createHash("sha256").update(text).digest().subarray(0, FINGERPRINT_BYTES);
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
  if (kind !== AT_END && kind !== AFTER_KEY) throw new CallError("Failed to parse cursor");
  if (!bytes.subarray(0, FINGERPRINT_BYTES).equals(print)) throw invalidCursor();
  return kind === AT_END ? { kind: "end" } : { kind: "after", key: bytes.subarray(FINGERPRINT_BYTES + 1) };
}

/** The clients begin again with the first page when they see this data. */
function invalidCursor() {
  return new CallError(
    "InvalidCursor: Tried to run a query starting from a cursor, but it looks like this cursor is from a different query.",
    '{"isConvexSystemError":true,"paginationError":"InvalidCursor"}',
  );
}
