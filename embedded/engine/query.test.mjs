import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestEngine } from "./testing.mjs";
import { compareValues } from "./values.mjs";

/** @type {TestEngine} */
let engine;
beforeEach(async () => {
  engine = new TestEngine();
  await engine.load();
});
afterEach(() => engine.dispose());

/** @typedef {{ type: "eq" | "gt" | "gte" | "lt" | "lte", field: string, value?: any }} Bound */

const add = (/** @type {object[]} */ ...documents) => engine.call("bag:add", { documents });
const range = (
  /** @type {string} */ index,
  /** @type {Bound[]} */ bounds,
  /** @type {string | undefined} */ order,
) => engine.call("bag:range", { index, bounds, ...(order === undefined ? {} : { order }) });
const column = (/** @type {any[]} */ documents, field = "a") => documents.map((document) => document[field]);

describe("an index range", () => {
  beforeEach(() => {
    for (const a of [1, 2, 3]) add({ a, b: 10 * a }, { a, b: 10 * a + 1 });
  });

  test("is an equality on the first fields and then at most one bound on each side", () => {
    const b = (/** @type {Bound[]} */ ...bounds) => column(range("by_a_and_b", bounds, undefined), "b");
    const a2 = /** @type {const} */ ({ type: "eq", field: "a", value: 2 });
    expect(b(a2)).toEqual([20, 21]);
    expect(b(a2, { type: "gt", field: "b", value: 20 })).toEqual([21]);
    expect(b({ type: "gte", field: "b", value: 20 }, a2, { type: "lt", field: "b", value: 21 })).toEqual([
      20,
    ]);
    expect(b({ type: "gt", field: "a", value: 1 }, { type: "lte", field: "a", value: 2 })).toEqual([20, 21]);
    expect(b({ type: "eq", field: "b", value: 31 }, { type: "eq", field: "a", value: 3 })).toEqual([31]);
  });

  test("reads backwards", () => {
    expect(column(range("by_a_and_b", [{ type: "lt", field: "a", value: 3 }], "desc"), "b")).toEqual([
      21, 20, 11, 10,
    ]);
  });

  test("ends with the creation time", () => {
    const [, second] = range("by_a", [{ type: "eq", field: "a", value: 2 }], undefined);
    const later = range(
      "by_a",
      [
        { type: "eq", field: "a", value: 2 },
        { type: "gte", field: "_creationTime", value: second._creationTime },
      ],
      undefined,
    );
    expect(column(later, "b")).toEqual([21]);
  });

  const outOfOrder = (/** @type {string[]} */ used, /** @type {string} */ wrong) =>
    "Tried to query index bag.by_a_and_b but the query didn't use the index fields in order.\n" +
    `Index fields: ["a", "b", "_creationTime"]\nQuery fields: [${used.map((field) => `"${field}"`).join(", ")}]\n` +
    `First incorrect field: "${wrong}"\nFor more information see https://docs.convex.dev/using/indexes.`;
  const eq = (/** @type {string} */ field, /** @type {any} */ value = 1) =>
    /** @type {Bound} */ ({ type: "eq", field, value });
  const gt = (/** @type {string} */ field) => /** @type {Bound} */ ({ type: "gt", field, value: 1 });
  const lte = (/** @type {string} */ field) => /** @type {Bound} */ ({ type: "lte", field, value: 5 });

  test.each(
    /** @type {[string, Bound[], string][]} */ ([
      ["an equality behind a gap", [eq("b")], outOfOrder(["b"], "b")],
      ["a bound behind a gap", [gt("b")], outOfOrder(["b"], "b")],
      [
        "a bound two fields behind the equality",
        [eq("a"), gt("_creationTime")],
        outOfOrder(["a", "_creationTime"], "_creationTime"),
      ],
      [
        "two lower bounds",
        [gt("a"), { ...gt("a"), type: "gte", value: 2 }],
        `Already defined lower bound in index range. Can't add "a" >= 2.0.`,
      ],
      [
        "two upper bounds",
        [lte("a"), lte("a")],
        `Already defined upper bound in index range. Can't add "a" <= 5.0.`,
      ],
      [
        "two equalities of a field",
        [eq("a", "x"), eq("a")],
        `Already defined equality bound in index range. Can't add "a" == "x".`,
      ],
      [
        "an equality and a bound of one field",
        [gt("a"), eq("a")],
        `Already defined inequality bound in index range. Can't add "a" == 1.0.`,
      ],
      [
        "bounds on two fields",
        [gt("a"), lte("b")],
        'Upper and lower bounds in `range` can only be applied to a single index field. This query against index bag.by_a_and_b attempted to set a range bound on both "a" and "b". Consider using `filter` instead. See https://docs.convex.dev/using/indexes for more info.',
      ],
      [
        "a field that is not in the index",
        [eq("c")],
        'The index range included a comparison with "c", but bag.by_a_and_b with fields ["a", "b", "_creationTime"] doesn\'t index this field. For more information see https://docs.convex.dev/using/indexes.',
      ],
    ]),
  )("with %s is refused in Convex's words", (_what, bounds, reason) => {
    expect(() => range("by_a_and_b", bounds, undefined)).toThrow(reason);
  });

  test("may end with the id, behind all other fields", () => {
    const [first, second] = range("by_a_and_b", [eq("a", 2)], undefined);
    const exact = [eq("a", 2), eq("b", 20), eq("_creationTime", first._creationTime)];
    const ids = (/** @type {Bound} */ bound) => range("by_a_and_b", [bound, ...exact], undefined).length;
    expect(ids(eq("_id", first._id))).toBe(1);
    expect(ids(eq("_id", second._id))).toBe(0);
    expect(ids({ type: "gte", field: "_id", value: first._id })).toBe(1);
    expect(ids({ type: "gt", field: "_id", value: first._id })).toBe(0);
  });

  test("of an unknown index is refused by name", () => {
    expect(() => range("by_c", [], undefined)).toThrow("Index bag.by_c not found.");
  });
});

test("values of all kinds sort as Convex sorts them, and a missing field is not null", () => {
  const sorted = [
    undefined,
    null,
    { $integer: "//////////8=" },
    { $integer: "AQAAAAAAAAA=" },
    -1.5,
    0,
    2,
    false,
    true,
    "",
    "a",
    "é",
    { $bytes: "" },
    { $bytes: "AA==" },
    [],
    [1],
    {},
    { x: 1 },
  ];
  add(...sorted.map((a) => (a === undefined ? {} : { a })).toReversed());
  expect(column(range("by_a", [], undefined))).toEqual(sorted);
  expect(range("by_a", [{ type: "eq", field: "a" }], undefined)).toHaveLength(1);
  expect(column(range("by_a", [{ type: "eq", field: "a", value: null }], undefined))).toEqual([null]);
});

test("an index may reach into objects", () => {
  add({ deep: { inner: 2 } }, { deep: { inner: 1 } }, { deep: 5 });
  expect(
    column(range("by_deep", [{ type: "gt", field: "deep.inner", value: 0 }], undefined), "deep"),
  ).toEqual([{ inner: 1 }, { inner: 2 }]);
});

test("by_creation_time and by_id bound documents by their system fields", () => {
  const ids = add({ a: 1 }, { a: 2 }, { a: 3 });
  const [, second] = range("by_creation_time", [], undefined);
  const bound = (/** @type {Bound["type"]} */ type) =>
    column(
      range("by_creation_time", [{ type, field: "_creationTime", value: second._creationTime }], undefined),
    );
  expect([bound("lt"), bound("lte"), bound("eq"), bound("gte"), bound("gt")]).toEqual([
    [1],
    [1, 2],
    [2],
    [2, 3],
    [3],
  ]);
  const byId = (/** @type {Bound["type"]} */ type) =>
    column(range("by_id", [{ type, field: "_id", value: ids[1] }], "desc"));
  expect([byId("lte"), byId("eq"), byId("gt")]).toEqual([[2, 1], [2], [3]]);
});

describe("a filter", () => {
  const filtered = (/** @type {string} */ filter, /** @type {number | undefined} */ limitFirst = undefined) =>
    column(engine.call("bag:filtered", { filter, ...(limitFirst === undefined ? {} : { limitFirst }) }));

  beforeEach(() =>
    add(
      ...[1, 2, 3, 4].map((a) => ({
        a,
        big: { $integer: `0${a}`.slice(-1) === "2" ? "AgAAAAAAAAA=" : "BQAAAAAAAAA=" },
      })),
    ),
  );

  test.each([
    ["aIsTwo", [2]],
    ["notTwo", [1, 3, 4]],
    ["between", [2, 3]],
    ["outside", [1, 4]],
    ["not", [1, 3, 4]],
    ["even", [2, 4]],
    ["sum", [3]],
    ["bigints", [2]],
    ["missing", [1, 2, 3, 4]],
    ["all", [1, 2, 3, 4]],
  ])("%s passes %j", (filter, expected) => {
    expect(filtered(filter)).toEqual(expected);
  });

  test("comes after a limit that was written before it", () => {
    expect(filtered("even", 3)).toEqual([2]);
    expect(filtered("even", 0)).toEqual([]);
  });

  test("is one of at most 256 operators, limits included", () => {
    expect(engine.call("bag:manyFilters", { count: 255 })).toHaveLength(4);
    expect(() => engine.call("bag:manyFilters", { count: 256 })).toThrow(
      "Invalid argument `query` for `queryStream`: Query has too many operators: 257",
    );
  });

  test("refuses what it cannot calculate", () => {
    expect(() => filtered("mixed")).toThrow("Cannot add 1.0 (type Float64) and 1 (type Int64)");
    expect(() => filtered("notBoolean")).toThrow("Cannot use value 1.0 (type Float64) as a Boolean");
    expect(() => filtered("noCondition")).toThrow("Cannot use value undefined (type undefined) as a Boolean");
    expect(() => filtered("byZero")).toThrow("Cannot divide 5 by zero");
    expect(() => filtered("tooLarge")).toThrow(
      "Cannot multiply 9223372036854775807 and 5: the result is out of range for Int64",
    );
    expect(() => filtered("negated")).toThrow("Cannot negate null (type Null)");
  });
});

describe("reading one by one", () => {
  test("may end early", () => {
    add({ a: 1 }, { a: 2 });
    expect(engine.call("bag:stopEarly")).toBe(1);
  });

  test("does not give documents that the mutation has deleted on the way", () => {
    add(...[1, 2, 3, 4, 5].map((a) => ({ a })));
    expect(engine.call("bag:deleteWhileReading")).toEqual([1, 3, 5]);
  });
});

/** Documents in memory, scanned the obvious way. */
class Model {
  /** @type {Map<string, any>} */
  documents = new Map();

  /** @param {string[]} fields @param {Bound[]} bounds @param {boolean} descending */
  range(fields, bounds, descending) {
    const all = [...fields, "_creationTime"];
    const matching = [...this.documents.values()].filter((document) =>
      bounds.every(({ type, field, value }) => {
        const order = compareValues(document[field], value);
        return { eq: order === 0, gt: order > 0, gte: order >= 0, lt: order < 0, lte: order <= 0 }[type];
      }),
    );
    matching.sort((x, y) => {
      for (const field of all) {
        const order = compareValues(x[field], y[field]);
        if (order !== 0) return order;
      }
      return 0;
    });
    return descending ? matching.reverse() : matching;
  }
}

/** A small generator with a seed, so that a failure can be repeated. @param {number} seed */
function generator(seed) {
  let state = seed;
  return (/** @type {number} */ below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test.each([1, 2, 3, 4])(
  "scans and pages agree with a model in memory under random writes (seed %i)",
  (seed) => {
    const random = generator(seed);
    const model = new Model();
    const someValue = () =>
      [undefined, null, 0, 1, 2, -1, "a", "b", true, { $integer: "AQAAAAAAAAA=" }, [1]][random(11)];
    const someDocument = () => {
      const [a, b] = [someValue(), someValue()];
      return { ...(a === undefined ? {} : { a }), ...(b === undefined ? {} : { b }) };
    };
    const someId = () => [...model.documents.keys()][random(model.documents.size)];
    const keep = (/** @type {string} */ id) => {
      const found = engine.call("items:getAny", { id });
      if (found === null) model.documents.delete(id);
      else model.documents.set(id, found);
    };
    /** @returns {Bound[]} */
    const someBounds = () => {
      /** @type {Bound[]} */
      const bounds = random(2) === 0 ? [] : [{ type: "eq", field: "a", value: someValue() }];
      const field = bounds.length === 0 ? "a" : "b";
      if (random(2) === 0) bounds.push({ type: random(2) === 0 ? "gt" : "gte", field, value: someValue() });
      if (random(2) === 0) bounds.push({ type: random(2) === 0 ? "lt" : "lte", field, value: someValue() });
      return bounds;
    };

    for (let round = 0; round < 60; round++) {
      if (random(3) > 0 || model.documents.size < 5)
        for (const id of add(someDocument(), someDocument())) keep(id);
      else if (random(2) === 0) {
        const id = /** @type {string} */ (someId());
        engine.call("bag:update", { id, document: someDocument() });
        keep(id);
      } else {
        const id = /** @type {string} */ (someId());
        engine.call("bag:remove", { id });
        keep(id);
      }
      const bounds = someBounds();
      const order = ["asc", "desc"][random(2)];
      const expected = model.range(["a", "b"], bounds, order === "desc");
      expect(range("by_a_and_b", bounds, order)).toEqual(expected);
      const paged = [];
      for (let cursor = null, isDone = false; !isDone;) {
        const options = { numItems: 1 + random(4), cursor };
        const result = engine.call("bag:page", {
          index: "by_a_and_b",
          bounds,
          order,
          paginationOpts: options,
        });
        paged.push(...result.page);
        ({ continueCursor: cursor, isDone } = result);
      }
      expect(paged).toEqual(expected);
    }
  },
);
