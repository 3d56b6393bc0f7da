/** Forks: what they have of their origin, what they may not do, and how they compare with it. */
import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { FORK_STEPS, INLINE_BYTES, MAX_FORK_DEPTH } from "./constants";
import type { ForkSpec } from "./fork.validators";
import { KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { StepReport } from "./validators";

const at = useDeployment();

const HASH = "a".repeat(64);
const fork = (task: Id<"tasks">, spec: ForkSpec = {}) =>
  at.t.mutation(api.tasks.fork, { key: KEYS.submit, task, ...spec });
const compare = (task: Id<"tasks">, other: Id<"tasks">) =>
  at.t.query(api.tasks.compare, { key: KEYS.submit, task, other });
const report = (run: Id<"runs">, key: string, more: Partial<StepReport> = {}): StepReport => ({
  ...{ run, key, kind: "step", result: JSON.stringify(key), signal: null },
  ...more,
});
const call = (run: Id<"runs">, key: string, more: Partial<StepReport> = {}): StepReport =>
  report(run, key, {
    kind: "tool",
    tool: "search",
    argsHash: HASH,
    state: "done",
    effect: "unsafe",
    ...more,
  });

/** A task that has taken these steps and succeeded. */
async function done(worker: TestWorker, steps: (run: Id<"runs">) => StepReport[], input = "1") {
  const { task, run } = await at.begun(worker, { input });
  for (const step of steps(run)) await worker.sync({ steps: [step] });
  await worker.finish(run, { kind: "succeeded", output: '"old"' });
  return task;
}

const turns = (run: Id<"runs">) => [
  report(run, "turn#1", { kind: "turn", usage: usage(10) }),
  call(run, "turn#1/0:search"),
  report(run, "turn#2", { kind: "turn", usage: usage(20) }),
  call(run, "turn#2/0:search", { result: '"later"' }),
  report(run, "turn#3", { kind: "turn", usage: usage(30) }),
];

const usage = (costMicros: number) => ({
  ...{ model: "m", inputTokens: 1, outputTokens: 1, cachedInputTokens: null, costMicros },
});

describe("a fork", () => {
  test("begins behind the steps before its point, and finds later results as recordings", async () => {
    const worker = await at.worker("w", { code: "c1" });
    const origin = await done(worker, turns);
    const { task } = await fork(origin, { at: "turn#2", change: { models: ["x/y"], prompt: "new" } });
    await at.pass();
    const assigned = await worker.begin();
    expect(assigned).toMatchObject({
      ...{ task, attempt: 1, input: "1", steps: 2, pinned: { version: "c1", code: "c1" } },
      fork: { task: origin, effects: "forbid", change: { models: ["x/y"], prompt: "new" } },
    });
    const { steps } = await worker.steps(assigned.run);
    expect(steps.map(({ key, kind }) => [key, kind])).toEqual([
      ["%recorded/000000/search", "recorded"],
      ["turn#1", "turn"],
      ["turn#1/0:search", "tool"],
    ]);
    expect(steps[0]).toMatchObject({ tool: "search", argsHash: HASH, result: '"later"' });
  });

  test("of no step takes all of them anew, on any version", async () => {
    const worker = await at.worker("w", { code: "c1" });
    const origin = await done(worker, turns);
    const next = await at.worker("w", { code: "c2", incarnation: "2" });
    await fork(origin, { input: "2" });
    await at.pass();
    const assigned = await next.begin();
    expect(assigned).toMatchObject({ input: "2", steps: 0 });
    expect(assigned).not.toHaveProperty("pinned");
    expect((await next.steps(assigned.run)).steps.map(({ kind }) => kind)).toEqual(["recorded", "recorded"]);
  });

  test("is pinned as its origin is, unless it is to run on what there is now", async () => {
    const worker = await at.worker("w", { code: "c1" });
    const origin = await done(worker, turns);
    const next = await at.worker("w", { code: "c2", incarnation: "2" });
    await fork(origin, { at: "turn#3" });
    const { task } = await fork(origin, { at: "turn#3", newVersion: true });
    await at.pass();
    const assigned = (await next.inbox()).assigned;
    expect(assigned.map((each) => each.task)).toEqual([task]);
    expect(assigned[0]!.pinned).toEqual({ version: "c1", code: "c1" }); // what took its steps
  });

  test("goes to no worker that does not know how to keep it from effects", async () => {
    const worker = await at.worker("w");
    const origin = await done(worker, turns);
    const old = await at.worker("w", { incarnation: "2", forks: false });
    const { task } = await fork(origin);
    const other = await at.submit();
    await at.pass(100);
    expect((await old.inbox()).assigned.map((each) => each.task)).toEqual([other]);
    expect((await at.why(task)).code).toBe("no_worker_for_fork");
  });

  test("is made once for each request", async () => {
    const origin = await at.submit({ delayMs: 1_000 });
    const first = await fork(origin, { request: "r" });
    expect(await fork(origin, { request: "r" })).toEqual({ task: first.task, duplicate: true });
    expect((await fork(origin, { request: "s" })).duplicate).toBe(false);
  });

  test.each([
    ["an unknown step", { at: "nothing" }, /has no step .*nothing/],
    ["an input that is not JSON", { input: "{" }, /not JSON/],
    ["no model at all", { change: { models: [] } }, /models: 0 given/],
    ["a limit of nothing", { change: { limits: { maxTurns: 0 } } }, /maxTurns: 0 is outside/],
  ])("at %s is refused", async (_, spec, message) => {
    await expect(fork(await at.submit(), spec)).rejects.toThrow(message);
  });

  test("of a fork that was given a recorded answer has that once", async () => {
    const worker = await at.worker();
    const answer = { kind: "event", result: '{"name":"go","data":1}' } as const;
    const origin = await done(worker, (run) => [report(run, "go", answer)]);
    const first = await fork(origin);
    await at.pass();
    const { run } = await worker.begin();
    await worker.sync({ steps: [report(run, "go", answer)] });
    await worker.finish(run, { kind: "succeeded", output: "1" });
    await fork(first.task);
    await at.pass();
    const { steps } = await worker.steps((await worker.begin()).run);
    expect(steps.map(({ key }) => key)).toEqual(["%recorded/event/go"]);
    await expect(fork(first.task, { at: "%recorded/event/go" })).rejects.toThrow(/has no step/);
  });

  test("finds a recording that was given to a call no more, nor does a fork of it", async () => {
    const worker = await at.worker();
    const origin = await done(worker, turns);
    const first = await fork(origin, { at: "turn#2" });
    await at.pass();
    const { run } = await worker.begin();
    const recorded = "%recorded/000000/search";
    const given = { result: '"later"', recorded };
    await worker.sync({ steps: [report(run, "turn#2", { kind: "turn" })] });
    await worker.sync({ steps: [call(run, "turn#2/0:search", given)] });
    const found = async (id: Id<"runs">) =>
      (await worker.steps(id)).steps.flatMap(({ kind, argsHash }) => (kind === "recorded" ? [argsHash] : []));
    expect(await found(run)).toEqual([undefined]);
    await worker.sync({ steps: [report(run, "turn#3", { kind: "turn", recorded: "turn#1" })] });
    await worker.finish(run, { kind: "succeeded", output: "1" });
    for (const [point, expected] of [
      ["turn#3", []],
      ["turn#2", [HASH]], // the call that was given it is behind the point
    ] as const) {
      await fork(first.task, { at: point });
      await at.pass();
      expect(await found((await worker.begin()).run)).toEqual(expected);
    }
  });

  test("of a fork of a fork has an end", async () => {
    let task = await at.submit({ delayMs: 1_000 });
    for (let depth = 0; depth < MAX_FORK_DEPTH; depth++) ({ task } = await fork(task));
    await expect(fork(task)).rejects.toThrow(/20 deep/);
  });

  test("of a fork has the changes of both", async () => {
    const worker = await at.worker();
    const origin = await done(worker, turns);
    const first = await fork(origin, { change: { prompt: "p", limits: { maxTurns: 3 } } });
    const { task } = await fork(first.task, { change: { models: ["a/b"], limits: { maxTokens: 9 } } });
    await at.pass();
    const assigned = (await worker.inbox()).assigned.find((each) => each.task === task);
    expect(assigned?.fork?.change).toEqual({
      ...{ prompt: "p", models: ["a/b"], limits: { maxTurns: 3, maxTokens: 9 } },
    });
  });

  test.each([FORK_STEPS - 1, FORK_STEPS, FORK_STEPS + 1])("copies %i steps", async (count) => {
    const worker = await at.worker();
    const origin = await at.submit();
    await at.pass();
    const { run } = await worker.begin();
    for (let from = 0; from < count; from += 100) {
      const keys = Array.from({ length: Math.min(100, count - from) }, (_, i) => `s${from + i}`);
      await worker.sync({ steps: keys.map((key) => report(run, key)) });
    }
    await worker.step(run, "last");
    await fork(origin, { at: "last" });
    await worker.finish(run);
    await at.pass(100);
    expect((await worker.begin()).steps).toBe(count);
  });

  test("that is cancelled under way stays cancelled", async () => {
    const origin = await at.submit({ delayMs: 1_000 });
    const { task } = await fork(origin);
    await at.cancel(task);
    await at.pass(100);
    expect((await at.task(task)).status).toBe("cancelled");
  });

  test("shares large texts with its origin, and each goes with the last that has it", async () => {
    const worker = await at.worker();
    const large = JSON.stringify("x".repeat(INLINE_BYTES));
    const outputs = () => at.t.query(probe.countOutputs, {});
    const origin = await done(
      worker,
      (run) => [report(run, "a", { result: large }), report(run, "b")],
      large,
    );
    expect(await outputs()).toBe(2);
    const { task } = await fork(origin, { at: "b" });
    expect(await outputs()).toBe(2);
    await at.pass();
    const assigned = await worker.begin();
    expect((await worker.steps(assigned.run)).steps[0]!.result).toBe(large);
    const read = () =>
      at.t.query(api.worker.input, { key: KEYS.worker, session: worker.session, run: assigned.run });
    expect(await read()).toBe(large);
    await worker.finish(assigned.run, again);
    await at.pass(10);
    // From scratch without its steps: they are the origin's still.
    await at.cancel(task);
    await at.t.mutation(api.tasks.restart, { key: KEYS.submit, task });
    expect(await outputs()).toBe(2);
    const second = await fork(origin, { at: "b" });
    await at.pass();
    expect((await at.state(second.task)).steps).toBe(1);
  });
});

const again = {
  kind: "failed",
  error: { code: "x", message: "x" },
  retryable: true,
  notBeforeMs: 0,
} as const;

describe("a fork without effects", () => {
  /** The run of such a fork. */
  async function begun(spec: ForkSpec = {}) {
    const worker = await at.worker();
    const origin = await done(worker, turns);
    const { task } = await fork(origin, spec);
    await at.pass();
    const { run } = await worker.begin();
    return { worker, task, run };
  }

  test.each(["idempotent", "keyed", "reconcilable", "unsafe", undefined] as const)(
    "may not intend an effect: %s",
    async (effect) => {
      const { worker, task, run } = await begun();
      const intent = call(run, "turn#1/0:mail", { tool: "mail", result: null, state: "intended" });
      if (effect === undefined) delete intent.effect;
      else intent.effect = effect;
      expect((await worker.sync({ steps: [intent] })).lost).toEqual([run]);
      expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "effect_forbidden" } });
    },
  );

  test("may call what is pure, and say what it was given instead of an effect", async () => {
    const { worker, task, run } = await begun();
    const pure = call(run, "turn#1/0:look", {
      tool: "look",
      effect: "pure",
      result: null,
      state: "intended",
    });
    await worker.sync({ steps: [pure, report(run, "turn#1/1:mail", { kind: "tool", tool: "mail" })] });
    expect((await at.task(task)).status).toBe("running");
  });

  test.each([
    ["sleep", { ms: 10 }],
    ["wait for an event", { event: "e", timeoutMs: null }],
  ])("may not %s", async (_, until) => {
    const { worker, task, run } = await begun();
    await worker.finish(run, { kind: "suspended", step: "s", until });
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "effect_forbidden" } });
  });

  test("may not submit, tell an event, or bring tasks with its end", async () => {
    const { worker, task, run } = await begun();
    const named = { key: KEYS.worker, session: worker.session, run, step: "s" };
    const tasks = [{ agent: "echo", input: "1" }];
    await expect(at.t.mutation(api.worker.spawn, { ...named, tasks, gather: false })).rejects.toThrow(
      /fork without effects, and its agent submits tasks/,
    );
    await expect(at.t.mutation(api.worker.emit, { ...named, name: "e", data: "1" })).rejects.toThrow(
      /fork without effects, and its agent tells the event/,
    );
    await worker.finish(run, { kind: "succeeded", output: "1", next: JSON.stringify(tasks) });
    expect(await at.task(task)).toMatchObject({ status: "failed", error: { code: "effect_forbidden" } });
    expect(await at.t.query(probe.countTasks, {})).toBe(2);
  });

  test("may do all of that when its effects are allowed", async () => {
    const { worker, task, run } = await begun({ effects: "allow" });
    await worker.sync({ steps: [call(run, "turn#1/0:mail", { result: null, state: "intended" })] });
    await worker.finish(run, { kind: "suspended", step: "s", until: { ms: 10 } });
    expect((await at.task(task)).status).toBe("sleeping");
  });
});

describe("a comparison", () => {
  test("tells what each has cost and done, and where they part", async () => {
    const worker = await at.worker();
    const origin = await done(worker, turns);
    const { task } = await fork(origin, { at: "turn#2" });
    await at.pass();
    const { run } = await worker.begin();
    await worker.sync({ steps: [report(run, "turn#2", { kind: "turn", result: "9", usage: usage(7) })] });
    await worker.finish(run, { kind: "succeeded", output: '"new"' });
    const { tasks, ...whole } = await compare(origin, task);
    expect(whole).toEqual({ parts: "turn#2", sameOutput: false });
    expect(tasks).toMatchObject([
      {
        ...{ task: origin, turns: 3, replayed: 0, runs: 1, output: '"old"', forkOf: null, effects: null },
        ...{ tools: [{ tool: "search", calls: 2 }], usage: { costMicros: 60, inputTokens: 3 } },
      },
      {
        ...{ task, turns: 2, replayed: 2, output: '"new"', effects: "forbid" },
        ...{ forkOf: { task: origin, at: "turn#2" }, tools: [{ tool: "search", calls: 1 }] },
        usage: { costMicros: 7, inputTokens: 1, cachedInputTokens: null },
      },
    ]);
  });

  test("of a task with itself finds no difference", async () => {
    const origin = await done(await at.worker(), turns);
    expect(await compare(origin, origin)).toMatchObject({ parts: null, sameOutput: true });
  });
});
