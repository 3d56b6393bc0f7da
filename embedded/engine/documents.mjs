/**
 * Where documents lie, and how they are read: by id, and in the order of an index.
 *
 * A document's row number holds its table and its place in that table, rising with `_creationTime`. So rows of a table lie
 * together in the order of `by_creation_time` and of `by_id`, and neither index needs rows of its own.
 */

import { decodeId, tableNumberOf } from "./ids.mjs";
import { rowKey } from "./index-keys.mjs";
import { PLACES } from "./tables.mjs";

/**
 * @typedef {import("./layout.mjs").Statements} Statements
 * @typedef {import("./tables.mjs").Index} Index
 * @typedef {import("./tables.mjs").Table} Table
 *
 * @typedef {object} Row  one stored document
 * @property {number} pk
 * @property {string} id
 * @property {number} ct  its `_creationTime`
 * @property {string} json
 * @property {Uint8Array} [k]  its key in the scanned index; those of the indexes without rows are made when asked for
 */

const PLACE_BYTES = 5;
const PAGE = 256; // rows read at a time where all are read
const KEPT_ROWS = 256;
const KEPT_ROW_LENGTH = 4096; // characters; so all of them take 2 MB at most
const EMPTY_KEY = Buffer.alloc(0);
const LAST_KEY = Buffer.from([0xff]); // no key begins with this byte

export class Documents {
  /**
   * @param {Statements} statements
   * @param {(number: number) => Table | undefined} tableNumbered
   */
  constructor(statements, tableNumbered) {
    this.#statements = statements;
    this.#tableNumbered = tableNumbered;
  }

  #statements;
  #tableNumbered;
  /** Rows as they are stored, the last ones used: what is read is often written next. @type {Map<number, Row>} */
  #kept = new Map();

  /** @param {string} id @returns {{ table: Table, pk: number } | null} null for what is no id of a table here; the document may be gone */
  locate(id) {
    const decoded = decodeId(id);
    if (decoded === null) return null;
    const table = this.#tableNumbered(decoded.tableNumber);
    if (table === undefined) return null;
    return { table, pk: rowNumber(table.number, decoded.internal) };
  }

  /** @param {string} id @returns {boolean} whether it is a well-formed id, of whichever table */
  isId(id) {
    return tableNumberOf(id) !== null;
  }

  /**
   * @param {{ pk: number }} place  from `locate`
   * @param {string} id
   * @returns {Row | undefined}
   */
  get({ pk }, id) {
    const row = this.rowAt(pk);
    return row?.id === id ? row : undefined;
  }

  /** @param {number} pk @returns {Row | undefined} */
  rowAt(pk) {
    const kept = this.#kept.get(pk);
    if (kept !== undefined) return kept;
    const row = /** @type {Row | undefined} */ (/** @type {unknown} */ (this.#statements.getDoc.get(pk)));
    if (row !== undefined) this.keepRow(row);
    return row;
  }

  /** Note a row as it is stored from now on. @param {Row} row */
  keepRow(row) {
    this.#kept.delete(row.pk);
    if (row.json.length > KEPT_ROW_LENGTH) return;
    this.#kept.set(row.pk, row);
    if (this.#kept.size <= KEPT_ROWS) return;
    for (const oldest of this.#kept.keys()) {
      this.#kept.delete(oldest);
      return;
    }
  }

  /** @param {number} [pk]  of a row that is not stored any more; left out: any may have changed */
  forgetRows(pk) {
    if (pk === undefined) this.#kept.clear();
    else this.#kept.delete(pk);
  }

  /**
   * The next documents of an index, in order.
   *
   * @param {Table} table
   * @param {Index} index
   * @param {Buffer} low  inclusive
   * @param {Buffer | null} high  exclusive; null: to the end
   * @param {boolean} descending
   * @param {number} limit
   * @param {Row} [after]  the last one read
   * @returns {Row[]}
   */
  scan(table, index, low, high, descending, limit, after) {
    if (index.id < 0) return this.#scanDocs(table, index, low, high, descending, limit, after);
    const { scanUp, scanUpAfter, scanDown } = this.#statements;
    const end = high ?? LAST_KEY;
    const rows = descending
      ? scanDown.all(index.id, low, after?.k ?? end, limit)
      : (after === undefined ? scanUp : scanUpAfter).all(index.id, after?.k ?? low, end, limit);
    return /** @type {Row[]} */ (/** @type {unknown} */ (rows));
  }

  /** As `scan`, for the indexes that are the order of the rows. @param {Table} table @param {Index} index @param {Buffer} low @param {Buffer | null} high @param {boolean} descending @param {number} limit @param {Row} [after] @returns {Row[]} */
  #scanDocs(table, index, low, high, descending, limit, after) {
    const base = table.number * PLACES;
    let first = low.length === 0 ? base : this.#firstAtOrAbove(table, index, low);
    let end = high === null ? base + PLACES : this.#firstAtOrAbove(table, index, high);
    if (after !== undefined && descending) end = after.pk;
    else if (after !== undefined) first = after.pk + 1;
    const { docsUp, docsDown } = this.#statements;
    const rows = (descending ? docsDown : docsUp).all(first, end, limit);
    return /** @type {Row[]} */ (/** @type {unknown} */ (rows));
  }

  /**
   * The first row number of a table whose key is not below `key`: by bisection, since keys rise with row numbers.
   *
   * @param {Table} table
   * @param {Index} index
   * @param {Buffer} key
   */
  #firstAtOrAbove(table, index, key) {
    const base = table.number * PLACES;
    let low = base;
    let high = base + table.nextPlace;
    while (low < high) {
      const middle = low + Math.floor((high - low) / 2);
      const row = /** @type {Row | undefined} */ (
        /** @type {unknown} */ (this.#statements.docsFrom.get(middle, high))
      );
      if (row === undefined) high = middle;
      else if (Buffer.compare(rowKey(index, row), key) < 0) low = row.pk + 1;
      else high = middle;
    }
    return low;
  }

  /**
   * @param {Table} table
   * @param {number} [from]  place in the table
   * @param {number} [to]  exclusive
   * @returns {number} of documents
   */
  count(table, from = 0, to = PLACES) {
    const base = table.number * PLACES;
    return Number(this.#statements.countDocs.get(base + from, base + to)?.n);
  }

  /**
   * @param {Index} index  one with rows
   * @param {Buffer} low  inclusive
   * @param {Buffer} high  exclusive
   * @param {number} most
   * @returns {number} of rows, `most` if there are more
   */
  countKeys(index, low, high, most) {
    return Number(this.#statements.countKeys.get(index.id, low, high, most)?.n);
  }

  /** @param {Table} table @returns {number} characters of its documents as they are stored */
  sizeOf(table) {
    const base = table.number * PLACES;
    return Number(this.#statements.sizeOfDocs.get(base, base + PLACES)?.n);
  }

  /**
   * Every document of a table.
   *
   * @param {Table} table
   * @returns {Generator<Row>}
   */
  *rows(table) {
    for (let after; ;) {
      const rows = this.scan(table, table.byCreationTime, EMPTY_KEY, null, false, PAGE, after);
      yield* rows;
      if (rows.length < PAGE) return;
      after = rows.at(-1);
    }
  }
}

/**
 * @param {number} tableNumber
 * @param {Uint8Array} internal  of a document's id
 * @returns {number} where the document lies
 */
export function rowNumber(tableNumber, internal) {
  let place = 0;
  for (let i = 0; i < PLACE_BYTES; i++) place = place * 256 + /** @type {number} */ (internal[i]);
  return tableNumber * PLACES + place;
}

/**
 * @param {number} place  in its table, from 1 on
 * @param {Uint8Array} internal  of an id, whose first bytes it becomes
 */
export function writePlace(place, internal) {
  for (let i = PLACE_BYTES - 1, rest = place; i >= 0; i--, rest = Math.floor(rest / 256))
    internal[i] = rest % 256;
}

/** @param {{ pk: number }} row @returns {boolean} whether it is the first that its table ever had */
export function isFirstOfTable({ pk }) {
  return pk % PLACES === 1;
}
