import { describe, expect, test } from "vitest";
import schema from "../schema";
import { KEPT, OF_RUN, OF_TASK } from "./owned";

const owned = [...OF_RUN, ...OF_TASK];
type Tables = Record<string, { " indexes"(): { indexDescriptor: string; fields: string[] }[] }>;
const tables = schema.tables as unknown as Tables;

describe("the lists of what belongs to a task", () => {
  test.each(Object.keys(tables))("%s is deleted with a task, or it is said when it goes", (table) => {
    const isOwned = owned.some((item) => item.table === table);
    expect(isOwned !== table in KEPT, `${table}: add it to OF_TASK, OF_RUN or KEPT of owned.ts`).toBe(true);
  });

  test("nothing is listed that the schema does not have", () => {
    const listed = [...owned.map((item) => item.table), ...Object.keys(KEPT)];
    expect(listed.filter((table) => !(table in tables))).toEqual([]);
  });

  test.each(owned)("$table is found by $index", ({ table, index, field }) => {
    const found = tables[table]![" indexes"]().find((item) => item.indexDescriptor === index);
    expect(found?.fields[0]).toBe(field);
  });
});
