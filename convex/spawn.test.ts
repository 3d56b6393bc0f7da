/** Children of a run: spawned by a step, gathered, and submitted with its end. */
import { beforeEach, expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { KEYS, useDeployment, type TestWorker } from "./setup.testing";
import type { TaskSpec } from "./validators";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker("w", { capacity: 20 });
});

const begun = () => at.begun(worker);

const child = (more: Partial<TaskSpec> = {}): TaskSpec => ({ agent: "echo", input: "1", ...more });
const spawn = (run: Id<"runs">, tasks: TaskSpec[], gather = false, step = "spawn") =>
  at.t.mutation(api.worker.spawn, { key: KEYS.worker, session: worker.session, run, step, tasks, gather });

test("the children of a step exist once, however often it is asked for, and in a later run too", async () => {
  const { task, run } = await begun();
  const first = await spawn(run, [child(), child()]);
  expect(await spawn(run, [child(), child()])).toEqual(first);
  await worker.finish(run, { kind: "released" });
  await at.pass(10);
  const { assigned } = await worker.inbox();
  const again = assigned.find((item) => item.task === task)!;
  expect(again.steps).toBe(1);
  expect(await spawn(again.run, [child(), child()])).toEqual(first);
  expect(assigned).toHaveLength(3);
  await expect(spawn(run, [child()])).rejects.toThrow(/not this session's any more/);
});

test("one child that is refused means none, and the reason names it", async () => {
  const { task, run } = await begun();
  await expect(spawn(run, [child(), child({ agent: "nobody" })])).rejects.toThrow(/tasks\[1\]: .*nobody/);
  await expect(spawn(run, [child({ dedupKey: "x" })], true)).rejects.toThrow(/tasks\[0\]: a gathered task/);
  await at.pass(10);
  expect((await worker.inbox()).assigned).toEqual([]);
  expect((await at.state(task)).steps).toBe(0);
});

test("a run that gathers waits without a worker until its children have ended, and reads how", async () => {
  const { task, run } = await begun();
  const { tasks, group } = await spawn(run, [child(), child()], true);
  await worker.finish(run, { kind: "suspended", step: "wait", until: { group: group! } });
  expect((await at.task(task)).status).toBe("waiting_event");
  const { reasons } = await at.t.query(api.tasks.why, { key: KEYS.submit, task });
  expect(reasons).toMatchObject([
    {
      message: `It waits for the tasks that it has submitted (group ${group!}).`,
      clears: "The end of these tasks.",
    },
  ]);
  expect((await at.state(task)).waitsFor).toBe(`the tasks that it has submitted (group ${group!})`);
  await at.pass(10);
  for (const { run: theirs } of (await worker.inbox()).assigned) {
    await worker.finish(theirs, { kind: "succeeded", output: '"done"' });
  }
  await at.pass(2_000);
  const again = (await worker.inbox()).assigned.find((item) => item.task === task)!;
  const { steps } = await worker.steps(again.run);
  expect(steps.find(({ key }) => key === "wait")!.result).toBe(`{"name":"${group!}","data":"success"}`);
  const ask = (ids: Id<"tasks">[]) =>
    at.t.query(api.worker.gathered, {
      key: KEYS.worker,
      session: worker.session,
      run: again.run,
      tasks: ids,
    });
  expect((await ask(tasks)).items.map(({ output, status }) => [status, output])).toEqual([
    ["succeeded", '"done"'],
    ["succeeded", '"done"'],
  ]);
  await expect(ask([task])).rejects.toThrow(/no child/);
});

test("children that ended before the wait began end it at once", async () => {
  const { task, run } = await begun();
  const { group } = await spawn(run, [child()], true);
  await at.pass(10);
  const theirs = (await worker.inbox()).assigned.find((item) => item.task !== task)!;
  await worker.finish(theirs.run);
  await at.pass(2_000);
  await worker.finish(run, { kind: "suspended", step: "wait", until: { group: group! } });
  await at.pass(10);
  expect((await at.task(task)).status).toBe("running");
});

test("next tasks come with the end of a run, or it has failed and there are none", async () => {
  const [good, bad] = [await begun(), await begun()];
  const end = (run: Id<"runs">, next: unknown) =>
    worker.finish(run, { kind: "succeeded", output: null, next: JSON.stringify(next) });
  await end(good.run, [child(), child()]);
  await end(bad.run, [child(), child({ queue: "a/b" })]);
  await at.pass(10);
  expect((await at.task(good.task)).status).toBe("succeeded");
  expect((await at.task(bad.task)).error).toMatchObject({ code: "invalid_next" });
  const { assigned } = await worker.inbox();
  expect(assigned).toHaveLength(2);
});

test("an event is told once for the step, and wakes who waits for it", async () => {
  const { task: waiting, run: waiter } = await begun();
  const until = { event: "ready", timeoutMs: null };
  await worker.finish(waiter, { kind: "suspended", step: "ready", until });
  const { run } = await begun();
  expect((await at.task(waiting)).status).toBe("waiting_event");
  const tell = (name = "ready", data = '{"n":1}', step = "emit") =>
    at.t.mutation(api.worker.emit, { key: KEYS.worker, session: worker.session, run, step, name, data });
  expect(await tell()).toEqual({ tasks: [], woken: 1 });
  expect(await tell()).toEqual({ tasks: [], woken: 1 }); // what it did then
  expect(await tell("ready", "1", "emit#2")).toEqual({ tasks: [], woken: 0 });
  await expect(tell("no name", "1", "emit#3")).rejects.toThrow("name");
  await expect(tell("ready", "{", "emit#3")).rejects.toThrow("data");
  await at.pass(10);
  const again = (await worker.inbox()).assigned.find((item) => item.task === waiting)!;
  expect((await worker.steps(again.run)).steps).toMatchObject([
    { key: "ready", result: '{"name":"ready","data":{"n":1}}' },
  ]);
});

test("the history of who tells an event names the triggers that could not start their tasks", async () => {
  const key = KEYS.operator;
  const spec = (capabilities: string[]) => ({
    agents: [{ name: "able", description: "", llm: LLM, capabilities }],
  });
  await at.t.mutation(api.agents.sync, { key, ...spec(["reply"]) });
  const trigger = { name: "t", event: "mail", template: { capability: "reply", input: "1" } };
  await at.t.mutation(api.triggers.set, { key, trigger });
  await at.t.mutation(api.agents.sync, { key, ...spec([]) });
  const { task, run } = await at.begun(worker);
  const said = { key: KEYS.worker, session: worker.session, run, step: "emit", name: "mail", data: "1" };
  expect(await at.t.mutation(api.worker.emit, said)).toEqual({ tasks: [], woken: 0 });
  await at.t.mutation(api.worker.emit, said); // its answer was lost
  const { events } = await at.t.query(api.tasks.history, { key, task });
  const told = events.filter(({ type }) => type === "trigger_refused").map(({ data }) => data);
  expect(told).toMatchObject([{ trigger: "t", event: "mail", code: "unknown_agent" }]);
});

const LLM = { model: null, prompt: "Write.", temperature: null, maxOutputTokens: null };
