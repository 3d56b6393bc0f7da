import { beforeEach, describe, expect, test, vi } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { CALLBACK_RETRY, CALLBACK_TRIES, CANCEL_PAGE, INLINE_BYTES, SET_ASIDE_MS } from "./constants";
import { sha256 } from "./model/text";
import { FATAL, KEYS, SUCCEEDED, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { GroupSummary } from "./group.validators";
import type { OnComplete, Outcome, TaskSpec } from "./validators";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  vi.spyOn(console, "error").mockReturnValue();
  worker = await at.worker("w", { capacity: 1_000 });
});

const key = KEYS.submit;

const create = async (onComplete?: OnComplete, more: { name?: string; tenant?: string } = {}) =>
  (await at.t.mutation(api.groups.create, { key, ...(onComplete && { onComplete }), ...more })).group;
const get = async (group: string) => (await at.t.query(api.groups.get, { key, group }))!;
const seal = (group: string) => at.t.mutation(api.groups.seal, { key, group });

/** Submit `n` tasks into a group and return them, in line or given to the worker. */
async function fill(group: string, n: number, spec: Partial<TaskSpec> = {}): Promise<Id<"tasks">[]> {
  const tasks = await at.submitAll(Array<Partial<TaskSpec>>(n).fill({ group, ...spec }));
  await at.pass();
  return tasks;
}

async function finish(task: Id<"tasks">, outcome: Outcome = SUCCEEDED): Promise<void> {
  await worker.finish((await at.task(task)).run!, outcome);
  await at.pass();
}

const told = async () => (await at.t.query(probe.notes, {})).map((text) => JSON.parse(text) as GroupSummary);

describe("a group", () => {
  test("is complete when it is sealed and all its tasks have ended, and calls back once with its context", async () => {
    const group = await create({ callback: "note", context: '{"for":"me"}' }, { name: "batch 1" });
    const [a, b, c] = await fill(group, 3);
    await finish(a!);
    await finish(b!);
    await seal(group);
    await at.pass();
    expect(await get(group)).toMatchObject({ sealed: true, result: null, callback: { state: "none" } });
    await finish(c!);
    const counts = { total: 3, succeeded: 3, failed: 0, cancelled: 0, skipped: 0 };
    expect(await told()).toEqual([
      { group, name: "batch 1", task: null, counts, result: "success", context: '{"for":"me"}' },
    ]);
    expect(await get(group)).toMatchObject({
      result: "success",
      counts,
      callback: { state: "done", name: "note", tries: 1, error: null },
    });
    await at.pass(CALLBACK_RETRY.maxMs);
    expect(await told()).toHaveLength(1);
  });

  test("that is open stays open, whatever has ended", async () => {
    const group = await create({ callback: "note" });
    const [a] = await fill(group, 1);
    await finish(a!);
    expect(await get(group)).toMatchObject({ counts: { total: 1, succeeded: 1 }, result: null });
    const [b] = await fill(group, 1);
    await seal(group);
    await at.pass();
    expect(await told()).toEqual([]);
    await finish(b!);
    expect(await told()).toMatchObject([{ counts: { total: 2, succeeded: 2 } }]);
  });

  test("that is sealed empty is complete", async () => {
    const group = await create({ callback: "note" });
    await seal(group);
    await seal(group);
    await at.pass();
    expect(await told()).toMatchObject([{ group, result: "success", counts: { total: 0 } }]);
  });

  test.each<[string, (Outcome | "cancel")[], string]>([
    ["all succeeded", [SUCCEEDED, SUCCEEDED], "success"],
    ["one failed", [SUCCEEDED, FATAL, "cancel"], "failed"],
    ["one was cancelled", [SUCCEEDED, "cancel"], "canceled"],
  ])("of which %s says so", async (_, ends, result) => {
    const group = await create({ callback: "note" });
    const tasks = await fill(group, ends.length, { delayMs: 10 });
    await seal(group);
    for (const [i, end] of ends.entries()) {
      if (end === "cancel") await at.cancel(tasks[i]!);
    }
    await at.pass(10);
    for (const [i, end] of ends.entries()) if (end !== "cancel") await finish(tasks[i]!, end);
    expect(await told()).toMatchObject([{ result, counts: { total: ends.length } }]);
  });

  test("counts tasks that a failure in front of them ended before they ran", async () => {
    const group = await create({ callback: "note" });
    const [a] = await fill(group, 1);
    await fill(group, 1, { after: [{ on: a!, onFailure: "skip" }] });
    await seal(group);
    await finish(a!, FATAL);
    await fill(await create(), 1, { after: [{ on: a! }] });
    const counts = { total: 2, succeeded: 0, failed: 1, cancelled: 0, skipped: 1 };
    expect(await told()).toMatchObject([{ result: "failed", counts }]);
  });

  test("counts a task once, also when it is tried again by hand", async () => {
    const group = await create({ callback: "note" });
    const [a, b] = await fill(group, 2);
    await seal(group);
    await finish(a!, FATAL);
    await at.retry(a!);
    await at.pass();
    await finish(a!);
    await finish(b!);
    expect(await told()).toMatchObject([{ counts: { total: 2, succeeded: 1, failed: 1 } }]);
  });

  test("of 100 tasks that end in one sync is joined once", async () => {
    const group = await create({ callback: "note" });
    await fill(group, 100);
    await seal(group);
    await worker.finishAll();
    await at.pass();
    expect(await told()).toMatchObject([{ counts: { total: 100, succeeded: 100 } }]);
    expect(await at.t.query(probe.settlements, {})).toBe(0);
    expect(await at.t.query(probe.pendingJobs, {})).not.toContain("settle:pass");
  });

  test("of one name is one group, for each tenant", async () => {
    const group = await create(undefined, { name: "g" });
    const again = await at.t.mutation(api.groups.create, { key, name: "g" });
    expect(again).toEqual({ group, duplicate: true });
    expect(await create(undefined, { name: "g", tenant: "other" })).not.toBe(group);
    const { groups } = await at.t.query(api.groups.list, { key });
    expect(groups.map((view) => view.group)).toEqual([group]);
  });

  test("that is cancelled ends what has not ended, in pages, and takes nothing more", async () => {
    const group = await create({ callback: "note" });
    const n = CANCEL_PAGE + 1;
    const [a] = await fill(group, 1);
    await fill(group, n, { delayMs: 1_000 });
    await at.t.mutation(api.groups.cancel, { key, group });
    await at.pass();
    expect(await get(group)).toMatchObject({ sealed: true, result: null, counts: { cancelled: n } });
    await finish(a!, { kind: "cancelled" });
    expect(await told()).toMatchObject([{ result: "canceled", counts: { total: n + 1, cancelled: n + 1 } }]);
    await expect(fill(group, 1)).rejects.toThrow("is sealed");
  });
});

test("of a group that is cancelled one that cannot be keeps no other from it, and says why", async () => {
  const group = await create({ callback: "note" });
  const [bad, other] = await fill(group, 2);
  const waiting = await fill(group, CANCEL_PAGE, { delayMs: 1_000 });
  await at.t.mutation(probe.removeRun, { run: (await at.task(bad!)).run! }); // by hand
  await at.t.mutation(api.groups.cancel, { key, group });
  await at.pass();
  expect(await at.history(other!)).toContain("cancel_requested");
  for (const task of waiting) expect((await at.task(task)).status).toBe("cancelled");
  expect((await at.history(bad!)).filter((type) => type === "task_set_aside")).toHaveLength(1);
  expect(await at.t.query(probe.settlements, {})).toBe(1);
  await at.pass(SET_ASIDE_MS); // again, and not a word more of it
  expect((await at.history(bad!)).filter((type) => type === "task_set_aside")).toHaveLength(1);
  expect(await at.t.query(probe.settlements, {})).toBe(1);
});

describe("a callback", () => {
  test("that throws is called again later, and of its failures nothing stands", async () => {
    const group = await create({ callback: "flaky" });
    await seal(group);
    await at.pass();
    expect(await told()).toEqual([]);
    const failed = await get(group);
    expect(failed).toMatchObject({ result: "success", callback: { state: "pending", tries: 1 } });
    expect(failed.callback.error).toContain("not yet: try 1");
    await at.pass(CALLBACK_RETRY.initialMs);
    expect(await get(group)).toMatchObject({ callback: { state: "pending", tries: 2 } });
    await at.pass(CALLBACK_RETRY.initialMs * 2);
    expect(await get(group)).toMatchObject({ callback: { state: "done", tries: 3, error: null } });
    expect(await told()).toHaveLength(1);
  });

  test(`that throws ${CALLBACK_TRIES} times has failed, for all to see`, async () => {
    const group = await create({ callback: "broken" });
    await seal(group);
    await at.pass();
    for (let i = 1; i < CALLBACK_TRIES; i++) {
      expect(await get(group)).toMatchObject({ callback: { state: "pending", tries: i } });
      vi.advanceTimersByTime(CALLBACK_RETRY.maxMs);
      await at.pass();
    }
    const view = await get(group);
    expect(view.callback).toMatchObject({ state: "failed", tries: CALLBACK_TRIES });
    expect(view.callback.error).toContain("never");
    expect(await told()).toEqual([]);
  });

  test("that has failed is called anew when somebody asks, as often as before, and no other", async () => {
    const group = await create({ callback: "broken" });
    const anew = () => at.t.mutation(api.groups.retryCallback, { key, group });
    expect(await anew()).toBe("none");
    await seal(group);
    await at.pass();
    expect([await anew(), (await get(group)).callback.tries]).toEqual(["pending", 1]);
    const giveUp = async () => {
      for (let i = 1; i < CALLBACK_TRIES; i++) {
        vi.advanceTimersByTime(CALLBACK_RETRY.maxMs);
        await at.pass();
      }
      expect(await get(group)).toMatchObject({ callback: { state: "failed", tries: CALLBACK_TRIES } });
    };
    await giveUp();
    expect([await anew(), await anew()]).toEqual(["pending", "pending"]);
    expect(await get(group)).toMatchObject({ callback: { state: "pending", tries: 1 } });
    await at.pass();
    expect((await get(group)).callback.error).toContain("never");
    await giveUp();
    await at.t.mutation(probe.mendCallback, { group, callback: "note" });
    await anew();
    await at.pass();
    expect([await anew(), await told()]).toEqual(["done", [expect.objectContaining({ group })]]);
  });

  test("whose transaction died without a word is called again", async () => {
    const group = await create({ callback: "note" });
    await seal(group);
    // The tries run in a transaction of their own; this one never comes.
    await at.t.mutation(probe.loseCallback, { group });
    await at.pass();
    expect(await told()).toEqual([]);
    expect(await get(group)).toMatchObject({ callback: { state: "pending", tries: 1 } });
    await at.pass(CALLBACK_RETRY.initialMs);
    expect(await told()).toHaveLength(1);
  });

  test("two tries at once are one", async () => {
    const group = await create({ callback: "note" });
    await seal(group);
    await at.pass();
    for (const attempt of [1, 1, 2]) await at.t.mutation(internal.settle.callBack, { group, attempt });
    expect(await told()).toHaveLength(1);
  });

  test("can be a task, whose input is the summary", async () => {
    const group = await create({ task: { agent: "echo", priority: 3 }, context: "7" }, { name: "g" });
    await seal(group);
    await at.pass();
    const { callback } = await get(group);
    expect(callback).toMatchObject({ state: "done", name: "echo" });
    const [item] = (await worker.inbox()).assigned;
    expect(item!.task).toBe(callback.task);
    expect(JSON.parse(item!.input!)).toMatchObject({ group, name: "g", result: "success", context: "7" });
  });

  test("of a task of its own is told of that task", async () => {
    const task = await at.submit({ onComplete: { callback: "note" } });
    await at.pass();
    await finish(task, FATAL);
    expect(await told()).toMatchObject([{ task, result: "failed", counts: { total: 1, failed: 1 } }]);
    const links = await at.t.query(api.tasks.links, { key, task });
    expect(links.groups).toHaveLength(1);
  });

  test("of a task that was in a group besides is called as well", async () => {
    const group = await create({ callback: "note" });
    const [task] = await fill(group, 1, { onComplete: { callback: "note" } });
    await seal(group);
    await finish(task!);
    expect((await told()).map((summary) => summary.task).sort()).toEqual([task, null].sort());
  });
});

describe("the settle loop", () => {
  test("that died is brought back by the watchdog, and begins with the first item alone", async () => {
    const group = await create({ callback: "note" });
    await at.t.mutation(probe.strandSettle, { again: false });
    await seal(group);
    await at.pass();
    expect(await told()).toEqual([]);
    await at.t.mutation(internal.timers.watchdog, {});
    await at.pass();
    expect(await told()).toHaveLength(1);
  });

  test("that died on one item alone sets it aside, and goes on with the others", async () => {
    const [bad, good] = [await create({ callback: "note" }), await create({ callback: "note" })];
    await at.t.mutation(probe.strandSettle, { again: false });
    await seal(bad);
    await at.t.mutation(probe.strandSettle, { again: true });
    await seal(good);
    await at.t.mutation(internal.timers.watchdog, {});
    await at.pass();
    expect(await told()).toMatchObject([{ group: good }]);
    vi.advanceTimersByTime(SET_ASIDE_MS);
    await at.t.mutation(internal.timers.watchdog, {});
    await at.pass();
    expect((await told()).map((summary) => summary.group)).toEqual([good, bad]);
  });
});

describe("refused", () => {
  test.each<[string, OnComplete, string]>([
    [
      "a callback that is not on the list",
      { callback: "rm" },
      'onComplete.callback: "rm" is not on the list',
    ],
    ["a name of every object", { callback: "toString" }, "is not on the list"],
    ["an unknown agent", { task: { agent: "ghost" } }, 'No agent named "ghost"'],
    ["a follow-up's bad queue", { task: { agent: "echo", queue: "a b" } }, "queue"],
    ["a context that is no JSON", { callback: "note", context: "{" }, "onComplete.context: not JSON"],
    [
      "a context over its size",
      { callback: "note", context: JSON.stringify("x".repeat(INLINE_BYTES)) },
      `onComplete.context: over ${INLINE_BYTES} bytes`,
    ],
  ])("%s", async (_, onComplete, message) => {
    await expect(create(onComplete)).rejects.toThrow(message.replaceAll('"', '\\"'));
    await expect(at.submit({ onComplete })).rejects.toThrow(message);
    expect((await at.t.query(api.groups.list, { key })).groups).toEqual([]);
    expect(await at.t.query(probe.countTasks, {})).toBe(0);
  });

  test("a context at its size is taken", async () => {
    await create({ callback: "note", context: JSON.stringify("x".repeat(INLINE_BYTES - 2)) });
  });

  test("a group that is not there, or another tenant's", async () => {
    const group = await create(undefined, { tenant: "other" });
    await expect(at.submit({ group })).rejects.toThrow("belongs to the tenant other");
    await expect(at.submit({ group: "none" })).rejects.toThrow('group: no group "none"');
    expect(await at.t.query(api.groups.get, { key, group: "none" })).toBeNull();
    await expect(seal("none")).rejects.toThrow("not_found");
  });

  test("a follow-up in a queue, or the cancel of a group, beyond the key's queues", async () => {
    const hash = await sha256("sbs_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
    const scoped = { key: "sbs_gpu" };
    const onComplete = { task: { agent: "echo" } };
    await expect(at.t.mutation(api.groups.create, { ...scoped, onComplete })).rejects.toThrow("forbidden");
    const group = await create();
    await expect(at.t.mutation(api.groups.cancel, { ...scoped, group })).rejects.toThrow("forbidden");
  });
});
