/** Says whether the rows of search and vector indexes are those of the documents, as part of the check of a file. */

import { prepareAll } from "./layout.mjs";
import { sideIndex } from "./side-indexes.mjs";

/**
 * @typedef {import("./side-indexes.mjs").SideIndex} SideIndex
 * @typedef {{ side: SideIndex, postings: number, vectors: number, documents: number, tokens: number }} Expected
 */

/** Shown each document once, then finished. */
export class SideIndexCheck {
  /**
   * @param {import("node:sqlite").DatabaseSync} database  of this host's format
   * @param {(problem: string) => void} report
   */
  constructor(database, report) {
    this.#report = report;
    this.#database = database;
    this.#findPosting = database.prepare(
      "SELECT n, length FROM postings WHERE i = ? AND term = ? AND pk = ?",
    );
    this.#findVector = database.prepare("SELECT v FROM vectors WHERE i = ? AND pk = ?");
    const statements = prepareAll(database);
    for (const { id, number, definition, staged } of statements.allSideIndexes.all()) {
      const side = sideIndex(statements, Number(id), {
        ...JSON.parse(String(definition)),
        staged: staged === 1,
      });
      const expected = { side, postings: 0, vectors: 0, documents: 0, tokens: 0 };
      this.#byTable.set(Number(number), [...(this.#byTable.get(Number(number)) ?? []), expected]);
    }
  }

  #report;
  #database;
  #findPosting;
  #findVector;
  /** @type {Map<number, Expected[]>} */
  #byTable = new Map();

  /**
   * Each row that a document must have is there and says the same.
   *
   * @param {number} table
   * @param {number} pk
   * @param {any} document
   */
  checkDocument(table, pk, document) {
    for (const expected of this.#byTable.get(table) ?? []) {
      const { id, definition } = expected.side;
      const { postings, vector, tokens } = expected.side.rowsOf(document);
      expected.documents += 1;
      expected.tokens += tokens;
      expected.postings += postings.length;
      const wrong = postings.filter(({ term, n, length }) => {
        const row = this.#findPosting.get(id, term, pk);
        return row?.n !== n || row.length !== length;
      });
      if (wrong.length > 0)
        this.#report(`document ${document._id} has ${wrong.length} wrong rows in index ${definition.name}`);
      if (vector === null) continue;
      expected.vectors += 1;
      const row = this.#findVector.get(id, pk);
      if (row === undefined || !Buffer.from(vector).equals(/** @type {Uint8Array} */ (row.v)))
        this.#report(`document ${document._id} has a wrong vector in index ${definition.name}`);
    }
  }

  /**
   * No index has more rows than its documents have, and the sizes that it keeps are theirs.
   *
   * @returns {number} rows in all
   */
  finish() {
    const postings = this.#count("postings");
    const vectors = this.#count("vectors");
    const rows = [...postings.values(), ...vectors.values()].reduce((sum, n) => sum + n, 0);
    const sizes = this.#database.prepare("SELECT documents, tokens FROM side_indexes WHERE id = ?");
    for (const expected of [...this.#byTable.values()].flat()) {
      const { id, definition } = expected.side;
      const found = { postings: postings.get(id) ?? 0, vectors: vectors.get(id) ?? 0 };
      for (const kind of /** @type {const} */ (["postings", "vectors"])) {
        if (found[kind] !== expected[kind])
          this.#report(`index ${definition.name} has ${found[kind]} ${kind}, not ${expected[kind]}`);
      }
      postings.delete(id);
      vectors.delete(id);
      if (!("searchField" in definition)) continue; // a vector index keeps no sizes
      const { documents, tokens } = sizes.get(id) ?? {};
      if (documents !== expected.documents || tokens !== expected.tokens)
        this.#report(
          `index ${definition.name} counts ${documents} documents and ${tokens} words, not ${expected.documents} and ${expected.tokens}`,
        );
    }
    for (const id of [...postings.keys(), ...vectors.keys()])
      this.#report(`search or vector rows belong to index ${id}, which is not there`);
    return rows;
  }

  /** @param {"postings" | "vectors"} table @returns {Map<number, number>} rows by index */
  #count(table) {
    const counts = this.#database.prepare(`SELECT i, count(*) AS n FROM ${table} GROUP BY i`).all();
    return new Map(counts.map(({ i, n }) => [Number(i), Number(n)]));
  }
}
