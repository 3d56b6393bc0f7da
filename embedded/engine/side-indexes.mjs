/** Indexes whose rows are not one key for each document: of the words in a text, and of vectors. */

import { TextIndex } from "./text-index.mjs";
import { VectorIndex } from "./vector-index.mjs";

/**
 * @typedef {import("./layout.mjs").Statements} Statements
 * @typedef {import("./schema.mjs").SearchIndexDefinition} SearchIndexDefinition
 * @typedef {import("./schema.mjs").VectorIndexDefinition} VectorIndexDefinition
 * @typedef {TextIndex | VectorIndex} SideIndex
 * @typedef {SearchIndexDefinition | VectorIndexDefinition} SideDefinition
 * @typedef {object} SideRows  what an index holds of one document
 * @property {{ term: Buffer, n: number, length: number }[]} postings
 * @property {Uint8Array | null} vector
 * @property {number} tokens  by which it counts in `side_indexes`
 * @typedef {(document: import("./values.mjs").EncodedObject) => SideRows} RowsOf
 */

/**
 * @param {Statements} statements
 * @param {number} id
 * @param {SideDefinition} definition
 * @returns {SideIndex}
 */
export function sideIndex(statements, id, definition) {
  return "searchField" in definition
    ? new TextIndex(statements, id, definition)
    : new VectorIndex(statements, id, definition);
}
