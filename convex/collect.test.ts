/** Submits that share a task: debounced and batched. */
import { beforeEach, describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { MAX_BATCH_ITEMS, MAX_TEXT_BYTES } from "./constants";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { TaskSpec } from "./validators";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker();
});

const key = KEYS.submit;
const submit = (...specs: Partial<TaskSpec>[]) => at.answersTo(specs);
const named = (...specs: Partial<TaskSpec>[]) => at.submitAll(specs);
const given = async () => (await worker.inbox()).assigned.map((item) => item.task);

describe("debounce", () => {
  const bounced = (value: number, more = {}) => ({
    input: String(value),
    debounce: { key: "k", forMs: 1_000, maxMs: 2_500 },
    ...more,
  });

  test("the last input counts, once nothing has come for a while", async () => {
    const first = await at.submit(bounced(1));
    await at.pass(900);
    const { reasons } = await at.t.query(api.tasks.why, { key: KEYS.operator, task: first });
    expect(reasons[0]?.message).toContain("debounced");
    expect(await named(bounced(2), bounced(3))).toEqual([first, first]);
    await at.pass(900);
    expect(await given()).toEqual([]);
    await at.pass(200);
    expect(await given()).toEqual([first]);
    expect(await worker.input()).toBe(3);
    expect(await at.history(first)).toEqual([
      "task_submitted",
      "input_replaced",
      "input_replaced",
      "run_assigned",
    ]);
  });

  test("it is put off no further than its bound", async () => {
    const first = await at.submit(bounced(1));
    for (const value of [2, 3]) {
      await at.pass(900);
      expect(await at.submit(bounced(value))).toBe(first);
    }
    await at.pass(650);
    expect(await given()).toEqual([]);
    await at.pass(100);
    expect(await given()).toEqual([first]);
  });

  test("once it has begun, the next submit makes a new task", async () => {
    const first = await at.submit(bounced(1));
    await at.pass(1_100);
    const second = await at.submit(bounced(2));
    expect(second).not.toBe(first);
    await worker.finish((await worker.inbox()).assigned[0]!.run);
    await at.pass(1_100);
    expect([await given(), await worker.input()]).toEqual([[second], 2]);
  });

  test("one that is due and still waits takes another input and waits anew", async () => {
    await worker.drain();
    const task = await at.submit(bounced(1, { debounce: { key: "k", forMs: 1_000 } }));
    await at.pass(1_100);
    expect(await at.task(task)).toMatchObject({ status: "pending" });
    expect(await at.submit(bounced(2))).toBe(task);
    expect(await at.task(task)).toMatchObject({ status: "delayed" });
    worker = await at.worker("late");
    await at.pass(1_100);
    expect(await worker.input()).toBe(2);
  });

  test("a repeat of a submit whose answer was lost changes nothing", async () => {
    const task = await at.submit(bounced(1, { dedupKey: "a" }));
    expect(await submit(bounced(2, { dedupKey: "b" }))).toEqual([{ ok: true, task, duplicate: false }]);
    await at.pass(500);
    await named(bounced(3, { dedupKey: "c" }));
    for (const [value, dedupKey] of [
      [1, "a"],
      [2, "b"],
      [3, "c"],
    ] as const) {
      expect(await submit(bounced(value, { dedupKey }))).toEqual([{ ok: true, task, duplicate: true }]);
    }
    await at.pass(1_100);
    expect(await worker.input()).toBe(3);
  });

  test("a repeat that comes once the task has begun, and another gathers, neither joins nor makes one", async () => {
    const first = await at.submit(bounced(1));
    await named(...Array.from({ length: 30 }, (_, i) => bounced(i, { dedupKey: `k${i}` })));
    await at.pass(1_100);
    expect(await given()).toEqual([first]);
    const repeated = [{ ok: true, task: first, duplicate: true }];
    expect(await submit(bounced(0, { dedupKey: "k0" }))).toEqual(repeated);
    const second = await at.submit(bounced(7));
    expect(await submit(bounced(29, { dedupKey: "k29" }))).toEqual(repeated);
    await worker.finish((await worker.inbox()).assigned[0]!.run);
    await at.pass(1_100);
    expect([await given(), await worker.input()]).toEqual([[second], 7]);
  });

  test("a dedup key of one that joined counts for as long as it said", async () => {
    const windowed = bounced(2, { dedupKey: "a", dedupForMs: 5_000 });
    const first = await at.submit(bounced(1));
    expect(await at.submit(windowed)).toBe(first);
    await at.pass(4_900);
    expect(await at.submit(windowed)).toBe(first);
    await at.pass(200);
    expect(await at.submit(windowed)).not.toBe(first);
  });

  test("keys, tenants, agents and queues are apart, and a cancelled task takes nothing", async () => {
    await at.worker("other", { brings: ["ada"] });
    const tasks = await named(
      bounced(1),
      bounced(1, { debounce: { key: "l", forMs: 1_000 } }),
      bounced(1, { tenant: "t" }),
      bounced(1, { agent: "ada" }),
      bounced(1, { queue: "q" }),
    );
    expect(new Set(tasks).size).toBe(5);
    await at.cancel(tasks[0]!);
    expect(tasks).not.toContain(await at.submit(bounced(2)));
  });

  test("a large input that is replaced leaves nothing behind", async () => {
    const task = await at.submit(bounced(1, { input: `"${"x".repeat(2_000_000)}"` }));
    await named(bounced(2));
    const part = { key, task, of: "input" as const, index: 0 };
    expect(await at.t.query(api.tasks.part, part)).toEqual({ text: "2", parts: 1 });
    expect(await at.t.query(probe.countOutputs, {})).toBe(0);
  });

  test("a large input that is replaced stays with what was forked from it, and goes with that", async () => {
    const large = `"${"x".repeat(10_000)}"`;
    const task = await at.submit(bounced(1, { input: large }));
    const fork = await at.t.mutation(api.tasks.fork, { key, task });
    await named(bounced(2));
    const part = { key, task: fork.task, of: "input" as const, index: 0 };
    expect(await at.t.query(api.tasks.part, part)).toEqual({ text: large, parts: 1 });
  });

  test("paused, it takes inputs and stays paused", async () => {
    const task = await at.submit(bounced(1));
    await at.t.mutation(api.tasks.pause, { key, task });
    expect(await at.submit(bounced(2))).toBe(task);
    await at.pass(3_000);
    expect(await given()).toEqual([]);
    await at.t.mutation(api.tasks.resume, { key, task });
    await at.pass();
    expect(await worker.input()).toBe(2);
  });
});

describe("batch", () => {
  const item = (value: unknown, more: Partial<TaskSpec> = {}) => ({
    input: JSON.stringify(value),
    batch: { key: "k", maxItems: 3, maxMs: 1_000 },
    ...more,
  });

  test("so many items make one task with the array of their inputs, and the next begins another", async () => {
    const [a, b, c, d] = await named(item(1), item({ two: [2] }), item("3"), item(4));
    expect([b, c]).toEqual([a, a]);
    expect(d).not.toBe(a);
    await at.pass();
    expect(await given()).toEqual([a]);
    expect(await worker.input()).toEqual([1, { two: [2] }, "3"]);
    const part = await at.t.query(api.tasks.part, { key, task: a!, of: "input", index: 0 });
    expect(part).toEqual({ text: '[1,{"two":[2]},"3"]', parts: 1 });
    await worker.finish((await worker.inbox()).assigned[0]!.run);
    await at.pass(1_100);
    expect([await given(), await worker.input()]).toEqual([[d], [4]]);
  });

  test("fewer go after so long, counted from the first", async () => {
    const task = await at.submit(item(1));
    await at.pass(900);
    expect(await at.submit(item(2))).toBe(task);
    expect(await given()).toEqual([]);
    await at.pass(200);
    expect([await given(), await worker.input()]).toEqual([[task], [1, 2]]);
    expect(await at.submit(item(3))).not.toBe(task);
  });

  test("a batch of one goes at once", async () => {
    const batch = { key: "k", maxItems: 1, maxMs: 1_000 };
    const tasks = await named(item(1, { batch }), item(2, { batch }));
    expect(new Set(tasks).size).toBe(2);
    await at.pass();
    expect(await given()).toHaveLength(2);
  });

  test("no item is gathered twice when its answer was lost", async () => {
    const [task] = await named(item(1, { dedupKey: "a" }), item(2, { dedupKey: "b" }));
    expect(await submit(item(1, { dedupKey: "a" }), item(2, { dedupKey: "b" }))).toEqual([
      { ok: true, task, duplicate: true },
      { ok: true, task, duplicate: true },
    ]);
    await at.pass(1_100);
    expect(await worker.input()).toEqual([1, 2]);
    expect(await submit(item(2, { dedupKey: "b" }))).toEqual([{ ok: true, task, duplicate: true }]);
  });

  test("what would be too large together is released, and begins the next", async () => {
    const large = JSON.stringify("x".repeat(MAX_TEXT_BYTES - 2));
    const batch = { key: "k", maxItems: 100, maxMs: 60_000 };
    const tasks: Id<"tasks">[] = [];
    for (let i = 0; i < 9; i++) tasks.push(await at.submit({ input: large, batch }));
    expect(new Set(tasks.slice(0, 8)).size).toBe(1);
    expect(tasks[8]).not.toBe(tasks[0]);
    await at.pass();
    expect(await given()).toEqual([tasks[0]]);
    expect(await worker.input()).toHaveLength(8);
    const parts = await at.t.query(api.tasks.part, { key, task: tasks[0]!, of: "input", index: 8 });
    expect(parts?.parts).toBe(9);
    expect(await submit({ input: JSON.stringify("x".repeat(MAX_TEXT_BYTES - 1)), batch })).toMatchObject([
      { ok: false, code: "payload_too_large" },
    ]);
  });

  test(`${MAX_BATCH_ITEMS} items are one task`, async () => {
    const batch = { key: "k", maxItems: MAX_BATCH_ITEMS, maxMs: 60_000 };
    const tasks = new Set<string>();
    for (let page = 0; page < 5; page++) {
      for (const task of await named(
        ...Array.from({ length: 200 }, (_, i) => item(page * 200 + i, { batch })),
      )) {
        tasks.add(task);
      }
    }
    expect(tasks.size).toBe(1);
    await at.pass();
    expect(await worker.input()).toEqual(Array.from({ length: MAX_BATCH_ITEMS }, (_, i) => i));
  });

  test("one that is full and waits for a budget takes no more", async () => {
    const cap = (calls: number) =>
      at.t.mutation(api.budgets.set, { key: KEYS.operator, kind: "all", caps: { calls } });
    await cap(0);
    const [first] = await named(item(1), item(2), item(3));
    await at.pass(100);
    expect(await at.task(first!)).toMatchObject({ status: "delayed" });
    const second = await at.submit(item(4));
    expect(second).not.toBe(first);
    await cap(9);
    await at.pass(100);
    expect([await given(), await worker.input()]).toEqual([[first], [1, 2, 3]]);
  });

  test("a batch that failed is tried again with all its items", async () => {
    const task = await at.submit(item(1, { retry: { maxAttempts: 1 } }));
    await at.pass(1_100);
    const error = { code: "boom", message: "" };
    const [run] = (await worker.inbox()).assigned;
    await worker.finish(run!.run, { kind: "failed", error, retryable: false, notBeforeMs: null });
    await at.retry(task);
    expect(await at.submit(item(2))).not.toBe(task);
    await at.pass();
    expect(await worker.input()).toEqual([1]);
  });
});

test.each([
  ["debounce.forMs: 0", { debounce: { key: "k", forMs: 0 } }],
  ["debounce.maxMs: 999 is outside 1000 to", { debounce: { key: "k", forMs: 1_000, maxMs: 999 } }],
  ["debounce.key: 0 characters", { debounce: { key: "", forMs: 1 } }],
  ["batch.maxItems: 0", { batch: { key: "k", maxItems: 0, maxMs: 1 } }],
  ["batch.maxItems: 1001", { batch: { key: "k", maxItems: 1_001, maxMs: 1 } }],
  ["batch.maxItems: 1.5 is not a whole", { batch: { key: "k", maxItems: 1.5, maxMs: 1 } }],
  ["batch.maxMs: 0", { batch: { key: "k", maxItems: 1, maxMs: 0 } }],
  [
    "debounce: not together with batch",
    { debounce: { key: "k", forMs: 1 }, batch: { key: "k", maxItems: 1, maxMs: 1 } },
  ],
  ["batch: not together with delayMs", { batch: { key: "k", maxItems: 1, maxMs: 1 }, delayMs: 1 }],
  ["debounce: not together with group", { debounce: { key: "k", forMs: 1 }, group: "g" }],
])("%s is refused", async (text, more) => {
  const [answer] = await submit(more);
  expect(answer).toMatchObject({ ok: false, message: expect.stringContaining(text) as string });
  expect(await at.t.query(probe.countTasks, {})).toBe(0);
});
