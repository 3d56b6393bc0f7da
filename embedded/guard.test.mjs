import { expect, test } from "vitest";
import { Guard, GUARD_BYTES, readRun } from "./guard.mjs";

const LIMIT = 3;
const TICK_MS = 100;

/** What the engine thread does: notes a run in shared memory. */
function memoryWith(run, kind = 1, number = 7) {
  const memory = new SharedArrayBuffer(GUARD_BYTES);
  new Int32Array(memory).set([run, kind, number]);
  return memory;
}

function setRun(memory, run) {
  Atomics.store(new Int32Array(memory), 0, run);
}

test("a run is over its limit at the last tick and not one before", () => {
  const guard = new Guard(memoryWith(5), { ticks: LIMIT, tickMs: TICK_MS });
  const seen = [guard.tick(), guard.tick(), guard.tick(), guard.tick()];
  expect(seen).toEqual([null, null, null, { kind: "call", id: 7 }]);
});

test("short runs one after the other never reach the limit", () => {
  const memory = memoryWith(1);
  const guard = new Guard(memory, { ticks: LIMIT, tickMs: TICK_MS });
  for (let run = 1; run < 20; run += 1) {
    setRun(memory, run);
    expect(guard.tick()).toBeNull();
    expect(guard.tick()).toBeNull();
  }
});

test("an idle engine is left alone, and idleness ends the count", () => {
  const memory = memoryWith(5);
  const guard = new Guard(memory, { ticks: LIMIT, tickMs: TICK_MS });
  for (let tick = 0; tick < LIMIT; tick += 1) guard.tick();
  setRun(memory, 0);
  expect(guard.tick()).toBeNull();
  setRun(memory, 5);
  expect(guard.tick()).toBeNull();
});

/** Tick so often that the run must have ended, and say after how many ticks it did. */
async function ticksUntilOver(memory, msOfEachTick) {
  let given = 0;
  const guard = new Guard(memory, { ticks: LIMIT, tickMs: TICK_MS, processorTime: async () => given });
  for (let tick = 0; tick < 100; tick += 1) {
    if (guard.tick() !== null) return tick;
    await Promise.resolve();
    given += msOfEachTick;
  }
  return null;
}

test("a run has its limit of processor time, however slowly it is given", async () => {
  expect(await ticksUntilOver(memoryWith(5), TICK_MS)).toBe(LIMIT);
  expect(await ticksUntilOver(memoryWith(5), TICK_MS / 2)).toBe(2 * (LIMIT - 1) + 1);
});

test("a run that is given no processor time ends after ten times its limit", async () => {
  expect(await ticksUntilOver(memoryWith(5), 0)).toBe(10 * LIMIT);
});

test("the processor time of one run is not that of the next", async () => {
  const memory = memoryWith(1);
  let given = 0;
  const guard = new Guard(memory, {
    ticks: LIMIT,
    tickMs: TICK_MS,
    processorTime: async () => (given += 1000),
  });
  for (let run = 1; run < 20; run += 1) {
    setRun(memory, run);
    for (let tick = 0; tick < LIMIT; tick += 1) {
      expect(guard.tick()).toBeNull();
      await Promise.resolve();
    }
  }
});

test("what runs is told as a call, as the re-run of a subscription or as a scheduled function", () => {
  expect(readRun(memoryWith(1, 1, 42))).toEqual({ kind: "call", id: 42 });
  expect(readRun(memoryWith(1, 2, 43))).toEqual({ kind: "update", sub: 43 });
  const job = "kg2abcdefghjkmnpqrstvwxyz01234567";
  const memory = memoryWith(1, 3, job.length);
  new Uint8Array(memory).set(Buffer.from(job), 12);
  expect(readRun(memory)).toEqual({ kind: "job", job });
  expect(readRun(memoryWith(0))).toBeNull();
});
