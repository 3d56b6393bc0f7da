import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { createLayout, prepareAll } from "./layout.mjs";

/** Statements that read a whole table: at the start of the host, or its first row alone. */
const WHOLE_TABLES = new Set([
  "allTables",
  "allIndexes",
  "allSideIndexes",
  "oldestOutcome",
  "pruneOutcomes",
  "lastTable",
]);

test("no statement looks through a table for its rows, nor sorts them", () => {
  const database = new DatabaseSync(":memory:");
  createLayout(database, 0);
  const statements = Object.entries(prepareAll(database)).flatMap(([name, statement]) => {
    const all = typeof statement === "function" ? [statement(1), statement(8)] : [statement].flat();
    return all.map((one) => ({
      name,
      sql: /** @type {import("node:sqlite").StatementSync} */ (one).sourceSQL,
    }));
  });
  expect(statements.length).toBeGreaterThan(50);
  const slow = [];
  for (const { name, sql } of statements) {
    if (WHOLE_TABLES.has(name) || !/^(SELECT|INSERT|UPDATE|DELETE)/.test(sql)) continue;
    const plan = database
      .prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(({ detail }) => String(detail));
    if (plan.some((step) => /^SCAN (?!CONSTANT|\(subquery)|TEMP B-TREE/.test(step)))
      slow.push({ name, plan });
  }
  expect(slow).toEqual([]);
  database.close();
});
