import { describe, expect, test } from "vitest";
import type { Id } from "../_generated/dataModel";
import { canRun, plan, type Roster, type Waiting } from "./plan";

const id = <T extends "ready" | "workers" | "sessions">(text: string) => text as Id<T>;

function line(lane: string, length: number, more: Partial<Waiting> = {}): Waiting[] {
  return Array.from({ length }, (_, i) => ({
    _id: id<"ready">(`${lane}${i}`),
    lane,
    queue: "default",
    agent: "a",
    kind: "python" as const,
    labels: [],
    ...more,
  }));
}

function worker(name: string, free: number, more: Partial<Roster> = {}): Roster {
  return {
    worker: id<"workers">(name),
    session: id<"sessions">(name),
    queues: ["default"],
    agents: ["a"],
    labels: [],
    llm: true,
    free,
    ...more,
  };
}

const order = (result: ReturnType<typeof plan>) => result.picks.map((pick) => pick.ready as string);

describe("plan", () => {
  test("nothing waits, or nobody is there", () => {
    expect(plan([], [worker("w", 5)], 10)).toEqual({ picks: [], last: null, starved: false });
    expect(plan([line("x", 2)], [], 10)).toEqual({ picks: [], last: null, starved: true });
  });

  test("lanes take turns, so a long lane delays no short one", () => {
    expect(order(plan([line("x", 9), line("y", 2)], [worker("w", 5)], 10))).toEqual([
      "x0",
      "y0",
      "x1",
      "y1",
      "x2",
    ]);
  });

  test("the lane that had the last turn is told, so that the next pass begins behind it", () => {
    expect(plan([line("x", 9), line("y", 2)], [worker("w", 2)], 10).last).toBe("y");
    expect(plan([line("x", 9), line("y", 2)], [worker("w", 3)], 10).last).toBe("x");
  });

  test("never more than a worker has room for, nor more than the batch", () => {
    const full = plan([line("x", 9)], [worker("v", 2), worker("w", 1)], 10);
    expect(full.picks.map((pick) => pick.worker as string).sort()).toEqual(["v", "v", "w"]);
    expect(full.starved).toBe(true);
    expect(plan([line("x", 9)], [worker("w", 9)], 4)).toMatchObject({ picks: { length: 4 }, starved: false });
  });

  test("work goes where there is most room", () => {
    expect(
      plan([line("x", 3)], [worker("v", 1), worker("w", 3)], 10).picks.map((pick) => pick.worker),
    ).toEqual(["w", "w", "v"]);
  });

  test("a lane that nobody can run holds up no other", () => {
    const result = plan([line("x", 3, { queue: "gpu" }), line("y", 2)], [worker("w", 5)], 10);
    expect(order(result)).toEqual(["y0", "y1"]);
    expect(result.starved).toBe(true);
  });
});

describe("canRun", () => {
  test.each([
    [{}, {}, true],
    [{ queues: ["other"] }, {}, false],
    [{ agents: [] }, {}, false],
    [{ agents: [] }, { kind: "llm" }, true], // any worker with a model can be any LLM agent
    [{ llm: false }, { kind: "llm" }, false],
  ] as const)("worker %j, task %j: %j", (able, task, expected) => {
    expect(canRun(worker("w", 1, able as Partial<Roster>), { ...line("x", 1)[0]!, ...task })).toBe(expected);
  });
});
