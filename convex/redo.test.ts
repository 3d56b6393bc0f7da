import { beforeEach, expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { MAX_REDO } from "./constants";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker();
});

const LARGE = JSON.stringify("x".repeat(9_000)); // beside its row

/** A task whose run has taken these turns and failed for the steps named. */
async function failed(keys: string[], redo?: string[]): Promise<Id<"tasks">> {
  const { task, run } = await at.begun(worker);
  for (const key of keys) await worker.step(run, key, LARGE, { kind: "turn" });
  const error = { code: "invalid_output", message: "wrong again" };
  await worker.finish(run, {
    kind: "failed",
    error,
    retryable: false,
    notBeforeMs: null,
    ...(redo && { redo }),
  });
  expect((await at.task(task)).status).toBe("failed");
  return task;
}

const why = async (task: Id<"tasks">) => (await at.why(task)).clears;

/** What the next run finds. */
async function found(): Promise<{ told: number; keys: string[] }> {
  await at.pass();
  const { run, steps: told } = await worker.begin();
  const { steps } = await worker.steps(run);
  const keys = steps.map(({ key }) => key);
  await worker.finish(run);
  return { told, keys };
}

test("a retry by hand makes the steps anew for which a task has failed, and no others", async () => {
  const task = await failed(["turn#1", "turn#2", "after_output"], ["turn#2", "after_output", "never kept"]);
  expect(await why(task)).toBe("tasks retry: the model is asked for its last answer anew.");
  await at.retry(task);
  expect(await found()).toEqual({ told: 1, keys: ["turn#1"] });
  expect((await at.task(task)).status).toBe("succeeded");
});

test("a task that has failed for its only step begins without any", async () => {
  await at.retry(await failed(["turn#1"], ["turn#1", "turn#1"]));
  expect(await found()).toEqual({ told: 0, keys: [] });
});

test("a retry of what failed otherwise finds all that was done", async () => {
  const task = await failed(["turn#1", "turn#2"]);
  expect(await why(task)).toBe("tasks retry.");
  await at.retry(task);
  expect(await found()).toEqual({ told: 2, keys: ["turn#1", "turn#2"] });
});

test("a second failure for another reason forgets the first", async () => {
  const task = await failed(["turn#1"], ["turn#1"]);
  await at.retry(task);
  await at.pass();
  const { run } = await worker.begin();
  await worker.step(run, "turn#1", "1", { kind: "turn" });
  const error = { code: "boom", message: "it failed" };
  await worker.finish(run, { kind: "failed", error, retryable: false, notBeforeMs: null });
  await at.retry(task);
  expect(await found()).toEqual({ told: 1, keys: ["turn#1"] });
});

test("a retry of many makes them anew as well, a few of each", async () => {
  const keys = Array.from({ length: MAX_REDO + 1 }, (_, i) => `turn#${i + 1}`);
  await failed(keys, keys);
  const filter = { status: "failed" as const };
  const { changed } = await at.t.mutation(api.tasks.retryMany, { key: KEYS.submit, filter, cursor: null });
  expect(changed).toBe(1);
  expect(await found()).toEqual({ told: 1, keys: [`turn#${MAX_REDO + 1}`] });
});
