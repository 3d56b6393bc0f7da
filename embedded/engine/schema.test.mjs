import { defineSchema, defineTable } from "convex/server";
import { v } from "convex/values";
import { describe, expect, test } from "vitest";
import { checkDocument, checkStoredDocument, parseSchema, SchemaError } from "./schema.mjs";

const tables = { tableNumberOf: () => null, tableNameOf: () => null };
const FIELDS = { a: v.string(), b: v.optional(v.object({ c: v.string() })), list: v.array(v.float64()) };

function parse(definitions, options) {
  return parseSchema(defineSchema(definitions, options).export());
}

/** A table whose definition is written by hand, for what the types of `defineTable` do not let through. */
function table(change) {
  return () => {
    const definition = defineTable(FIELDS);
    change(definition);
    return parse({ t: definition });
  };
}

function manyIndexes(count) {
  const definition = defineTable(v.any());
  for (let i = 0; i < count; i++) definition.index(`by_f${i}`, [`f${i}`]);
  return () => parse({ t: definition });
}

function names(count) {
  return Array.from({ length: count }, (_, i) => `f${i}`);
}

function tablesNamed(all) {
  return Object.fromEntries(all.map((name) => [name, defineTable(v.any())]));
}

describe("a schema", () => {
  test("is read with its tables, indexes and the indexes that queries may not use yet", () => {
    const schema = parse({
      tasks: defineTable(FIELDS)
        .index("by_a", ["a", "b.c"])
        .index("by_b", { fields: ["b"], staged: true })
        .searchIndex("search_a", { searchField: "a", filterFields: ["b.c"] })
        .vectorIndex("by_list", { vectorField: "list", dimensions: 3, staged: true }),
      notes: defineTable(v.union(v.object({ x: v.null() }), v.object({ y: v.null() }))).index("by_y", ["y"]),
      anything: defineTable(v.any()).index("by_z", ["deep.z"]),
    });
    expect(schema.schemaValidation).toBe(true);
    expect([...schema.tables.keys()]).toEqual(["tasks", "notes", "anything"]);
    expect(schema.tables.get("tasks")).toMatchObject({
      indexes: [{ name: "by_a", fields: ["a", "b.c"] }],
      stagedIndexes: [{ name: "by_b", fields: ["b"] }],
      searchIndexes: [{ name: "search_a", searchField: "a", filterFields: ["b.c"], staged: false }],
      vectorIndexes: [
        { name: "by_list", vectorField: "list", dimensions: 3, filterFields: [], staged: true },
      ],
    });
  });

  test("that is missing declares nothing", () => {
    expect(parseSchema(null)).toEqual({ schemaValidation: false, tables: new Map() });
  });

  test("may have 64 indexes in a table, 16 fields in an index and names of 64 characters", () => {
    expect(manyIndexes(64)().tables.get("t")?.indexes).toHaveLength(64);
    const sixteen = names(16);
    const schema = parse({ ["t".repeat(64)]: defineTable(v.any()).index("i".repeat(64), sixteen) });
    expect(schema.tables.get("t".repeat(64))?.indexes[0]?.fields).toEqual(sixteen);
  });

  test("may have 10000 tables, 16 filter fields and vectors of 2 to 4096 dimensions", () => {
    expect(parse(tablesNamed(names(10_000))).tables.size).toBe(10_000);
    const definition = defineTable(v.any())
      .searchIndex("s", { searchField: "a", filterFields: names(16) })
      .vectorIndex("v1", { vectorField: "list", dimensions: 2 })
      .vectorIndex("v2", { vectorField: "list", dimensions: 4096 });
    expect(parse({ t: definition }).tables.get("t")).toMatchObject({
      searchIndexes: [{ filterFields: names(16) }],
      vectorIndexes: [{ dimensions: 2 }, { dimensions: 4096 }],
    });
  });

  test.each([
    ["EmptyIndex", table((t) => t.index("i", [])), 'In table "t" index "i" must have at least one field.'],
    [
      "EmptyIndex",
      table((t) => t.index("i", { fields: [], staged: true })),
      'In table "t" staged index "i" must',
    ],
    ["FieldsNotUniqueWithinIndex", table((t) => t.index("i", ["a", "a"])), 'Duplicate field "a".'],
    [
      "IndexNotUnique",
      table((t) => t.index("i", ["a"]).index("j", ["a"])),
      'index "j" and index "i" have the same fields',
    ],
    ["IndexFieldsContainId", table((t) => t.index("i", ["_id"])), "use `db.get(id)`"],
    [
      "IndexFieldsContainCreationTime",
      table((t) => t.index("i", ["a", "_creationTime"])),
      "is automatically added",
    ],
    ["IndexFieldNameReserved", table((t) => t.index("i", ["_x"])), "Reserved fields"],
    ["IndexNameReserved", table((t) => t.index("by_id", ["a"])), 'cannot name an index "by_id"'],
    [
      "IndexNameReserved",
      table((t) => t.index("by_creation_time", ["a"])),
      'cannot name an index "by_creation_time"',
    ],
    ["IndexNameReserved", table((t) => t.index("_i", ["a"])), 'cannot name an index "_i"'],
    [
      "IndexNamesNotUnique",
      table((t) => t.index("i", ["a"]).searchIndex("i", { searchField: "a" })),
      'definitions of index "i"',
    ],
    ["InvalidIndexName", table((t) => t.index("by-a", ["a"])), 'Invalid index name: "by-a"'],
    ["InvalidIndexName", table((t) => t.index("i".repeat(65), ["a"])), "64 characters or less"],
    ["InvalidIndexField", table((t) => t.index("i", ["a..b"])), 'Invalid index field: "a..b"'],
    ["IndexTooManyFields", table((t) => t.index("i", names(17))), "up to 16 fields"],
    [
      "IndexTooManyFilterFields",
      table((t) => t.searchIndex("i", { searchField: "a", filterFields: names(17) })),
      "up to 16 filter fields",
    ],
    ["TooManyIndexes", manyIndexes(65), 'Table "t" cannot have more than 64 indexes.'],
    [
      "SearchIndexFieldNotUnique",
      table((t) => t.searchIndex("i", { searchField: "a" }).searchIndex("j", { searchField: "a" })),
      "same `searchField`",
    ],
    [
      "VectorIndexFieldNotUnique",
      table((t) =>
        t
          .vectorIndex("i", { vectorField: "list", dimensions: 2 })
          .vectorIndex("j", { vectorField: "list", dimensions: 2 }),
      ),
      "same `vectorField`",
    ],
    [
      "InvalidVectorDimensionError",
      table((t) => t.vectorIndex("i", { vectorField: "list", dimensions: 1 })),
      "Dimensions 1 must be between 2 and 4096.",
    ],
    [
      "InvalidVectorDimensionError",
      table((t) => t.vectorIndex("i", { vectorField: "list", dimensions: 4097 })),
      "Dimensions 4097 must be between 2 and 4096.",
    ],
    [
      "SchemaDefinitionError",
      table((t) => t.index("by_no", ["no"])),
      'the index "by_no" is invalid because it references the field "no" that does not exist.',
    ],
    ["SchemaDefinitionError", table((t) => t.index("by_no", ["b.no"])), 'references the field "b.no"'],
    [
      "SchemaDefinitionError",
      () =>
        parse({
          t: defineTable({ texts: v.array(v.string()) }).vectorIndex("i", {
            vectorField: "texts",
            dimensions: 2,
          }),
        }),
      'the vector index "i" is invalid because it references the field "texts" that is neither an array of float64 or optional array of float64.',
    ],
    [
      "SchemaDefinitionError",
      table((t) => t.index("by_no", ["constructor"])),
      'references the field "constructor"',
    ],
    ["TableNameReserved", () => parse({ _t: defineTable(v.any()) }), "_t is a reserved table name."],
    ["InvalidTableName", () => parse({ "a-b": defineTable(v.any()) }), 'Invalid table name: "a-b".'],
    ["InvalidTableName", () => parse({ "1a": defineTable(v.any()) }), 'Invalid table name: "1a".'],
    ["InvalidTableName", () => parse({ ___: defineTable(v.any()) }), 'Invalid table name: "___".'],
    ["InvalidTableName", () => parse({ ["t".repeat(65)]: defineTable(v.any()) }), "Invalid table name"],
    [
      "InvalidTopLevelTypeInSchemaError",
      () => parse({ t: defineTable(v.record(v.string(), v.any())) }),
      "Found v.record(v.string(), v.any()).",
    ],
    [
      "InvalidRecordType",
      () => parse({ t: defineTable({ r: v.record(v.literal("a"), v.any()) }) }),
      "Invalid validator for key `r`: Records cannot have string literal keys",
    ],
    [
      "InvalidSchema",
      () => parse({ t: defineTable({ "a-b": v.any() }) }),
      "Identifier a-b has invalid character '-'",
    ],
    ["TooManyTables", () => parse(tablesNamed(names(10_001))), "cannot exceed 10000"],
  ])("%s: %# is refused in one line", (code, make, reason) => {
    const error = (() => {
      try {
        return make();
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(SchemaError);
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/^\w+: .+$/);
    expect(error.message).toContain(reason);
  });

  test("that is not enforced may index fields it does not declare", () => {
    const schema = parse({ t: defineTable(FIELDS).index("by_no", ["no"]) }, { schemaValidation: false });
    expect(schema.tables.get("t")?.indexes).toHaveLength(1);
    expect(checkDocument(schema, "t", { a: 1 }, tables)).toBeNull();
  });
});

describe("documents", () => {
  const schema = parse({ t: defineTable({ a: v.string() }) });
  const system = { _id: "id1", _creationTime: 1 };

  test("that fit, or whose table is not declared, pass", () => {
    expect(checkDocument(schema, "t", { ...system, a: "x" }, tables)).toBeNull();
    expect(checkDocument(schema, "other", { ...system, b: 1 }, tables)).toBeNull();
  });

  test("that do not fit are refused with their table, stored ones with their id", () => {
    const reason = "Value does not match validator.\nPath: .a\nValue: 1.0\nValidator: v.string()";
    expect(checkDocument(schema, "t", { ...system, a: 1 }, tables)).toBe(
      `Failed to insert or update a document in table "t" because it does not match the schema: ${reason}`,
    );
    expect(checkStoredDocument(schema, "t", { ...system, a: 1 }, tables)).toBe(
      `Document with ID "id1" in table "t" does not match the schema: ${reason}`,
    );
  });
});
