/** Code changes in flight: what a task is pinned to, who may go on with it, and what clears it when nobody can. */
import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { KEPT_VERSIONS, RESTART_STEPS } from "./constants";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";

const at = useDeployment();

const again = {
  kind: "failed",
  error: { code: "x", message: "x" },
  retryable: true,
  notBeforeMs: 0,
} as const;
const restart = (task: Id<"tasks">) => at.t.mutation(api.tasks.restart, { key: KEYS.submit, task });

/** A run that keeps a step, or none, and fails. */
async function run(worker: TestWorker, step: string | null = "a") {
  await at.pass();
  const { run } = await worker.begin();
  if (step !== null) await worker.step(run, step);
  await worker.finish(run, again);
  await at.pass(50);
}

const submit = () => at.submit({ retry: { initialMs: 1 } });

/** A task that began on `code` and whose worker has left. */
async function begun(code = "old", more: { version?: string } = {}) {
  const task = await submit();
  const old = await at.worker("old", { code, ...more });
  await run(old);
  await old.drain();
  await at.pass();
  return task;
}

describe("a task with steps", () => {
  test("goes to nobody but a worker that has the version they were taken by, and why says so", async () => {
    const task = await begun("0123456789abcdef");
    const next = await at.worker("new", { code: "ffff" });
    await at.pass(100);
    expect((await next.inbox()).assigned).toEqual([]);
    expect(await at.why(task)).toMatchObject({
      code: "no_worker_for_version",
      message:
        "It began on version 0123456789ab of the agent echo, and none of 1 workers that know it has that (they have: ffff).",
      clears: expect.stringContaining(`A worker with that version, tasks restart ${task}`) as string,
    });
    const same = await at.worker("same", { code: "0123456789abcdef" });
    await at.pass();
    expect(await same.begin()).toMatchObject({
      task,
      steps: 1,
      pinned: { version: "0123456789abcdef", code: "0123456789abcdef" },
    });
  });

  test("whose author has kept the version goes on with other code, and its run is told", async () => {
    await begun("old", { version: "v1" });
    const next = await at.worker("new", { code: "new", version: "v1" });
    await at.pass();
    expect((await next.begin()).pinned).toEqual({ version: "v1", code: "old" });
  });

  test("holds up no other of its queue and agent", async () => {
    await begun("old");
    const next = await at.worker("new", { code: "new" });
    const other = await at.submit();
    await at.pass();
    expect((await next.begin()).task).toBe(other);
  });

  test("keeps its version through a wait, which is a step", async () => {
    const task = await submit();
    const old = await at.worker("old", { code: "old" });
    await at.pass();
    const { run } = await old.begin();
    await old.finish(run, { kind: "suspended", step: "sleep", until: { ms: 500 } });
    await old.drain();
    const next = await at.worker("new", { code: "new" });
    await at.pass(600);
    expect((await next.inbox()).assigned).toEqual([]);
    expect((await at.why(task)).code).toBe("no_worker_for_version");
    await at.pause(task);
    await at.resume(task);
    await at.pass(100);
    expect((await next.inbox()).assigned).toEqual([]);
  });
});

test("a task without steps moves freely", async () => {
  await submit();
  await run(await at.worker("w", { code: "old" }), null);
  const next = await at.worker("w", { code: "new", incarnation: "2" });
  await at.pass();
  expect(await next.begin()).not.toHaveProperty("pinned");
});

test("and so does one whose worker told no version", async () => {
  await submit();
  await run(await at.worker("w"));
  const next = await at.worker("w", { code: "new", incarnation: "2" });
  await at.pass(100);
  expect(await next.begin()).toMatchObject({ steps: 1 });
});

test.each([
  ["a version without its code", { version: "v1" }, /a version comes with its code/],
  ["a version that is no name", { version: "a/b", code: "c" }, /agents.echo.version: .* is not a name/],
  ["a code that is no name", { code: "" }, /agents.echo.code: .* is not a name/],
])("%s is refused", async (_, offer, message) => {
  await expect(at.worker("x", offer)).rejects.toThrow(message);
});

describe("a traceparent", () => {
  const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

  test("comes with the assignment, and goes on to children", async () => {
    await at.submit({ traceparent: parent });
    const worker = await at.worker();
    await at.pass();
    const { run, traceparent } = await worker.begin();
    expect(traceparent).toBe(parent);
    const named = { key: KEYS.worker, session: worker.session, run, step: "s" };
    await at.t.mutation(api.worker.spawn, {
      ...named,
      tasks: [{ agent: "echo", input: "1" }],
      gather: false,
    });
    await at.pass();
    expect((await worker.begin()).traceparent).toBe(parent);
  });

  test.each([
    ["", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
    ["of another version", parent.replace("00-", "01-")],
    ["of no trace", parent.replace(/[0-9a-f]{32}/, "0".repeat(32))],
    ["of no span", parent.replace(/-[0-9a-f]{16}-/, `-${"0".repeat(16)}-`)],
    ["in capitals", parent.toUpperCase()],
  ])("%s that is none is refused", async (_, traceparent) => {
    await expect(at.submit({ traceparent })).rejects.toThrow(/is no traceparent/);
  });
});

describe("restart", () => {
  test("drops the steps, and the task begins anew on any version", async () => {
    const task = await begun("old");
    const next = await at.worker("new", { code: "new" });
    expect(await restart(task)).toEqual({ status: "pending" });
    await at.pass();
    const assigned = await next.begin();
    expect(assigned).toMatchObject({ task, steps: 0 });
    expect(assigned).not.toHaveProperty("pinned");
    expect((await next.steps(assigned.run)).steps).toEqual([]);
    expect(await at.history(task)).toContain("retry_requested");
  });

  test("of one that failed gives it its attempts anew", async () => {
    const task = await at.submit({ retry: { maxAttempts: 1 } });
    await run(await at.worker("old", { code: "old" }));
    expect((await at.task(task)).status).toBe("failed");
    expect(await restart(task)).toEqual({ status: "pending" });
    expect(await at.task(task)).toMatchObject({ error: null, endedAt: null });
  });

  test("of one that waits for an event takes it out of its wait", async () => {
    const task = await submit();
    const worker = await at.worker("w", { code: "old" });
    await at.pass();
    const { run } = await worker.begin();
    await worker.finish(run, { kind: "suspended", step: "go", until: { event: "go", timeoutMs: 1_000 } });
    expect(await restart(task)).toEqual({ status: "pending" });
    await at.pass(1_500);
    expect((await at.task(task)).status).toBe("running");
    expect((await worker.begin()).steps).toBe(0);
  });

  /** A task that was handed back after so many steps. */
  async function withSteps(count: number) {
    const task = await submit();
    const worker = await at.worker("w", { code: "old" });
    await at.pass();
    const { run } = await worker.begin();
    const key = (i: number) => `s${String(i).padStart(4, "0")}`;
    for (let i = 0; i < count; i += 100) {
      const keys = Array.from({ length: Math.min(100, count - i) }, (_, j) => key(i + j));
      await worker.sync({
        steps: keys.map((key) => ({ run, key, kind: "step" as const, result: "1", signal: null })),
      });
    }
    await worker.finish(run, again);
    return { task, worker };
  }

  test.each([RESTART_STEPS - 1, RESTART_STEPS, RESTART_STEPS + 1])("drops %i steps", async (count) => {
    const { task, worker } = await withSteps(count);
    const paged = count >= RESTART_STEPS;
    expect(await restart(task)).toEqual({ status: paged ? "paused" : "pending" });
    await at.pass(100);
    expect(await at.t.query(probe.rowCounts, {})).not.toHaveProperty("steps");
    expect((await worker.begin()).steps).toBe(0);
  });

  test("that is cancelled under way leaves no steps and no run", async () => {
    const { task, worker } = await withSteps(400);
    expect(await restart(task)).toEqual({ status: "paused" });
    await at.cancel(task);
    await at.pass(100);
    expect(await at.t.query(probe.rowCounts, {})).not.toHaveProperty("steps");
    expect((await at.task(task)).status).toBe("cancelled");
    await at.retry(task);
    await at.pass();
    expect((await worker.begin()).steps).toBe(0);
  });

  test("that is paused under way leaves it paused", async () => {
    const { task, worker } = await withSteps(400);
    await restart(task);
    await at.pause(task);
    await at.pass(1_000);
    expect(await at.t.query(probe.rowCounts, {})).not.toHaveProperty("steps");
    expect((await at.why(task)).code).toBe("paused");
    await at.resume(task);
    await at.pass();
    expect((await worker.begin()).steps).toBe(0);
  });

  test("lets nobody resume or retry the task before its steps are gone", async () => {
    const task = await at.submit({ delayMs: 60_000 });
    await at.pause(task);
    await at.t.mutation(probe.prepare, { task });
    expect((await at.why(task)).code).toBe("preparing");
    await expect(at.resume(task)).rejects.toThrow(/is being prepared/);
    expect(await restart(task)).toEqual({ status: "paused" });
    await at.cancel(task);
    await expect(at.retry(task)).rejects.toThrow(/being prepared/);
  });

  test("is refused while the task runs, and when it has succeeded", async () => {
    const task = await submit();
    const worker = await at.worker();
    await at.pass();
    const { run } = await worker.begin();
    await expect(restart(task)).rejects.toThrow(/runs; pause or cancel it/);
    await worker.finish(run);
    await expect(restart(task)).rejects.toThrow(/succeeded; submit it again, or fork it/);
  });
});

describe("an agent of the registry", () => {
  const configure = (prompt: string) =>
    at.t.mutation(api.agents.sync, {
      key: KEYS.operator,
      agents: [
        {
          name: "writer",
          description: "",
          llm: { model: null, prompt, temperature: null, maxOutputTokens: null },
        },
      ],
    });

  test("goes on, for each task, with the settings that the task's steps were taken by", async () => {
    await configure("first");
    const worker = await at.worker();
    const task = await at.submit({ agent: "writer", retry: { initialMs: 1 } });
    await run(worker);
    await configure("second");
    const other = await at.submit({ agent: "writer" });
    await at.pass();
    const assigned = (await worker.inbox()).assigned;
    expect(assigned.find((each) => each.task === task)?.llm?.prompt).toBe("first");
    expect(assigned.find((each) => each.task === other)?.llm?.prompt).toBe("second");
  });

  test("that changed between an assignment and its delivery is what it was then", async () => {
    await configure("first");
    const worker = await at.worker();
    await at.submit({ agent: "writer" });
    await at.pass();
    await configure("second");
    expect((await worker.begin()).llm?.prompt).toBe("first");
  });

  test.each([
    [KEPT_VERSIONS, "running"],
    [KEPT_VERSIONS + 1, "failed"],
  ])("that changed %i times since leaves its task %s", async (changes, status) => {
    await configure("first");
    const worker = await at.worker();
    const { task, run } = await at.begun(worker, { agent: "writer" });
    await worker.step(run, "a");
    await worker.finish(run, { ...again, notBeforeMs: 1_000 });
    for (let i = 0; i < changes; i++) await configure(`then ${i}`);
    await at.pass(2_000);
    const view = await at.task(task);
    expect(view.status).toBe(status);
    if (status === "failed") {
      expect(view.error).toMatchObject({
        code: "version_gone",
        message: expect.stringContaining("tasks restart") as string,
      });
      await restart(task);
      await at.pass();
      expect((await worker.begin()).llm?.prompt).toBe(`then ${changes - 1}`);
    }
  });
});
