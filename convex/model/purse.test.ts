import { describe, expect, test } from "vitest";
import type { Amounts, Caps } from "../budget.validators";
import {
  finalSpend,
  isDegraded,
  NOTHING,
  roomFor,
  sliceOf,
  spentUnit,
  start,
  top,
  UNBOUND,
  unpricedOf,
} from "./purse";
import type { Balance } from "./purse";

const caps = (more: Partial<Caps>): Caps => ({ ...UNBOUND, ...more });
const some = (more: Partial<Amounts>): Amounts => ({ ...NOTHING, ...more });

function balance(of: Partial<Caps>, more: Partial<Balance> = {}): Balance {
  const still: Balance = {
    ...{ caps: caps(of), onBreach: "stop", unpriced: null },
    ...{ spent: NOTHING, held: NOTHING, paused: false },
  };
  return { ...still, ...more };
}

describe("a run that begins", () => {
  test("is given a thirty-second of the budget, and at most so much", () => {
    expect(start([balance({ micros: 3_200, calls: 1_000_000 })])).toEqual({
      kind: "granted",
      more: caps({ micros: 100, calls: 8 }),
    });
  });

  test("is given what is left if that is less", () => {
    const left = balance({ tokens: 320 }, { spent: some({ tokens: 300 }), held: some({ tokens: 15 }) });
    expect(start([left])).toEqual({ kind: "granted", more: caps({ tokens: 5 }) });
  });

  test.each([
    ["micros", 99, 100],
    ["tokens", 99, 100],
    ["calls", 99, 100],
    ["ms", 99, 100],
  ] as const)("begins with %s one below the limit and not at it", (unit, below, at) => {
    expect(start([balance({ [unit]: at }, { spent: some({ [unit]: below }) })])).toMatchObject({
      kind: "granted",
    });
    expect(start([balance({ [unit]: at }, { spent: some({ [unit]: at }) })])).toEqual({
      kind: "spent",
      at: 0,
    });
    expect(start([balance({ [unit]: at }, { spent: some({ [unit]: at + 1 }) })])).toEqual({
      kind: "spent",
      at: 0,
    });
  });

  test("waits while others hold what is left", () => {
    const held = balance({ calls: 2 }, { spent: some({ calls: 1 }), held: some({ calls: 1 }) });
    expect(start([balance({ calls: 9 }), held])).toEqual({ kind: "wait", at: 1 });
  });

  test("is given the least of all that it spends from", () => {
    const { more } = start([balance({ calls: 320 }), balance({ calls: 64, ms: 32_000 })]) as { more: Caps };
    expect(more).toEqual(caps({ calls: 2, ms: 1_000 }));
  });

  test("does not begin in a paused scope", () => {
    expect(start([balance({ calls: 9 }, { paused: true })])).toEqual({ kind: "spent", at: 0 });
  });
});

describe("a run that needs more", () => {
  test("is given what it needs if that is more than a slice", () => {
    expect(top([balance({ micros: 3_200 })], some({ micros: 500 }))).toEqual({
      kind: "granted",
      more: caps({ micros: 500 }),
    });
  });

  test("passes a budget by one call when nobody holds anything", () => {
    const nearly = balance({ micros: 1_000 }, { spent: some({ micros: 999 }) });
    expect(top([nearly], some({ micros: 500 }))).toEqual({ kind: "granted", more: caps({ micros: 500 }) });
  });

  test("waits for what others hold before it passes a budget", () => {
    const nearly = balance({ micros: 1_000 }, { spent: some({ micros: 900 }), held: some({ micros: 1 }) });
    expect(top([nearly], some({ micros: 99 }))).toMatchObject({ kind: "granted" });
    expect(top([nearly], some({ micros: 100 }))).toEqual({ kind: "wait", at: 0 });
  });

  test("is refused by a spent budget before it waits for another", () => {
    const full = balance({ calls: 1 }, { held: some({ calls: 1 }) });
    const over = balance({ calls: 1 }, { spent: some({ calls: 1 }) });
    expect(top([full, over], some({ calls: 1 }))).toEqual({ kind: "spent", at: 1 });
  });

  test.each(["warn", "degrade"] as const)("goes on beyond a budget that says %s", (onBreach) => {
    const over = balance({ calls: 32 }, { spent: some({ calls: 40 }), onBreach });
    expect(top([over], some({ calls: 1 }))).toEqual({ kind: "granted", more: caps({ calls: 1 }) });
    expect(isDegraded([over])).toBe(onBreach === "degrade");
    expect(roomFor(over)).toBe(Infinity);
  });
});

describe("small things", () => {
  test("a slice is at least one", () => {
    expect(sliceOf(caps({ calls: 1, tokens: 0 }))).toEqual(caps({ calls: 1, tokens: 1 }));
  });

  test("the unit that is spent is told", () => {
    expect(spentUnit(balance({ calls: 5, ms: 7 }, { spent: some({ calls: 4, ms: 7 }) }))).toBe("ms");
    expect(spentUnit(balance({ calls: 5 }, { spent: some({ micros: 99 }) }))).toBeNull();
  });

  test("a model without a price is refused unless every budget in money states one", () => {
    expect(
      unpricedOf([balance({ micros: 5 }, { unpriced: 2 }), balance({ micros: 5 }, { unpriced: 3 })]),
    ).toBe(3);
    expect(unpricedOf([balance({ micros: 5 }, { unpriced: 2 }), balance({ micros: 5 })])).toBeNull();
    expect(unpricedOf([balance({ calls: 5 })])).toBe(0);
  });

  test("of a worker that died, what was under way counts as spent", () => {
    const told = { spent: some({ micros: 5, calls: 1 }), reserved: some({ micros: 7, calls: 1 }) };
    expect(finalSpend(told, true, 30)).toEqual({ micros: 12, tokens: 0, calls: 2, ms: 30 });
    expect(finalSpend(told, false, 30)).toEqual({ micros: 5, tokens: 0, calls: 1, ms: 30 });
    expect(finalSpend(null, true, 30)).toEqual({ ...NOTHING, ms: 30 });
  });
});

/** What nobody may break, whatever the order: runs that begin, ask, spend and end at random. */
describe("many runs on one tree", () => {
  test.each(Array.from({ length: 40 }, (_, seed) => seed))(
    "spend no more than it has and one call: seed %i",
    (seed) => {
      let state = seed * 7_919 + 1;
      const draw = (n: number) => (state = (state * 48_271) % 2_147_483_647) % n;
      const cap = 500 + draw(3_000);
      const tree = [
        { cap, spent: 0, held: 0 },
        { cap: cap + draw(2_000), spent: 0, held: 0 },
      ];
      const view = () =>
        tree.map((node) =>
          balance(
            { micros: node.cap },
            { spent: some({ micros: node.spent }), held: some({ micros: node.held }) },
          ),
        );
      const hold = (more: number) => tree.forEach((node) => (node.held += more));
      const runs: { left: number; under: number }[] = [];
      const largest = 200;
      for (let turn = 0; turn < 2_000; turn++) {
        const run = runs[draw(Math.max(1, runs.length))];
        const what = draw(5);
        if (what === 0 && runs.length < 50) {
          const found = start(view());
          if (found.kind === "granted") {
            runs.push({ left: found.more.micros!, under: 0 });
            hold(found.more.micros!);
          }
        } else if (run === undefined) continue;
        else if (what === 1 && run.under === 0) {
          const need = 1 + draw(largest);
          if (need > run.left) {
            hold(-run.left); // a wish gives back what is not reserved
            run.left = 0;
            const found = top(view(), some({ micros: need }));
            if (found.kind !== "granted") continue;
            run.left = found.more.micros!;
            hold(run.left);
          }
          run.under = need;
          run.left -= need;
        } else if (what < 4 && run.under > 0) {
          const cost = draw(run.under + 1);
          tree.forEach((node) => ((node.spent += cost), (node.held -= cost)));
          run.left += run.under - cost;
          run.under = 0;
        } else if (what === 4) {
          tree.forEach((node) => ((node.spent += run.under), (node.held -= run.under))); // it may have died
          hold(-run.left);
          runs.splice(runs.indexOf(run), 1);
        }
        for (const node of tree) {
          expect(node.held).toBeGreaterThanOrEqual(0);
          expect(node.held).toBe(runs.reduce((sum, { left, under }) => sum + left + under, 0));
        }
        expect(tree[0]!.spent).toBeLessThanOrEqual(tree[0]!.cap + largest);
        expect(tree[0]!.spent + tree[0]!.held).toBeLessThanOrEqual(tree[0]!.cap + largest);
      }
    },
  );
});
