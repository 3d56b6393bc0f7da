/**
 * A search index: which words stand in the documents' texts, and how well a document answers a search.
 *
 * An inverted index of our own instead of FTS5: Convex weighs each word that a prefix stands for by itself and at half, takes at
 * most 64 words, and holds filter values among the words. SQLite sees plain rows, so savepoints, and a schema that comes and
 * goes, need nothing special.
 */

import { filterTerms } from "./filter-terms.mjs";
import { fieldAt } from "./index-keys.mjs";
import { encodeIndexKey, keySuccessor } from "./values.mjs";
import { tokenize } from "./tokenizer.mjs";

/**
 * @typedef {import("./layout.mjs").Statements} Statements
 * @typedef {import("./schema.mjs").SearchIndexDefinition} SearchIndexDefinition
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {{ words: string[], filters: Buffer[] }} TextQuery  words: in lower case, the last one may be the beginning of a word
 * @typedef {{ pk: number, score: number }} Match
 */

const WORD_TERM = Buffer.of(0x00);
const MAX_TERMS = 64; // distinct words and filter values of one search
const PREFIX_WEIGHT = 0.5;
// BM25 as Tantivy has it
const K1 = 1.2;
const B = 0.75;
const EXACT_LENGTHS = 24; // the byte of a text's length is exact below, and then rounds down to 4 significant bits
const READ_SET_IDS = 2 ** 40; // of search indexes in read sets, above those of all other indexes

export class TextIndex {
  /**
   * @param {Statements} statements
   * @param {number} id
   * @param {SearchIndexDefinition} definition
   */
  constructor(statements, id, definition) {
    this.#statements = statements;
    this.id = id;
    this.definition = definition;
    this.#path = definition.searchField.split(".");
    this.#filterPaths = definition.filterFields.map((field) => field.split("."));
    this.readSetId = READ_SET_IDS + id;
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
    const [old, now] = [this.#postings(before), this.#postings(after)];
    const { insertPosting, deletePosting, addToSideIndex } = this.#statements;
    for (const [key, { term, count }] of old.terms) {
      const kept = now.terms.get(key);
      if (kept?.count === count && old.length === now.length) now.terms.delete(key);
      else deletePosting.run(this.id, term, pk);
    }
    for (const { term, count } of now.terms.values()) {
      insertPosting.run(this.id, term, pk, count, lengthByte(now.length));
    }
    const documents = Number(after !== null) - Number(before !== null);
    const tokens = now.length - old.length;
    if (documents !== 0 || tokens !== 0) addToSideIndex.run(documents, tokens, this.id);
  }

  /** @type {import("./side-indexes.mjs").RowsOf} */
  rowsOf(document) {
    const { terms, length } = this.#postings(document);
    const postings = Array.from(terms.values(), ({ term, count }) => ({
      term,
      n: count,
      length: lengthByte(length),
    }));
    return { postings, vector: null, tokens: length };
  }

  /** Delete all rows. */
  drop() {
    this.#statements.dropPostings.run(this.id);
  }

  /**
   * @param {EncodedObject | null} document
   * @returns {{ terms: Map<string, { term: Buffer, count: number }>, length: number }} length: in words
   */
  #postings(document) {
    /** @type {Map<string, { term: Buffer, count: number }>} */
    const terms = new Map();
    if (document === null) return { terms, length: 0 };
    const words = this.words(document);
    for (const word of words) {
      const known = terms.get(word);
      if (known === undefined) terms.set(word, { term: wordTerm(word), count: 1 });
      else known.count += 1;
    }
    for (const term of filterTerms(this.#filterPaths, document)) {
      terms.set(`\0${term.toString("latin1")}`, { term, count: 1 });
    }
    return { terms, length: words.length };
  }

  /** @param {EncodedObject} document @returns {string[]} of the indexed text, repeated ones too */
  words(document) {
    const text = fieldAt(document, this.#path);
    return typeof text === "string" ? tokenize(text) : [];
  }

  /**
   * The keys under which a document is found in read sets: its words.
   *
   * @param {EncodedObject | null} document
   * @returns {Buffer[]}
   */
  readKeys(document) {
    return document === null ? [] : [...new Set(this.words(document))].map((word) => encodeIndexKey([word]));
  }

  /**
   * What a search depends on, as ranges of `readKeys`.
   *
   * @param {TextQuery} query
   * @returns {{ low: Buffer, high: Buffer | null }[]}
   */
  readRanges({ words }) {
    return words.map((word, i) => {
      const key = encodeIndexKey([word]);
      const low = i === words.length - 1 ? key.subarray(0, -1) : key; // a text's key ends with one byte of its own
      return { low, high: keySuccessor(low) };
    });
  }

  /**
   * @param {TextQuery} query
   * @returns {Match[]} each document with one of the words and all of the filters' values, in no order
   */
  search({ words, filters }) {
    const size = this.#statements.getSideIndex.get(this.id);
    const documents = Number(size?.documents);
    const averageLength = Number(size?.tokens) / documents;
    /** @type {Map<number, number>} */
    const scores = new Map();
    for (const { term, weight } of this.#terms(words, filters.length)) {
      const frequency = Number(this.#statements.countPostings.get(this.id, term)?.n);
      const rarity = Math.log(1 + (documents - frequency + 0.5) / (frequency + 0.5)) * (1 + K1) * weight;
      const postings = this.#statements.postings(filters.length);
      for (const { pk, n, length } of postings.iterate(...filters, this.id, term)) {
        const norm = K1 * (1 - B + (B * byteLength(Number(length))) / averageLength);
        const score = (rarity * Number(n)) / (Number(n) + norm);
        scores.set(Number(pk), (scores.get(Number(pk)) ?? 0) + score);
      }
    }
    return Array.from(scores, ([pk, score]) => ({ pk, score: Math.fround(score) }));
  }

  /**
   * The words that are looked for: those that are there, and then, in alphabetical order, those that begin with the last one.
   *
   * @param {string[]} words
   * @param {number} filters  how many terms those take
   * @returns {{ term: Buffer, weight: number }[]}
   */
  #terms(words, filters) {
    const { countPostings, nextTerm } = this.#statements;
    const exact = [...new Set(words)].map(wordTerm);
    const found = exact
      .filter((term) => Number(countPostings.get(this.id, term)?.n) > 0)
      .map((term) => ({ term, weight: 1 }));
    const prefix = wordTerm(words.at(-1) ?? "");
    const end = /** @type {Buffer} */ (keySuccessor(prefix));
    for (let last = prefix; found.length + filters < MAX_TERMS;) {
      const row = nextTerm.get(this.id, last, end);
      if (row === undefined) break;
      const term = Buffer.from(/** @type {Uint8Array} */ (row.term));
      if (!exact.some((known) => known.equals(term))) found.push({ term, weight: PREFIX_WEIGHT });
      last = term;
    }
    return found;
  }
}

/** @param {string} word */
function wordTerm(word) {
  return Buffer.concat([WORD_TERM, Buffer.from(word)]);
}

/**
 * A text's length in one byte, as Lucene and Tantivy keep it: equal bytes make equal scores, which then sort by age.
 *
 * @param {number} length  in words
 * @returns {number} 0 to 255
 */
export function lengthByte(length) {
  if (length < EXACT_LENGTHS + 16) return length;
  const rest = length - EXACT_LENGTHS;
  const shift = Math.floor(Math.log2(rest)) - 3;
  return EXACT_LENGTHS + (((shift + 1) << 3) | ((rest >>> shift) & 7));
}

/** @param {number} byte @returns {number} the smallest length that has this byte */
export function byteLength(byte) {
  if (byte < EXACT_LENGTHS + 16) return byte;
  const packed = byte - EXACT_LENGTHS;
  return EXACT_LENGTHS + ((8 | (packed & 7)) << ((packed >>> 3) - 1));
}
