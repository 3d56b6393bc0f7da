import type { FunctionArgs } from "convex/server";
import { describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import { CATCH_UP_WINDOW_MS, MAX_TEMPLATE_BYTES, OVERLAP_TASKS } from "./constants";
import { sha256 } from "./model/text";
import { KEYS, probe, useDeployment } from "./setup.testing";
import type { ScheduleSpec } from "./schedule.validators";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const START = Date.UTC(2026, 0, 15, 12);

const at = useDeployment({ now: START });

const key = KEYS.submit;
const name = "s";
const template = { agent: "echo", input: "null" };
const set = (spec: Partial<ScheduleSpec> = {}) =>
  at.t.mutation(api.schedules.set, { key, schedule: { name, template, ...spec } });
const get = async (which = name) => (await at.t.query(api.schedules.get, { key, name: which }))!;
const call = (verb: "pause" | "resume" | "remove") => at.t.mutation(api.schedules[verb], { key, name });

/** The tasks of the tenant, oldest first: what each is for and when it came. */
async function tasks() {
  const { tasks } = await at.t.query(api.tasks.list, { key, limit: 100 });
  return tasks.reverse();
}

/** The nominal times for which there are tasks, in seconds from the start. */
async function occurrences(): Promise<number[]> {
  const found = [];
  for (const { task } of await tasks()) {
    const { events } = await at.t.query(api.tasks.history, { key, task });
    const fired = events.filter((event) => event.type === "schedule_fired");
    expect(fired).toHaveLength(1);
    found.push(((fired[0]!.data.nominal as number) - START) / SECOND);
  }
  return found;
}

/** The host is down: time passes and nothing happens, and then what is due does. */
async function down(ms: number) {
  vi.advanceTimersByTime(ms);
  await at.pass(100);
}

describe("a schedule", () => {
  test("submits its task at each of its times, and no other", async () => {
    await at.worker();
    await set({ everyMs: 10 * SECOND, template: { ...template, input: '{"a":1}', priority: 3, labels: [] } });
    await at.pass(9_900);
    expect(await tasks()).toEqual([]);
    await at.pass(200);
    expect(await occurrences()).toEqual([10]);
    await at.pass(25 * SECOND);
    expect(await occurrences()).toEqual([10, 20, 30]);
    expect((await tasks()).map((task) => task.priority)).toEqual([3, 3, 3]);
    expect(await get()).toMatchObject({
      fired: 3,
      overlapped: 0,
      missed: null,
      lastError: null,
      lastRunAt: START + 30 * SECOND,
      nextRunAt: START + 40 * SECOND,
    });
  });

  test("gives each task its stack and a budget of its own", async () => {
    const budget = { calls: 3 };
    await set({ everyMs: 10 * SECOND, template: { ...template, stack: "shop", budget } });
    await at.pass(10 * SECOND);
    const { tasks } = await at.t.query(api.tasks.list, { key: KEYS.operator });
    const place = { key: KEYS.operator, kind: "task" as const, name: tasks[0]!.task };
    expect(await at.t.query(api.budgets.get, place)).toMatchObject({ budget: { caps: { calls: 3 } } });
    await expect(
      set({ everyMs: 10 * SECOND, template: { ...template, budget: { calls: -1 } } }),
    ).rejects.toThrow("calls");
    await expect(set({ everyMs: 10 * SECOND, template: { ...template, stack: "no name" } })).rejects.toThrow(
      "stack",
    );
  });

  test("of a cron runs in its zone", async () => {
    await set({ cron: "1 21 * * *", timeZone: "Asia/Tokyo" }); // 12:01 UTC
    await at.pass(MINUTE + SECOND);
    expect(await occurrences()).toEqual([60]);
    expect((await get()).nextRunAt).toBe(START + MINUTE + 24 * 3_600_000);
  });

  test("of one time runs once, and is over", async () => {
    await set({ at: START + 5_500 });
    await at.pass(20 * SECOND);
    expect(await occurrences()).toEqual([5.5]);
    expect(await get()).toMatchObject({ nextRunAt: null, fired: 1 });
    expect(await set({ at: START + 5_500 })).toMatchObject({ changed: false, nextRunAt: null });
    await expect(set({ at: START + 6_000 })).rejects.toThrow("at: 2026-01-15T12:00:06.000Z has passed");
  });

  test("keeps its times when the timers are late", async () => {
    await set({ everyMs: 10 * SECOND });
    await down(13_700);
    expect((await get()).nextRunAt).toBe(START + 20 * SECOND);
    await at.pass(7 * SECOND);
    expect(await occurrences()).toEqual([10, 20]);
  });

  test("with jitter submits between its time and the bound, and keeps its times", async () => {
    await set({ everyMs: 10 * SECOND, jitterMs: 8 * SECOND });
    await at.pass(59 * SECOND);
    expect(await occurrences()).toEqual([10, 20, 30, 40, 50]);
    const late = (await tasks()).map((task, i) => task.submittedAt - START - (i + 1) * 10 * SECOND);
    for (const ms of late) expect(ms >= 0 && ms <= 8_050).toBe(true);
    expect(new Set(late).size).toBeGreaterThan(1);
  });

  test("of another tenant is another one", async () => {
    await set({ everyMs: 10 * SECOND });
    await set({ everyMs: 20 * SECOND, tenant: "t2" });
    await at.pass(21 * SECOND);
    expect(await tasks()).toHaveLength(2);
    const other = await at.t.query(api.tasks.list, { key, tenant: "t2" });
    expect(other.tasks).toHaveLength(1);
    expect(await at.t.query(api.schedules.list, { key })).toMatchObject({
      schedules: [{ tenant: "default", name, everyMs: 10 * SECOND, cron: null, at: null, timeZone: null }],
      cursor: null,
    });
  });

  test("tells what it will do", async () => {
    await set({ cron: "*/30 * * * *", timeZone: "Europe/Berlin" });
    const preview = (of: FunctionArgs<typeof api.schedules.preview>["of"], more = {}) =>
      at.t.query(api.schedules.preview, { key, of, ...more });
    const half = 30 * MINUTE;
    expect(await preview({ name }, { count: 2 })).toEqual([START + half, START + 2 * half]);
    expect(await preview({ name }, { count: 1, after: START - 1 })).toEqual([START]);
    expect(await preview({ everyMs: SECOND }, { count: 2 })).toEqual([START + SECOND, START + 2 * SECOND]);
    expect(await preview({ at: START + 1 })).toEqual([START + 1]);
    expect(await preview({ name }, { count: 100 })).toHaveLength(100);
    await expect(preview({ name }, { count: 101 })).rejects.toThrow("count: 101 is outside 1 to 100");
    await expect(preview({ name }, { count: 0 })).rejects.toThrow("count");
    await expect(preview({ name: "ghost" })).rejects.toThrow('No schedule \\"ghost\\"');
    await expect(preview({ cron: "0 0 31 2 *" })).rejects.toThrow("no such day ever comes");
  });
});

describe("set", () => {
  test("the same again changes nothing, whatever the order of its fields", async () => {
    const retry = { maxAttempts: 2, initialMs: 5 };
    const first = await set({ everyMs: 10 * SECOND, template: { ...template, retry } });
    expect(first).toMatchObject({ changed: true, nextRunAt: START + 10 * SECOND });
    await at.pass(4 * SECOND);
    const again = { retry: { initialMs: 5, maxAttempts: 2 }, input: "null", agent: "echo" };
    expect(await set({ template: again, everyMs: 10 * SECOND })).toEqual({ ...first, changed: false });
  });

  test("a change of what is done leaves the next time as it is", async () => {
    await set({ everyMs: 10 * SECOND });
    await at.pass(4 * SECOND);
    const changed = await set({ everyMs: 10 * SECOND, template: { ...template, input: "2" } });
    expect(changed).toMatchObject({ changed: true, nextRunAt: START + 10 * SECOND });
    await at.pass(17 * SECOND);
    expect(await occurrences()).toEqual([10, 20]);
  });

  test("a change of when counts from then on", async () => {
    await set({ everyMs: 10 * SECOND });
    await at.pass(4 * SECOND);
    expect(await set({ everyMs: 7 * SECOND })).toMatchObject({ changed: true });
    await at.pass(8 * SECOND);
    expect(await occurrences()).toEqual([11]);
  });

  test("a time that was changed while it was due is neither done twice nor by its old ways", async () => {
    await set({ everyMs: 10 * SECOND });
    vi.advanceTimersByTime(12 * SECOND); // due, and the timers have not looked
    await set({ everyMs: 60 * SECOND });
    await at.pass(30 * SECOND);
    expect(await occurrences()).toEqual([]);
    vi.advanceTimersByTime(31 * SECOND);
    await call("remove");
    await at.pass(30 * SECOND);
    expect(await occurrences()).toEqual([]);
  });

  test("the largest template is taken, one byte more is not", async () => {
    const input = (length: number) => `"${"x".repeat(length - 2)}"`;
    const sized = (length: number) =>
      set({ everyMs: SECOND, template: { ...template, input: input(length) } });
    await expect(sized(MAX_TEMPLATE_BYTES + 1)).rejects.toThrow("template.input: 8193 bytes; at most 8192");
    await expect(sized(MAX_TEMPLATE_BYTES)).resolves.toMatchObject({ changed: true });
  });

  test.each<[string, object, string]>([
    ["an unknown agent", { template: { ...template, agent: "ghost" } }, "unknown_agent"],
    ["input that is no JSON", { template: { ...template, input: "{" } }, "not JSON"],
    ["a bad queue", { template: { ...template, queue: "a/b" } }, "queue"],
    ["a bad priority", { template: { ...template, priority: 1_001 } }, "priority"],
    ["a dedup key", { template: { ...template, dedupKey: "x" } }, "dedupKey"],
    ["a delay", { template: { ...template, delayMs: 5 } }, "delayMs"],
    ["a bad name", { name: "a b" }, "name"],
    ["a bad tenant", { tenant: "a/b" }, "tenant"],
    ["a negative window", { catchUp: { windowMs: -1 } }, "catchUp.windowMs"],
    ["a window over its bound", { catchUp: { windowMs: 365 * 24 * 3_600_000 + 1 } }, "catchUp.windowMs"],
    ["an unknown policy", { catchUp: { policy: "maybe" } }, "maybe"],
    ["an unknown overlap", { overlap: "maybe" }, "maybe"],
    ["negative jitter", { jitterMs: -1 }, "jitterMs"],
    ["jitter over its bound", { jitterMs: 24 * 3_600_000 + 1 }, "jitterMs"],
    ["a time that has passed", { everyMs: undefined, at: START }, "has passed"],
    ["no time", { everyMs: undefined }, "none is given"],
    ["a cron that never comes", { everyMs: undefined, cron: "0 0 31 2 *" }, "no such day ever comes"],
    ["an unknown zone", { everyMs: undefined, cron: "@daily", timeZone: "X/Y" }, "timeZone"],
    ["an interval below a second", { everyMs: 999 }, "everyMs"],
  ])("%s is refused with its field, and nothing changes", async (_, bad, text) => {
    await expect(set({ everyMs: SECOND, ...bad })).rejects.toThrow(text);
    expect(await at.t.query(api.schedules.list, { key })).toEqual({ schedules: [], cursor: null });
    await at.pass(3 * SECOND);
    expect(await tasks()).toEqual([]);
  });

  test.each<[string, object]>([
    ["the longest window", { catchUp: { windowMs: 365 * 24 * 3_600_000 } }],
    ["the most jitter", { jitterMs: 24 * 3_600_000 }],
    ["a single time in a millisecond", { everyMs: undefined, at: START + 1_000_000 }],
  ])("%s is taken", async (_, most) => {
    expect(await set({ everyMs: SECOND, ...most })).toMatchObject({ changed: true });
  });

  test("a key sets and changes schedules of its own queues only", async () => {
    const hash = await sha256("sbs_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
    const gpu = { key: "sbs_gpu", name };
    const setAs = (queue: string) =>
      at.t.mutation(api.schedules.set, {
        key: "sbs_gpu",
        schedule: { name, everyMs: SECOND, template: { ...template, queue } },
      });
    await expect(setAs("default")).rejects.toThrow("not the queue default");
    await set({ everyMs: SECOND });
    const refused = [
      setAs("gpu"),
      at.t.mutation(api.schedules.pause, gpu),
      at.t.mutation(api.schedules.remove, gpu),
      at.t.mutation(api.schedules.runNow, { ...gpu, request: "1" }),
    ];
    for (const answer of refused) await expect(answer).rejects.toThrow("not the queue default");
    await call("remove");
    await expect(setAs("gpu")).resolves.toMatchObject({ changed: true });
  });
});

describe("pause, resume, remove, run", () => {
  test("paused it does nothing, and what was due meanwhile was not missed", async () => {
    await set({ everyMs: 10 * SECOND, catchUp: { policy: "all" } });
    await at.pass(11 * SECOND);
    expect(await call("pause")).toMatchObject({ enabled: false, nextRunAt: null });
    await at.pass(60 * SECOND);
    expect(await occurrences()).toEqual([10]);
    expect(await set({ everyMs: 10 * SECOND, catchUp: { policy: "all" } })).toMatchObject({ changed: false });
    expect(await call("resume")).toMatchObject({ enabled: true, nextRunAt: START + 80 * SECOND });
    await at.pass(10 * SECOND);
    expect(await occurrences()).toEqual([10, 80]);
  });

  test("a single time that passed while it was paused is not done", async () => {
    await set({ at: START + 10 * SECOND });
    await call("pause");
    await at.pass(20 * SECOND);
    await expect(call("resume")).rejects.toThrow("has passed");
    expect(await tasks()).toEqual([]);
  });

  test("removed it is gone with its alarm; its tasks stay", async () => {
    await set({ everyMs: 10 * SECOND });
    await at.pass(11 * SECOND);
    expect(await call("remove")).toEqual({ removed: true });
    expect(await call("remove")).toEqual({ removed: false });
    await at.pass(30 * SECOND);
    expect(await tasks()).toHaveLength(1);
    expect(await at.t.query(api.schedules.get, { key, name })).toBeNull();
    await expect(call("pause")).rejects.toThrow("not_found");
  });

  test("its task is submitted now when asked, once for each request, and its times stay", async () => {
    await set({ everyMs: 10 * SECOND, overlap: "skip" });
    await call("pause");
    const run = (request: string) => at.t.mutation(api.schedules.runNow, { key, name, request });
    const first = await run("1");
    expect(first).toMatchObject({ ok: true, duplicate: false });
    expect(await run("1")).toEqual({ ...first, duplicate: true });
    expect(await run("2")).toMatchObject({ ok: true, duplicate: false });
    await call("resume");
    await at.pass(11 * SECOND);
    expect(await tasks()).toHaveLength(2); // the occurrence saw that the last one has not ended
    expect(await get()).toMatchObject({ fired: 0, overlapped: 1, nextRunAt: START + 20 * SECOND });
    await expect(run("x".repeat(257))).rejects.toThrow("request");
  });
});

describe("while the one before has not ended", () => {
  test("skip drops an occurrence, and does the next after its end", async () => {
    const worker = await at.worker();
    await set({ everyMs: 4 * SECOND, overlap: "skip" });
    await at.pass(13 * SECOND);
    expect(await occurrences()).toEqual([4]);
    await worker.finishAll();
    await at.pass(4 * SECOND);
    expect(await occurrences()).toEqual([4, 16]);
    expect(await get()).toMatchObject({ fired: 2, overlapped: 2 });
  });

  test("allow does not look", async () => {
    await set({ everyMs: 10 * SECOND });
    await at.pass(35 * SECOND);
    expect(await occurrences()).toEqual([10, 20, 30]);
  });

  test("queue lets one wait for its end, however it ends, and drops the others", async () => {
    const worker = await at.worker("w", { capacity: 5 });
    await set({
      everyMs: 4 * SECOND,
      overlap: "queue",
      template: { ...template, retry: { maxAttempts: 1 } },
    });
    await at.pass(13 * SECOND);
    expect((await tasks()).map((task) => task.status)).toEqual(["running", "waiting"]);
    expect(await get()).toMatchObject({ fired: 2, overlapped: 1 });
    const { run } = (await worker.inbox()).assigned[0]!;
    const error = { code: "x", message: "y" };
    await worker.finish(run, { kind: "failed", error, retryable: false, notBeforeMs: null });
    await at.pass(SECOND);
    expect((await tasks()).map((task) => task.status)).toEqual(["failed", "running"]);
    await at.pass(3 * SECOND);
    expect(await occurrences()).toEqual([4, 8, 16]);
  });

  test.each<[NonNullable<ScheduleSpec["overlap"]>, string[]]>([
    ["skip", []],
    ["queue", ["waiting"]],
  ])("%s sees it behind one that was asked for meanwhile and has ended", async (overlap, more) => {
    const worker = await at.worker();
    await set({ everyMs: 4 * SECOND, overlap });
    await at.pass(5 * SECOND);
    const { run } = await worker.begin();
    await at.t.mutation(api.schedules.runNow, { key, name, request: "1" });
    await at.pass(SECOND);
    const asked = (await worker.inbox()).assigned.find((item) => item.run !== run)!;
    await worker.finish(asked.run);
    await at.pass(3 * SECOND);
    expect((await tasks()).map((task) => task.status)).toEqual(["running", "succeeded", ...more]);
  });

  test("queue waits for it although the one that waited was cancelled", async () => {
    const worker = await at.worker();
    await set({ everyMs: 4 * SECOND, overlap: "queue" });
    await at.pass(5 * SECOND);
    await worker.begin();
    await at.pass(4 * SECOND);
    const [, waits] = await tasks();
    await at.t.mutation(api.tasks.cancel, { key, task: waits!.task });
    await at.pass(4 * SECOND);
    expect((await tasks()).map((task) => task.status)).toEqual(["running", "cancelled", "waiting"]);
  });

  test(`looks at the newest ${OVERLAP_TASKS} of them, and at no more`, async () => {
    await set({ everyMs: 3_600 * SECOND, overlap: "cancel_other" });
    const run = (request: number) =>
      at.t.mutation(api.schedules.runNow, { key, name, request: String(request) });
    await call("pause");
    for (let request = 0; request <= OVERLAP_TASKS; request++) await run(request);
    await set({ everyMs: SECOND, overlap: "cancel_other", enabled: true });
    await at.pass(SECOND);
    const states = (await tasks()).map((task) => task.status);
    expect(states.filter((status) => status === "cancelled")).toHaveLength(OVERLAP_TASKS);
    expect(states[0]).toBe("pending");
  });

  test("cancel_other cancels it, waiting or running", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    await set({ everyMs: 4 * SECOND, overlap: "cancel_other" });
    await at.pass(5 * SECOND);
    const { run } = (await worker.inbox()).assigned[0]!;
    await worker.sync({ accepted: [run] });
    await at.pass(4 * SECOND);
    expect((await worker.inbox()).controls).toMatchObject([{ kind: "cancel", run }]);
    await at.pass(4 * SECOND);
    expect((await tasks()).map((task) => task.status)).toEqual(["running", "cancelled", "pending"]);
    expect(await occurrences()).toEqual([4, 8, 12]);
  });

  test("cancel_other cancels what it has submitted with it, and what it submits before it has stopped", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    await set({ everyMs: 4 * SECOND, overlap: "cancel_other" });
    await at.pass(5 * SECOND);
    const { run } = await worker.begin();
    const spawn = (step: string) => {
      const tasks = [{ agent: "echo", input: "null" }];
      const { session } = worker;
      return at.t.mutation(api.worker.spawn, { key: KEYS.worker, session, run, step, tasks, gather: false });
    };
    const { tasks: before } = await spawn("before");
    await at.pass(4 * SECOND);
    const { tasks: after } = await spawn("after");
    for (const child of [...before, ...after]) expect((await at.task(child)).status).toBe("cancelled");
  });
});

describe("after an hour without the host", () => {
  const tens = (from: number, to: number) =>
    Array.from({ length: (to - from) / 600 + 1 }, (_, i) => from + i * 600);

  test.each<[string, ScheduleSpec["catchUp"], number[]]>([
    ["skip", { policy: "skip" }, []],
    ["once", { policy: "once" }, [3600]],
    ["once is the default", undefined, [3600]],
    ["all", { policy: "all" }, tens(600, 3600)],
    ["all within a window", { policy: "all", windowMs: 26 * MINUTE }, tens(2400, 3600)],
    ["once within a window", { policy: "once", windowMs: 4 * MINUTE }, []],
  ])("%s does what it says, exactly", async (_, catchUp, expected) => {
    await set({ everyMs: 10 * MINUTE, ...(catchUp && { catchUp }) });
    await down(65 * MINUTE);
    expect(await occurrences()).toEqual(expected);
    expect((await get()).nextRunAt).toBe(START + 70 * MINUTE);
    await at.pass(5 * MINUTE);
    expect(await occurrences()).toEqual([...expected, 4200]);
  });

  test("the default window is a day", async () => {
    expect(CATCH_UP_WINDOW_MS).toBe(24 * 3_600_000);
    await set({ everyMs: 366 * 24 * 3_600_000 });
    await down(367 * 24 * 3_600_000 + 1_000);
    expect(await tasks()).toEqual([]);
    expect((await get()).missed).toMatchObject({ first: START + 366 * 24 * 3_600_000 });
  });
});

test("a month over a change of clocks is a task for each day, at its hour", async () => {
  vi.setSystemTime(Date.UTC(2026, 1, 20));
  await set({ cron: "30 12 * * *", timeZone: "America/New_York" });
  for (let quarter = 0; quarter < 30 * 4; quarter++) {
    vi.advanceTimersByTime(6 * 60 * MINUTE);
    await at.t.runDue();
  }
  const hours = (await occurrences()).map((second) =>
    new Date(START + second * SECOND).toISOString().slice(5, 16),
  );
  const day = (n: number) => new Date(Date.UTC(2026, 1, 20 + n)).toISOString().slice(5, 10);
  // Clocks go forward on 8 March: 17:30 UTC before, 16:30 from then on.
  expect(hours).toEqual(Array.from({ length: 30 }, (_, n) => `${day(n)}T${n < 16 ? "17:30" : "16:30"}`));
});

test("what is refused when its time comes is told, and the schedule goes on", async () => {
  const spec = {
    name: "writer",
    description: "",
    llm: { model: null, prompt: "Write.", temperature: null, maxOutputTokens: null },
  };
  await at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: [spec] });
  await set({ everyMs: 10 * SECOND, template: { agent: "writer", input: "1" } });
  await at.t.mutation(probe.removeAgent, { name: "writer" });
  await at.pass(11 * SECOND);
  expect(await get()).toMatchObject({
    fired: 0,
    lastError: { code: "unknown_agent" },
    nextRunAt: START + 20 * SECOND,
  });
  await at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: [spec] });
  await at.pass(10 * SECOND);
  expect(await get()).toMatchObject({ fired: 1, lastError: null });
  expect(await occurrences()).toEqual([20]);
});

test("the clock goes back and nothing is done twice", async () => {
  await set({ everyMs: 10 * SECOND });
  await at.pass(21 * SECOND);
  vi.setSystemTime(START);
  await at.pass(29 * SECOND);
  expect(await occurrences()).toEqual([10, 20]);
});
