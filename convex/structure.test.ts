import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { Deployment, KEYS, type TestWorker } from "./setup.testing";
import type { OnFailure, Outcome, TaskSpec, TaskStatus } from "./validators";

let at: Deployment;
let worker: TestWorker;

beforeEach(async () => {
  vi.useFakeTimers();
  at = await Deployment.start();
  worker = await at.worker("w", { capacity: 1_000 });
});

afterEach(() => {
  at.close();
  vi.useRealTimers();
});

const OK: Outcome = { kind: "succeeded", output: '"done"' };
const FATAL: Outcome = {
  kind: "failed",
  error: { code: "boom", message: "no" },
  retryable: false,
  notBeforeMs: null,
};

function answersTo(specs: Partial<TaskSpec>[]) {
  const tasks = specs.map((spec) => ({ agent: "echo", input: "null", ...spec }));
  return at.t.mutation(api.tasks.submit, { key: KEYS.submit, tasks });
}

/** Submit a graph whose refs are the names given. @returns their tasks, in order */
async function submit(...specs: Partial<TaskSpec>[]): Promise<Id<"tasks">[]> {
  const answers = await answersTo(specs);
  return answers.map((answer) => {
    if (!answer.ok) throw new Error(answer.message);
    return answer.task;
  });
}

/** The tasks that a worker has now. */
async function assigned(): Promise<Id<"tasks">[]> {
  await at.pass();
  return (await worker.inbox()).assigned.map((item) => item.task);
}

async function finish(task: Id<"tasks">, outcome: Outcome = OK): Promise<void> {
  await worker.finish((await at.task(task)).run!, outcome);
  await at.pass();
}

const statuses = async (tasks: Id<"tasks">[]): Promise<TaskStatus[]> => {
  const found: TaskStatus[] = [];
  for (const task of tasks) found.push((await at.task(task)).status);
  return found;
};

const after = (...on: (string | [string, OnFailure])[]) =>
  on.map((edge) => (typeof edge === "string" ? { on: edge } : { on: edge[0], onFailure: edge[1] }));

describe("tasks that come after others", () => {
  test("a diamond runs from its top to its bottom", async () => {
    const [a, b, c, d] = await submit(
      { ref: "a" },
      { ref: "b", after: after("#a") },
      { ref: "c", after: after("#a") },
      { ref: "d", after: after("#b", "#c") },
    );
    expect(await assigned()).toEqual([a]);
    expect(await statuses([b!, c!, d!])).toEqual(["waiting", "waiting", "waiting"]);
    await finish(a!);
    expect(new Set(await assigned())).toEqual(new Set([b, c]));
    await finish(b!);
    expect(await assigned()).toEqual([c]);
    await finish(c!);
    expect(await assigned()).toEqual([d]);
    await finish(d!);
    expect(await statuses([a!, b!, c!, d!])).toEqual(Array(4).fill("succeeded"));
    expect(await at.history(d!)).toEqual([
      "task_submitted",
      "task_unblocked",
      "run_assigned",
      "task_succeeded",
    ]);
  });
});

describe("when a dependency does not succeed", () => {
  test.each<[OnFailure, TaskStatus]>([
    ["fail", "failed"],
    ["skip", "skipped"],
    ["run", "succeeded"],
  ])("one that comes after it with %s is %s", async (onFailure, status) => {
    const [a, b] = await submit({ ref: "a" }, { ref: "b", after: after(["#a", onFailure]) });
    await assigned();
    await finish(a!, FATAL);
    if (onFailure === "run") await finish(b!);
    expect((await at.task(b!)).status).toBe(status);
    if (onFailure === "run") return;
    expect((await at.task(b!)).error).toEqual({
      code: "dependency_failed",
      message: `task ${a} (#a), which it comes after, failed`,
    });
    expect((await assigned()).includes(b!)).toBe(false);
  });
});
