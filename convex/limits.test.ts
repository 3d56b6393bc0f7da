import { describe, expect, test } from "vitest";
import { api } from "./_generated/api";
import { DISPATCH_STEPS, MAX_LIMIT, MAX_WEIGHT } from "./constants";
import { scopesOf } from "./model/limits";
import { KEYS, SUCCEEDED, probe, useDeployment, type TestWorker } from "./setup.testing";
import type { ScopeKind } from "./limit.validators";
import type { TaskSpec } from "./validators";

const at = useDeployment();

const key = KEYS.operator;
const set = (kind: ScopeKind, name: string | undefined, change: object) =>
  at.t.mutation(api.limits.set, { key, kind, ...(name === undefined ? {} : { name }), ...change });
const pause = (kind: ScopeKind, name = "") => at.t.mutation(api.limits.pause, { key, kind, name });
const resume = (kind: ScopeKind, name = "") => at.t.mutation(api.limits.resume, { key, kind, name });
const remove = (kind: ScopeKind, name = "") => at.t.mutation(api.limits.remove, { key, kind, name });
const books = () => at.t.query(probe.books, {});
const live = async () => (await books()).live.length;

const submit = (count: number, spec: Partial<TaskSpec> = {}) =>
  at.submitAll(Array<typeof spec>(count).fill(spec));

/** End the first `count` runs that the worker holds. */
async function finish(worker: TestWorker, count: number): Promise<void> {
  const { assigned } = await worker.inbox();
  const runs = assigned.slice(0, count).map(({ run }) => run);
  expect(runs).toHaveLength(count);
  await worker.sync({
    finished: runs.map((run) => ({ run, outcome: SUCCEEDED, usage: null })),
  });
}

describe("a limit", () => {
  test("lets as many run at once, and another for each that ends", async () => {
    const worker = await at.worker("w", { capacity: 50 });
    await set("queue", "default", { limit: 2 });
    await submit(5);
    await at.pass();
    expect(await live()).toBe(2);
    await finish(worker, 1);
    await at.pass();
    expect(await live()).toBe(2);
    await set("queue", "default", { limit: 3 });
    await at.pass();
    expect(await live()).toBe(3);
  });

  test("of a default holds for each name by itself, and a name's own wins over it", async () => {
    await at.worker("w", { capacity: 50 });
    await set("key", "*", { limit: 1 });
    await set("key", "c", { limit: 2 });
    for (const name of ["a", "b", "c"]) await submit(3, { key: name });
    await submit(2);
    await at.pass();
    const lanes = (await books()).live.map(
      (lane) => scopesOf(lane).find(({ kind }) => kind === "key")?.name ?? "-",
    );
    expect(lanes.sort()).toEqual(["-", "-", "a", "b", "c", "c"]);
  });

  test("counts the runs that live when it is set, exactly", async () => {
    const worker = await at.worker("w", { capacity: 50 });
    await submit(3, { tenant: "t" });
    await at.pass();
    await finish(worker, 1);
    await set("tenant", "t", { limit: 4 });
    await set("tenant", "*", { limit: 5 });
    await submit(9, { tenant: "t" });
    await at.pass();
    expect(await live()).toBe(4);
    expect((await books()).counters).toEqual([{ kind: "tenant", name: "t", inUse: 4 }]);
  });

  test("below what runs ends nothing and starts nothing", async () => {
    const worker = await at.worker("w", { capacity: 50 });
    await submit(6);
    await at.pass();
    await set("system", undefined, { limit: 2 });
    await submit(2);
    await at.pass();
    expect(await live()).toBe(6);
    await finish(worker, 5);
    await at.pass();
    expect(await live()).toBe(2);
  });

  test("leaves no counter behind when nothing runs or the limit is gone", async () => {
    const worker = await at.worker("w", { capacity: 50 });
    await set("key", "*", { limit: 1 });
    for (const name of ["a", "b", "c"]) await submit(1, { key: name });
    await at.pass();
    expect((await books()).counters).toHaveLength(3);
    await finish(worker, 1);
    await submit(1);
    await at.pass();
    expect((await books()).counters).toHaveLength(2);
    expect(await remove("key", "*")).toEqual({ removed: true });
    await at.pass();
    expect((await books()).counters).toEqual([]);
    expect(await remove("key", "*")).toEqual({ removed: false });
  });

  test("that is taken away and set again counts anew", async () => {
    const worker = await at.worker("w", { capacity: 50 });
    await set("queue", "default", { limit: 5 });
    await submit(3);
    await at.pass();
    await set("queue", "default", { limit: null, weight: 2 });
    await finish(worker, 2);
    await at.pass();
    await set("queue", "default", { limit: 4 });
    await submit(9);
    await at.pass();
    expect(await live()).toBe(4);
  });
});

describe("a pause", () => {
  test("starts nothing and ends nothing, and a resumption brings the limit back", async () => {
    const worker = await at.worker("w", { capacity: 50 });
    await set("queue", "default", { limit: 2 });
    await submit(5);
    await at.pass();
    await pause("queue", "default");
    await finish(worker, 1);
    await at.pass();
    expect(await live()).toBe(1);
    expect(await resume("queue", "default")).toMatchObject({ limit: 2, paused: false });
    await at.pass();
    expect(await live()).toBe(2);
  });

  test.each([
    ["system", ""],
    ["queue", "default"],
    ["agent", "echo"],
    ["tenant", "default"],
    ["key", "k"],
    ["lane", "default/echo//default/k"],
  ] as const)("of the %s holds what it should, and work beside it goes on", async (kind, name) => {
    await at.worker("w", { capacity: 50, brings: ["echo", "other"], queues: ["default", "beside"] });
    await pause(kind, name);
    await submit(3, { key: "k" });
    await submit(1, { key: "else", queue: "beside", agent: "other", tenant: "beside" });
    await at.pass();
    expect(await live()).toBe(kind === "system" ? 0 : 1);
    await resume(kind, name);
    await at.pass();
    expect(await live()).toBe(4);
    expect((await at.t.query(api.limits.list, { key })).limits).toEqual([]);
  });

  test("costs nothing while it lasts: no job waits", async () => {
    await at.worker("w", { capacity: 50 });
    await pause("system");
    await submit(3);
    await at.pass();
    expect((await books()).jobs).toEqual([]);
  });
});

describe("a rate", () => {
  const rate = { count: 2, perMs: 1_000, burst: 3 };

  test("starts its burst, then each task when its token comes, on one wake-up at a time", async () => {
    await at.worker("w", { capacity: 50 });
    await set("agent", "echo", { rate });
    await submit(6);
    await at.pass();
    expect(await live()).toBe(3);
    const seen = [];
    for (let i = 0; i < 3; i++) {
      const { jobs } = await books();
      expect(jobs).toEqual([expect.any(Number)]);
      await at.pass(jobs[0]! - 1 - Date.now());
      const before = await live();
      await at.pass(1);
      seen.push((await live()) - before);
    }
    expect(seen).toEqual([1, 1, 1]);
    expect((await books()).jobs).toEqual([]);
  });

  test("that is raised lets work go on at once", async () => {
    await at.worker("w", { capacity: 50 });
    await set("agent", "echo", { rate: { count: 1, perMs: 60_000, burst: 1 } });
    await submit(3);
    await at.pass();
    expect(await live()).toBe(1);
    await set("agent", "echo", { rate: null, limit: 50 });
    await at.pass();
    expect(await live()).toBe(3);
    expect((await books()).jobs).toEqual([]);
  });
});

describe("weights", () => {
  test("share the room of a full worker, however little comes free at a time", async () => {
    const worker = await at.worker("w", { capacity: 1 });
    await set("tenant", "big", { weight: 3 });
    await submit(9, { tenant: "big" });
    await submit(9, { tenant: "small" });
    const served: string[] = [];
    for (let i = 0; i < 8; i++) {
      await at.pass();
      const [next] = (await worker.inbox()).assigned;
      served.push((await at.task(next!.task)).tenant);
      await finish(worker, 1);
    }
    expect(served.join(" ")).toBe("big big big small big big big small");
  });
});

describe("many lanes", () => {
  const LANES = DISPATCH_STEPS + 40;
  const keys = Array.from({ length: LANES }, (_, i) => ({ key: `k${String(i).padStart(4, "0")}` }));

  test("that are all held back let the loop sleep, and the one that can run runs", async () => {
    const worker = await at.worker("w", { capacity: 1_000 });
    await set("key", "*", { limit: 1 });
    await at.submitAll(keys);
    await at.submitAll(keys);
    await at.pass(2_000);
    expect(await live()).toBe(LANES);
    expect((await books()).jobs).toEqual([]);

    await submit(1, { key: "zz" });
    await at.pass();
    expect(await live()).toBe(LANES + 1);
    await at.pass(2_000);
    expect((await books()).jobs).toEqual([]);

    await finish(worker, 1);
    await at.pass();
    expect(await live()).toBe(LANES + 1);
    await at.pass(2_000);
    expect((await books()).jobs).toEqual([]);
  });

  test("of which another ends make room for one that shares a limit with it, within a second", async () => {
    const worker = await at.worker("w", { capacity: 1_000 });
    await set("tenant", "default", { limit: 1 });
    await submit(1, { key: "first" });
    await at.pass();
    await at.submitAll(keys);
    await at.pass(2_000);
    expect(await live()).toBe(1);
    await finish(worker, 1);
    await at.pass(1_100);
    expect(await live()).toBe(1);
  });
});

describe("sticky", () => {
  test("a worker is preferred for what it ran last while it has room", async () => {
    const first = await at.worker("a", { capacity: 2 });
    await submit(1, { sticky: "doc" });
    await at.pass();
    await finish(first, 1);
    const roomy = await at.worker("b", { capacity: 50 });
    await submit(3, { sticky: "doc" });
    await at.pass();
    expect((await first.inbox()).assigned).toHaveLength(2);
    expect((await roomy.inbox()).assigned).toHaveLength(1);
    expect((await books()).stickies).toBe(1);
  });
});

describe("bad input", () => {
  const rate = { count: 1, perMs: 1_000, burst: 1 };
  test.each([
    ["a limit below zero", "queue", "q", { limit: -1 }, "limit: -1 is outside 0"],
    ["half a run", "queue", "q", { limit: 1.5 }, "limit: 1.5 is not a whole number"],
    ["a limit beyond all", "queue", "q", { limit: MAX_LIMIT + 1 }, "limit: 1000001"],
    ["no start at all", "queue", "q", { rate: { ...rate, count: 0 } }, "rate.count: 0"],
    ["no time", "queue", "q", { rate: { ...rate, perMs: 0 } }, "rate.perMs: 0"],
    ["no burst", "queue", "q", { rate: { ...rate, burst: 0 } }, "rate.burst: 0"],
    ["no weight", "queue", "q", { weight: 0 }, "weight: 0"],
    ["a weight over its bound", "queue", "q", { weight: MAX_WEIGHT + 1 }, "weight: 101"],
    ["the weight of the system", "system", "", { weight: 2 }, "weight: the system is one"],
    ["a system by a name", "system", "x", { limit: 1 }, "name: the system has none"],
    ["a queue without a name", "queue", "", { limit: 1 }, "is not a name"],
    ["a lane that is none", "lane", "default", { limit: 1 }, "is not a lane"],
    ["a key that is too long", "key", "k".repeat(257), { limit: 1 }, "name: 257 characters"],
    ["nothing", "queue", "q", {}, "give at least one"],
  ] as const)("%s is refused", async (_, kind, name, change, message) => {
    await expect(set(kind, name, change)).rejects.toThrow(message);
    expect((await at.t.query(api.limits.list, { key })).limits).toEqual([]);
  });

  test("what lies at its bound is taken", async () => {
    await set("queue", "q", { limit: MAX_LIMIT, weight: MAX_WEIGHT, rate });
    await set("key", "k".repeat(256), { limit: 0 });
    expect((await at.t.query(api.limits.list, { key })).limits).toHaveLength(2);
  });

  test("a sticky key over its length is refused", async () => {
    await expect(at.submit({ sticky: "k".repeat(257) })).rejects.toThrow("sticky: 257 characters");
    await expect(at.submit({ sticky: "k".repeat(256) })).resolves.toBeDefined();
  });
});

/** A small generator of numbers in [0, 1), so that a failure can be found again by its seed (mulberry32). */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

describe.each([1, 2, 3])("whatever is changed at run time, seed %i", (seed) => {
  test("no scope ever has more live runs than its limit, and everything ends", async () => {
    const chance = random(seed);
    const pick = <T>(items: readonly T[]): T => items[Math.floor(chance() * items.length)]!;
    const workers = [
      await at.worker("a", { capacity: 6, queues: ["default", "q"] }),
      await at.worker("b", { capacity: 4 }),
    ];
    const scopes: [ScopeKind, string][] = [
      ["system", ""],
      ["queue", "q"],
      ["queue", "*"],
      ["agent", "echo"],
      ["tenant", "t1"],
      ["tenant", "*"],
      ["key", "*"],
      ["key", "k1"],
    ];
    const limits = new Map<string, number | null>();
    const standing = async () => {
      const { live, counters } = await books();
      const runs = new Map<string, number>();
      for (const lane of live)
        for (const { kind, name } of scopesOf(lane))
          runs.set(`${kind} ${name}`, (runs.get(`${kind} ${name}`) ?? 0) + 1);
      return { runs, counters };
    };
    let before = (await standing()).runs;
    for (let step = 0; step < 60; step++) {
      const dice = chance();
      if (dice < 0.35) {
        const spec = { queue: pick(["default", "q"]), tenant: pick(["t1", "t2"]) };
        const of = pick(["k1", "k2", null]);
        await submit(1 + Math.floor(chance() * 4), of === null ? spec : { ...spec, key: of });
      } else if (dice < 0.65) {
        const worker = pick(workers);
        const { assigned } = await worker.inbox();
        if (assigned.length > 0) await finish(worker, 1 + Math.floor(chance() * assigned.length));
      } else if (dice < 0.9) {
        const [kind, name] = pick(scopes);
        const limit = pick([0, 1, 2, 3, 5, null]);
        await set(kind, name, { limit });
        limits.set(`${kind} ${name}`, limit);
      } else {
        const [kind, name] = pick(scopes);
        await (chance() < 0.5 ? pause(kind, name) : resume(kind, name));
      }
      if (chance() < 0.8) await at.pass();
      const { runs, counters } = await standing();
      for (const [scope, count] of runs) {
        const [kind] = scope.split(" ") as [string];
        const limit = limits.get(scope) ?? limits.get(`${kind} *`) ?? null;
        // What ran before a limit was lowered goes on, but no more than that.
        const most = limit === null ? Infinity : Math.max(limit, before.get(scope) ?? 0);
        expect(count, `step ${step}: ${scope}`).toBeLessThanOrEqual(most);
      }
      before = runs;
      for (const { kind, name, inUse } of counters)
        expect(inUse, `${kind} ${name}`).toBeGreaterThanOrEqual(0);
    }
    for (const [kind, name] of scopes) await remove(kind, name);
    const open = async () => {
      const pages = ["pending", "running"] as const;
      let count = 0;
      for (const status of pages)
        for (const tenant of ["t1", "t2"])
          count += (await at.t.query(api.tasks.list, { key, tenant, status, limit: 100 })).tasks.length;
      return count;
    };
    for (let round = 0; round < 60 && (await open()) > 0; round++) {
      await at.pass();
      for (const worker of workers) await finish(worker, (await worker.inbox()).assigned.length);
    }
    expect(await open()).toBe(0);
    await submit(1); // the loop settles what was freed when it has something to do
    await at.pass();
    expect(await books()).toMatchObject({
      live: ["default/echo//default/"],
      freed: 0,
      counters: [],
      jobs: [],
    });
  });
});

test("a task that was set aside gives back what it had taken", async () => {
  await set("queue", "default", { limit: 1, rate: { count: 1, perMs: 3_600_000, burst: 1 } });
  const bad = await at.submit({ priority: 1 });
  const good = await at.submit();
  await at.t.mutation(probe.removeTask, { task: bad });
  const worker = await at.worker("w", { capacity: 50 });
  await at.pass();
  expect((await worker.inbox()).assigned.map(({ task }) => task)).toEqual([good]);
});

test("runs of a lane that end in one sync give their room back in one row, which counts for all of them", async () => {
  const worker = await at.worker("w", { capacity: 3 });
  await set("tenant", "default", { limit: 3 });
  await submit(3);
  await at.pass();
  await finish(worker, 3);
  expect(await books()).toMatchObject({ freedRows: 1, freed: 3 }); // nothing waits, so dispatch is left asleep

  await submit(3);
  await at.pass();
  expect(await books()).toMatchObject({ freed: 0, counters: [{ kind: "tenant", inUse: 3 }] });
  expect((await worker.inbox()).assigned).toHaveLength(3);
});
