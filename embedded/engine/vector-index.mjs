/** A vector index: the documents' vectors, all of which every search looks at. */

import { filterTerms } from "./filter-terms.mjs";
import { fieldAt } from "./index-keys.mjs";
import { decodeFloat64 } from "./values.mjs";

/**
 * @typedef {import("./layout.mjs").Statements} Statements
 * @typedef {import("./schema.mjs").VectorIndexDefinition} VectorIndexDefinition
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {{ pk: number, score: number }} Match  score: the cosine, -1 to 1
 */

export class VectorIndex {
  /**
   * @param {Statements} statements
   * @param {number} id
   * @param {VectorIndexDefinition} definition
   */
  constructor(statements, id, definition) {
    this.#statements = statements;
    this.id = id;
    this.definition = definition;
    this.#path = definition.vectorField.split(".");
    this.#filterPaths = definition.filterFields.map((field) => field.split("."));
  }

  #statements;
  #path;
  #filterPaths;

  /**
   * Bring the rows of one document from one version to another.
   *
   * @param {number} pk
   * @param {EncodedObject | null} before
   * @param {EncodedObject | null} after
   */
  update(pk, before, after) {
    const { insertVector, deleteVector, insertPosting, deletePosting } = this.#statements;
    const [old, now] = [this.#contents(before), this.#contents(after)];
    if (old !== null && now !== null && old.text === now.text) {
      if (old.terms.every((term, i) => term.equals(/** @type {Buffer} */ (now.terms[i])))) return;
    }
    if (old !== null) {
      deleteVector.run(this.id, pk);
      for (const term of old.terms) deletePosting.run(this.id, term, pk);
    }
    if (now !== null) {
      insertVector.run(this.id, pk, toBytes(normalize(now.vector)));
      for (const term of now.terms) insertPosting.run(this.id, term, pk, 1, 0);
    }
  }

  /** @type {import("./side-indexes.mjs").RowsOf} */
  rowsOf(document) {
    const contents = this.#contents(document);
    if (contents === null) return { postings: [], vector: null, tokens: 0 };
    const postings = contents.terms.map((term) => ({ term, n: 1, length: 0 }));
    return { postings, vector: toBytes(normalize(contents.vector)), tokens: 0 };
  }

  /** Delete all rows. */
  drop() {
    this.#statements.dropVectors.run(this.id);
    this.#statements.dropPostings.run(this.id);
  }

  /** @param {EncodedObject | null} document @returns {{ vector: Float32Array, text: string, terms: Buffer[] } | null} null: it is not in the index */
  #contents(document) {
    const value = document === null ? undefined : fieldAt(document, this.#path);
    if (document === null || !Array.isArray(value) || value.length !== this.definition.dimensions)
      return null;
    const vector = new Float32Array(value.length);
    for (let i = 0; i < value.length; i++) {
      const element = value[i];
      if (typeof element === "number") vector[i] = element;
      else if (typeof element === "object" && element !== null && "$float" in element) {
        vector[i] = decodeFloat64(/** @type {{ $float: string }} */ (element));
      } else return null;
    }
    return { vector, text: JSON.stringify(value), terms: filterTerms(this.#filterPaths, document) };
  }

  /**
   * @param {readonly number[]} vector  of the index's dimensions
   * @param {number} limit
   * @param {readonly Buffer[]} terms  of filters, one of which a document must have; none: all documents
   * @returns {Match[]} the nearest, best first; of equal ones the newest first
   */
  search(vector, limit, terms) {
    const wanted = normalize(Float32Array.from(vector));
    const rows =
      terms.length === 0
        ? this.#statements.allVectors.iterate(this.id)
        : this.#statements.filteredVectors(terms.length).iterate(this.id, this.id, ...terms);
    /** @type {Match[]} */
    let best = [];
    for (const { pk, v } of rows) {
      best.push({ pk: Number(pk), score: dot(wanted, fromBytes(/** @type {Uint8Array} */ (v))) });
      if (best.length >= 4 * limit) best = nearest(best, limit);
    }
    return nearest(best, limit);
  }
}

/**
 * @param {Match[]} matches
 * @param {number} limit
 */
function nearest(matches, limit) {
  return matches.sort((a, b) => b.score - a.score || b.pk - a.pk).slice(0, limit);
}

/** @param {Float32Array} vector @returns {Float32Array} itself, of length 1; a vector of zeros stays as it is */
function normalize(vector) {
  const length = Math.sqrt(dot(vector, vector));
  if (length > 0)
    for (let i = 0; i < vector.length; i++) vector[i] = /** @type {number} */ (vector[i]) / length;
  return vector;
}

/**
 * @param {Float32Array} a
 * @param {Float32Array} b  as long as `a`
 */
function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += /** @type {number} */ (a[i]) * /** @type {number} */ (b[i]);
  return sum;
}

/** @param {Float32Array} vector */
function toBytes(vector) {
  return new Uint8Array(vector.buffer);
}

/** @param {Uint8Array} bytes */
function fromBytes(bytes) {
  const aligned = bytes.byteOffset % Float32Array.BYTES_PER_ELEMENT === 0 ? bytes : bytes.slice();
  return new Float32Array(
    aligned.buffer,
    aligned.byteOffset,
    aligned.byteLength / Float32Array.BYTES_PER_ELEMENT,
  );
}
