import { beforeEach, describe, expect, test } from "vitest";
import { api, internal } from "./_generated/api";
import type { Id } from "./_generated/dataModel";
import { CANCEL_PAGE, MAX_AFTER, MAX_EDGES, MAX_SUBMIT, SETTLE_EDGES } from "./constants";
import { sha256 } from "./model/text";
import { FATAL, KEYS, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { OnFailure, Outcome, TaskSpec, TaskStatus } from "./validators";

const at = useDeployment();
let worker: TestWorker;

beforeEach(async () => {
  worker = await at.worker("w", { capacity: 1_000 });
});

const OK: Outcome = { kind: "succeeded", output: '"done"' };

/** Submit a graph whose refs are the names given. @returns their tasks, in order */
const submit = (...specs: Partial<TaskSpec>[]) => at.submitAll(specs);

/** The tasks that a worker has now. */
async function assigned(): Promise<Id<"tasks">[]> {
  await at.pass();
  return (await worker.inbox()).assigned.map((item) => item.task);
}

async function finish(task: Id<"tasks">, outcome: Outcome = OK): Promise<void> {
  await worker.finish((await at.task(task)).run!, outcome);
  await at.pass();
}

/** Cancel a task, with the worker's answer if it had it already. */
async function cancel(task: Id<"tasks">): Promise<void> {
  await at.cancel(task);
  const { status, run } = await at.task(task);
  if (status === "running") await worker.finish(run!, { kind: "cancelled" });
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
    const history = ["task_submitted", "task_unblocked", "run_assigned", "task_succeeded"];
    expect(await at.history(d!)).toEqual(history);
  });

  test("the order in which a call names them does not matter", async () => {
    const [b, a] = await submit({ after: after("#a") }, { ref: "a" });
    expect(await assigned()).toEqual([a]);
    await finish(a!);
    expect(await assigned()).toEqual([b]);
  });

  test("what has ended already is settled at once, whatever it came to", async () => {
    const [good, bad] = await submit({}, {});
    await assigned();
    await finish(good!);
    await finish(bad!, FATAL);
    const tasks = await submit(
      { after: after(good!) },
      { after: after(bad!) },
      { after: after([bad!, "skip"]) },
      { after: after([bad!, "run"]) },
      { after: after(bad!, good!), afterMode: "any" },
    );
    await at.pass();
    expect(await statuses(tasks)).toEqual(["running", "failed", "skipped", "running", "running"]);
  });

  test("a time to come counts after the dependencies, and a wait for a worker from then", async () => {
    const [a, b] = await submit({ ref: "a" }, { after: after("#a"), delayMs: 5_000 });
    await assigned();
    await finish(a!);
    expect((await at.task(b!)).status).toBe("delayed");
    await at.pass(5_000);
    expect(await assigned()).toEqual([b]);
    const [c, d] = await submit({ ref: "a" }, { after: after("#a") });
    await assigned();
    await at.pass(1_000);
    const released = Date.now();
    await finish(c!);
    expect((await at.task(d!)).dueAt).toBe(released);
  });

  test("a run can read what its task came after, a page at a time", async () => {
    const [a, b, c] = await submit({ ref: "a" }, {}, { ref: "x" });
    await assigned();
    const [d] = await submit({ after: after(a!, b!, [c!, "run"]) });
    const large = JSON.stringify("x".repeat(900_000));
    await finish(a!, { kind: "succeeded", output: large });
    await finish(b!, { kind: "succeeded", output: large });
    await finish(c!, FATAL);
    await assigned();
    const { session } = worker;
    const run = (await at.task(d!)).run!;
    const upstream = (skip: number) =>
      at.t.query(api.worker.upstream, { key: KEYS.worker, session, run, after: skip });
    const first = await upstream(0);
    expect(first.items.map(({ task, status, output }) => [task, status, output?.length])).toEqual([
      [a, "succeeded", large.length],
      [b, "succeeded", large.length],
    ]);
    expect(first.next).toBe(2);
    const rest = await upstream(2);
    expect(rest).toMatchObject({
      items: [{ task: c, status: "failed", error: { code: "boom" } }],
      next: null,
    });
    await worker.finish(run);
    await expect(upstream(0)).rejects.toThrow("session_ended");
  });

  test("what hangs together is told from both ends", async () => {
    const [a, b] = await submit({ ref: "a" }, { after: after(["#a", "skip"]) });
    await at.pass();
    const links = (task: string) => at.t.query(api.tasks.links, { key: KEYS.submit, task });
    expect(await links(b!)).toMatchObject({
      waitsFor: 1,
      after: [{ task: a, ref: "a", agent: "echo", status: "running", onFailure: "skip" }],
      dependents: [],
    });
    expect(await links(a!)).toMatchObject({
      waitsFor: 0,
      after: [],
      dependents: [{ task: b, status: "waiting" }],
    });
  });
});

test("a task of an earlier call is known by the name that its edge gives it", async () => {
  const [a, b] = await submit({ ref: "a" }, {});
  const called = (ref: string, on = a!) => ({ on, ref });
  const [c] = await submit({ after: [called("first"), { on: b! }] });
  const { after: edges } = await at.t.query(api.tasks.links, { key: KEYS.submit, task: c! });
  expect(edges.map(({ task, ref }) => [task, ref])).toEqual([
    [a, "first"],
    [b, null],
  ]);
  const answers = await at.answersTo([
    { ref: "a" },
    { after: [{ on: "#a", ref: "x" }] },
    { after: [called("x"), called("x", b)] },
    { after: [{ on: "#a" }, called("a")] },
    { after: [called("no name")] },
  ]);
  expect(answers.map((answer) => (answer.ok ? null : answer.message))).toEqual([
    null,
    "after[0].ref: #a is its name already; give one with an id alone.",
    'after[1].ref: "x" is given twice.',
    'after[1].ref: "a" is given twice.',
    expect.stringContaining("after[0].ref"),
  ]);
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
    if (onFailure === "run") {
      await finish(b!);
      expect((await at.task(b!)).status).toBe(status);
      return;
    }
    expect(await at.task(b!)).toMatchObject({
      status,
      error: { code: "dependency_failed", message: `task ${a} (#a), which it comes after, failed` },
    });
    expect(await assigned()).not.toContain(b);
  });

  test("a chain fails to its end, through those that were skipped and cancelled too", async () => {
    const [a, ...rest] = await submit(
      { ref: "a" },
      { ref: "b", after: after(["#a", "skip"]) },
      { ref: "c", after: after("#b") },
      { ref: "d", after: after("#c") },
      { ref: "e", after: after(["#d", "run"]) },
    );
    await cancel(a!);
    await at.pass();
    expect(await statuses([a!, ...rest])).toEqual(["cancelled", "skipped", "failed", "failed", "running"]);
  });

  test("any: the first success lets it run, and those that follow change nothing", async () => {
    const [a, b, c, d] = await submit(
      { ref: "a" },
      { ref: "b" },
      { ref: "c" },
      { after: after("#a", "#b", "#c"), afterMode: "any" },
    );
    await assigned();
    await finish(a!, FATAL);
    expect((await at.task(d!)).status).toBe("waiting");
    await finish(b!);
    expect((await at.task(d!)).status).toBe("running");
    await finish(c!, FATAL);
    await finish(d!);
    expect((await at.task(d!)).status).toBe("succeeded");
  });

  test("any: when all have failed, the mildest policy decides", async () => {
    const tasks = await submit(
      { ref: "a" },
      { ref: "b" },
      { after: after(["#a", "fail"], ["#b", "run"]), afterMode: "any" },
      { after: after(["#a", "fail"], ["#b", "skip"]), afterMode: "any" },
      { after: after("#a", "#b"), afterMode: "any" },
    );
    await assigned();
    await finish(tasks[1]!, FATAL);
    expect(await statuses(tasks.slice(2))).toEqual(["waiting", "waiting", "waiting"]);
    await finish(tasks[0]!, FATAL);
    expect(await statuses(tasks.slice(2))).toEqual(["running", "skipped", "failed"]);
  });

  test("one that was cancelled or missed its deadline while it waited stays as it is", async () => {
    const [a, b, c] = await submit(
      { ref: "a" },
      { ref: "b", after: after("#a") },
      { after: after("#a"), startWithinMs: 1_000 },
    );
    await assigned();
    await at.cancel(b!);
    await at.pass(1_100);
    await finish(a!);
    expect(await statuses([b!, c!])).toEqual(["cancelled", "failed"]);
    expect((await at.task(c!)).error?.code).toBe("start_deadline");
  });

  test("one that is to be paused is, once nothing else keeps it", async () => {
    const [a, b] = await submit({ ref: "a" }, { after: after("#a") });
    await at.t.mutation(api.tasks.pause, { key: KEYS.submit, task: b! });
    await assigned();
    await finish(a!);
    expect((await at.task(b!)).status).toBe("paused");
    await at.t.mutation(api.tasks.resume, { key: KEYS.submit, task: b! });
    expect(await assigned()).toEqual([b]);
  });
});

describe("more than a page", () => {
  test("fan-out and fan-in go in pages, and every task runs once", async () => {
    const [top] = await submit({});
    await assigned();
    const width = SETTLE_EDGES + 1;
    const middle: Id<"tasks">[] = [];
    while (middle.length < width) {
      const page = Math.min(MAX_SUBMIT, width - middle.length);
      middle.push(...(await submit(...Array.from({ length: page }, () => ({ after: after(top!) })))));
    }
    const last = middle.slice(-MAX_AFTER);
    const [bottom] = await submit({ after: after(...last) });
    await finish(top!);
    const done = new Set<Id<"tasks">>();
    while (done.size < width) {
      await at.pass();
      expect((await at.task(bottom!)).status).toBe(
        last.every((task) => done.has(task)) ? "running" : "waiting",
      );
      const runs = (await worker.inbox()).assigned.filter((item) => item.task !== bottom).slice(0, 200);
      expect(runs.length).toBeGreaterThan(0);
      for (const { task } of runs) done.add(task);
      await worker.sync({ finished: runs.map(({ run }) => ({ run, outcome: OK, usage: null })) });
    }
    expect(done).toEqual(new Set(middle));
    expect(await assigned()).toEqual([bottom]);
  });
});

describe("refused", () => {
  test.each<[string, Partial<TaskSpec>[], (string | null)[]]>([
    [
      "a circle",
      [{ ref: "a", after: after("#b") }, { ref: "b", after: after("#a") }, {}],
      ["after: it waits for itself: #a waits for #b waits for #a", "after: it waits for itself", null],
    ],
    ["itself", [{ ref: "a", after: after("#a") }], ["after[0].on: a task cannot wait for itself"]],
    ["an unknown ref", [{ after: after("#x") }], ['after[0].on: no task of this call has the ref "x"']],
    ["an unknown id", [{ after: after("nobody") }], ['after[0].on: no task "nobody"']],
    ["a ref of two", [{ ref: "a" }, { ref: "a" }], [null, 'ref: "a" is given twice']],
    ["a bad ref", [{ ref: "a b" }], ['ref: "a b" is not a name']],
    [
      "what comes after something refused",
      [{ ref: "a", agent: "ghost" }, { ref: "b", after: after("#a") }, { after: after("#b") }],
      ["No agent named", "after[0].on: #a was refused: No agent named", "after[0].on: #b was refused"],
    ],
    [
      "one named twice",
      [{ ref: "a" }, { after: after("#a", "#a") }],
      [null, "after[1].on: #a is given twice"],
    ],
    [
      "another tenant's",
      [{ ref: "a", tenant: "other" }, { after: after("#a") }],
      [null, "after[0].on: #a belongs to the tenant other, not default"],
    ],
  ])("%s, and nothing of it is written", async (_, specs, reasons) => {
    const answers = await at.answersTo(specs);
    answers.forEach((answer, i) => {
      if (reasons[i] === null) expect(answer.ok).toBe(true);
      else expect(!answer.ok && answer.message).toContain(reasons[i]);
    });
    expect(await at.t.query(probe.countTasks, {})).toBe(reasons.filter((reason) => reason === null).length);
  });

  test("one task that two refs name is told from a name that is given twice", async () => {
    const after = [{ on: "#a" }, { on: "#b" }];
    const [, , third] = await at.answersTo([
      { ref: "a", dedupKey: "d" },
      { ref: "b", dedupKey: "d" },
      { after },
    ]);
    expect(third).toMatchObject({
      ok: false,
      message: "after[1].on: #b is the same task as #a; name one of them.",
    });
  });

  test(`${MAX_AFTER} dependencies are taken and ${MAX_AFTER + 1} are not`, async () => {
    const tasks = await submit(...Array.from({ length: MAX_AFTER + 1 }, () => ({})));
    const [more, most] = await at.answersTo([
      { after: after(...tasks) },
      { after: after(...tasks.slice(1)) },
    ]);
    expect(more).toMatchObject({ ok: false, message: "after: 101 tasks given, at most 100." });
    expect(most!.ok).toBe(true);
  });

  test("the dependencies of a call have a bound of their own", async () => {
    const tasks = await submit(...Array.from({ length: MAX_AFTER }, () => ({})));
    const full = { after: after(...tasks) };
    const calls = MAX_EDGES / MAX_AFTER;
    const answers = await at.answersTo(Array.from({ length: calls }, () => full));
    expect(answers.every((answer) => answer.ok)).toBe(true);
    const more = at.answersTo([...Array.from({ length: calls }, () => full), { after: after(tasks[0]!) }]);
    await expect(more).rejects.toThrow(`after: ${MAX_EDGES + 1} in all tasks of this call`);
  });

  test("a key comes after no task of a queue that it does not serve", async () => {
    const hash = await sha256("sbs_gpu");
    await at.t.mutation(internal.operator.createKey, { hash, role: "submit", label: "gpu", queues: ["gpu"] });
    const [a] = await submit({});
    const spec = { agent: "echo", input: "1", queue: "gpu", after: after(a!) };
    const answers = await at.t.mutation(api.tasks.submit, { key: "sbs_gpu", tasks: [spec] });
    expect(answers).toMatchObject([{ ok: false, code: "forbidden" }]);
  });
});

describe("any graph", () => {
  /** A pure model of what becomes of each task: the statuses that it may end with. */
  function oracle(graph: Node[]): Set<TaskStatus>[] {
    const ends: Set<TaskStatus>[] = [];
    for (const { edges, mode, fate } of graph) {
      const unmet = edges.filter((edge) => !ends[edge.on]!.has("succeeded"));
      const policies = new Set(unmet.map((edge) => edge.onFailure));
      if (fate === "cancelled") ends.push(new Set(["cancelled"]));
      else if (
        mode === "any"
          ? unmet.length < edges.length || policies.has("run")
          : !policies.has("fail") && !policies.has("skip")
      )
        ends.push(new Set([fate]));
      else if (mode === "any")
        ends.push(new Set([edges.length === 0 ? fate : policies.has("skip") ? "skipped" : "failed"]));
      else {
        // Whichever of them ends first decides.
        const may: TaskStatus[] = [];
        if (policies.has("fail")) may.push("failed");
        if (policies.has("skip")) may.push("skipped");
        ends.push(new Set(may));
      }
    }
    return ends;
  }

  type Node = {
    edges: { on: number; onFailure: OnFailure }[];
    mode: "all" | "any";
    fate: "succeeded" | "failed" | "cancelled"; // if it is its turn
  };

  /** Mulberry32. */
  function random(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  const SEEDS = Array.from({ length: 8 }, (_, i) => i + 1);

  test.each(SEEDS)("of 14 tasks ends as a model of it says (seed %i)", async (seed) => {
    const draw = random(seed);
    const pick = <T>(from: readonly T[]): T => from[Math.floor(draw() * from.length)]!;
    const graph: Node[] = Array.from({ length: 14 }, (_, i) => ({
      edges: Array.from({ length: i }, (_, on) => on)
        .filter(() => draw() < 0.25)
        .map((on) => ({ on, onFailure: pick(["fail", "fail", "skip", "run", "run"] as const) })),
      mode: pick(["all", "all", "any"] as const),
      fate: pick(["succeeded", "succeeded", "succeeded", "failed", "cancelled"] as const),
    }));
    const specs = graph.map(({ edges, mode }, i) => ({
      ref: `t${i}`,
      afterMode: mode,
      after: edges.map(({ on, onFailure }) => ({ on: `#t${on}`, onFailure })),
    }));
    // The first half in one call; the second, later, names it by its ids.
    const half = 7;
    const tasks = await submit(...specs.slice(0, half));
    const cancelAll = async (from: number, to: number) => {
      for (let i = from; i < to; i++) {
        if (graph[i]!.fate !== "cancelled") continue;
        await cancel(tasks[i]!);
      }
    };
    const step = async () => {
      await at.pass();
      const { assigned: runs } = await worker.inbox();
      if (runs.length === 0) return false;
      const { run, task } = pick(runs);
      await worker.finish(run, graph[tasks.indexOf(task)]!.fate === "failed" ? FATAL : OK);
      return true;
    };
    await cancelAll(0, half);
    await step();
    await step();
    const byId = (on: string) => (Number(on.slice(2)) < half ? tasks[Number(on.slice(2))]! : on);
    const later = specs.slice(half).map((spec) => ({
      ...spec,
      after: spec.after.map(({ on, onFailure }) => ({ on: byId(on), onFailure })),
    }));
    // Before anything of it can run, what its fate wants cancelled is: unless the first half has decided it already.
    tasks.push(...(await submit(...later)));
    const decided = await statuses(tasks.slice(half));
    decided.forEach((status, i) => {
      const node = graph[half + i]!;
      if (node.fate === "cancelled" && (status === "failed" || status === "skipped")) node.fate = "failed";
    });
    await cancelAll(half, graph.length);
    while (await step());
    const expected = oracle(graph);
    const found = await statuses(tasks);
    found.forEach((status, i) => {
      expect([...expected[i]!], `t${i} of ${JSON.stringify(graph)}`).toContain(status);
    });
  });
});

describe("children", () => {
  const children = async (task: Id<"tasks">) =>
    (await at.t.query(api.tasks.children, { key: KEYS.submit, task })).tasks;
  const next = (...specs: Partial<TaskSpec>[]): Outcome => ({
    ...OK,
    next: JSON.stringify(specs.map((spec) => ({ agent: "echo", input: "1", ...spec }))),
  });

  /** Let the run of a task spawn so many children in a step. */
  async function spawn(parent: Id<"tasks">, n: number) {
    const { session } = worker;
    const { run } = await at.task(parent);
    return at.t.mutation(api.worker.spawn, {
      ...{ key: KEYS.worker, session, run: run!, step: "s", gather: false },
      tasks: Array.from({ length: n }, () => ({ agent: "echo", input: "1" })),
    });
  }

  async function cancelTree(task: Id<"tasks">) {
    await at.t.mutation(api.tasks.cancel, { key: KEYS.submit, task, subtree: true });
    await at.pass();
  }

  test("a subtree is cancelled with all that grows from it, and nothing beside it", async () => {
    const [root, beside] = await submit({}, {});
    await assigned();
    const middle = (await spawn(root!, CANCEL_PAGE + 1)).tasks;
    await at.pass();
    const leaves = (await spawn(middle[CANCEL_PAGE]!, 2)).tasks;
    await finish(middle[0]!, next({ delayMs: 1_000 })); // has ended, and its child has not
    const [late] = await children(middle[0]!);
    await cancelTree(root!);
    // Those that run go on until their worker answers, and what they still spawn is born cancelled.
    const born = (await spawn(middle[1]!, 2)).tasks;
    await worker.finish((await at.task(middle[2]!)).run!, next({}));
    const last = await children(middle[2]!);
    expect(await statuses([...born, last[0]!.task, late!.task])).toEqual(Array(4).fill("cancelled"));
    for (const task of [root!, ...middle, ...leaves]) {
      const { status, run } = await at.task(task);
      if (status === "running") await worker.finish(run!, { kind: "cancelled" });
    }
    const all = await statuses([root!, ...middle, ...leaves]);
    expect(all.filter((status) => status !== "cancelled")).toEqual(["succeeded", "succeeded"]);
    expect((await at.task(beside!)).status).toBe("running");
  });

  test("of a subtree one that cannot be cancelled keeps neither its sisters nor its children from it", async () => {
    const [root] = await submit({});
    await assigned();
    const [bad, sister] = (await spawn(root!, 2)).tasks;
    await at.pass();
    const leaves = (await spawn(bad!, 2)).tasks;
    await at.t.mutation(probe.removeRun, { run: (await at.task(bad!)).run! }); // by hand
    await cancelTree(root!);
    expect(await at.history(bad!)).toContain("task_set_aside");
    for (const task of [sister!, ...leaves]) {
      const { status } = await at.task(task);
      const asked = (await at.history(task)).includes("cancel_requested");
      expect(status === "cancelled" || asked).toBe(true);
    }
  });

  test("without its subtree a task is cancelled alone", async () => {
    const [root] = await submit({});
    await assigned();
    const { tasks } = await spawn(root!, 1);
    await cancel(root!);
    await at.pass();
    expect(await statuses([root!, ...tasks])).toEqual(["cancelled", "running"]);
  });
});
