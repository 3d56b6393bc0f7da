import { describe, expect, test } from "vitest";
import { Random } from "./random-values.mjs";
import { ReadSet, ReadSetRegistry } from "./read-set.mjs";

const key = (...bytes) => Buffer.from(bytes);

function reading(...ranges) {
  const readSet = new ReadSet();
  for (const [indexId, low, high] of ranges) readSet.addRange(indexId, low, high);
  return readSet;
}

function write(indexId, oldKey, newKey, id = "w") {
  return { id, table: "t", keys: [{ indexId, oldKey, newKey }] };
}

function registryOf(readSets) {
  const registry = new ReadSetRegistry();
  for (const [token, readSet] of Object.entries(readSets)) registry.set(token, readSet);
  return registry;
}

describe("a commit touches a query", () => {
  const registry = registryOf({
    low: reading([1, key(1), key(5)]),
    high: reading([1, key(5), null]),
    other: reading([2, key(1), key(5)]),
  });

  test.each([
    ["an insert at the lower bound", write(1, null, key(1)), ["low"]],
    ["an insert below the upper bound", write(1, null, key(4, 255)), ["low"]],
    ["an insert at the upper bound of one and the lower of the next", write(1, null, key(5)), ["high"]],
    ["an insert before everything", write(1, null, key(0)), []],
    ["a delete", write(1, key(2), null), ["low"]],
    ["a move out of one range into another", write(1, key(2), key(9)), ["low", "high"]],
    ["a change of the document that leaves its key", write(1, key(2), key(2)), ["low"]],
    ["another index", write(2, key(2), key(2)), ["other"]],
    ["an index that nobody reads", write(3, key(2), key(2)), []],
  ])("%s", (_, one, expected) => {
    expect([...registry.touchedBy([one])].sort()).toEqual([...expected].sort());
  });

  test("through a document that it looked up by id", () => {
    const readSet = new ReadSet();
    readSet.addDocument("d1");
    const documents = registryOf({ reader: readSet });
    expect(documents.touchedBy([write(1, key(1), null, "d2")])).toEqual(new Set());
    expect(documents.touchedBy([write(1, key(1), null, "d1")])).toEqual(new Set(["reader"]));
  });
});

describe("the registry", () => {
  test("forgets what a token read before and what a deleted token read", () => {
    const registry = registryOf({ a: reading([1, key(1), key(2)]), b: reading([1, key(1), key(2)]) });
    registry.set("a", reading([1, key(7), key(8)]));
    registry.delete("b");
    registry.delete("b");
    expect(registry.touchedBy([write(1, key(1), key(7))])).toEqual(new Set(["a"]));
    expect(registry.touchedBy([write(1, key(1), key(1))])).toEqual(new Set());
  });

  test("agrees with a search through everything, whatever comes and goes", () => {
    const random = new Random(1);
    const registry = new ReadSetRegistry();
    /** @type {Map<number, { ranges: any[], documents: string[] }>} */
    const naive = new Map();
    const randomKey = () => Buffer.from(random.list(3, () => random.below(4)));
    const randomEnd = () => (random.below(5) ? randomKey() : null);
    const randomId = () => `d${random.below(30)}`;
    const isIn = ({ low, high }, k) => low.compare(k) <= 0 && (high === null || k.compare(high) < 0);

    for (let round = 0; round < 4_000; round++) {
      const token = random.below(60);
      if (random.below(4) === 0) {
        registry.delete(token);
        naive.delete(token);
      } else {
        const ranges = random.list(6, () => ({
          indexId: random.below(3),
          low: randomKey(),
          high: randomEnd(),
        }));
        const documents = random.list(3, randomId);
        const readSet = new ReadSet();
        for (const { indexId, low, high } of ranges) readSet.addRange(indexId, low, high);
        for (const id of documents) readSet.addDocument(id);
        registry.set(token, readSet);
        naive.set(token, { ranges, documents });
      }

      const writes = random.list(3, () => ({
        id: randomId(),
        table: "t",
        keys: random.list(3, () => ({
          indexId: random.below(3),
          oldKey: random.below(3) ? randomKey() : null,
          newKey: random.below(3) ? randomKey() : null,
        })),
      }));
      const expected = [...naive].filter(([, { ranges, documents }]) =>
        writes.some(
          ({ id, keys }) =>
            documents.includes(id) ||
            keys.some(({ indexId, oldKey, newKey }) =>
              ranges.some(
                (range) =>
                  range.indexId === indexId &&
                  [oldKey, newKey].some((changed) => changed !== null && isIn(range, changed)),
              ),
            ),
        ),
      );
      expect(registry.touchedBy(writes)).toEqual(new Set(expected.map(([one]) => one)));
    }
  });
});

describe("a read set", () => {
  test("joins ranges that overlap or touch and drops empty ones", () => {
    const readSet = reading(
      [1, key(5), key(7)],
      [1, key(1), key(3)],
      [1, key(3), key(4)],
      [1, key(9), key(9)],
      [1, key(6), null],
    );
    expect([...readSet.ranges]).toEqual([
      [
        1,
        [
          { low: key(1), high: key(4) },
          { low: key(5), high: null },
        ],
      ],
    ]);
  });

  test("keeps 512 separate ranges exactly, and beyond covers more rather than less", () => {
    const point = (i) => [1, key(i >> 8, i & 255, 0), key(i >> 8, i & 255, 1)];
    const points = Array.from({ length: 2_000 }, (_, i) => point(i));
    const exact = reading(...points.slice(0, 512));
    expect(exact.ranges.get(1)).toHaveLength(512);

    const oneMore = reading(...points.slice(0, 513));
    expect(oneMore.ranges.get(1)?.length).toBeLessThan(512);
    for (const [, low] of points.slice(0, 513)) {
      expect(registryOf({ oneMore }).touchedBy([write(1, low, null)]).size).toBe(1);
    }

    const many = reading(...points);
    expect(many.ranges.get(1)?.length).toBeLessThanOrEqual(512);
    const registry = registryOf({ many });
    for (const [, low] of points) expect(registry.touchedBy([write(1, low, null)]).size).toBe(1);
    expect(registry.touchedBy([write(1, key(255), null)]).size).toBe(0);
  });
});
