/** Holds the suite to checklist.md: a spec file covers one heading, and each line under it has tests that ran. */

import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import type { RunnerTestCase, RunnerTestSuite } from "vitest";

/** @returns the lines of the checklist under each of its headings */
export function readChecklist(): Map<string, string[]> {
  const text = readFileSync(path.join(import.meta.dirname, "checklist.md"), "utf8");
  const headings = text.split(/^## /m).slice(1);
  return new Map(
    headings.map((section) => {
      const [heading = "", ...lines] = section.split("\n");
      return [
        heading.trim(),
        lines.filter((line) => line.startsWith("- ")).map((line) => line.slice(2).trim()),
      ];
    }),
  );
}

/**
 * Describe one heading of the checklist. `body` gets `line`, which opens the tests of one line of it.
 * The last test fails when a line has no test, or has one that was skipped.
 */
export function section(
  heading: string,
  body: (line: (text: string, tests: () => void) => void) => void,
): void {
  const lines = readChecklist().get(heading);
  if (lines === undefined) throw new Error(`checklist.md has no heading '${heading}'`);
  describe(heading, () => {
    body((text, tests) => {
      if (!lines.includes(text)) throw new Error(`checklist.md has no line '${text}' under '${heading}'`);
      describe(text, tests);
    });
    test("every line of the checklist was tested", ({ task }) => {
      const ran = (task.suite?.tasks ?? []).filter((each) => each.type === "suite" && hasRun(each));
      expect(ran.map(({ name }) => name)).toEqual(lines);
    });
  });
}

function hasRun(suite: RunnerTestSuite): boolean {
  const tests = suite.tasks.filter((task): task is RunnerTestCase => task.type === "test");
  return tests.length > 0 && tests.every(({ mode }) => mode === "run");
}
