import { beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { RETENTION_MARGIN_MS, UPKEEP_BUSY_MS, UPKEEP_PAUSE_MS } from "./constants";
import { keepMsOf } from "./model/keeping";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { Outcome } from "./validators";

const DAY_MS = 24 * 3_600_000;
const BIG = JSON.stringify("x".repeat(10_000)); // beside its task's row

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker("w", { capacity: 100 });
});

const counts = () => at.t.query(probe.rowCounts, {});
const jobs = () => at.t.query(probe.pendingJobs, {});
const upkeepJobs = async () => (await jobs()).filter((name) => name.startsWith("upkeep:"));

/** What stays whatever ends: the deployment itself. */
const LASTING = ["keys", "agents", "capabilities", "loops", "loopState", "upkeep", "freed"]; // freed: until dispatch next has work

async function left(): Promise<Record<string, number>> {
  const all = Object.entries(await counts());
  return Object.fromEntries(all.filter(([table]) => !LASTING.includes(table) && table !== "stats"));
}

async function runToItsEnd(outcome: Outcome = { kind: "succeeded", output: BIG }, chunks = 1) {
  await at.pass(2_000); // what a worker left behind comes back within a second
  const { run, task } = await worker.begin();
  for (let from = 0; from < chunks; from += 250) {
    const seqs = Array.from({ length: Math.min(250, chunks - from) }, (_, i) => from + i);
    await worker.sync({
      chunks: seqs.map((seq) => ({ run, seq, call: 0, attempt: 0, kind: "text" as const, text: "x" })),
    });
  }
  await worker.finish(run, outcome);
  return { run, task };
}

async function exists(task: Id<"tasks">): Promise<boolean> {
  return (await at.t.query(api.tasks.get, { key: KEYS.submit, task })) !== null;
}

describe("what has ended long ago", () => {
  test("is gone with all that belonged to it, and so are the worker's session and its name", async () => {
    const { group } = await at.t.mutation(api.groups.create, { key: KEYS.submit, name: "g" });
    await at.submit({ input: BIG, group });
    await at.pass();
    const { run } = await worker.begin();
    await worker.step(run, "big", BIG);
    await worker.sync({
      chunks: [{ run, seq: 0, call: 0, attempt: 0, kind: "text", text: "hello" }],
      progress: [{ run, progress: { done: 1, total: 2, message: "half" }, state: "{}" }],
    });
    await worker.finish(run, {
      kind: "suspended",
      step: "wait",
      until: { event: "go", timeoutMs: null },
    });
    await at.t.mutation(probe.wakeWaiters, { tenant: "default", name: "go", data: BIG });
    await at.pass(2_000);
    const again = await worker.begin();
    const asked = {
      step: "pay",
      tool: "pay",
      args: "{}",
      why: "tool",
      about: null,
      timeoutMs: 1_000,
    } as const;
    await worker.finish(again.run, { kind: "suspended", step: "pay", until: { approvals: [asked] } });
    await runToItsEnd(); // nobody decides
    await at.t.mutation(api.groups.seal, { key: KEYS.submit, group });
    await at.pass();
    expect(await counts()).toMatchObject({ outputs: 4, steps: 3, runs: 3, approvals: 1, shares: 1 });
    expect(await counts()).toMatchObject({ groups: 1, members: 1 });
    await at.leap(31 * DAY_MS); // the worker is silent, and its session ends
    await at.leap(DAY_MS); // groups without members are looked at again
    await at.leap(30 * DAY_MS);
    expect(await left()).toEqual({});
  });

  test("a text that several tasks were woken with goes with the last of them", async () => {
    const tasks = [await at.submit(), await at.submit()];
    for (let i = 0; i < 2; i++) {
      await at.pass();
      const { run } = await worker.begin();
      await worker.finish(run, { kind: "suspended", step: "wait", until: { event: "go", timeoutMs: null } });
    }
    await at.t.mutation(probe.wakeWaiters, { tenant: "default", name: "go", data: BIG });
    const first = await runToItsEnd({ kind: "succeeded", output: null });
    await at.leap(31 * DAY_MS);
    expect(await exists(first.task)).toBe(false);
    expect(await counts()).toMatchObject({ outputs: 1, shares: 1, steps: 1 });
    worker = await at.worker("w2");
    await runToItsEnd({ kind: "succeeded", output: null });
    await at.leap(31 * DAY_MS);
    expect(await counts()).not.toHaveProperty("outputs");
    expect(tasks).toHaveLength(2);
  });

  test("stays until its time has passed, and goes then", async () => {
    await at.submit();
    const { task } = await runToItsEnd();
    await at.leap(30 * DAY_MS);
    expect(await exists(task)).toBe(true);
    await at.leap(RETENTION_MARGIN_MS + 1);
    expect(await exists(task)).toBe(false);
  });

  test("of many pages is deleted in as many transactions, and nothing tries it again meanwhile", async () => {
    await at.submit();
    const { task } = await runToItsEnd(
      { kind: "failed", error: { code: "c", message: "m" }, retryable: false, notBeforeMs: null },
      1_500,
    );
    vi.setSystemTime(Date.now() + 31 * DAY_MS);
    await at.t.mutation(internal.timers.watchdog, {});
    for (let pages = 0; (await counts()).chunks === 1_500; pages++) {
      expect(pages).toBeLessThan(10);
      await at.t.runDue();
      const retry = at.retry(task);
      const { chunks = 0 } = await counts();
      if (chunks > 0 && chunks < 1_500) await expect(retry).rejects.toThrow("being deleted");
    }
    await at.pass(20 * UPKEEP_PAUSE_MS);
    expect(await counts()).not.toHaveProperty("chunks");
    expect(await exists(task)).toBe(false);
  });
});

describe("what is still needed stays", () => {
  test("an open task, and what it comes after", async () => {
    const [first] = await at.t.mutation(api.tasks.submit, {
      key: KEYS.submit,
      tasks: [
        { agent: "echo", input: "1", ref: "a" },
        { agent: "echo", input: "2", after: [{ on: "#a" }], delayMs: 60 * DAY_MS },
      ],
    });
    if (!first?.ok) throw new Error(first?.message);
    await runToItsEnd();
    await at.leap(40 * DAY_MS);
    expect(await exists(first.task)).toBe(true);
    await at.leap(21 * DAY_MS);
    worker = await at.worker("w2");
    const { task } = await runToItsEnd();
    await at.leap(DAY_MS); // nobody needs it any more
    expect(await exists(first.task)).toBe(false);
    expect(await exists(task)).toBe(true);
    await at.leap(30 * DAY_MS);
    expect(await exists(task)).toBe(false);
  });

  test("a task that a dedup key names for longer", async () => {
    const task = await at.submit({ dedupKey: "k", dedupForMs: 50 * DAY_MS });
    await runToItsEnd();
    await at.leap(31 * DAY_MS);
    expect(await at.submit({ dedupKey: "k", dedupForMs: 50 * DAY_MS })).toBe(task);
    await at.leap(20 * DAY_MS);
    expect(await exists(task)).toBe(false);
  });

  test("a task that was tried again, from its last end on", async () => {
    const fatal: Outcome = {
      kind: "failed",
      error: { code: "c", message: "m" },
      retryable: false,
      notBeforeMs: null,
    };
    await at.submit();
    const { task } = await runToItsEnd(fatal);
    await at.leap(20 * DAY_MS);
    await at.retry(task);
    worker = await at.worker("w2");
    await runToItsEnd(fatal);
    await at.leap(29 * DAY_MS);
    expect(await exists(task)).toBe(true);
    await at.leap(2 * DAY_MS);
    expect(await exists(task)).toBe(false);
  });
});

describe("a chain of pages", () => {
  test("that died is begun anew, and until then no other one is", async () => {
    await at.submit();
    const { task } = await runToItsEnd();
    vi.advanceTimersByTime(31 * DAY_MS);
    await at.t.mutation(probe.strandUpkeep, { busyUntil: Date.now() + UPKEEP_BUSY_MS });
    await at.leap(UPKEEP_BUSY_MS - 1);
    expect(await exists(task)).toBe(true);
    await at.leap(1);
    expect(await exists(task)).toBe(false);
  });

  test("that was overtaken does nothing", async () => {
    await at.submit();
    const { task } = await runToItsEnd();
    vi.advanceTimersByTime(31 * DAY_MS);
    const generation = await at.t.mutation(probe.strandUpkeep, { busyUntil: Date.now() + UPKEEP_BUSY_MS });
    await at.t.mutation(internal.upkeep.retain, { generation: generation - 1 });
    expect(await exists(task)).toBe(true);
    await at.t.mutation(internal.upkeep.retain, { generation });
    expect(await exists(task)).toBe(false);
  });

  test("is not begun while nothing is to be done", async () => {
    await at.leap(UPKEEP_BUSY_MS);
    await at.leap(DAY_MS);
    await at.t.mutation(internal.timers.watchdog, {});
    expect(await upkeepJobs()).toEqual([]);
  });
});

test.each([
  ["", 30 * DAY_MS],
  ["0", Infinity],
  ["1", DAY_MS],
  ["0.99", null],
  ["1.5", 1.5 * DAY_MS],
  ["3650", 3_650 * DAY_MS],
  ["3650.1", null],
  ["-1", null],
  ["a week", null],
  ["Infinity", null],
])("a retention of %j days", (days, ms) => {
  expect(keepMsOf(days)).toBe(ms);
});
