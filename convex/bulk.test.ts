/** Many tasks at once, and what they failed of. */
import { describe, expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { BULK_EDGES, BULK_PAGE, FAILURES_PAGE, MAX_AFTER, MAX_SUBMIT } from "./constants";
import { sha256 } from "./model/text";
import { KEYS, probe, useDeployment } from "./setup.testing";
import type { Filter } from "./bulk.validators";
import type { TaskSpec } from "./validators";

const at = useDeployment();

const key = KEYS.submit;

async function submit(count: number, more: Partial<TaskSpec> = {}): Promise<Id<"tasks">[]> {
  const tasks: Id<"tasks">[] = [];
  while (tasks.length < count) {
    const page = Math.min(MAX_SUBMIT, count - tasks.length);
    tasks.push(...(await at.submitAll(Array<typeof more>(page).fill(more))));
  }
  return tasks;
}

/** Go through all pages, as the client does. */
async function all(
  verb: "cancelMany" | "retryMany",
  filter: Filter,
  more: { key?: string; dryRun?: boolean } = {},
) {
  const sum = { matched: 0, changed: 0, pages: 0 };
  for (let cursor: string | null = null; ;) {
    const page: { matched: number; changed: number; cursor: string | null } = await at.t.mutation(
      api.tasks[verb],
      { key, filter, cursor, ...more },
    );
    sum.matched += page.matched;
    sum.changed += page.changed;
    sum.pages += 1;
    if (page.cursor === null) return sum;
    cursor = page.cursor;
  }
}

/** Let a worker fail `count` tasks for good, each of a code. */
async function fail(codes: string[]): Promise<Id<"tasks">[]> {
  const tasks = await submit(codes.length, { retry: { maxAttempts: 1 } });
  const worker = await at.worker("failing", { capacity: 1_000 });
  for (let done = 0; done < codes.length;) {
    await at.pass();
    const { assigned } = await worker.inbox();
    await worker.sync({
      finished: assigned.map(({ run, task }) => {
        const code = codes[tasks.indexOf(task)]!;
        const error = { code, message: `it was ${code}` };
        return { run, outcome: { kind: "failed", error, retryable: true, notBeforeMs: null }, usage: null };
      }),
    });
    done += assigned.length;
  }
  await worker.drain();
  return tasks;
}

describe("cancel by filter", () => {
  test("reaches what waits, sleeps and runs, over pages, and nothing else", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    const [running] = await submit(1);
    await at.pass();
    const [item] = (await worker.inbox()).assigned;
    await worker.sync({ accepted: [item!.run] });
    const waiting = await submit(BULK_PAGE + 20);
    const delayed = await submit(3, { delayMs: 60_000 });
    const [paused] = await submit(1);
    await at.t.mutation(api.tasks.pause, { key, task: paused! });
    const [theirs] = await submit(1, { tenant: "other" });
    const count = BULK_PAGE + 25;
    expect(await all("cancelMany", {}, { dryRun: true })).toMatchObject({ matched: count, changed: 0 });
    expect(await at.task(waiting[0]!)).toMatchObject({ status: "pending" });
    expect(await all("cancelMany", {})).toMatchObject({ matched: count, changed: count });
    for (const task of [waiting[0], waiting.at(-1), ...delayed, paused]) {
      expect(await at.task(task!)).toMatchObject({ status: "cancelled" });
    }
    expect((await worker.inbox()).controls).toMatchObject([{ kind: "cancel", run: item!.run }]);
    expect(await at.task(running!)).toMatchObject({ status: "running" });
    expect(await at.task(theirs!)).toMatchObject({ status: "pending" });
    expect(await all("cancelMany", {})).toMatchObject({ matched: 0, changed: 0 });
  });

  test("each field narrows it", async () => {
    await at.worker("b", { brings: ["ada"] });
    const [old] = await submit(1, { queue: "q" });
    await at.pass(1_000);
    const between = Date.now();
    await at.pass(1_000);
    const [young] = await submit(1, { queue: "q" });
    const [ada] = await submit(1, { queue: "q", agent: "ada" });
    const [elsewhere] = await submit(1, { queue: "r" });
    const matched = async (filter: Filter) => (await all("cancelMany", filter, { dryRun: true })).matched;
    expect(await matched({})).toBe(4);
    expect(await matched({ queue: "q" })).toBe(3);
    expect(await matched({ agent: "ada" })).toBe(1);
    expect(await matched({ submittedBefore: between })).toBe(1);
    expect(await matched({ submittedAfter: between })).toBe(3);
    expect(await matched({ status: "delayed" })).toBe(0);
    expect(await matched({ code: "boom" })).toBe(0);
    expect(await matched({ tenant: "other" })).toBe(0);
    await all("cancelMany", { queue: "q", agent: "echo", submittedAfter: between });
    const states = await Promise.all(
      [old, young, ada, elsewhere].map(async (task) => (await at.task(task!)).status),
    );
    expect(states).toEqual(["pending", "cancelled", "pending", "pending"]);
  });

  test("a key reaches the tasks of its queues only", async () => {
    const hash = await sha256("sbs_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
    await submit(2, { queue: "gpu" });
    await submit(3);
    expect(await all("cancelMany", {}, { key: "sbs_gpu" })).toMatchObject({ matched: 2, changed: 2 });
    expect(await all("retryMany", { status: "cancelled" }, { key: "sbs_gpu" })).toMatchObject({ changed: 2 });
  });

  test("what it cannot mean is refused", async () => {
    const call = (filter: Filter, cursor: string | null = null) =>
      at.t.mutation(api.tasks.cancelMany, { key, filter, cursor });
    await expect(call({ status: "succeeded" })).rejects.toThrow("status: to cancel, one of waiting");
    await expect(call({ tenant: "a b" })).rejects.toThrow("tenant");
    for (const cursor of ["", "nonsense", "{}", "[99,null]", '["0",null]', "[0,null]"]) {
      await expect(call({}, cursor), cursor).rejects.toThrow("cursor: not one");
    }
  });
});

describe("retry by filter", () => {
  test("gives what failed its attempts anew, by code, and leaves the cancelled alone", async () => {
    const [boom, bang, again] = await fail(["boom", "bang", "boom"]);
    const [cancelled] = await submit(1);
    await at.cancel(cancelled!);
    expect(await all("retryMany", { code: "boom" })).toMatchObject({ matched: 2, changed: 2 });
    const states = async () =>
      Promise.all([boom, bang, again, cancelled].map(async (task) => (await at.task(task!)).status));
    expect(await states()).toEqual(["pending", "failed", "pending", "cancelled"]);
    expect(await all("retryMany", {})).toMatchObject({ matched: 1, changed: 1 });
    expect(await all("retryMany", { status: "cancelled" })).toMatchObject({ changed: 1 });
    expect(await states()).toEqual(["pending", "pending", "pending", "pending"]);
  });
});

describe("retry of a graph by filter", () => {
  const graph = async (...specs: Partial<TaskSpec>[]): Promise<Id<"tasks">[]> => {
    const tasks = specs.map((spec) => ({ agent: "echo", input: "1", ...spec }));
    const answers = await at.t.mutation(api.tasks.submit, { key, tasks });
    return answers.flatMap((answer) => (answer.ok ? [answer.task] : []));
  };
  const statuses = (tasks: Id<"tasks">[]) =>
    Promise.all(tasks.map(async (task) => (await at.task(task)).status));
  const FATAL = {
    kind: "failed" as const,
    error: { code: "boom", message: "no" },
    retryable: false,
    notBeforeMs: null,
  };

  /** Let a worker fail all that it is given, and what comes after that with it. */
  async function failAll() {
    const worker = await at.worker("failer", { capacity: 1_000, incarnation: crypto.randomUUID() });
    await at.pass();
    const { assigned } = await worker.inbox();
    await worker.sync({ finished: assigned.map(({ run }) => ({ run, outcome: FATAL, usage: null })) });
    await at.pass(1_000);
    await at.t.mutation(api.worker.drain, { key: KEYS.worker, session: worker.session, final: true });
  }

  const chain = () =>
    graph({ ref: "a" }, { ref: "b", after: [{ on: "#a" }] }, { ref: "c", after: [{ on: "#b" }] });

  test("lets each wait again for what it comes after", async () => {
    const tasks = await chain();
    await failAll();
    expect(await statuses(tasks)).toEqual(["failed", "failed", "failed"]);
    expect(await all("retryMany", {})).toMatchObject({ matched: 3, changed: 3 });
    expect(await statuses(tasks)).toEqual(["pending", "waiting", "waiting"]);
    const worker = await at.worker("w");
    for (const task of tasks) {
      await at.pass(100);
      const { assigned } = await worker.inbox();
      expect(assigned.map((item) => item.task)).toEqual([task]);
      await worker.finish(assigned[0]!.run);
    }
  });

  test("whatever failed last, and on whatever page", async () => {
    const tasks = await chain();
    await failAll();
    await fail(Array.from({ length: BULK_PAGE }, () => "boom"));
    for (const task of [tasks[0]!, tasks[1]!]) await at.t.mutation(api.tasks.retry, { key, task });
    await failAll(); // now both failed behind the one that waits for them
    expect(await all("retryMany", {})).toMatchObject({
      matched: BULK_PAGE + 3,
      changed: BULK_PAGE + 3,
      pages: 2,
    });
    expect(await statuses(tasks)).toEqual(["pending", "waiting", "waiting"]);
  });

  test("without what it comes after a task is let run, since somebody has decided so", async () => {
    const tasks = await chain();
    await failAll();
    expect(await all("retryMany", { code: "dependency_failed" })).toMatchObject({ changed: 2 });
    expect(await statuses(tasks)).toEqual(["failed", "pending", "waiting"]);
  });

  test.each([0, 1])("goes in pages of so many dependencies, and %i more", async (more) => {
    const roots = await graph(...Array.from({ length: MAX_AFTER }, () => ({})));
    const full = { after: roots.map((on) => ({ on })) };
    const wide = BULK_EDGES / MAX_AFTER;
    const specs: Partial<TaskSpec>[] = Array.from({ length: wide }, () => full);
    if (more > 0) specs.push({ after: [{ on: roots[0]! }] });
    const joins = await graph(...specs);
    await failAll();
    expect(await all("retryMany", { code: "boom" })).toMatchObject({ changed: MAX_AFTER });
    const pages = 1 + more;
    const count = wide + more;
    expect(await all("retryMany", {})).toEqual({ matched: count, changed: count, pages });
    expect(new Set(await statuses(joins))).toEqual(new Set(["waiting"]));
  });

  test("passes by one that is being prepared, and keeps no other from it", async () => {
    const [busy, other] = await fail(["boom", "boom"]);
    await at.t.mutation(probe.prepare, { task: busy! });
    expect(await all("retryMany", {})).toMatchObject({ matched: 1, changed: 1 });
    expect(await statuses([busy!, other!])).toEqual(["failed", "pending"]);
  });

  test("leaves alone what has failed again since it began", async () => {
    await fail(Array.from({ length: BULK_PAGE + 1 }, () => "boom"));
    const first = await at.t.mutation(api.tasks.retryMany, { key, filter: {} });
    expect(first).toMatchObject({ changed: BULK_PAGE });
    await failAll();
    let changed = 0;
    for (let cursor = first.cursor; cursor !== null;) {
      const page: typeof first = await at.t.mutation(api.tasks.retryMany, { key, filter: {}, cursor });
      changed += page.changed;
      cursor = page.cursor;
    }
    expect(changed).toBe(1);
    expect(await all("retryMany", {})).toMatchObject({ changed: BULK_PAGE });
  });
});

describe("what tasks failed of", () => {
  test("is grouped by cause, most frequent first, with the newest examples", async () => {
    const codes = ["a", "b", "b", "b", "b", "b", "c", "c"];
    const tasks = await fail(codes);
    const found = await at.t.query(api.tasks.failures, { key });
    expect(found.causes.map(({ code, count }) => [code, count])).toEqual([
      ["b", 5],
      ["c", 2],
      ["a", 1],
    ]);
    expect(found).toMatchObject({ counted: 8, cursor: null });
    expect(found.causes[0]!.newest).toHaveLength(3);
    expect(found.causes[2]!.newest).toMatchObject([
      { task: tasks[0], agent: "echo", attempt: 1, message: "it was a" },
    ]);
    expect(await at.t.query(api.tasks.failures, { key, tenant: "other" })).toMatchObject({ causes: [] });
  });

  test("is counted over a bounded page, and goes on behind it", async () => {
    await fail(Array.from({ length: FAILURES_PAGE + 1 }, (_, i) => (i === 0 ? "first" : "later")));
    const page = await at.t.query(api.tasks.failures, { key });
    expect(page.counted).toBe(FAILURES_PAGE);
    const rest = await at.t.query(api.tasks.failures, { key, cursor: page.cursor });
    expect(rest).toMatchObject({ counted: 1, cursor: null });
    expect(page.causes.concat(rest.causes).reduce((sum, { count }) => sum + count, 0)).toBe(
      FAILURES_PAGE + 1,
    );
  });

  test("is told for the attempts of one task", async () => {
    const worker = await at.worker();
    const [task] = await submit(1, { retry: { maxAttempts: 4, initialMs: 0 } });
    for (const code of ["slow", "slow", "broken", "slow"]) {
      await at.pass(10);
      const [item] = (await worker.inbox()).assigned;
      const error = { code, message: `${code} in attempt ${item!.attempt}` };
      await worker.finish(item!.run, { kind: "failed", error, retryable: true, notBeforeMs: null });
    }
    expect(await at.t.query(api.tasks.causes, { key, task: task! })).toMatchObject([
      { code: "slow", count: 3, message: "slow in attempt 4", lastAttempt: 4, state: "failed" },
      { code: "broken", count: 1, message: "broken in attempt 3", lastAttempt: 3 },
    ]);
  });
});
