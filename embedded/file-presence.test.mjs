import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { watchPresence } from "./file-presence.mjs";

let root = "";
let file = "";
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "presence-"));
  file = path.join(root, "host.sqlite");
  writeFileSync(file, "x");
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
  rmSync(root, { recursive: true });
});

test.each([
  ["deleted", () => rmSync(file)],
  [
    "replaced",
    () => {
      writeFileSync(`${file}.new`, "x");
      renameSync(`${file}.new`, file);
    },
  ],
])("a file that is %s is told of once", (_what, change) => {
  const onLost = vi.fn();
  watchPresence(file, onLost, 10);
  appendFileSync(file, "grows");
  vi.advanceTimersByTime(50);
  expect(onLost).not.toHaveBeenCalled();
  change();
  vi.advanceTimersByTime(50);
  expect(onLost.mock.calls.map(([{ message }]) => message)).toEqual([
    `${file} was deleted or replaced while the host ran: what was written since then is lost`,
  ]);
});

test("nothing is told of after the end", () => {
  const onLost = vi.fn();
  watchPresence(file, onLost, 10)();
  rmSync(file);
  vi.advanceTimersByTime(50);
  expect(onLost).not.toHaveBeenCalled();
});
