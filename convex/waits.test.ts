/** Tasks that wait without a worker: for a time, for an event, for a signal. */
import { beforeEach, describe, expect, test, vi } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import {
  MAX_DELAY_MS,
  MAX_KEY_CHARS,
  MAX_SIGNAL_BYTES,
  MAX_SIGNALS,
  SIGNAL_MEMORY_MS,
  WAKE_BATCH,
} from "./constants";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { Outcome } from "./validators";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker("w", { capacity: 200 });
});

const sleep = (ms: number, step = "sleep"): Outcome => ({ kind: "suspended", step, until: { ms } });
const wait = (event: string, timeoutMs: number | null = null, step = event): Outcome => ({
  kind: "suspended",
  step,
  until: { event, timeoutMs },
});

const begun = (spec = {}) => at.begun(worker, spec);

async function waiting(event = "go", timeoutMs: number | null = null) {
  const { task, run } = await begun();
  await worker.finish(run, wait(event, timeoutMs));
  return task;
}

const emit = (name: string, data = "null", tenant = "default") =>
  at.t.mutation(probe.wakeWaiters, { tenant, name, data });

async function nextStep() {
  await at.pass();
  const { run } = await worker.begin();
  return (await worker.steps(run)).steps[0]!;
}

describe("sleep", () => {
  test("frees the worker, burns no attempt, and comes back at its time", async () => {
    const { task, run } = await begun({ retry: { maxAttempts: 1 } });
    await worker.finish(run, sleep(60_000));
    expect(await at.task(task)).toMatchObject({ status: "sleeping", error: null });
    await at.pass(59_000);
    expect((await at.task(task)).status).toBe("sleeping");
    await at.pass(1_100);
    const again = await worker.begin();
    expect(again).toMatchObject({ task, steps: 1 });
    expect((await worker.steps(again.run)).steps).toEqual([
      { key: "sleep", kind: "sleep", result: null, remainingMs: 0 },
    ]);
    await worker.finish(again.run);
    expect((await at.task(task)).status).toBe("succeeded");
    const history = await at.history(task);
    expect(history.filter((type) => type === "task_suspended")).toHaveLength(1);
  });

  test("comes back in its old place", async () => {
    await worker.drain();
    worker = await at.worker("small", { capacity: 1 });
    const { task, run } = await begun();
    await worker.finish(run, sleep(8_000));
    await at.pass(10);
    const busy = await begun();
    const later = await at.submit();
    for (let s = 0; s < 9; s += 3) {
      await at.pass(3_000);
      await worker.sync();
    }
    expect((await at.task(task)).status).toBe("pending");
    await worker.finish(busy.run);
    await at.pass(10);
    expect((await worker.begin()).task).toBe(task);
    expect((await at.task(later)).status).toBe("pending");
  });

  test("a sleep that began goes on in a later run; it does not begin again", async () => {
    const { run } = await begun();
    await worker.finish(run, sleep(60_000));
    const task = (await at.t.query(api.tasks.list, { key: KEYS.submit })).tasks[0]!.task;
    await at.pause(task);
    await at.pass(20_000);
    expect(await at.resume(task)).toBe("sleeping");
    await at.t.mutation(probe.hurry, { task });
    await at.pass(10);
    const second = await worker.begin();
    const [step] = (await worker.steps(second.run)).steps;
    expect(step).toMatchObject({ kind: "sleep", remainingMs: expect.closeTo(40_000, -3) as number });
    await worker.finish(second.run, sleep(60_000));
    await at.pass(39_000);
    expect((await at.task(task)).status).toBe("sleeping");
    await at.pass(1_100);
    expect((await at.task(task)).status).toBe("running");
  });

  test("a sleeping task is cancelled at once, and nothing is left of its wait", async () => {
    const { task, run } = await begun();
    await worker.finish(run, sleep(5_000));
    await at.cancel(task);
    expect((await at.task(task)).status).toBe("cancelled");
    await at.pass(6_000);
    expect((await at.task(task)).status).toBe("cancelled");
    expect((await worker.inbox()).assigned).toEqual([]);
  });

  test("a run that is to be cancelled does not fall asleep", async () => {
    const { task, run } = await begun();
    await at.cancel(task);
    await worker.finish(run, sleep(5_000));
    expect((await at.task(task)).status).toBe("cancelled");
  });

  test.each([
    [0, "running"],
    [MAX_DELAY_MS, "sleeping"],
    [MAX_DELAY_MS + 1, "failed"],
    [-1, "failed"],
    [Number.NaN, "failed"],
  ])("of %d ms", async (ms, status) => {
    const { task, run } = await begun();
    await worker.finish(run, sleep(ms));
    await at.pass();
    expect((await at.task(task)).status).toBe(status);
  });
});

describe("an event", () => {
  test("wakes every task of its tenant that waits for it, with its data", async () => {
    const tasks = [await waiting(), await waiting(), await waiting("other")];
    expect((await at.task(tasks[0]!)).status).toBe("waiting_event");
    expect((await at.state(tasks[0]!)).waitsFor).toBe("go");
    await emit("go", "1", "another");
    expect((await at.task(tasks[0]!)).status).toBe("waiting_event");
    await emit("go", '{"x":1}');
    expect((await nextStep()).result).toBe('{"name":"go","data":{"x":1}}');
    const statuses = await Promise.all(tasks.map(async (task) => (await at.task(task)).status));
    expect(statuses).toEqual(["running", "running", "waiting_event"]);
  });

  test("that came before the wait does not count", async () => {
    await emit("go");
    const task = await waiting();
    await at.pass(1_000);
    expect((await at.task(task)).status).toBe("waiting_event");
  });

  test.each([WAKE_BATCH - 1, WAKE_BATCH, WAKE_BATCH + 1])(
    "wakes %d tasks, each once",
    async (count) => {
      const tasks: Id<"tasks">[] = [];
      for (let i = 0; i < count; i++) tasks.push(await at.submit());
      await at.pass(100);
      const { assigned } = await worker.inbox();
      expect(assigned).toHaveLength(count);
      for (let i = 0; i < count; i += 50) {
        const finished = assigned
          .slice(i, i + 50)
          .map(({ run }) => ({ run, outcome: wait("go"), usage: null }));
        await worker.sync({ finished });
      }
      await emit("go", "7");
      await at.pass(100);
      for (const task of tasks) {
        expect((await at.task(task)).status).toBe("running");
        expect((await at.history(task)).filter((type) => type === "task_woken")).toHaveLength(1);
      }
    },
    30_000,
  );

  test("does not come: the time limit ends the wait, and a later event changes nothing", async () => {
    const task = await waiting("go", 5_000);
    await at.pass(4_900);
    expect((await at.task(task)).status).toBe("waiting_event");
    await at.pass(200);
    expect(await nextStep()).toMatchObject({ kind: "event", result: '{"timeout":true}' });
    await emit("go", "1");
    expect((await at.history(task)).filter((type) => type === "task_woken")).toHaveLength(1);
  });

  test("ends the wait, and its time limit never rings", async () => {
    const task = await waiting("go", 5_000);
    await emit("go", "1");
    const step = await nextStep();
    expect(step.result).toBe('{"name":"go","data":1}');
    const { run } = await at.task(task);
    await worker.finish(run!, wait("second", null));
    await at.pass(6_000);
    expect((await at.task(task)).status).toBe("waiting_event");
  });

  test("a task that waits is cancelled at once, and the event finds nobody", async () => {
    const task = await waiting("go", 5_000);
    await at.cancel(task);
    expect(await emit("go")).toBe(0);
    await at.pass(6_000);
    expect((await at.task(task)).status).toBe("cancelled");
  });

  test.each([
    ["x".repeat(MAX_KEY_CHARS), "waiting_event"],
    ["x".repeat(MAX_KEY_CHARS + 1), "failed"],
    ["", "failed"],
  ])("has a name of bounded length", async (event, status) => {
    const { task, run } = await begun();
    await worker.finish(run, wait(event, null, "step"));
    expect((await at.task(task)).status).toBe(status);
  });
});

describe("a signal", () => {
  test("wakes the task that waits for it, once for each id", async () => {
    const task = await waiting();
    expect(await at.signal(task, "other", "0", "id0")).toEqual({ duplicate: false });
    expect((await at.task(task)).status).toBe("waiting_event");
    expect(await at.signal(task, "go", '"yes"', "id1")).toEqual({ duplicate: false });
    expect(await at.signal(task, "go", '"no"', "id1")).toEqual({ duplicate: true });
    expect((await nextStep()).result).toBe('{"name":"go","data":"yes"}');
  });

  test("that came before the wait ends it at once", async () => {
    const { task, run } = await begun();
    await at.signal(task, "go", "1");
    await at.signal(task, "go", "2");
    await worker.finish(run, wait("go"));
    expect((await nextStep()).result).toBe('{"name":"go","data":1}');
    const second = (await at.task(task)).run!;
    expect((await worker.steps(second)).signals.map(({ data }) => data)).toEqual(["2"]);
  });

  test("reaches a live run as a control, and is taken once with the step that uses it", async () => {
    const { task, run } = await begun();
    await at.signal(task, "go", '{"a":1}');
    const [control] = (await worker.inbox()).controls;
    expect(control).toMatchObject({ kind: "signal", run, signal: { name: "go", data: '{"a":1}' } });
    const { signal } = control!.signal!;
    await worker.sync({
      steps: [{ run, key: "go", kind: "event", result: '{"name":"go","data":{"a":1}}', signal }],
      acknowledged: [control!.control],
    });
    expect((await worker.inbox()).controls).toEqual([]);
    await worker.finish(run, { kind: "released" });
    await at.pass(10);
    const again = await worker.begin();
    expect(again).toMatchObject({ steps: 1, signals: 0 });
    expect((await worker.steps(again.run)).signals).toEqual([]);
  });

  test("sent before the first run waits for it", async () => {
    const task = await at.submit({ delayMs: 1_000 });
    await at.signal(task, "a", "1");
    await at.signal(task, "b", "2");
    await at.pass(1_100);
    const { run, signals } = await worker.begin();
    expect(signals).toBe(2);
    expect((await worker.steps(run)).signals).toMatchObject([{ name: "a" }, { name: "b" }]);
  });

  test("is refused by a task that is not there or has ended", async () => {
    const { task, run } = await begun();
    await worker.finish(run);
    await expect(at.signal(task, "go")).rejects.toThrow(/has ended \(succeeded\)/);
    await at.t.mutation(probe.removeTask, { task });
    await expect(at.signal(task, "go")).rejects.toThrow(/No task/);
  });

  test("has bounds: its name, its size, its number", async () => {
    const { task } = await begun();
    await at.signal(task, "x".repeat(MAX_KEY_CHARS));
    await expect(at.signal(task, "x".repeat(MAX_KEY_CHARS + 1))).rejects.toThrow(/name:/);
    await expect(at.signal(task, "")).rejects.toThrow(/name:/);
    await at.signal(task, "x", `"${"y".repeat(MAX_SIGNAL_BYTES - 2)}"`);
    await expect(at.signal(task, "x", `"${"y".repeat(MAX_SIGNAL_BYTES - 1)}"`)).rejects.toThrow(/data: 8193/);
    await expect(at.signal(task, "x", "{")).rejects.toThrow(/data: not JSON/);
    await at.t.mutation(probe.setSignals, { task, signals: MAX_SIGNALS - 1 });
    await at.signal(task, "last");
    await expect(at.signal(task, "beyond")).rejects.toThrow(/1000 signals wait/);
  });

  test("is remembered by its id for an hour after it was taken", async () => {
    const task = await waiting();
    await at.signal(task, "go", "1", "old");
    await at.pass();
    const { run } = await worker.begin();
    await worker.finish(run, sleep(2 * SIGNAL_MEMORY_MS));
    vi.advanceTimersByTime(SIGNAL_MEMORY_MS - 1_000);
    expect(await at.signal(task, "go", "1", "old")).toEqual({ duplicate: true });
    vi.advanceTimersByTime(2_000);
    await at.signal(task, "other"); // lets go of what is too old
    expect(await at.signal(task, "go", "1", "old")).toEqual({ duplicate: false });
  });
});

describe("pause", () => {
  test("of a live run: its worker hands it back, and its steps stand when it is resumed", async () => {
    const { task, run } = await begun();
    expect(await at.pause(task)).toBe("running");
    expect((await worker.inbox()).controls).toMatchObject([{ kind: "pause", run }]);
    await worker.step(run, "a");
    await worker.finish(run, { kind: "released" });
    expect((await at.task(task)).status).toBe("paused");
    expect(await at.resume(task)).toBe("pending");
    await at.pass();
    expect(await worker.begin()).toMatchObject({ task, steps: 1 });
  });

  test("of a run that falls asleep or begins to wait meanwhile", async () => {
    const [first, second] = [await begun(), await begun()];
    for (const { task } of [first, second]) await at.pause(task);
    await worker.finish(first.run, sleep(5_000));
    await worker.finish(second.run, wait("go"));
    expect((await at.task(first.task)).status).toBe("paused");
    expect((await at.task(second.task)).status).toBe("waiting_event");
    await emit("go");
    expect((await at.task(second.task)).status).toBe("paused");
    await at.pass(6_000);
    for (const { task } of [first, second]) expect(await at.resume(task)).toBe("pending");
  });

  test("of a sleeping task does not lengthen its sleep; of a waiting one, what comes is kept for it", async () => {
    const { task: asleep, run } = await begun();
    await worker.finish(run, sleep(5_000));
    const waits = await waiting();
    expect(await at.pause(asleep)).toBe("paused");
    expect(await at.pause(waits)).toBe("waiting_event");
    await emit("go", "1");
    expect((await at.task(waits)).status).toBe("paused");
    await at.pass(6_000);
    expect(await at.resume(waits)).toBe("pending");
    expect((await nextStep()).result).toBe('{"name":"go","data":1}');
    expect(await at.resume(asleep)).toBe("pending");
  });
});
