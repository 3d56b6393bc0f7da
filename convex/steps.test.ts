/** Durable steps: what is kept, what a later run finds, what is refused. */
import { expect, test } from "vitest";
import { INLINE_BYTES, MAX_STEP_CHARS, MAX_STEPS, MAX_TEXT_BYTES } from "./constants";
import { api } from "./_generated/api";
import { KEYS, probe, useDeployment } from "./setup.testing";

const at = useDeployment();

const failed = (retryable = true) =>
  ({ kind: "failed", error: { code: "x", message: "x" }, retryable, notBeforeMs: 0 }) as const;

test("a later run finds the steps of the earlier ones, and is told how many they are", async () => {
  const task = await at.submit({ retry: { initialMs: 1 } });
  const worker = await at.worker();
  await at.pass();
  const first = await worker.begin();
  expect(first.steps).toBe(0);
  await worker.step(first.run, "a", '{"x":1}');
  const large = JSON.stringify("y".repeat(INLINE_BYTES));
  await worker.sync({
    steps: [
      { run: first.run, key: "b", kind: "step", result: large, signal: null },
      { run: first.run, key: "a", kind: "step", result: '"again"', signal: null },
    ],
    finished: [{ run: first.run, outcome: failed(), usage: null }],
  });
  await at.pass(10);
  const second = await worker.begin();
  expect(second.steps).toBe(2);
  const { steps, cursor } = await worker.steps(second.run);
  expect(cursor).toBeNull();
  expect(steps).toEqual([
    { key: "a", kind: "step", result: '{"x":1}', remainingMs: null },
    { key: "b", kind: "step", result: large, remainingMs: null },
  ]);
  expect((await at.state(task)).steps).toBe(2);
});

test("a step whose sync is repeated is kept once", async () => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  const body = worker.body({ steps: [{ run, key: "a", kind: "step", result: "1", signal: null }] });
  await worker.send(body);
  await worker.send(body);
  expect((await at.state(task)).steps).toBe(1);
});

test("a step that comes with the end of its run is kept with it", async () => {
  const task = await at.submit({ retry: { initialMs: 1 } });
  const worker = await at.worker();
  await at.pass();
  const { run } = (await worker.inbox()).assigned[0]!;
  await worker.sync({
    accepted: [run],
    steps: [{ run, key: "a", kind: "step", result: "1", signal: null }],
    finished: [{ run, outcome: { kind: "released" }, usage: null }],
  });
  await at.pass(10);
  expect((await worker.begin()).steps).toBe(1);
  expect((await at.task(task)).status).toBe("running");
});

test("the step of a zombie is refused", async () => {
  const task = await at.submit();
  const zombie = await at.worker("w");
  await at.pass();
  const { run } = await zombie.begin();
  const successor = await at.worker("w", { incarnation: "2" }); // takes over its name
  const answer = await zombie.step(run, "a");
  expect(answer).toMatchObject({ live: false, lost: [run] });
  await at.pass(2_000);
  expect((await successor.begin()).steps).toBe(0);
  await expect(zombie.steps(run)).rejects.toThrow(/not this session's any more/);
  expect((await at.state(task)).steps).toBe(0);
});

test("the step of a run that was lost within a living session is refused", async () => {
  await at.submit({ timeoutMs: 1_000 });
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  for (let s = 0; s < 14; s++) {
    await at.pass(1_000);
    if (s < 12) await worker.sync();
  }
  expect((await worker.step(run, "a")).lost).toEqual([run]);
});

test("a step of another kind under the same key fails its run alone, for good, and says why", async () => {
  const task = await at.submit();
  const other = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const [first, second] = (await worker.inbox()).assigned.map(({ run }) => run);
  await worker.sync({ accepted: [first!, second!] });
  await worker.step(first!, "a");
  const answer = await worker.sync({
    steps: [
      { run: first!, key: "a", kind: "event", result: "1", signal: null },
      { run: second!, key: "a", kind: "step", result: "1", signal: null },
    ],
  });
  expect(answer.lost).toEqual([first]);
  expect(await at.task(task)).toMatchObject({
    status: "failed",
    error: { code: "step_mismatch", message: expect.stringContaining('"a" was a step') as string },
  });
  expect((await at.state(other)).steps).toBe(1);
});

test.each([
  ["a name of the longest length", "k".repeat(MAX_STEP_CHARS), "1", null],
  ["a longer name", "k".repeat(MAX_STEP_CHARS + 1), "1", "invalid_step"],
  ["no name", "", "1", "invalid_step"],
  ["the largest result", "a", `"${"x".repeat(MAX_TEXT_BYTES - 2)}"`, null],
  ["a larger result", "a", `"${"x".repeat(MAX_TEXT_BYTES - 1)}"`, "step_too_large"],
  ["a result that is not JSON", "a", "{", "invalid_step"],
])("%s", async (_, key, result, code) => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  await worker.step(run, key, result);
  const view = await at.task(task);
  expect(view.error?.code ?? null).toBe(code);
  expect(view.status).toBe(code === null ? "running" : "failed");
});

test("an effect is intended before it is done, and a later run finds how far it came", async () => {
  const task = await at.submit({ retry: { initialMs: 1 } });
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  const call = { kind: "tool", tool: "pay", effect: "unsafe", argsHash: "a".repeat(64) } as const;
  const usage = { model: "m", inputTokens: 3, outputTokens: null, cachedInputTokens: null, costMicros: 7 };
  await worker.step(run, "turn#1", '{"text":""}', { kind: "turn", usage });
  const intended = { ...call, result: null, state: "intended" } as const;
  for (const key of ["turn#1/0:pay", "turn#1/1:pay", "turn#1/2:pay"])
    await worker.step(run, key, "", intended);
  await worker.step(run, "turn#1/0:pay", '"paid"', { ...call, state: "done" });
  await worker.step(run, "turn#1/0:pay", "", intended); // what is done stays done
  await worker.step(run, "turn#1/1:pay", "", { ...intended, state: "in_doubt" });
  expect((await at.state(task)).steps).toBe(4);
  await worker.finish(run, { kind: "released" });
  await at.pass(10);
  const again = await worker.begin();
  const remainingMs = null;
  expect((await worker.steps(again.run)).steps).toEqual([
    { key: "turn#1", kind: "turn", result: '{"text":""}', usage, remainingMs },
    { ...call, key: "turn#1/0:pay", result: '"paid"', state: "done", remainingMs },
    { ...call, key: "turn#1/1:pay", result: null, state: "in_doubt", remainingMs },
    { ...call, key: "turn#1/2:pay", result: null, state: "intended", remainingMs },
  ]);
  await worker.step(again.run, "turn#1/2:pay", '"at last"', { kind: "tool" });
  const { steps } = await worker.steps(again.run);
  expect(steps[3]).toMatchObject({ result: '"at last"', state: "done", effect: "unsafe" });
});

test.each([
  ["another tool", { tool: "refund" }, "step_mismatch"],
  ["other arguments", { argsHash: "b".repeat(64) }, "step_mismatch"],
  ["a result before it is done", { state: "intended", result: "1" }, "invalid_step"],
  ["no result", { result: null }, "invalid_step"],
  ["the same call", {}, null],
] as const)("a call that stands as intended, reported with %s", async (_, more, code) => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  const call = { kind: "tool", tool: "pay", effect: "unsafe", argsHash: "a".repeat(64) } as const;
  await worker.step(run, "turn#1/0:pay", "", { ...call, result: null, state: "intended" });
  await worker.step(run, "turn#1/0:pay", '"paid"', { ...call, ...more });
  expect((await at.task(task)).error?.code ?? null).toBe(code);
});

test("a task has as many steps as it may, and not one more", async () => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  await at.t.mutation(probe.setSteps, { run, steps: MAX_STEPS - 1 });
  await worker.step(run, "last");
  expect((await at.task(task)).status).toBe("running");
  await worker.step(run, "last"); // known: not another one
  expect((await at.task(task)).status).toBe("running");
  await worker.step(run, "beyond");
  expect((await at.task(task)).error?.code).toBe("too_many_steps");
});

test("steps are told in pages of bounded size, each once", async () => {
  await at.submit({ retry: { initialMs: 1 } });
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  const report = (i: number, result: string) =>
    ({ run, key: `s${String(i).padStart(3, "0")}`, kind: "step", result, signal: null }) as const;
  for (let from = 0; from < 250; from += 50) {
    await worker.sync({ steps: Array.from({ length: 50 }, (__, i) => report(from + i, "1")) });
  }
  for (let i = 250; i < 255; i++) await worker.sync({ steps: [report(i, `"${"x".repeat(400_000)}"`)] });
  await worker.finish(run, { kind: "released" });
  await at.pass(10);
  const again = await worker.begin();
  expect(again.steps).toBe(255);
  const keys: string[] = [];
  let pages = 0;
  for (let cursor: string | null = null, more = true; more; more = cursor !== null) {
    const page = await worker.steps(again.run, cursor);
    keys.push(...page.steps.map(({ key }) => key));
    cursor = page.cursor;
    pages += 1;
  }
  expect(keys).toEqual(Array.from({ length: 255 }, (__, i) => report(i, "").key));
  expect(pages).toBeGreaterThan(3);
});

test("progress and state are kept for each run, and a query tells them", async () => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  expect(await at.state(task)).toMatchObject({ progress: null, state: null, at: null });
  const { run } = await worker.begin();
  const progress = { done: 1, total: 4, message: "reading" };
  await worker.sync({ progress: [{ run, progress, state: '{"page":3}' }] });
  expect(await at.state(task)).toMatchObject({ run, progress, state: '{"page":3}', at: Date.now() });
  await worker.sync({ progress: [{ run, progress: { ...progress, done: 2 }, state: null }] });
  expect(await at.state(task)).toMatchObject({ progress: { done: 2 }, state: '{"page":3}' });
  await worker.finish(run);
  expect(await at.state(task)).toMatchObject({ status: "succeeded", progress: { done: 2 }, clocks: null });
});

test("the control plane sees the three clocks of a run, each by itself", async () => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  await at.pass(2_000);
  expect((await at.state(task)).clocks).toMatchObject({ heartbeatAt: Date.now() - 2_000, silentMs: null });
  const silent = [{ run, ms: 61_000, on: "model", name: "m", attempt: 2 }] as const;
  await worker.sync({ clocks: { inboxAgeMs: 40_000, silent: [...silent] } });
  expect((await at.state(task)).clocks).toEqual({
    heartbeatAt: Date.now(),
    inboxAgeMs: 40_000,
    silentMs: 61_000,
    on: "model",
    name: "m",
    attempt: 2,
  });
  const { clocks } = await at.t.query(api.tasks.state, { key: KEYS.viewer, task, clocks: false });
  expect(clocks).toBeNull(); // for who subscribes and would be told of each heartbeat
  await worker.sync({ clocks: { inboxAgeMs: 0, silent: [] } }); // it moves again
  expect((await at.state(task)).clocks).toMatchObject({ inboxAgeMs: 0, silentMs: null, on: null });
});

test("a run of an hour keeps its lease, and nothing ends it that was not set", async () => {
  const task = await at.submit();
  const worker = await at.worker();
  await at.pass();
  const { run } = await worker.begin();
  for (let s = 0; s < 3_600; s += 5) {
    await at.pass(5_000);
    const { live, lost } = await worker.sync();
    expect([live, lost]).toEqual([true, []]);
  }
  expect((await at.task(task)).status).toBe("running");
  await worker.finish(run);
  expect(await at.task(task)).toMatchObject({ status: "succeeded", attempt: 1 });
}, 60_000);
