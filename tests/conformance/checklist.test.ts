import { existsSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { readChecklist } from "./checklist";

test("every heading of the checklist has a spec file", () => {
  const headings = [...readChecklist().keys()];
  expect(headings.length).toBeGreaterThan(0);
  const files = headings.map((heading) => `${heading.toLowerCase().replaceAll(" ", "-")}.test`);
  const missing = files.filter((file) =>
    [".ts", ".tsx"].every((ending) => !existsSync(path.join(import.meta.dirname, file + ending))),
  );
  expect(missing).toEqual([]);
});

test("no line of the checklist stands there twice", () => {
  const lines = [...readChecklist().values()].flat();
  expect(new Set(lines).size).toBe(lines.length);
});
