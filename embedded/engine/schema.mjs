/** Reads what `schema.export()` declares, refuses what Convex refuses, and checks documents against it. */

import { compileValidator, printValidator, ValidatorError } from "./validators.mjs";

/**
 * @typedef {import("./values.mjs").EncodedObject} EncodedObject
 * @typedef {import("./validators.mjs").TableNumbers} TableNumbers
 * @typedef {import("./validators.mjs").Validator} Validator
 * @typedef {import("./validators.mjs").ValidatorJson} ValidatorJson
 * @typedef {{ name: string, fields: string[] }} IndexDefinition  fields: dotted paths as declared, without the implicit `_creationTime`
 * @typedef {{ name: string, searchField: string, filterFields: string[], staged: boolean }} SearchIndexDefinition
 * @typedef {{ name: string, vectorField: string, dimensions: number, filterFields: string[], staged: boolean }} VectorIndexDefinition
 * @typedef {object} TableDefinition
 * @property {string} name
 * @property {IndexDefinition[]} indexes  usable in queries
 * @property {IndexDefinition[]} stagedIndexes  declared only; queries refuse them
 * @property {SearchIndexDefinition[]} searchIndexes
 * @property {VectorIndexDefinition[]} vectorIndexes
 * @property {Validator} validator
 * @typedef {{ schemaValidation: boolean, tables: Map<string, TableDefinition> }} Schema
 */

const MAX_TABLES = 10_000;
const MAX_INDEXES = 64;
const MAX_INDEX_FIELDS = 16;
const MAX_FILTER_FIELDS = 16;
const MAX_IDENTIFIER = 64;
const MIN_DIMENSIONS = 2;
const MAX_DIMENSIONS = 4096;
const SCHEMA_DOCS =
  "To learn more, see the schema documentation at https://docs.convex.dev/database/schemas.";

/** A schema that Convex refuses; the message is one line, `<code>: <reason>`. */
export class SchemaError extends Error {
  /**
   * @param {string} code  Convex's name of the error
   * @param {string} reason
   */
  constructor(code, reason) {
    super(`${code}: ${reason}`);
    this.code = code;
  }
}

/**
 * @param {string | null} json  what `schema.default.export()` returned; null: the functions folder has no schema
 * @returns {Schema}
 * @throws {SchemaError}
 */
export function parseSchema(json) {
  if (json === null) return { schemaValidation: false, tables: new Map() };
  const declared = JSON.parse(json);
  if (declared.tables.length > MAX_TABLES) {
    throw new SchemaError("TooManyTables", `Number of tables cannot exceed ${MAX_TABLES}.`);
  }
  /** @type {Schema} */
  const schema = { schemaValidation: declared.schemaValidation ?? false, tables: new Map() };
  for (const declaration of declared.tables) {
    const table = parseTable(declaration);
    schema.tables.set(table.name, table);
    if (schema.schemaValidation) checkIndexReferences(table);
  }
  return schema;
}

/**
 * @param {any} declaration
 * @returns {TableDefinition}
 */
function parseTable(declaration) {
  const name = declaration.tableName;
  checkTableName(name);
  const table = {
    name,
    indexes: parseIndexes(declaration.indexes),
    stagedIndexes: parseIndexes(declaration.stagedDbIndexes ?? []),
    searchIndexes: bothStages(declaration.searchIndexes, declaration.stagedSearchIndexes, parseSearchIndex),
    vectorIndexes: bothStages(declaration.vectorIndexes, declaration.stagedVectorIndexes, parseVectorIndex),
    validator: compileDocumentValidator(declaration.documentType ?? { type: "any" }),
  };
  checkIndexes(table);
  return table;
}

/**
 * @template T
 * @param {any[] | undefined} active
 * @param {any[] | undefined} staged
 * @param {(declaration: any, staged: boolean) => T} parse
 */
function bothStages(active = [], staged = [], parse) {
  return [...active.map((one) => parse(one, false)), ...staged.map((one) => parse(one, true))];
}

/** @param {string} name */
function checkTableName(name) {
  if (!isIdentifier(name)) {
    throw new SchemaError(
      "InvalidTableName",
      `Invalid table name: "${name}". Identifiers must start with a letter and can only contain letters, digits, and underscores.`,
    );
  }
  if (name.startsWith("_")) throw new SchemaError("TableNameReserved", `${name} is a reserved table name.`);
}

/** @param {string} name */
function isIdentifier(name) {
  return name.length <= MAX_IDENTIFIER && /^_*[A-Za-z][A-Za-z0-9_]*$|^_+[0-9][A-Za-z0-9_]*$/.test(name);
}

/** @param {any[]} declarations @returns {IndexDefinition[]} */
function parseIndexes(declarations) {
  return declarations.map(({ indexDescriptor: name, fields }) => {
    checkIndexName(name);
    const paths = fields.map((/** @type {string} */ field) => parseFieldPath(name, field));
    checkIndexFields(paths);
    return { name, fields: paths };
  });
}

/** @param {any} declaration @param {boolean} staged @returns {SearchIndexDefinition} */
function parseSearchIndex({ indexDescriptor: name, searchField, filterFields }, staged) {
  checkIndexName(name);
  return {
    name,
    searchField: parseFieldPath(name, searchField),
    filterFields: parseFilterFields(name, filterFields),
    staged,
  };
}

/** @param {any} declaration @param {boolean} staged @returns {VectorIndexDefinition} */
function parseVectorIndex({ indexDescriptor: name, vectorField, dimensions, filterFields }, staged) {
  checkIndexName(name);
  if (!Number.isInteger(dimensions) || dimensions < MIN_DIMENSIONS || dimensions > MAX_DIMENSIONS) {
    throw new SchemaError(
      "InvalidVectorDimensionError",
      `Dimensions ${dimensions} must be between ${MIN_DIMENSIONS} and ${MAX_DIMENSIONS}.`,
    );
  }
  return {
    name,
    vectorField: parseFieldPath(name, vectorField),
    dimensions,
    filterFields: parseFilterFields(name, filterFields),
    staged,
  };
}

/** @param {string} index @param {string[]} fields */
function parseFilterFields(index, fields) {
  const paths = [...new Set(fields.map((field) => parseFieldPath(index, field)))];
  if (paths.length > MAX_FILTER_FIELDS) {
    throw new SchemaError(
      "IndexTooManyFilterFields",
      `Search indexes may have up to ${MAX_FILTER_FIELDS} filter fields.`,
    );
  }
  return paths;
}

/** @param {string} name */
function checkIndexName(name) {
  if (!isIdentifier(name)) {
    throw new SchemaError(
      "InvalidIndexName",
      `Invalid index name: "${name}". Identifiers must be 64 characters or less, start with a letter, and only contain letters, digits, underscores.`,
    );
  }
}

/** @param {string} index @param {string} field @returns {string} */
function parseFieldPath(index, field) {
  const path = field.replace(/^\.+|\.+$/g, "");
  if (!path.split(".").every(isIdentifier)) {
    throw new SchemaError("InvalidIndexField", `In index "${index}": Invalid index field: "${field}"`);
  }
  return path;
}

/** @param {string[]} fields */
function checkIndexFields(fields) {
  if (fields.length > MAX_INDEX_FIELDS) {
    throw new SchemaError("IndexTooManyFields", `Indexes may have up to ${MAX_INDEX_FIELDS} fields.`);
  }
  const seen = new Set();
  for (const field of fields) {
    if (field === "_id") {
      throw new SchemaError(
        "IndexFieldsContainId",
        "`_id` is not a valid index field. To load documents by ID, use `db.get(id)`.",
      );
    }
    if (field === "_creationTime") {
      throw new SchemaError(
        "IndexFieldsContainCreationTime",
        "`_creationTime` is automatically added to the end of each index. It should not be added explicitly in the index definition. See https://docs.convex.dev/using/indexes for more details.",
      );
    }
    if (field.startsWith("_")) {
      throw new SchemaError(
        "IndexFieldNameReserved",
        "Reserved fields (starting with `_`) are not allowed in indexes.",
      );
    }
    if (seen.has(field)) {
      throw new SchemaError(
        "FieldsNotUniqueWithinIndex",
        `Duplicate field "${field}". Index fields must be unique within an index.`,
      );
    }
    seen.add(field);
  }
}

/** @param {TableDefinition} table */
function checkIndexes(table) {
  const { name, indexes, stagedIndexes, searchIndexes, vectorIndexes } = table;
  const all = [...indexes, ...stagedIndexes, ...searchIndexes, ...vectorIndexes];
  if (all.length > MAX_INDEXES) {
    throw new SchemaError("TooManyIndexes", `Table "${name}" cannot have more than ${MAX_INDEXES} indexes.`);
  }
  for (const index of [...indexes, ...stagedIndexes]) {
    if (index.fields.length === 0) {
      const staged = stagedIndexes.includes(index) ? "staged " : "";
      throw new SchemaError(
        "EmptyIndex",
        `In table "${name}" ${staged}index "${index.name}" must have at least one field.`,
      );
    }
  }
  checkIndexNames(name, all);
  refuseTwins(
    [...indexes, ...stagedIndexes],
    (index) => index.fields.join(),
    (one, other) =>
      new SchemaError(
        "IndexNotUnique",
        `In table "${name}" index "${one}" and index "${other}" have the same fields. Indexes must be unique within a table.`,
      ),
  );
  refuseTwins(
    searchIndexes,
    (index) => [index.searchField, ...index.filterFields.toSorted()].join(),
    (one, other) =>
      new SchemaError(
        "SearchIndexFieldNotUnique",
        `In table "${name}" search index "${one}" and search index "${other}" have the same \`searchField\`. Search index fields must be unique within a table. ${combining("searchField")}`,
      ),
  );
  refuseTwins(
    vectorIndexes,
    (index) => `${index.vectorField},${index.dimensions}`,
    (one, other) =>
      new SchemaError(
        "VectorIndexFieldNotUnique",
        `In table "${name}" vector index "${one}" and vector index "${other}" have the same \`vectorField\`. Vector index fields must be unique within a table. ${combining("vectorField")}`,
      ),
  );
}

/** @param {string} field */
function combining(field) {
  return `You should combine the indexes with the same \`${field}\` into one index containing all \`filterField\`s and then use different subsets of the \`filterField\`s at query time.`;
}

/**
 * @param {string} table
 * @param {{ name: string }[]} indexes
 */
function checkIndexNames(table, indexes) {
  const seen = new Set();
  for (const { name } of indexes) {
    if (name.startsWith("_") || name === "by_id" || name === "by_creation_time") {
      throw new SchemaError(
        "IndexNameReserved",
        `In table "${table}" cannot name an index "${name}" because the name is reserved. Indexes may not start with an underscore or be named "by_id" or "by_creation_time".`,
      );
    }
    if (seen.has(name)) {
      throw new SchemaError(
        "IndexNamesNotUnique",
        `Table "${table}" has two or more definitions of index "${name}".`,
      );
    }
    seen.add(name);
  }
}

/**
 * @template {{ name: string }} T
 * @param {T[]} indexes
 * @param {(index: T) => string} content
 * @param {(one: string, other: string) => SchemaError} error
 */
function refuseTwins(indexes, content, error) {
  /** @type {Map<string, string>} */
  const seen = new Map();
  for (const index of indexes) {
    const twin = seen.get(content(index));
    if (twin !== undefined) throw error(index.name, twin);
    seen.set(content(index), index.name);
  }
}

/** @param {ValidatorJson} json */
function compileDocumentValidator(json) {
  const cases = json.type === "union" ? /** @type {ValidatorJson[]} */ (json.value) : [json];
  const objects = cases.every((one) => one.type === "object");
  if (!objects && json.type !== "any") {
    throw new SchemaError(
      "InvalidTopLevelTypeInSchemaError",
      `The document validator in a schema must be an object, a union of objects, or \`v.any()\`. Found ${printValidator(json)}. ${SCHEMA_DOCS}`,
    );
  }
  try {
    return compileValidator(json, { document: true });
  } catch (error) {
    if (!(error instanceof ValidatorError)) throw error;
    throw new SchemaError(error.code, error.message);
  }
}

/** @param {TableDefinition} table */
function checkIndexReferences({ name, indexes, stagedIndexes, searchIndexes, vectorIndexes, validator }) {
  const references = [
    ...[...indexes, ...stagedIndexes].map((index) => ({ index: index.name, fields: index.fields })),
    ...searchIndexes.map((index) => ({
      index: index.name,
      fields: [index.searchField, ...index.filterFields],
    })),
    ...vectorIndexes.map((index) => ({ index: index.name, fields: [index.vectorField] })),
  ];
  for (const { index, fields } of references) {
    const absent = fields.find((field) => !canContain(validator.json, field.split(".")));
    if (absent !== undefined) {
      throw new SchemaError(
        "SchemaDefinitionError",
        `In table "${name}" the index "${index}" is invalid because it references the field "${absent}" that does not exist.`,
      );
    }
  }
  for (const index of vectorIndexes) {
    if (!canBeVector(validator.json, index.vectorField.split("."))) {
      throw new SchemaError(
        "SchemaDefinitionError",
        `In table "${name}" the vector index "${index.name}" is invalid because it references the field "${index.vectorField}" that is neither an array of float64 or optional array of float64.`,
      );
    }
  }
}

/**
 * @param {ValidatorJson} json
 * @param {string[]} path
 * @returns {boolean} whether some value that fits has an array of float64 there
 */
function canBeVector(json, path) {
  const [field, ...rest] = path;
  if (json.type === "any") return true;
  if (json.type === "union") {
    return json.value.some((/** @type {ValidatorJson} */ member) => canBeVector(member, path));
  }
  if (field === undefined) {
    return json.type === "array" && (json.value.type === "number" || json.value.type === "any");
  }
  return (
    json.type === "object" &&
    (!Object.hasOwn(json.value, field) || canBeVector(json.value[field].fieldType, rest))
  );
}

/**
 * @param {ValidatorJson} json
 * @param {string[]} path
 * @returns {boolean} whether some value that fits has a field there
 */
function canContain(json, path) {
  const [field, ...rest] = path;
  if (field === undefined || json.type === "any") return true;
  if (json.type === "union") {
    return json.value.some((/** @type {ValidatorJson} */ member) => canContain(member, path));
  }
  if (json.type !== "object" || !Object.hasOwn(json.value, field)) return false;
  return canContain(json.value[field].fieldType, rest);
}

/**
 * @param {Schema} schema
 * @param {string} table
 * @param {EncodedObject} document  about to be stored; its system fields are passed over
 * @param {TableNumbers} tables
 * @returns {string | null} Convex's error text; null when it fits or nothing is declared about it
 */
export function checkDocument(schema, table, document, tables) {
  const error = validate(schema, table, document, tables);
  if (error === null) return null;
  return `Failed to insert or update a document in table "${table}" because it does not match the schema: ${error}`;
}

/**
 * As `checkDocument`, for a document that lies in the table when the schema comes.
 *
 * @param {Schema} schema
 * @param {string} table
 * @param {EncodedObject} document
 * @param {TableNumbers} tables
 * @returns {string | null}
 */
export function checkStoredDocument(schema, table, document, tables) {
  const error = validate(schema, table, document, tables);
  if (error === null) return null;
  return `Document with ID "${String(document._id)}" in table "${table}" does not match the schema: ${error}`;
}

/**
 * @param {Schema} schema
 * @param {string} table
 * @param {EncodedObject} document
 * @param {TableNumbers} tables
 */
function validate(schema, table, document, tables) {
  if (!schema.schemaValidation) return null;
  return schema.tables.get(table)?.validator.check(document, tables) ?? null;
}
