import { expect, test } from "vitest";
import { FunctionLog } from "./function-log.mjs";

const run = (path, more = {}) => ({ kind: "query", path, logLines: [], ms: 2, caller: "HttpApi", ...more });
const NOW = 1_700_000_000_000;
const identifiers = ({ entries }) => entries.map(({ identifier }) => identifier);

test("runs come once, in order, also those of one millisecond", async () => {
  const log = new FunctionLog(() => NOW);
  for (const path of ["a:one", "a:two"]) log.add(run(path));
  const first = await log.poll(0, 10);
  expect(identifiers(first)).toEqual(["a:one", "a:two"]);
  log.add(run("a:default", { kind: "mutation", error: "Uncaught Error: no", logLines: ["[LOG] 'x'"] }));
  const { entries, newCursor } = await log.poll(first.newCursor, 10);
  expect(entries).toEqual([
    expect.objectContaining({
      kind: "Completion",
      udfType: "Mutation",
      identifier: "a",
      logLines: ["[LOG] 'x'"],
      timestamp: NOW / 1000,
      executionTime: 0.002,
      error: "Uncaught Error: no",
      success: null,
      cachedResult: false,
    }),
  ]);
  expect(newCursor).toBeGreaterThan(first.newCursor);
});

test("a poll waits for news, and answers with none when they do not come or the client goes", async () => {
  const log = new FunctionLog(() => NOW);
  const waiting = log.poll(0, 5_000);
  log.add(run("a:b"));
  const { newCursor } = await waiting;
  expect(await log.poll(newCursor, 10)).toEqual({ entries: [], newCursor });
  const gone = new AbortController();
  const left = log.poll(newCursor, 60_000, gone.signal);
  gone.abort();
  expect(await left).toEqual({ entries: [], newCursor });
});

test("a thousand runs are remembered, and not one more", async () => {
  const log = new FunctionLog(() => NOW);
  for (let n = 0; n <= 3000; n++) log.add(run(`a:f${n}`));
  const { entries } = await log.poll(0, 10);
  expect([entries.length, entries[0]?.identifier, entries.at(-1)?.identifier]).toEqual([
    1000,
    "a:f2001",
    "a:f3000",
  ]);
});

test("eight million characters of log lines are remembered, and not one more", async () => {
  const log = new FunctionLog(() => NOW);
  const half = "x".repeat(4 * 1024 * 1024);
  log.add(run("a:first", { logLines: [half] }));
  log.add(run("a:second", { logLines: [half] }));
  expect(identifiers(await log.poll(0, 10))).toEqual(["a:first", "a:second"]);
  log.add(run("a:third", { logLines: ["x"] }));
  expect(identifiers(await log.poll(0, 10))).toEqual(["a:second", "a:third"]);
});
