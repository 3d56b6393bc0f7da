/** Reads what `schema.export()` declares, refuses what Convex refuses, and checks documents against it. */

/**
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {import("./validators.mjs").TableNumbers} TableNumbers
 * @typedef {{ name: string, fields: string[] }} IndexDefinition  fields as declared, dotted paths, without the implicit `_creationTime`
 * @typedef {object} TableDefinition
 * @property {string} name
 * @property {IndexDefinition[]} indexes  usable in queries
 * @property {IndexDefinition[]} stagedIndexes  declared, kept, refused in queries
 * @property {{ name: string, searchField: string, filterFields: string[], staged: boolean }[]} searchIndexes
 * @property {{ name: string, vectorField: string, dimensions: number, filterFields: string[], staged: boolean }[]} vectorIndexes
 * @property {import("./validators.mjs").Validator} validator
 * @typedef {{ schemaValidation: boolean, tables: Map<string, TableDefinition> }} Schema
 * @typedef {{ addedTables: string[], removedTables: string[], addedIndexes: { table: string, index: IndexDefinition }[],
 *   removedIndexes: { table: string, index: IndexDefinition }[] }} SchemaDiff  indexes of added and removed tables included; a changed index is removed and added
 */

/** A schema that Convex refuses; the message is one line, `<Code>: <reason>`. */
export class SchemaError extends Error {
  /** @param {string} code @param {string} reason */
  constructor(code, reason) { super(`${code}: ${reason}`); this.code = code; }
}

/** @param {string | null} json  what `schema.default.export()` returned; null: the folder has no schema @returns {Schema} @throws {SchemaError} */
export function parseSchema(json) { return { schemaValidation: false, tables: new Map() }; }
/** @param {Schema} before @param {Schema} after @returns {SchemaDiff} */
export function diffSchema(before, after) { return { addedTables: [], removedTables: [], addedIndexes: [], removedIndexes: [] }; }
/** @param {Schema} schema @param {string} table @param {EncodedObject} document with system fields @param {TableNumbers} ctx @returns {string | null} */
export function checkDocument(schema, table, document, ctx) { return null; }
/** @param {Schema} schema @param {string} table @param {EncodedObject} document already stored @param {TableNumbers} ctx @returns {string | null} */
export function checkStoredDocument(schema, table, document, ctx) { return null; }
