import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "./_generated/api";
import { DASHBOARD_PAGE, DASHBOARD_QUEUE_ROWS, DASHBOARD_STEP_CHARS } from "./constants";
import type { ListFilter } from "./dashboard.validators";
import { Deployment, KEYS, type TestWorker } from "./setup.testing";

let at: Deployment;
let worker: TestWorker;
const key = KEYS.viewer;

beforeEach(async () => {
  vi.useFakeTimers();
  at = await Deployment.start();
  worker = await at.worker("w", { capacity: 2 });
});

afterEach(() => {
  at.close();
  vi.useRealTimers();
});

const page = (filter: ListFilter = {}, cursor: string | null = null, numItems = 50) =>
  at.t.query(api.dashboard.tasks, { key, filter, paginationOpts: { numItems, cursor } });

async function submitMany(count: number, queue = "default"): Promise<void> {
  const tasks = Array.from({ length: count }, () => ({ agent: "echo", input: "null", queue }));
  for (const answer of await at.t.mutation(api.tasks.submit, { key: KEYS.submit, tasks }))
    expect(answer.ok).toBe(true);
}

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
    const task = await at.submit();
    await at.pass();
    const { run } = await worker.begin();
    await worker.step(run, "b", '"first"');
    await worker.step(run, "a", JSON.stringify("x".repeat(DASHBOARD_STEP_CHARS)));
    const { steps } = await at.t.query(api.dashboard.steps, { key, task });
    expect(steps.map(({ key, cut, over }) => [key, cut, over])).toEqual([
      ["b", false, true],
      ["a", true, true],
    ]);
    expect(steps[1]!.result).toHaveLength(DASHBOARD_STEP_CHARS);
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
      { name: "w", live: true, draining: true, busy: false, clocks: null },
      { name: "first", live: false, beatAt: null },
    ]);
    const drain = (name: string) => at.t.mutation(api.dashboard.drain, { key: KEYS.operator, worker: name });
    await expect(drain("first")).rejects.toThrow("gone already");
    await expect(drain("nobody")).rejects.toThrow("No worker");
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
