import { describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import { MAX_CONDITIONS, MAX_EVENT_BYTES, MAX_TRIGGERS, NONCE_KEEP_MS, WATCHDOG_BATCH } from "./constants";
import { sha256 } from "./model/text";
import { KEYS, probe, useDeployment } from "./setup.testing";
import type { Emitted, TriggerSpec } from "./trigger.validators";

const at = useDeployment();

const key = KEYS.submit;
const template = { agent: "echo", input: '{"do":"reply"}' };
const set = (spec: Partial<TriggerSpec> = {}) =>
  at.t.mutation(api.triggers.set, { key, trigger: { name: "t", event: "mail", template, ...spec } });
const emit = (event: Partial<Emitted> = {}) =>
  at.t.mutation(api.events.emit, { key, event: { name: "mail", data: "{}", ...event } });
const list = async () => (await at.t.query(api.triggers.list, { key })).triggers;
const call = (verb: "pause" | "resume" | "remove", name = "t") =>
  at.t.mutation(api.triggers[verb], { key, name });

describe("an event", () => {
  test("starts the task of its trigger, which is told of it", async () => {
    const worker = await at.worker();
    await set({ template: { ...template, priority: 2 } });
    const { tasks, refused, duplicate } = await emit({ id: "m-1", data: '{"$from":"ä"}' });
    expect([tasks.length, refused, duplicate]).toEqual([1, [], false]);
    await at.pass();
    const [assigned] = (await worker.inbox()).assigned;
    expect(JSON.parse(assigned!.input!)).toEqual({
      event: { name: "mail", id: "m-1", data: { $from: "ä" } },
      input: { do: "reply" },
    });
    expect(await at.task(tasks[0]!)).toMatchObject({ priority: 2, agent: "echo" });
    expect((await at.history(tasks[0]!)).slice(0, 2).sort()).toEqual(["task_submitted", "trigger_fired"]);
  });

  test("of another name, another tenant or a paused trigger starts nothing", async () => {
    await set();
    expect(await emit({ name: "letter" })).toMatchObject({ tasks: [] });
    expect(await emit({ tenant: "t2" })).toMatchObject({ tasks: [] });
    expect(await call("pause")).toMatchObject({ enabled: false });
    expect(await emit()).toMatchObject({ tasks: [] });
    expect(await set()).toEqual({ changed: false });
    expect(await emit()).toMatchObject({ tasks: [] });
    await call("resume");
    expect((await emit()).tasks).toHaveLength(1);
    expect(await call("remove")).toEqual({ removed: true });
    expect(await call("remove")).toEqual({ removed: false });
    expect(await emit()).toMatchObject({ tasks: [] });
    await expect(call("pause")).rejects.toThrow("not_found");
  });

  test("under an id does what it does once, for seven days", async () => {
    await set();
    expect((await emit({ id: "1" })).tasks).toHaveLength(1);
    expect(await emit({ id: "1" })).toEqual({ duplicate: true, tasks: [], refused: [], woken: 0 });
    expect((await emit({ id: "2" })).tasks).toHaveLength(1);
    expect((await emit()).tasks).toHaveLength(1);
    vi.setSystemTime(Date.now() + NONCE_KEEP_MS - 1);
    expect(await emit({ id: "1" })).toMatchObject({ duplicate: true });
    vi.setSystemTime(Date.now() + 1);
    expect(await emit({ id: "1" })).toMatchObject({ duplicate: false });
  });

  test("wakes the tasks that wait for it", async () => {
    const worker = await at.worker();
    const { task, run } = await at.begun(worker);
    const until = { event: "mail", timeoutMs: null };
    await worker.finish(run, { kind: "suspended", step: "mail", until });
    expect(await at.task(task)).toMatchObject({ status: "waiting_event" });
    expect(await emit({ name: "letter" })).toMatchObject({ woken: 0 });
    expect(await emit({ data: '{"a":1}' })).toMatchObject({ woken: 1 });
    await at.pass();
    const again = await worker.begin();
    expect((await worker.steps(again.run)).steps[0]!.result).toContain('{"a":1}');
  });

  test("that is undone with its transaction has started nothing", async () => {
    await set();
    await expect(at.t.mutation(probe.emitAndFail, { name: "mail", data: "{}" })).rejects.toThrow("undone");
    expect(await at.t.query(probe.countTasks, {})).toBe(0);
    const emitted = await at.t.mutation(probe.emitBesideARow, { name: "mail", data: "{}" });
    expect(emitted.tasks).toHaveLength(1);
    expect(await at.t.query(probe.countTasks, {})).toBe(1);
  });

  test.each<[string, Partial<Emitted>, string]>([
    ["no JSON", { data: "{" }, "data: not JSON"],
    ["a bad name", { name: "a b" }, "name"],
    ["a bad tenant", { tenant: "a/b" }, "tenant"],
    ["an empty id", { id: "" }, "id"],
    ["a long id", { id: "x".repeat(257) }, "id"],
    ["data over its bound", { data: `"${"x".repeat(MAX_EVENT_BYTES - 1)}"` }, "131073 bytes; at most 131072"],
  ])("with %s is refused, and nothing changes", async (_, bad, text) => {
    await set();
    await expect(emit({ id: "1", ...bad })).rejects.toThrow(text);
    expect(await at.t.query(probe.countTasks, {})).toBe(0);
    expect(await emit({ id: "1" })).toMatchObject({ duplicate: false });
  });

  test("with the most data, and for the most triggers, is taken", async () => {
    for (let i = 0; i < MAX_TRIGGERS; i++) await set({ name: `t${i}` });
    await expect(set({ name: "one-more" })).rejects.toThrow("event: mail has 50 triggers");
    expect(await set({ name: "t7", template: { ...template, input: "2" } })).toEqual({ changed: true });
    const { tasks } = await emit({ data: `"${"x".repeat(MAX_EVENT_BYTES - 2)}"` });
    expect(tasks).toHaveLength(MAX_TRIGGERS);
  });
});

test("a filter holds fields of the event's data against values", async () => {
  await set({
    filter: [
      { field: "kind", equals: "invoice" },
      { field: "paid", equals: false },
    ],
  });
  const started = async (data: string) => (await emit({ data })).tasks.length;
  expect(await started('{"kind":"invoice","paid":false,"more":[1]}')).toBe(1);
  for (const other of [
    '{"kind":"invoice","paid":true}',
    '{"kind":"invoice"}',
    '{"kind":"invoice","paid":0}',
    '[{"kind":"invoice","paid":false}]',
    "null",
    '"invoice"',
    '{"__proto__":{"kind":"invoice","paid":false}}',
  ]) {
    expect(await started(other), other).toBe(0);
  }
  await set({ filter: [{ field: "toString", equals: null }] });
  expect(await started("{}")).toBe(0);
  const many = Array.from({ length: MAX_CONDITIONS + 1 }, (_, i) => ({ field: `f${i}`, equals: i }));
  await expect(set({ filter: many })).rejects.toThrow("11 conditions given, at most 10");
  expect(await set({ filter: many.slice(1) })).toEqual({ changed: true });
});

const WRITER = {
  name: "writer",
  description: "",
  llm: { model: null, prompt: "Write.", temperature: null, maxOutputTokens: null },
};

test("a trigger whose task is refused says so, and holds up no other", async () => {
  await at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: [WRITER] });
  await set({ name: "a", template: { ...template, agent: "writer" } });
  await set({ name: "b" });
  await at.t.mutation(probe.removeAgent, { name: "writer" });
  expect(await emit()).toMatchObject({ tasks: [{}], refused: [{ trigger: "a", code: "unknown_agent" }] });
  expect(await list()).toMatchObject([
    { name: "a", lastError: { code: "unknown_agent" } },
    { name: "b", lastError: null },
  ]);
  await at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: [WRITER] });
  expect((await emit()).tasks).toHaveLength(2);
  expect(await list()).toMatchObject([{ lastError: null }, { lastError: null }]);
});

test("an event that comes again under its id starts what was refused before, and nothing else", async () => {
  await at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: [WRITER] });
  await set({ name: "a", template: { ...template, agent: "writer" } });
  await set({ name: "b" });
  await at.t.mutation(probe.removeAgent, { name: "writer" });
  const refused = [{ trigger: "a", code: "unknown_agent" }];
  expect(await emit({ id: "1" })).toMatchObject({ duplicate: false, tasks: [{}], refused });
  expect(await emit({ id: "1" })).toMatchObject({ duplicate: true, tasks: [], refused });
  await at.t.mutation(api.agents.sync, { key: KEYS.operator, agents: [WRITER] });
  await set({ name: "c" }); // it was not there when the event came
  const again = await emit({ id: "1", data: '{"n":1}' });
  expect(again).toMatchObject({ duplicate: true, refused: [], woken: 0 });
  expect(again.tasks).toHaveLength(1);
  expect(await at.task(again.tasks[0]!)).toMatchObject({ agent: "writer" });
  expect(await emit({ id: "1" })).toEqual({ duplicate: true, tasks: [], refused: [], woken: 0 });
});

test("a trigger is set within its caller's queues and checked as a task is", async () => {
  const hash = await sha256("sbs_gpu");
  await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
  const trigger = { name: "t", event: "mail", template };
  const asGpu = at.t.mutation(api.triggers.set, { key: "sbs_gpu", trigger });
  await expect(asGpu).rejects.toThrow("not the queue default");
  await set();
  const remove = at.t.mutation(api.triggers.remove, { key: "sbs_gpu", name: "t" });
  await expect(remove).rejects.toThrow("not the queue default");
  await expect(set({ template: { ...template, agent: "ghost" } })).rejects.toThrow("unknown_agent");
  await expect(set({ template: { ...template, input: "{" } })).rejects.toThrow("not JSON");
  await expect(set({ event: "a b" })).rejects.toThrow("event");
  expect(await list()).toMatchObject([{ template }]);
});

test("ids that have expired are removed, page by page", async () => {
  for (let i = 0; i < WATCHDOG_BATCH + 20; i++) await emit({ id: `${i}` });
  await at.t.mutation(internal.webhooks.forget, {});
  expect(await at.t.query(probe.countNonces, {})).toBe(WATCHDOG_BATCH + 20);
  vi.advanceTimersByTime(NONCE_KEEP_MS + 1_000);
  await emit({ id: "new" });
  await at.t.mutation(internal.timers.watchdog, {});
  await at.pass();
  expect(await at.t.query(probe.countNonces, {})).toBe(1);
});

describe("events that share a task", () => {
  const share = (more: Partial<TriggerSpec["template"]>) => set({ template: { ...template, ...more } });
  const heard = (data: number, id: string | null = null) => ({
    event: { name: "mail", id, data },
    input: { do: "reply" },
  });

  test("batched, they are its input together, each once, and its history names each", async () => {
    const worker = await at.worker();
    await share({ batch: { key: "mails", maxItems: 3, maxMs: 60_000 } });
    const answers = [await emit({ data: "1", id: "a" }), await emit({ data: "1", id: "a" })];
    answers.push(await emit({ data: "2" }));
    await at.pass(1_000);
    expect((await worker.inbox()).assigned).toEqual([]);
    answers.push(await emit({ data: "3" }));
    const [task] = answers[0]!.tasks;
    expect(answers.map(({ tasks, duplicate }) => [tasks, duplicate])).toEqual([
      [[task], false],
      [[], true],
      [[task], false],
      [[task], false],
    ]);
    await at.pass();
    expect(await worker.input()).toEqual([heard(1, "a"), heard(2), heard(3)]);
    expect((await at.history(task!)).filter((type) => type === "trigger_fired")).toHaveLength(3);
    expect((await emit({ data: "4" })).tasks).not.toEqual([task]);
  });

  test("batched, they go at their time although there are few", async () => {
    const worker = await at.worker();
    await share({ batch: { key: "mails", maxItems: 3, maxMs: 2_000 } });
    await emit({ data: "1" });
    await at.pass(1_500);
    expect((await worker.inbox()).assigned).toEqual([]);
    await at.pass(600);
    expect(await worker.input()).toEqual([heard(1)]);
  });

  test("debounced, the last of them counts", async () => {
    const worker = await at.worker();
    await share({ debounce: { key: "mails", forMs: 1_000 } });
    const [first] = (await emit({ data: "1" })).tasks;
    await at.pass(900);
    expect((await emit({ data: "2" })).tasks).toEqual([first]);
    await at.pass(900);
    expect((await worker.inbox()).assigned).toEqual([]);
    await at.pass(200);
    expect(await worker.input()).toEqual(heard(2));
  });

  test("a transaction that fails adds nothing to the task", async () => {
    const worker = await at.worker();
    await share({ batch: { key: "mails", maxItems: 9, maxMs: 1_000 } });
    await emit({ data: "1" });
    const failing = at.t.mutation(probe.emitAndFail, { name: "mail", data: "2" });
    await expect(failing).rejects.toThrow();
    await at.pass(1_100);
    expect(await worker.input()).toEqual([heard(1)]);
  });

  test("what cannot be shared is refused when the trigger is set", async () => {
    const batch = { key: "mails", maxItems: 3, maxMs: 1_000 };
    const debounce = { key: "mails", forMs: 1_000 };
    const onComplete = { task: { agent: "echo" } };
    await expect(share({ batch, onComplete })).rejects.toThrow("batch: not together with onComplete");
    await expect(share({ batch, debounce })).rejects.toThrow("debounce: not together with batch");
    await expect(share({ batch: { ...batch, maxItems: 0 } })).rejects.toThrow("batch.maxItems");
    expect(await list()).toEqual([]);
    const schedule = { name: "s", everyMs: 60_000, template: { ...template, debounce } };
    await expect(at.t.mutation(api.schedules.set, { key, schedule })).rejects.toThrow("debounce");
  });
});
