import { beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "./_generated/api";
import {
  DASHBOARD_CALLS,
  DASHBOARD_FORKS,
  DASHBOARD_PAGE,
  DASHBOARD_QUEUE_ROWS,
  DASHBOARD_STEP_CHARS,
  DASHBOARD_STEPS,
} from "./constants";
import type { ListFilter } from "./dashboard.validators";
import type { CallReport } from "./model.validators";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";
import type { TaskSpec } from "./validators";

const at = useDeployment();
let worker: TestWorker;
const key = KEYS.viewer;

beforeEach(async () => {
  worker = await at.worker("w", { capacity: 2 });
});

const page = (filter: ListFilter = {}, cursor: string | null = null, numItems = 50) =>
  at.t.query(api.dashboard.tasks, { key, filter, paginationOpts: { numItems, cursor } });

const submitMany = (count: number, queue = "default") =>
  at.submitAll(Array<Partial<TaskSpec>>(count).fill({ queue }));

describe("the list of tasks", () => {
  test("goes on page by page, newest first, and never reads more than a page however much is asked for", async () => {
    await submitMany(DASHBOARD_PAGE + 1);
    const first = await page({}, null, 10 * DASHBOARD_PAGE);
    expect(first.page).toHaveLength(DASHBOARD_PAGE);
    expect(first.isDone).toBe(false);
    const last = await page({}, first.continueCursor, 10 * DASHBOARD_PAGE);
    expect(last).toMatchObject({ isDone: true, page: [{}] });
    const times = [...first.page, ...last.page].map((row) => row.submittedAt);
    expect(times).toEqual([...times].sort((a, b) => b - a));
  });

  test("a filter that matches nothing on a page gives an empty page that is not the last", async () => {
    await submitMany(1, "other");
    await submitMany(60);
    const first = await page({ queue: "other" }, null, 50);
    expect(first).toMatchObject({ page: [], isDone: false });
    expect(await page({ queue: "other" }, first.continueCursor)).toMatchObject({
      page: [{ queue: "other" }],
    });
  });

  test("by status, agent and cause", async () => {
    const task = await at.submit();
    await at.pass();
    const error = { code: "boom", message: "no" };
    await worker.finish((await worker.begin()).run, {
      ...{ kind: "failed", error, retryable: false, notBeforeMs: null },
    });
    await at.submit({ delayMs: 1_000 });
    const shown = async (filter: ListFilter) => (await page(filter)).page.map((row) => row.status);
    expect(await shown({ status: "failed" })).toEqual(["failed"]);
    expect(await shown({ code: "boom" })).toEqual(["failed"]);
    expect(await shown({ code: "bang" })).toEqual([]);
    expect(await shown({ agent: "echo" })).toEqual(["delayed", "failed"]);
    expect(await shown({ agent: "nobody" })).toEqual([]);
    expect(await at.t.query(api.dashboard.failures, { key })).toMatchObject({
      counted: 1,
      causes: [{ code: "boom", count: 1, newest: [{ task }] }],
    });
    await expect(page({ tenant: "" })).rejects.toThrow("tenant");
  });
});

describe("a task", () => {
  test("its attempts, newest first, with the worker that had each", async () => {
    const task = await at.submit();
    await at.pass();
    await worker.finish((await worker.begin()).run, {
      ...{ kind: "failed", error: { code: "flaky", message: "again" }, retryable: true, notBeforeMs: 0 },
    });
    await at.pass(5_000);
    await worker.begin();
    const { attempts, more } = await at.t.query(api.dashboard.attempts, { key, task });
    expect(more).toBe(false);
    expect(attempts).toMatchObject([
      { attempt: 2, worker: "w", state: "running", error: null },
      { attempt: 1, worker: "w", state: "failed", error: { code: "flaky" } },
    ]);
  });

  test("its steps, each with the beginning of its result", async () => {
    const { task, run } = await at.begun(worker);
    await worker.step(run, "b", '"first"');
    await worker.step(run, "a", JSON.stringify("x".repeat(DASHBOARD_STEP_CHARS)));
    const { steps } = await at.t.query(api.dashboard.steps, { key, task });
    expect(steps.map(({ key, cut, over }) => [key, cut, over])).toEqual([
      ["b", false, true],
      ["a", true, true],
    ]);
    expect(steps[1]!.result).toHaveLength(DASHBOARD_STEP_CHARS);
    expect(steps[0]).toMatchObject({ tool: null, effect: null, state: null, usage: null, copied: false });
  });

  test("a turn with its usage, a call of a tool with its class and how far it has come", async () => {
    const { task, run } = await at.begun(worker);
    const usage = { model: "m", inputTokens: 3, outputTokens: 2, cachedInputTokens: null, costMicros: 7 };
    await worker.step(run, "turn#1", '"text"', { kind: "turn", usage });
    const effect = { tool: "pay", effect: "unsafe", state: "intended", argsHash: "a".repeat(64) } as const;
    await worker.step(run, "turn#1/0:pay", "", { kind: "tool", result: null, ...effect });
    const { steps } = await at.t.query(api.dashboard.steps, { key, task });
    expect(steps).toMatchObject([
      { kind: "turn", usage, over: true, state: null },
      { kind: "tool", tool: "pay", effect: "unsafe", state: "intended", over: false, result: null },
    ]);
  });

  test("of more steps than are shown, the last, in the order in which they were kept", async () => {
    const { task, run } = await at.begun(worker);
    const shown = async () => {
      const { steps, more } = await at.t.query(api.dashboard.steps, { key, task });
      return [steps.length, steps[0]!.key, steps.at(-1)!.key, more];
    };
    const step = (number: number) =>
      ({ run, key: `s${number}`, kind: "step", result: "1", signal: null }) as const;
    await worker.sync({ steps: Array.from({ length: DASHBOARD_STEPS }, (_, number) => step(number)) });
    expect(await shown()).toEqual([DASHBOARD_STEPS, "s0", `s${DASHBOARD_STEPS - 1}`, false]);
    await worker.sync({ steps: [step(DASHBOARD_STEPS)] });
    expect(await shown()).toEqual([DASHBOARD_STEPS, "s1", `s${DASHBOARD_STEPS}`, true]);
  });

  test("the last attempts at its model calls, each with what became of it", async () => {
    const { task, run } = await at.begun(worker);
    const attempt = (call: number, more: Partial<CallReport> = {}): CallReport => ({
      ...{ run, call, attempt: 1, model: "p/m", provider: "p", startedMs: 0, ms: 5, state: "succeeded" },
      ...{ error: null, usage: null, costMicros: 12, estimated: false },
      ...more,
    });
    const error = { code: "overloaded", message: "529" };
    await worker.sync({ calls: [attempt(1, { state: "superseded", error }), attempt(1, { attempt: 2 })] });
    expect(await at.t.query(api.dashboard.calls, { key, task })).toMatchObject({
      more: false,
      calls: [
        { call: 1, attempt: 1, model: "p/m", state: "superseded", error, costMicros: 12 },
        { call: 1, attempt: 2, state: "succeeded", error: null },
      ],
    });
    const rest = Array.from({ length: DASHBOARD_CALLS - 1 }, (_, number) => attempt(number + 2));
    await worker.sync({ calls: rest });
    const { calls, more } = await at.t.query(api.dashboard.calls, { key, task });
    expect([calls.length, calls[0]!.attempt, more]).toEqual([DASHBOARD_CALLS, 2, true]);
  });

  test("what it was forked from, and the newest of its forks", async () => {
    const task = await at.submit({ queue: "nobody" });
    const fork = async (request: string) =>
      (await at.t.mutation(api.tasks.fork, { key: KEYS.submit, task, change: { prompt: "p" }, request }))
        .task;
    const first = await fork("0");
    const links = (of: string) => at.t.query(api.dashboard.forks, { key, task: of });
    expect(await links(first)).toEqual({
      of: { task, status: "pending", at: null, effects: "forbid", changed: ["prompt"] },
      ...{ forks: [], more: false },
    });
    for (let number = 1; number < DASHBOARD_FORKS; number++) await fork(String(number));
    const few = await links(task);
    expect(few).toMatchObject({ of: null, more: false });
    expect(few.forks).toHaveLength(DASHBOARD_FORKS);
    expect(few.forks.at(-1)).toEqual({ task: first, status: "pending", at: null });
    const last = await fork("last");
    const many = await links(task);
    expect(many.forks).toHaveLength(DASHBOARD_FORKS);
    expect([many.forks[0]!.task, many.more]).toEqual([last, true]);
  });
});

describe("workers and queues", () => {
  test("a worker is asked to leave once, and is given nothing more", async () => {
    await at.t.mutation(api.dashboard.drain, { key: KEYS.operator, worker: "w" });
    await at.t.mutation(api.dashboard.drain, { key: KEYS.operator, worker: "w" });
    expect((await worker.inbox()).controls).toMatchObject([{ kind: "drain", run: null }]);
    await at.submit();
    await at.pass(1_000);
    expect((await worker.inbox()).assigned).toEqual([]);
    const { workers } = await at.t.query(api.dashboard.workers, { key });
    expect(workers).toMatchObject([
      { name: "w", live: true, draining: true },
      { name: "first", live: false },
    ]);
    const drain = (name: string) => at.t.mutation(api.dashboard.drain, { key: KEYS.operator, worker: name });
    await expect(drain("first")).rejects.toThrow("gone already");
    await expect(drain("nobody")).rejects.toThrow("No worker");
  });

  test("a worker that lives was heard when it last synced, and told its clocks then", async () => {
    const beats = () => at.t.query(api.dashboard.beats, { key });
    expect(await beats()).toEqual([{ name: "w", busy: false, at: Date.now(), clocks: null }]);
    await at.submit();
    await at.pass();
    await worker.begin();
    vi.advanceTimersByTime(2_000);
    const clocks = { inboxAgeMs: 250, silent: [] };
    await worker.sync({ clocks });
    const heardAt = Date.now();
    vi.advanceTimersByTime(1_000);
    expect(await beats()).toEqual([{ name: "w", busy: true, at: heardAt, clocks }]);
    await worker.drain();
    expect(await beats()).toEqual([]);
  });

  test("a queue is counted up to its bound, from the oldest of what was counted on", async () => {
    const began = Date.now();
    await submitMany(DASHBOARD_QUEUE_ROWS, "a");
    vi.advanceTimersByTime(1_000);
    await submitMany(DASHBOARD_QUEUE_ROWS + 1, "b");
    const { queues } = await at.t.query(api.dashboard.queues, { key });
    expect(queues).toMatchObject([
      { queue: "a", waiting: DASHBOARD_QUEUE_ROWS, more: false },
      { queue: "b", waiting: DASHBOARD_QUEUE_ROWS, more: true },
    ]);
    expect(Math.floor(queues[0]!.oldestAt)).toBe(began);
  });
});

test("a caller is told whose key it has", async () => {
  expect(await at.t.query(api.dashboard.caller, { key })).toMatchObject({
    role: "viewer",
    label: "viewer",
    queues: null,
  });
});
