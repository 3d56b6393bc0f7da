import { describe, expect, test } from "vitest";
import {
  countFor,
  idOf,
  Ledger,
  nextTokenAt,
  precedes,
  refill,
  scopesOf,
  type Bucket,
  type Counter,
  type Limit,
} from "./limits";
import type { Rate } from "../limit.validators";
import { laneOf } from "./waiting";

const NOW = 1_000_000;
const lane = (more: Partial<Parameters<typeof laneOf>[0]> = {}) =>
  laneOf({ queue: "q", agent: "a", labels: [], tenant: "t", key: null, ...more });

const rule = (kind: Limit["kind"], name: string, more: Partial<Limit> = {}): Limit => ({
  kind,
  name,
  limit: null,
  rate: null,
  weight: null,
  paused: false,
  uncounted: null,
  ...more,
});

const counter = (kind: Counter["kind"], name: string, more: Partial<Counter> = {}): Counter => ({
  kind,
  name,
  inUse: 0,
  tokens: null,
  tokensAt: 0,
  restsAt: null,
  ...more,
});

describe("scopesOf", () => {
  test.each([
    [lane(), ["system ", "queue q", "agent a", "tenant t", "lane q/a//t/"]],
    [
      lane({ labels: ["gpu", "x"], key: "a/b//c" }),
      ["system ", "queue q", "agent a", "tenant t", "key a/b//c", "lane q/a/gpu,x/t/a/b//c"],
    ],
  ])("%s", (text, expected) => {
    expect(scopesOf(text).map(idOf)).toEqual(expected);
  });
});

describe("the token bucket", () => {
  const rate: Rate = { count: 2, perMs: 1_000, burst: 3 };
  test.each([
    ["fills steadily", { tokens: 0, tokensAt: NOW }, 250, 0.5],
    ["up to its burst", { tokens: 0, tokensAt: NOW }, 60_000, 3],
    ["and takes nothing away when the clock goes back", { tokens: 1, tokensAt: NOW }, -500, 1],
  ])("%s", (_, bucket: Bucket, after, tokens) => {
    expect(refill(bucket, rate, NOW + after).tokens).toBeCloseTo(tokens, 9);
  });

  test.each([
    [3, 0],
    [1, 0],
    [0.5, 250],
    [0, 500],
    [-1, 1_000],
    [1 - 1e-10, 0], // rounding
    [0.9999, 1], // a whole millisecond
  ])("with %d tokens the next is there in %d ms", (tokens, after) => {
    expect(nextTokenAt({ tokens, tokensAt: NOW }, rate, NOW) - NOW).toBe(after);
  });

  test("never starts more than its burst and what time brings, in any window, and wastes no token", () => {
    for (const [count, perMs, burst] of [
      [1, 1, 1],
      [1, 7, 1],
      [3, 1_000, 1],
      [7, 333, 5],
      [1_000, 1_000, 10],
      [1, 86_400_000, 2],
    ] as const) {
      const rate = { count, perMs, burst };
      const starts: number[] = [];
      let now = NOW;
      let counters: Counter[] = [];
      for (let i = 0; i < 400; i++) {
        const ledger = new Ledger(now, [rule("queue", "q", { rate })], counters);
        const [block] = ledger.blocks(lane());
        if (block === undefined) {
          ledger.take(lane());
          starts.push(now);
          counters = ledger.changed().flatMap((change) => change.counter ?? []);
        } else if (block.code === "rate") {
          expect(block.at).toBeGreaterThan(now);
          now = i % 3 === 0 ? block.at : Math.min(block.at, now + 1 + (i % 5));
        }
      }
      for (let i = 0; i < starts.length; i++) {
        for (let j = i; j < starts.length; j += 7) {
          const brought = ((starts[j]! - starts[i]!) * count) / perMs;
          expect(j - i + 1).toBeLessThanOrEqual(burst + brought + 1e-6);
        }
      }
      const last = starts.at(-1)!;
      expect(starts.length).toBeGreaterThanOrEqual(
        Math.floor(burst + ((last - NOW) * count) / perMs - 1e-6) - 1,
      );
    }
  });
});

describe("the ledger", () => {
  test("holds a lane to every scope of it, the widest first", () => {
    const limits = [
      rule("lane", lane(), { limit: 5 }),
      rule("tenant", "t", { paused: true, limit: 1 }),
      rule("queue", "q", { limit: 2 }),
      rule("queue", "other", { limit: 0 }),
    ];
    const counters = [counter("queue", "q", { inUse: 2 }), counter("tenant", "t", { inUse: 1 })];
    const ledger = new Ledger(NOW, limits, counters);
    expect(ledger.blocks(lane())).toEqual([
      { code: "limit", scope: { kind: "queue", name: "q" }, inUse: 2, limit: 2 },
      {
        code: "paused",
        scope: { kind: "tenant", name: "t" },
        by: [{ kind: "tenant", name: "t" }],
        zero: false,
      },
    ]);
    ledger.release(lane(), 1);
    expect(ledger.blocks(lane()).map(({ code }) => code)).toEqual(["paused"]);
  });

  test("tells a pause from a limit of 0, and a scope's own from the default", () => {
    const scope = { kind: "key", name: "k" } as const;
    const held = (...limits: Limit[]) => new Ledger(NOW, limits, []).blocks(lane({ key: "k" }));
    expect(held(rule("key", "k", { limit: 0 }))).toEqual([{ code: "paused", scope, by: [], zero: true }]);
    expect(held(rule("key", "*", { paused: true }), rule("key", "k", { limit: 0, paused: true }))).toEqual([
      { code: "paused", scope, by: [scope, { kind: "key", name: "*" }], zero: true },
    ]);
    expect(held(rule("key", "*", { limit: 0 }), rule("key", "k", { limit: 1 }))).toEqual([]);
  });

  test("takes a name's own rule field by field before the default", () => {
    const rate = { count: 1, perMs: 1, burst: 1 };
    const limits = [rule("key", "*", { limit: 1, rate, weight: 2 }), rule("key", "k", { limit: 2 })];
    const ledger = new Ledger(NOW, limits);
    const mine = lane({ key: "k" });
    expect(ledger.weight(mine)).toBe(2);
    ledger.take(mine);
    expect(ledger.blocks(mine).map(({ code }) => code)).toEqual(["rate"]);
    ledger.take(mine);
    expect(ledger.blocks(mine).map(({ code }) => code)).toEqual(["limit", "rate"]);
    expect(ledger.blocks(lane())).toEqual([]);
  });

  test("says that a scope is counted until it is", () => {
    const counting = (uncounted: string | null) =>
      new Ledger(NOW, [rule("key", "*", { limit: 5, uncounted })])
        .blocks(lane({ key: "k" }))
        .map(({ code }) => code);
    expect(counting("")).toEqual(["counting"]);
    expect(counting("k")).toEqual(["counting"]);
    expect(counting("l")).toEqual([]);
    expect(counting(null)).toEqual([]);
  });

  test("multiplies weights up to their bound", () => {
    const limits = [rule("queue", "q", { weight: 3 }), rule("tenant", "t", { weight: 4 })];
    expect(new Ledger(NOW, limits).weight(lane())).toBe(12);
    expect(new Ledger(NOW, [...limits, rule("agent", "a", { weight: 100 })]).weight(lane())).toBe(100);
  });

  test("writes what changed alone, and nothing for a scope at rest", () => {
    const limits = [rule("queue", "q", { limit: 5 }), rule("tenant", "t", { weight: 2 })];
    const ledger = new Ledger(NOW, limits, [counter("queue", "q", { inUse: 1 })]);
    expect(ledger.changed()).toEqual([]);
    ledger.take(lane());
    expect(ledger.changed()).toMatchObject([{ counter: { kind: "queue", name: "q", inUse: 2 } }]);
    ledger.release(lane(), 1);
    ledger.release(lane(), 1);
    expect(ledger.changed()).toEqual([{ scope: { kind: "queue", name: "q" }, counter: null }]);
  });

  test("gives back what a start that failed had taken", () => {
    const rate = { count: 1, perMs: 60_000, burst: 1 };
    const ledger = new Ledger(NOW, [rule("queue", "q", { limit: 1, rate })]);
    ledger.take(lane());
    expect(ledger.blocks(lane())).toHaveLength(2);
    ledger.putBack(lane());
    expect(ledger.blocks(lane())).toEqual([]);
  });
});

describe("precedes", () => {
  test("is the order of an index: by code points", () => {
    const names = ["", "a", "a\u0000", "ab", "b", "\ue000", "\uffee", "\u{1f600}"];
    for (const [i, a] of names.entries())
      for (const [j, b] of names.entries()) expect(precedes(a, b), `${i} ${j}`).toBe(i < j);
  });
});

describe("countFor", () => {
  const lanes = ["a", "b", "c", "c"].map((key, i) => [lane({ key, tenant: `t${i}` }), 2] as const);
  test.each([
    ["a name", { name: "c", uncounted: "" }, [], 9, [["c", 4]], null],
    ["a name that has none", { name: "x", uncounted: "" }, [], 9, [["x", 0]], null],
    [
      "a default",
      { name: "*", uncounted: "" },
      ["0", "b"],
      9,
      [
        ["0", 0],
        ["a", 2],
        ["b", 2],
        ["c", 4],
      ],
      null,
    ],
    [
      "its first page",
      { name: "*", uncounted: "" },
      ["0"],
      2,
      [
        ["0", 0],
        ["a", 2],
      ],
      "b",
    ],
    [
      "its second",
      { name: "*", uncounted: "b" },
      [],
      2,
      [
        ["b", 2],
        ["c", 4],
      ],
      null,
    ],
    ["no key", { name: "*", uncounted: "d" }, [], 2, [], null],
  ] as const)("counts %s", (_, { name, uncounted }, known, names, counts, rest) => {
    const found = countFor({ kind: "key", name, uncounted }, lanes, known, names);
    expect([...found.counts]).toEqual(counts);
    expect(found.uncounted).toBe(rest);
  });
});
