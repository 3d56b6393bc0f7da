import { describe, expect, test } from "vitest";
import type { Id } from "../_generated/dataModel";
import { Ledger, type Counter, type Limit } from "./limits";
import { behind, canRun, plan, type Line, type Pool, type Turns } from "./plan";

const id = <T extends "ready" | "workers" | "sessions">(text: string) => text as Id<T>;

/** A lane of this queue and tenant with `length` tasks, named t0, t1, ... after the tenant. */
function line(tenant: string, length: number, more: Partial<Line> = {}): Line {
  const queue = more.queue ?? "default";
  return {
    lane: `${queue}/a//${tenant}/`,
    queue,
    agent: "a",
    kind: "python" as const,
    labels: [],
    tasks: Array.from({ length }, (_, i) => ({ ready: id<"ready">(`${tenant}${i}`) })),
    cut: false,
    ...more,
  };
}

function pool(workers: Record<string, number>, more: Partial<Pool> = {}): Pool {
  return {
    profile: `p${JSON.stringify(more)}`,
    queues: ["default"],
    agents: ["a"],
    labels: [],
    llm: true,
    workers: Object.entries(workers).map(([name, free]) => ({
      worker: id<"workers">(name),
      session: id<"sessions">(name),
      free,
    })),
    ...more,
  };
}

const NOW = 1_000;
const limit = (kind: Limit["kind"], name: string, more: Partial<Limit>): Limit => ({
  kind,
  name,
  limit: null,
  rate: null,
  weight: null,
  paused: false,
  uncounted: null,
  ...more,
});

function planned(
  lines: Line[],
  pools: Pool[],
  {
    batch = 10,
    turns = {},
    limits = [],
    counters = [],
  }: { batch?: number; turns?: Turns; limits?: Limit[]; counters?: Counter[] } = {},
) {
  const result = plan(lines, pools, new Ledger(NOW, limits, counters), turns, batch);
  const order = result.picks.map((pick) => pick.ready as string).join(" ");
  const workers = result.picks.map((pick) => pick.worker as string).join(" ");
  return { ...result, order, workers };
}

describe("plan", () => {
  test("nothing waits, or nobody is there", () => {
    expect(planned([], [pool({ w: 5 })])).toMatchObject({ order: "", next: null, starved: false });
    expect(planned([line("x", 2)], [])).toMatchObject({ order: "", next: null, starved: true });
  });

  test("lanes take turns, so a long lane delays no short one", () => {
    expect(planned([line("x", 9), line("y", 2)], [pool({ w: 5 })]).order).toBe("x0 y0 x1 y1 x2");
  });

  test("the next pass begins behind the lane that had the last turn", () => {
    const lines = [line("x", 9), line("y", 2)];
    const first = planned(lines, [pool({ w: 1 })]);
    expect(first).toMatchObject({ order: "x0", next: behind(lines[0]!.lane) });
    const second = planned(lines, [pool({ w: 1 })], { turns: first.turns });
    expect(second).toMatchObject({ order: "y0", next: behind(lines[1]!.lane) });
    expect(planned(lines, [pool({ w: 1 })], { turns: second.turns }).order).toBe("x0");
  });

  test("never more than a worker has room for, nor more than the batch", () => {
    const full = planned([line("x", 9)], [pool({ v: 2, w: 1 })]);
    expect(full.workers.split(" ").sort()).toEqual(["v", "v", "w"]);
    expect(full.starved).toBe(true);
    expect(planned([line("x", 9)], [pool({ w: 9 })], { batch: 4 }).picks).toHaveLength(4);
  });

  test("work goes where there is most room", () => {
    expect(planned([line("x", 3)], [pool({ v: 1, w: 3 })]).workers).toBe("w w v");
  });

  test("a lane that nobody can run holds up no other", () => {
    const result = planned([line("x", 3, { queue: "gpu" }), line("y", 2)], [pool({ w: 5 })]);
    expect(result).toMatchObject({ order: "y0 y1", starved: true });
  });

  test("lanes that contend for one worker take turns, whatever lanes of other workers do in between", () => {
    const lines = [line("x", 9), line("y", 9), line("z", 9, { queue: "gpu" })];
    let turns: Turns = {};
    const seen = [];
    for (let pass = 0; pass < 4; pass++) {
      const result = planned(lines, [pool({ w: 1 }), pool({ g: 1 }, { queues: ["gpu"] })], { turns });
      turns = result.turns;
      seen.push(result.order);
    }
    expect(seen).toEqual(["x0 z0", "y0 z0", "x0 z0", "y0 z0"]);
  });
});

describe("weights", () => {
  const limits = [limit("tenant", "x", { weight: 3 })];

  test("a lane takes as many tasks in its turn as it weighs", () => {
    const result = planned([line("x", 9), line("y", 9)], [pool({ w: 9 })], { limits });
    expect(result.order).toBe("x0 x1 x2 y0 x3 x4 x5 y1 x6");
  });

  test("a turn that ends with the pass goes on in the next, and no further", () => {
    const lines = [line("x", 9), line("y", 9)];
    let turns: Turns = {};
    let served = "";
    for (let pass = 0; pass < 8; pass++) {
      const result = planned(lines, [pool({ w: 1 })], { limits, turns });
      turns = result.turns;
      served += result.order[0]!;
      expect(result.next).toBe(
        served.endsWith("xxx") || served.endsWith("y") ? behind(result.picks[0]!.lane) : lines[0]!.lane,
      );
    }
    expect(served).toBe("xxxyxxxy");
  });

  test("an empty lane loses the rest of its turn", () => {
    const turns: Turns = { "p{}": { lane: line("x", 0).lane, used: 1 } };
    expect(planned([line("y", 2)], [pool({ w: 1 })], { limits, turns }).order).toBe("y0");
  });

  test("a lane of which only a part was read keeps its turn for the next pass", () => {
    const result = planned([line("x", 1, { cut: true }), line("y", 9)], [pool({ w: 9 })], { limits });
    expect(result).toMatchObject({ order: "x0", next: line("x", 0).lane });
  });
});

describe("limits", () => {
  const in_use = (name: string, inUse: number): Counter => ({
    kind: "tenant",
    name,
    inUse,
    tokens: null,
    tokensAt: 0,
    restsAt: null,
  });

  test("no more start than a limit leaves room for, and the lane blocks no other", () => {
    const limits = [limit("tenant", "x", { limit: 3 })];
    const result = planned([line("x", 9), line("y", 2)], [pool({ w: 9 })], {
      limits,
      counters: [in_use("x", 1)],
    });
    expect(result).toMatchObject({ order: "x0 y0 x1 y1", starved: true, nextAt: null });
  });

  test("lanes that share a limit share it in turns", () => {
    const limits = [limit("queue", "default", { limit: 3 })];
    expect(planned([line("x", 9), line("y", 9)], [pool({ w: 9 })], { limits }).order).toBe("x0 y0 x1");
  });

  test("a paused or empty scope starts nothing, and nothing that ends would change that", () => {
    const limits = [limit("tenant", "x", { limit: 3, paused: true })];
    expect(planned([line("x", 1)], [pool({ w: 9 })], { limits })).toMatchObject({
      order: "",
      starved: false,
    });
  });

  test("a rate lets its tokens start, and tells when the next comes", () => {
    const limits = [limit("tenant", "x", { rate: { count: 1, perMs: 500, burst: 2 } })];
    const result = planned([line("x", 9)], [pool({ w: 9 })], { limits });
    expect(result).toMatchObject({ order: "x0 x1", starved: false, nextAt: NOW + 500 });
  });
});

describe("sticky", () => {
  const sticky = { tenant: "x", sticky: "k" };
  const task = (name: string, more = {}) => ({ ready: id<"ready">(name), sticky, ...more });

  test("the worker that ran the key last is preferred while it has room, though another has more", () => {
    const tasks = [1, 2, 3].map((i) => task(`t${i}`, { prefer: id<"workers">("v") }));
    expect(planned([line("x", 0, { tasks })], [pool({ v: 2, w: 9 })]).workers).toBe("v v w");
  });

  test("tasks of one key that start together go to one worker", () => {
    const tasks = [task("t1"), task("t2"), task("t3")];
    expect(planned([line("x", 0, { tasks })], [pool({ v: 4, w: 4 })]).workers).toBe("v v v");
  });

  test("a worker that cannot run it is no choice", () => {
    const tasks = [task("t1", { prefer: id<"workers">("g") })];
    const pools = [pool({ w: 1 }), pool({ g: 9 }, { queues: ["gpu"] })];
    expect(planned([line("x", 0, { tasks })], pools).workers).toBe("w");
  });
});

describe("canRun", () => {
  test.each([
    [{}, {}, true],
    [{ queues: ["other"] }, {}, false],
    [{ agents: [] }, {}, false],
    [{ agents: [] }, { kind: "llm" }, true], // any worker with a model can be any LLM agent
    [{ llm: false, agents: [] }, { kind: "llm" }, false],
    [{ llm: false }, { kind: "llm" }, true], // an endpoint plays the agents that it names
  ] as const)("worker %j, task %j: %j", (able, task, expected) => {
    expect(canRun(pool({ w: 1 }, able as Partial<Pool>), { ...line("x", 1), ...task })).toBe(expected);
  });
});
