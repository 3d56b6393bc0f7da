import { existsSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { readChecklist } from "./checklist";

const TRAPS = "Traps"; // each is one of the other lines

test("every heading of the checklist has a spec file", () => {
  const headings = [...readChecklist().keys()].filter((heading) => heading !== TRAPS);
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

test("every trap names the line that holds it", () => {
  const checklist = readChecklist();
  const traps = checklist.get(TRAPS) ?? [];
  expect(traps.length).toBeGreaterThan(0);
  checklist.delete(TRAPS);
  const lines = new Set([...checklist.values()].flat());
  expect(traps.filter((trap) => !lines.has(trap.slice(trap.indexOf(": ") + 2)))).toEqual([]);
});
