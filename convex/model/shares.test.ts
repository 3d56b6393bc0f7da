import { describe, expect, test } from "vitest";
import { divide, gone, heard, NEW_HOLDER, released, type Holder, type Limits } from "./shares";

const holder = (over: Partial<Holder> = {}): Holder => ({
  ...NEW_HOLDER,
  heldRequests: over.requests ?? 0,
  heldTokens: over.tokens ?? 0,
  ...over,
});
const waiting = (over: Partial<Holder> = {}) => holder({ waiting: true, wantedAt: 100_000, ...over });
const LIMITS: Limits = { requests: 10, tokens: 1_000, perMs: 60_000 };
const NOBODY = { requests: 0, tokens: 0 };
const shares = (holders: Holder[]) => holders.map(({ requests, tokens }) => [requests, tokens]);
const split = (holders: Holder[], elsewhere = NOBODY, limits = LIMITS) =>
  divide(holders, elsewhere, limits, 100_000, 60_000);

describe("the division of a limit", () => {
  test("gives all of it to the only one that asks", () => {
    expect(shares(split([waiting(), holder()]))).toEqual([
      [10, 1_000],
      [0, 0],
    ]);
  });

  test("gives equal parts to all that ask at once, and the rest of the division to the first", () => {
    expect(shares(split([waiting(), waiting(), waiting()]))).toEqual([
      [4, 334],
      [3, 333],
      [3, 333],
    ]);
  });

  test("takes from one, and gives to another only what can count no more", () => {
    const [a, b] = split([holder({ requests: 10, tokens: 1_000, wantedAt: 99_000 }), waiting()]) as [
      Holder,
      Holder,
    ];
    expect(shares([a, b])).toEqual([
      [5, 500],
      [0, 0],
    ]);
    const told = { usedRequests: 8, usedTokens: 100, waiting: 0, leastTokens: 0 };
    expect(heard(a, { ...told, rev: a.rev - 1 }, 60_000, 100_000).heldRequests).toBe(10); // it obeys the old one still
    const obeys = heard(a, { ...told, rev: a.rev }, 60_000, 100_000);
    expect([obeys.heldRequests, obeys.heldTokens, obeys.heldUntil]).toEqual([8, 500, 160_000]);
    expect(shares(split([obeys, b]))).toEqual([
      [5, 500],
      [2, 500],
    ]);
    const later = released(obeys, 160_000);
    expect(shares(divide([later, b], NOBODY, LIMITS, 160_000, 60_000))).toEqual([
      [0, 0], // it has asked for nothing for a minute
      [5, 500],
    ]);
  });

  test("waits for as long as the limit's time for what one that has gone may have used", () => {
    const left = gone(holder({ requests: 10, tokens: 1_000 }), 60_000, 1_000);
    expect([left.requests, left.heldRequests, left.heldUntil]).toEqual([0, 10, 61_000]);
    expect(gone(left, 60_000, 5_000)).toEqual(left);
    const elsewhere = { requests: left.heldRequests, tokens: left.heldTokens };
    expect(shares(split([waiting()], elsewhere))).toEqual([[0, 0]]);
    expect(shares(split([waiting()]))).toEqual([[10, 1_000]]);
  });

  test("makes parts large enough for the largest call, for as many as that allows", () => {
    const parts = split([waiting({ least: 400 }), waiting({ least: 100 }), waiting({ least: 100 })]);
    expect(shares(parts)).toEqual([
      [5, 500],
      [5, 500],
      [0, 0],
    ]);
    expect(shares(split([waiting({ least: 5_000 }), waiting()]))).toEqual([
      [10, 1_000],
      [0, 0],
    ]);
  });

  test("leaves alone what is not limited", () => {
    const limits = { requests: null, tokens: 100, perMs: 1 };
    expect(shares(split([waiting(), waiting()], NOBODY, limits))).toEqual([
      [0, 50],
      [0, 50],
    ]);
  });

  test("changes nothing while nobody waits, and follows a limit that is lowered", () => {
    const both = [holder({ requests: 8, tokens: 10 }), holder({ requests: 2, tokens: 10 })];
    expect(split(both)).toEqual(both);
    const lowered = split(both, NOBODY, { ...LIMITS, requests: 4 });
    expect(lowered.map((h) => h.requests)).toEqual([2, 2]);
  });
});

/** A small generator of chance, so that a failure can be seen again. */
function chance(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

// Workers that keep to the share they know of, hear of a change late, and come and go: what the provider sees in any window
// never passes the limit.
test.each([1, 2, 3, 4, 5, 6, 7, 8])("no window ever sees more than the limit (%i)", (seed) => {
  const draw = chance(seed);
  const [limit, perMs] = [1 + Math.floor(draw() * 12), 1_000];
  const limits: Limits = { requests: limit, tokens: null, perMs };
  type Worker = { row: Holder; live: boolean; knows: { requests: number; rev: number }; sent: number[] };
  const workers: Worker[] = [];
  const all: number[] = [];
  let most = 0;
  for (let now = 0; now < 15_000; now += 1 + Math.floor(draw() * 40)) {
    if (workers.filter(({ live }) => live).length < 4 && draw() < 0.2) {
      workers.push({ row: NEW_HOLDER, live: true, knows: { requests: 0, rev: 0 }, sent: [] });
    }
    const worker = workers[Math.floor(draw() * workers.length)];
    if (worker?.live === true) {
      const used = () => worker.sent.filter((at) => at > now - perMs).length;
      const event = draw();
      if (event < 0.6) {
        if (used() < worker.knows.requests) {
          worker.sent.push(now);
          all.push(now);
        }
      } else if (event < 0.8) worker.knows = { requests: worker.row.requests, rev: worker.row.rev };
      else if (event < 0.98) {
        const told = { rev: worker.knows.rev, usedRequests: used(), usedTokens: 0 };
        worker.row = heard(
          worker.row,
          { ...told, waiting: draw() < 0.5 ? 1 : 0, leastTokens: 0 },
          perMs,
          now,
        );
      } else {
        worker.live = false;
        worker.row = gone(worker.row, perMs, now);
      }
    }
    for (const each of workers) each.row = released(each.row, now);
    const live = workers.filter((each) => each.live);
    const elsewhere = workers
      .filter((each) => !each.live)
      .reduce((sum, { row }) => sum + row.heldRequests, 0);
    const rows = divide(
      live.map(({ row }) => row),
      { requests: elsewhere, tokens: 0 },
      limits,
      now,
      perMs,
    );
    live.forEach((each, i) => (each.row = rows[i]!));
    expect(workers.reduce((sum, { row }) => sum + row.heldRequests, 0)).toBeLessThanOrEqual(limit);
    most = Math.max(most, all.filter((at) => at > now - perMs).length);
    expect(most).toBeLessThanOrEqual(limit);
  }
  expect(most).toBeGreaterThan(0);
});
