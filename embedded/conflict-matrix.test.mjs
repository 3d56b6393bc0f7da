import { describe, expect, test } from "vitest";
import { conflictMatrix } from "./conflict-matrix.mjs";
import { Random } from "./engine/random-values.mjs";

const INDEXES = { 1: "tasks.by_status", 2: "tasks.by_owner", "-3": "tasks.by_id" };

/** A run: what it read as [index, low, high] and ids, what it wrote as [index, key] and ids. */
function run(path, arrived, { ranges = [], ids = [], keys = [], documents = [], touched = 0 } = {}) {
  const written = documents.map((id) => ["tasks", id]);
  return { path, scheduled: false, arrived, ts: "0", ranges, ids, keys, documents: written, touched };
}
const matrix = (records, windowMs = 50) =>
  conflictMatrix({ records, dropped: 0, indexes: INDEXES, tables: {} }, windowMs);
const pairs = async (records, windowMs) =>
  (await matrix(records, windowMs)).pairs.map(({ mutation, by, conflicts, over }) => [
    mutation,
    by,
    conflicts,
    over[0].index,
  ]);

const writer = (arrived, key = "b") => run("w", arrived, { keys: [[1, key]], documents: ["d"] });
const reader = (arrived, low = "a", high = "c") =>
  run("r", arrived, { ranges: [[1, low, high]], documents: ["e"] });

describe("a run is invalid", () => {
  test.each([
    [
      "if one before it wrote into a range that it read",
      [writer(0), reader(10)],
      [["r", "w", 1, "tasks.by_status"]],
    ],
    ["also at the low end of the range", [writer(0, "a"), reader(10)], [["r", "w", 1, "tasks.by_status"]]],
    ["not at its high end", [writer(0, "c"), reader(10)], []],
    ["not below it", [writer(0, "A"), reader(10)], []],
    ["in a range without end", [writer(0, "zzz"), reader(10, "a", null)], [["r", "w", 1, "tasks.by_status"]]],
    ["not by one that came after it", [reader(0), writer(10)], []],
    ["one ms inside of the window", [writer(0), reader(49)], [["r", "w", 1, "tasks.by_status"]]],
    ["not at the window's end", [writer(0), reader(50)], []],
    [
      "by one that came at the same moment and ran before it",
      [writer(7), reader(7)],
      [["r", "w", 1, "tasks.by_status"]],
    ],
    ["not if it wrote nothing itself", [writer(0), run("r", 1, { ranges: [[1, "a", "c"]] })], []],
    ["not by a write in another index", [run("w", 0, { keys: [[2, "b"]], documents: ["d"] }), reader(1)], []],
    [
      "by a write of a document that it looked up",
      [
        run("w", 0, { keys: [[1, "b"]], documents: ["x", "d"] }),
        run("r", 1, { ids: ["d"], documents: ["e"] }),
      ],
      [["r", "w", 1, "tasks.by_id"]],
    ],
    [
      "not by a write of another document",
      [run("w", 0, { documents: ["d"] }), run("r", 1, { ids: ["e"], documents: ["e"] })],
      [],
    ],
    [
      "by its own kind",
      [run("r", 0, { keys: [[1, "b"]], documents: ["e"] }), reader(1)],
      [["r", "r", 1, "tasks.by_status"]],
    ],
  ])("%s", async (_, records, expected) => {
    expect(await pairs(records)).toEqual(expected);
  });

  test("once for each mutation that made it so, however often", async () => {
    const other = run("v", 3, { keys: [[1, "b"]], documents: ["d"] });
    expect(await pairs([writer(0), writer(1), other, reader(10)])).toEqual([
      ["r", "v", 1, "tasks.by_status"],
      ["r", "w", 1, "tasks.by_status"],
    ]);
    const { mutations } = await matrix([writer(0), writer(1), other, reader(10)]);
    expect(mutations.find(({ path }) => path === "r")).toMatchObject({ runs: 1, conflicts: 1, share: 1 });
  });
});

test("shares are of all runs, and the worst comes first", async () => {
  const records = [
    writer(0),
    reader(1),
    reader(2),
    reader(1000),
    writer(1000),
    run("n", 1001, { ids: ["e"], documents: ["n"], touched: 4 }),
  ];
  const { pairs: worst, mutations, runs, windowMs } = await matrix(records);
  expect({ runs, windowMs }).toEqual({ runs: 6, windowMs: 50 });
  expect(worst).toEqual([
    {
      mutation: "r",
      by: "w",
      conflicts: 2,
      share: 2 / 3,
      over: [{ index: "tasks.by_status", conflicts: 2 }],
    },
    { mutation: "n", by: "r", conflicts: 1, share: 1, over: [{ index: "tasks.by_id", conflicts: 1 }] },
  ]);
  expect(
    mutations.map(({ path, conflicts, maxSubscriptions }) => [path, conflicts, maxSubscriptions]),
  ).toEqual([
    ["r", 2, 0],
    ["n", 1, 4],
    ["w", 0, 0],
  ]);
});

test("a long computation lets others work in between", async () => {
  const hot = Array.from({ length: 3000 }, (_, i) => reader(i / 1000));
  let pauses = 0;
  const all = hot.map((record, i) => (i % 2 === 0 ? record : { ...writer(i / 1000), path: `w${i}` }));
  await conflictMatrix({ records: all, dropped: 0, indexes: INDEXES }, 50, async () => void (pauses += 1));
  expect(pauses).toBeGreaterThan(0);
});

/* ---- properties, on random workloads ---- */

function randomWorkload(random) {
  const key = () => String.fromCharCode(97 + random.below(6)) + (random.below(2) === 0 ? "" : "x");
  let arrived = 0;
  return Array.from({ length: 60 }, () => {
    arrived += random.below(20);
    const ranges = [1, 2].flatMap((index) => {
      const [low, high] = [key(), key()].sort();
      return random.below(2) === 0 || low === high ? [] : [[index, low, random.below(5) === 0 ? null : high]];
    });
    return run(`m${random.below(5)}`, arrived, {
      ranges,
      ids: random.below(3) === 0 ? [`d${random.below(8)}`] : [],
      keys: random.list(3, () => [1 + random.below(2), key()]),
      documents: random.list(2, () => `d${random.below(8)}`),
    });
  });
}

/** The definition, word by word. */
function slowly(records, windowMs) {
  const found = new Map();
  for (const [i, a] of records.entries()) {
    const paths = new Set();
    for (const b of records.slice(0, i)) {
      const overlaps = a.arrived - b.arrived < windowMs;
      const inRange = b.keys.some(([index, key]) =>
        a.ranges.some(([at, low, high]) => at === index && key >= low && (high === null || key < high)),
      );
      const byId = b.documents.some(([, id]) => a.ids.includes(id));
      if (a.documents.length > 0 && overlaps && (inRange || byId)) paths.add(b.path);
    }
    for (const path of paths) found.set(`${a.path} ${path}`, (found.get(`${a.path} ${path}`) ?? 0) + 1);
  }
  return Object.fromEntries([...found].sort());
}

describe("on random workloads", () => {
  const random = new Random(11);
  const workloads = Array.from({ length: 60 }, () => randomWorkload(random));

  test("the matrix is what the definition says", async () => {
    for (const records of workloads) {
      for (const windowMs of [1, 30, 10_000]) {
        const { pairs: found } = await matrix(records, windowMs);
        const counts = found.map(({ mutation, by, conflicts }) => [`${mutation} ${by}`, conflicts]);
        expect(Object.fromEntries(counts.sort())).toEqual(slowly(records, windowMs));
      }
    }
  });

  test("a wider window never has fewer conflicts", async () => {
    for (const records of workloads) {
      const totals = [];
      for (const windowMs of [1, 10, 100, 1000]) {
        const { mutations } = await matrix(records, windowMs);
        totals.push(mutations.reduce((sum, { conflicts }) => sum + conflicts, 0));
      }
      expect(totals).toEqual([...totals].sort((a, b) => a - b));
    }
  });

  test("mutations that read and write apart never conflict", async () => {
    for (const records of workloads) {
      const apart = records.map((record, i) => ({
        ...record,
        ranges: record.ranges.map(([index, low, high]) => [index, `${i} ${low}`, `${i} ${high ?? "~"}`]),
        keys: record.keys.map(([index, key]) => [index, `${i} ${key}`]),
        ids: record.ids.map((id) => `${i} ${id}`),
        documents: record.documents.map(([table, id]) => [table, `${i} ${id}`]),
      }));
      expect((await matrix(apart, 10_000)).pairs).toEqual([]);
    }
  });
});
