import { describe, expect, test } from "vitest";
import type { AfterMode, OnFailure, TaskStatus } from "../validators";
import { arrange, standing, type Standing } from "./after";

const spec = (ref: string | undefined, ...on: string[]) => ({
  ...(ref === undefined ? {} : { ref }),
  after: on.map((task) => ({ on: task })),
});

describe("arrange", () => {
  test("each comes behind those that it waits for, in the order given wherever that is free", () => {
    expect(arrange([spec("a"), spec("b", "#a"), spec("c", "#a"), spec("d", "#b", "#c")]).order).toEqual([
      0, 1, 2, 3,
    ]);
    expect(arrange([spec("d", "#b", "#c"), spec("c", "#a"), spec("b", "#a"), spec("a")]).order).toEqual([
      3, 1, 2, 0,
    ]);
    expect(arrange([{}, {}, {}]).order).toEqual([0, 1, 2]);
  });

  test("a circle is refused with its members named, and so is what comes behind it", () => {
    const { order, refused } = arrange([
      spec("a", "#b"),
      spec("b", "#c"),
      spec("c", "#a"),
      spec("d", "#a"),
      spec("e"),
    ]);
    expect(order).toEqual([4]);
    expect(refused.get(0)).toEqual({
      field: "after",
      why: "it waits for itself: #a waits for #b waits for #c waits for #a",
    });
    expect(refused.get(3)!.why).toBe("it waits for itself: #a waits for #b waits for #c waits for #a");
    expect([...refused.keys()].sort()).toEqual([0, 1, 2, 3]);
  });

  test.each([
    ["itself", [spec("a", "#a")], { field: "after[0].on", why: "a task cannot wait for itself" }],
    ["nobody", [spec("a", "x", "#b")], { field: "after[1].on", why: 'no task of this call has the ref "b"' }],
    ["a ref of two", [spec("b"), spec("b")], { field: "ref", why: '"b" is given twice in this call' }],
  ])("a task that waits for %s is refused alone", (_, specs, reason) => {
    const { order, refused } = arrange([{}, ...specs]);
    expect([...refused.values()]).toEqual([reason]);
    expect(order).toHaveLength(specs.length);
    expect(order).toContain(0);
  });

  test("another task by its id is not looked for among the refs", () => {
    expect(arrange([spec("a", "b"), spec("b")])).toMatchObject({ order: [0, 1], refused: new Map() });
  });
});

describe("standing", () => {
  type Given = [OnFailure, TaskStatus | null][];
  const of = (mode: AfterMode, edges: Given): Standing =>
    standing(
      mode,
      edges.map(([onFailure, status]) => ({ onFailure, status })),
    );

  test.each<[Given, Standing]>([
    [[], { now: "run" }],
    [[["fail", null]], { now: "wait", open: 1 }],
    [
      [
        ["fail", "succeeded"],
        ["fail", null],
      ],
      { now: "wait", open: 1 },
    ],
    [
      [
        ["fail", "succeeded"],
        ["fail", "succeeded"],
      ],
      { now: "run" },
    ],
    [
      [
        ["run", "failed"],
        ["fail", "succeeded"],
      ],
      { now: "run" },
    ],
    [
      [
        ["run", "failed"],
        ["run", "cancelled"],
        ["run", "skipped"],
      ],
      { now: "run" },
    ],
    [
      [
        ["fail", null],
        ["fail", "failed"],
      ],
      { now: "fail", because: 1 },
    ], // at once
    [
      [
        ["skip", "cancelled"],
        ["fail", null],
      ],
      { now: "skip", because: 0 },
    ],
    [
      [
        ["skip", "failed"],
        ["fail", "skipped"],
      ],
      { now: "fail", because: 1 },
    ],
    [
      [
        ["run", "failed"],
        ["skip", "failed"],
      ],
      { now: "skip", because: 1 },
    ],
  ])("all: %j is %j", (edges, expected) => expect(of("all", edges)).toEqual(expected));

  test.each<[Given, Standing]>([
    [[], { now: "run" }],
    [
      [
        ["fail", "failed"],
        ["fail", null],
      ],
      { now: "wait", open: 1 },
    ],
    [
      [
        ["fail", "succeeded"],
        ["fail", null],
      ],
      { now: "run" },
    ],
    [
      [
        ["run", "failed"],
        ["fail", null],
      ],
      { now: "wait", open: 1 },
    ], // a success may still come
    [
      [
        ["run", "failed"],
        ["fail", "failed"],
      ],
      { now: "run" },
    ],
    [
      [
        ["fail", "failed"],
        ["skip", "failed"],
      ],
      { now: "skip", because: 1 },
    ],
    [
      [
        ["fail", "skipped"],
        ["fail", "cancelled"],
      ],
      { now: "fail", because: 0 },
    ],
  ])("any: %j is %j", (edges, expected) => expect(of("any", edges)).toEqual(expected));
});
