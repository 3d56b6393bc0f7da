/** The schema that is served, in the form in which Convex keeps a schema and tells it: everything is there, in order of the names. */

/**
 * @typedef {{ indexDescriptor: string, fields: string[] }} Index
 * @typedef {{ indexDescriptor: string, searchField: string, filterFields: string[] }} SearchIndex
 * @typedef {{ indexDescriptor: string, vectorField: string, dimensions: number, filterFields: string[] }} VectorIndex
 */

/**
 * @param {string} declared  what `schema.default.export()` returned
 * @returns {string} JSON text
 */
export function describeSchema(declared) {
  const { tables, schemaValidation = false } = JSON.parse(declared);
  return JSON.stringify({
    tables: sorted(tables, "tableName").map(describeTable),
    schemaValidation,
  });
}

/** Older versions of npm `convex` do not declare every list. @param {any} table */
function describeTable(table) {
  return {
    tableName: table.tableName,
    indexes: describeAll(table.indexes, describeIndex),
    stagedDbIndexes: describeAll(table.stagedDbIndexes, describeIndex),
    searchIndexes: describeAll(table.searchIndexes, describeSearchIndex),
    stagedSearchIndexes: describeAll(table.stagedSearchIndexes, describeSearchIndex),
    vectorIndexes: describeAll(table.vectorIndexes, describeVectorIndex),
    stagedVectorIndexes: describeAll(table.stagedVectorIndexes, describeVectorIndex),
    documentType: table.documentType ?? null,
  };
}

/**
 * @template T
 * @param {T[] | undefined} indexes
 * @param {(index: T) => object} describe
 */
function describeAll(indexes = [], describe) {
  return sorted(indexes, "indexDescriptor").map(describe);
}

/** @param {Index} index */
function describeIndex({ indexDescriptor, fields }) {
  return { indexDescriptor, fields: [...fields, "_creationTime"] };
}

/** @param {SearchIndex} index */
function describeSearchIndex({ indexDescriptor, searchField, filterFields }) {
  return { indexDescriptor, searchField, filterFields: [...filterFields].sort() };
}

/** @param {VectorIndex} index */
function describeVectorIndex({ indexDescriptor, vectorField, dimensions, filterFields }) {
  return {
    indexDescriptor,
    vectorField,
    dimensions,
    dimension: null, // an older name of `dimensions`, which Convex tells too
    filterFields: [...filterFields].sort(),
  };
}

/**
 * @param {any[]} items
 * @param {string} name  the property that holds it
 */
function sorted(items, name) {
  return [...items].sort((one, other) => (one[name] < other[name] ? -1 : 1));
}
