import { describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";
import type { CallReport, ModelReport } from "./model.validators";

const at = useDeployment();

const MODEL = "groq/fast";
const key = KEYS.operator;
const report = (more: Partial<ModelReport> = {}): ModelReport => ({
  model: MODEL,
  requests: 1,
  failures: 0,
  tokens: 10,
  error: null,
  coolMs: null,
  share: null,
  ...more,
});
const set = (change: { requests?: number | null; tokens?: number | null; perMs?: number }) =>
  at.t.mutation(api.models.set, { key, model: MODEL, ...change });
const view = async () => {
  const { models } = await at.t.query(api.models.list, { key });
  return models.find(({ model }) => model === MODEL)!;
};
const state = async (worker: TestWorker) =>
  (await worker.inbox()).models?.find(({ model }) => model === MODEL);
/** Tell what a worker obeys and used, and settle it. */
async function tell(worker: TestWorker, used: number, waiting: number, leastTokens = 0): Promise<void> {
  const { configured, rev } = (await state(worker))!;
  const share = { configured, rev, usedRequests: used, usedTokens: 0, waiting, leastTokens };
  await worker.sync({ models: [report({ requests: 0, share })] });
  await at.pass();
}

test("a model is listed from the moment its limits are set", async () => {
  await set({ requests: 5 });
  expect(await view()).toMatchObject({ requests: 5, total: { requests: 0 } });
});

describe("a model that fails", () => {
  const busy = { code: "rate_limited", message: "slow down" };

  test("cools for all workers as soon as one has been told so", async () => {
    const [a, b] = [await at.worker("a"), await at.worker("b")];
    expect(await state(b)).toBeUndefined();
    const answer = await a.sync({ models: [report({ failures: 1, error: busy, coolMs: 7_000 })] });
    expect(answer.models).toBeUndefined();
    await at.pass();
    expect(await state(b)).toMatchObject({ coolMs: 7_000, error: busy, requests: null });
    vi.advanceTimersByTime(5_000);
    expect((await state(a))?.coolMs).toBe(2_000);
    expect((await a.sync()).models).toMatchObject([{ coolMs: 2_000 }]);
    await b.sync({ models: [report({ coolMs: 1_000, error: busy, failures: 1 })] }); // shorter: it changes nothing
    await at.pass();
    expect((await state(a))?.coolMs).toBe(2_000);
    vi.advanceTimersByTime(2_000);
    await a.sync({ models: [report()] });
    await at.pass();
    expect(await state(a)).toBeUndefined();
    expect(await view()).toMatchObject({
      coolMs: 0,
      error: busy,
      total: { requests: 3, failures: 2, tokens: 30 },
    });
  });

  test("cools when half of what all workers ask fails, three times at least", async () => {
    const [a, b] = [await at.worker("a"), await at.worker("b")];
    const failure = report({ failures: 1, error: { code: "server_error", message: "down" } });
    await a.sync({ models: [failure, report({ requests: 2 })] });
    await b.sync({ models: [failure] });
    await at.pass();
    expect(await state(a)).toBeUndefined();
    await b.sync({ models: [failure] }); // the third of five
    await at.pass();
    expect((await state(a))?.coolMs).toBe(10_000);
  });

  test("is asked again by all at once when the operator clears it", async () => {
    const a = await at.worker("a");
    await a.sync({ models: [report({ failures: 1, error: busy, coolMs: 900_000 })] });
    await at.pass();
    await at.t.mutation(api.models.clear, { key, model: MODEL });
    expect(await state(a)).toMatchObject({ coolMs: 0, error: null, configured: 1 });
  });
});

describe("a limit", () => {
  test("is divided among the workers that ask, and what one has left goes to others when it counts no more", async () => {
    const [a, b] = [await at.worker("a"), await at.worker("b")];
    await set({ requests: 10 });
    expect(await state(a)).toMatchObject({ requests: 0, tokens: null, configured: 1, perMs: 60_000 });
    await tell(a, 0, 1);
    expect(await state(a)).toMatchObject({ requests: 10, rev: 1 });
    await tell(b, 0, 1);
    expect((await state(a))?.requests).toBe(5); // it is told first,
    expect((await state(b))?.requests).toBe(0);
    await tell(a, 9, 0); // and has used nine
    expect((await state(b))?.requests).toBe(1);
    vi.advanceTimersByTime(60_000);
    await at.pass();
    await tell(a, 5, 0);
    await tell(b, 1, 1);
    expect([(await state(a))?.requests, (await state(b))?.requests]).toEqual([5, 5]);
    await a.drain();
    await at.pass();
    await tell(b, 5, 1);
    expect((await state(b))?.requests).toBe(5); // what the other has used counts for a minute
    vi.advanceTimersByTime(60_000);
    await at.pass();
    expect((await state(b))?.requests).toBe(10);
    expect((await view()).shares).toBe(1);
  });

  test("counts nothing twice when a sync is repeated", async () => {
    const a = await at.worker("a");
    const body = a.body({ models: [report()] });
    await a.send(body);
    await a.send(body);
    await at.pass();
    expect((await view()).total.requests).toBe(1);
  });

  test("is taken away", async () => {
    const a = await at.worker("a");
    await set({ requests: 10, tokens: 500, perMs: 1_000 });
    await tell(a, 0, 1, 100);
    expect(await state(a)).toMatchObject({ requests: 10, tokens: 500, mostTokens: 500, perMs: 1_000 });
    await set({ requests: null });
    await at.pass();
    expect(await state(a)).toMatchObject({ requests: null, tokens: 500 });
    await set({ tokens: null });
    await at.pass();
    expect(await state(a)).toMatchObject({ requests: null, tokens: null });
  });

  test.each([
    [{}, "give at least one"],
    [{ requests: 0 }, "requests"],
    [{ requests: 1_000_000_001 }, "requests"],
    [{ tokens: 1.5 }, "tokens"],
    [{ perMs: 99 }, "perMs"],
    [{ perMs: 86_400_001 }, "perMs"],
  ])("of %j is refused", async (change, told) => {
    await expect(set(change)).rejects.toThrow(told);
  });

  test.each([
    { requests: 1, perMs: 100 },
    { requests: 1_000_000_000, perMs: 86_400_000 },
  ])("of %j is kept", async (change) => {
    expect(await set(change)).toMatchObject(change);
  });
});

test("every attempt is kept with its run and task, and a run that is not the worker's keeps none", async () => {
  const [a, b] = [await at.worker("a"), await at.worker("b", { brings: ["other"] })];
  const { task, run } = await at.begun(a);
  const call = (more: Partial<CallReport> = {}): CallReport => ({
    run,
    call: 1,
    attempt: 1,
    model: MODEL,
    provider: "groq",
    startedMs: 5,
    ms: 20,
    state: "superseded",
    error: { code: "overloaded", message: "busy" },
    usage: null,
    costMicros: null,
    estimated: true,
    ...more,
  });
  await a.sync({ calls: [call(), call({ attempt: 2, state: "succeeded", error: null })] });
  await b.sync({ calls: [call({ attempt: 3 })] });
  const { calls } = await at.t.query(api.models.calls, { key, task });
  expect(calls.map(({ attempt, state }) => [attempt, state])).toEqual([
    [1, "superseded"],
    [2, "succeeded"],
  ]);
  expect(calls[0]).toMatchObject({ run, task, model: MODEL, costMicros: null });
  const name = "m".repeat(201);
  await expect(a.sync({ calls: [call({ model: name })] })).rejects.toThrow("not a model's name");
  await a.sync({ calls: [call({ model: name.slice(1) })] });
});

test("a run that is handed back with a wait begins no sooner, and burns no attempt", async () => {
  const a = await at.worker("a");
  const task: Id<"tasks"> = await at.submit();
  await at.pass();
  const { run } = await a.begin();
  await a.finish(run, { kind: "released", notBeforeMs: 8_000 });
  expect((await at.task(task)).status).toBe("delayed");
  vi.advanceTimersByTime(8_000);
  await at.pass();
  await at.pass();
  expect((await a.inbox()).assigned).toMatchObject([{ task, attempt: 2 }]);
});

test("the loop is brought back when it died, and what it cannot settle holds up nothing else", async () => {
  const a = await at.worker("a");
  await a.sync({ models: [report()] });
  await at.t.mutation(internal.timers.watchdog, {});
  await at.pass();
  expect((await view()).total.requests).toBe(1);
});
