/** Database queries: the range of an index that one reads, its rows in order, pages and their cursors. */

import { createHash } from "node:crypto";
import { CallError } from "./errors.mjs";
import { compileFilter, isUndefined } from "./filters.mjs";
import { rowKey } from "./store.mjs";
import { encodeIndexKey, keySuccessor, resolveCommitTs } from "./values.mjs";

/**
 * @typedef {import("./values.mjs").Encoded} Encoded
 * @typedef {import("./store.mjs").Store} Store
 * @typedef {import("./store.mjs").Table} Table
 * @typedef {import("./store.mjs").Index} Index
 * @typedef {import("./store.mjs").Row} Row
 *
 * @typedef {object} Range
 * @property {Table} table
 * @property {Index} index
 * @property {Buffer} low  inclusive
 * @property {Buffer | null} high  exclusive; null: to the end
 * @property {boolean} descending
 *
 * @typedef {{ source: any, operators: ({ filter: any } | { limit: number })[] }} QueryJson
 * @typedef {object} Reader  who reads, and is told what
 * @property {Store} store
 * @property {bigint} ts  what an unresolved commit timestamp stands for
 * @property {(json: string) => void} onRow  before the filters see it
 * @property {(range: Range) => void} onRange  what has been read, once
 */

const FIRST_READ_AHEAD = 32;
const MAX_READ_AHEAD = 256;

/** One running query. */
export class Query {
  /**
   * @param {Reader} reader
   * @param {Range | null} range  null: the table does not exist
   * @param {QueryJson["operators"]} operators
   */
  constructor(reader, range, operators) {
    this.#reader = reader;
    this.#range = range;
    this.#operators = operators.map((operator) =>
      "filter" in operator
        ? { matches: compileFilter(operator.filter), left: 0 }
        : { matches: null, left: operator.limit },
    );
    const [first] = this.#operators;
    this.#readAhead = first?.matches === null ? Math.min(first.left, MAX_READ_AHEAD) : FIRST_READ_AHEAD;
  }

  #reader;
  #range;
  #operators;
  #readAhead;
  /** @type {Row[]} */
  #rows = [];
  #position = 0;
  #version = -1;
  #closed = false;
  #fetchedAll = false;
  #exhausted = false;
  /** The last row that was looked at. @type {Row | undefined} */
  last;

  /** @returns {string | null} the next document that passes, as JSON text; null at the end */
  next() {
    while (!this.#limitReached()) {
      const row = this.#nextRow();
      if (row === null) break;
      const { store } = this.#reader;
      const json = store.visible.size === 0 ? row.json : (store.visible.get(row.id) ?? row.json);
      this.#reader.onRow(json);
      if (this.#passes(json)) return json;
    }
    this.close();
    return null;
  }

  /** Report what was read. Nothing can be read afterwards. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    const range = this.#range;
    if (range === null) return;
    if (this.#exhausted) this.#reader.onRange(range);
    else if (this.last !== undefined) this.#reader.onRange(upTo(range, rowKey(range.index, this.last)));
  }

  #limitReached() {
    return this.#closed || this.#operators.some(({ matches, left }) => matches === null && left === 0);
  }

  /** @param {string} json */
  #passes(json) {
    let document;
    for (const operator of this.#operators) {
      if (operator.matches === null) operator.left -= 1;
      else if (!operator.matches((document ??= JSON.parse(json)))) return false;
    }
    return true;
  }

  /** @returns {Row | null} */
  #nextRow() {
    const { store } = this.#reader;
    if (this.#position === this.#rows.length || this.#version !== store.version) {
      if (this.#range === null || (this.#fetchedAll && this.#version === store.version)) return this.#end();
      const { table, index, low, high, descending } = this.#range;
      this.#rows = store.scan(table, index, low, high, descending, this.#readAhead, this.last);
      this.#fetchedAll = this.#rows.length < this.#readAhead;
      this.#position = 0;
      this.#version = store.version;
      this.#readAhead = Math.min(this.#readAhead * 2, MAX_READ_AHEAD);
      if (this.#rows.length === 0) return this.#end();
    }
    const row = /** @type {Row} */ (this.#rows[this.#position++]);
    this.last = row;
    return row;
  }

  #end() {
    this.#exhausted = true;
    return null;
  }
}

/**
 * The part of a range from its beginning, in reading order, to one key.
 *
 * @param {Range} range
 * @param {Buffer} key
 * @returns {Range}
 */
function upTo(range, key) {
  return range.descending ? { ...range, low: key } : { ...range, high: after(key) };
}

/**
 * The part of a range behind one key.
 *
 * @param {Range} range
 * @param {Buffer} key
 * @returns {Range}
 */
function behind(range, key) {
  return range.descending ? { ...range, high: key } : { ...range, low: after(key) };
}

/** @param {Buffer} key @returns {Buffer} the smallest key above it */
function after(key) {
  return Buffer.concat([key, Buffer.of(0)]);
}

/**
 * @param {Reader} reader
 * @param {any} source  as the query builder serializes it
 * @returns {Range | null} null when the table does not exist
 * @throws {CallError} there is no such index, or the range does not follow its fields
 */
export function compileSource(reader, source) {
  const { store } = reader;
  const descending = source.order === "desc";
  switch (source.type) {
    case "FullTableScan": {
      const table = store.table(source.tableName);
      if (table === undefined) return null;
      return { table, index: table.byCreationTime, low: Buffer.alloc(0), high: null, descending };
    }
    case "IndexRange": {
      const [tableName = "", indexName = ""] = String(source.indexName).split(".");
      const table = store.table(tableName);
      if (table === undefined && (indexName === "by_id" || indexName === "by_creation_time")) return null;
      const index = table === undefined ? undefined : findIndex(table, indexName);
      if (table === undefined || index === undefined)
        throw new CallError(`Index ${source.indexName} not found.`);
      if (index.staged) {
        throw new CallError(
          `Index ${source.indexName} is staged: it cannot be queried before it is enabled.`,
        );
      }
      return { table, index, descending, ...compileRange(source.indexName, index, source.range, reader.ts) };
    }
    case "Search":
      throw new CallError(
        `Search index ${source.indexName} cannot be queried: this host has no text search.`,
      );
    default:
      throw new CallError(`Unknown query source ${JSON.stringify(source.type)}`);
  }
}

/**
 * @param {Table} table
 * @param {string} name
 */
function findIndex(table, name) {
  if (name === "by_creation_time") return table.byCreationTime;
  if (name === "by_id") return table.byId;
  return table.indexes.find((index) => index.name === name);
}

/**
 * @typedef {{ type: "Eq" | "Gt" | "Gte" | "Lt" | "Lte", fieldPath: string, value: any }} Bound
 */

/**
 * Equalities on the first fields in any order of writing, then at most one bound on each side of the next field.
 *
 * @param {string} indexName
 * @param {Index} index
 * @param {Bound[]} bounds
 * @param {bigint} ts
 * @returns {{ low: Buffer, high: Buffer | null }}
 */
function compileRange(indexName, index, bounds, ts) {
  /** @type {Map<string, Bound>} */
  const equal = new Map();
  /** @type {Bound[]} */
  const uneven = [];
  for (const bound of bounds) {
    if (bound.type !== "Eq") uneven.push(bound);
    else if (equal.has(bound.fieldPath))
      refuse(indexName, index, bounds, `"${bound.fieldPath}" has two equalities`);
    else equal.set(bound.fieldPath, bound);
  }
  /** @type {(Encoded | undefined)[]} */
  const prefix = [];
  for (const field of index.fields) {
    const bound = equal.get(field);
    if (bound === undefined) break;
    prefix.push(boundValue(bound, ts));
  }
  if (prefix.length < equal.size) {
    refuse(indexName, index, bounds, "equalities must cover the first fields of the index without a gap");
  }
  const next = index.fields[prefix.length];
  const wrong = uneven.find(({ fieldPath }) => fieldPath !== next);
  if (wrong !== undefined) {
    refuse(
      indexName,
      index,
      bounds,
      `a bound must be on the field behind the equalities, not on "${wrong.fieldPath}"`,
    );
  }
  const lower = onlyBound(uneven, "Gt", "Gte", () =>
    refuse(indexName, index, bounds, "there are two lower bounds"),
  );
  const upper = onlyBound(uneven, "Lt", "Lte", () =>
    refuse(indexName, index, bounds, "there are two upper bounds"),
  );
  const all = encodeIndexKey(prefix);
  const edge = (/** @type {Bound} */ bound) => encodeIndexKey([...prefix, boundValue(bound, ts)]);
  return {
    low:
      lower === undefined
        ? all
        : lower.type === "Gte"
          ? edge(lower)
          : (keySuccessor(edge(lower)) ?? edge(lower)),
    high:
      upper === undefined
        ? all.length === 0
          ? null
          : keySuccessor(all)
        : upper.type === "Lt"
          ? edge(upper)
          : keySuccessor(edge(upper)),
  };
}

/**
 * @param {Bound[]} bounds
 * @param {Bound["type"]} open
 * @param {Bound["type"]} closed
 * @param {() => never} refuseSecond
 */
function onlyBound(bounds, open, closed, refuseSecond) {
  const found = bounds.filter(({ type }) => type === open || type === closed);
  return found.length > 1 ? refuseSecond() : found[0];
}

/**
 * @param {Bound} bound
 * @param {bigint} ts
 * @returns {Encoded | undefined}
 */
function boundValue({ value }, ts) {
  return isUndefined(value) ? undefined : resolveCommitTs(value, ts);
}

/**
 * @param {string} indexName
 * @param {Index} index
 * @param {Bound[]} bounds
 * @param {string} reason
 * @returns {never}
 */
function refuse(indexName, index, bounds, reason) {
  throw new CallError(
    `Tried to query index ${indexName} but the query didn't use the index fields in order: ${reason}.\n` +
      `Index fields: ${JSON.stringify(index.fields)}\n` +
      `Query fields: ${JSON.stringify(bounds.map(({ fieldPath }) => fieldPath))}\n` +
      "For more information see https://docs.convex.dev/using/indexes.",
  );
}

/* ---- pages ---- */

/**
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
  const whole = compileSource(reader, query.source);
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
