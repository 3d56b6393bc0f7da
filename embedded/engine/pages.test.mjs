import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { TestEngine } from "./testing.mjs";

/** @type {TestEngine} */
let engine;
beforeEach(async () => {
  engine = new TestEngine();
  await engine.load();
});
afterEach(() => engine.dispose());

const add = (/** @type {any[]} */ values) =>
  engine.call("bag:add", { documents: values.map((a) => ({ a })) });
/** @param {object} options @param {object} [source] */
const page = (options, source = {}) =>
  engine.call("bag:page", {
    index: "by_a",
    bounds: [],
    ...source,
    paginationOpts: { numItems: 2, cursor: null, ...options },
  });
/** @param {object} options */
const evenPage = (options) =>
  engine.call("bag:evenPage", { paginationOpts: { numItems: 2, cursor: null, ...options } });
const column = (/** @type {{ page: any[] }} */ { page: rows }) => rows.map(({ a }) => a);

describe("pages of five documents", () => {
  beforeEach(() => add([1, 2, 3, 4, 5]));

  test("follow each other to the end, and behind the end lies an empty page that is done", () => {
    const first = page({});
    const second = page({ cursor: first.continueCursor });
    const third = page({ cursor: second.continueCursor });
    expect([first, second, third].map((one) => [column(one), one.isDone])).toEqual([
      [[1, 2], false],
      [[3, 4], false],
      [[5], true],
    ]);
    const { continueCursor, ...behind } = page({ cursor: third.continueCursor });
    expect(behind).toEqual({ page: [], isDone: true, splitCursor: null, pageStatus: null });
    expect(continueCursor).toBe(third.continueCursor);
  });

  test("that are full at the last document are not done, since nobody looked behind it", () => {
    const full = page({ numItems: 5 });
    expect([column(full), full.isDone]).toEqual([[1, 2, 3, 4, 5], false]);
    expect(page({ cursor: full.continueCursor })).toMatchObject({ page: [], isDone: true });
  });

  test("end where they are told to, however many documents that are", () => {
    const { continueCursor: endCursor } = page({ numItems: 4 });
    add([2.5]);
    for (const limits of [{}, { maximumRowsRead: 1 }, { maximumBytesRead: 1 }]) {
      const bounded = page({ endCursor, ...limits });
      expect([column(bounded), bounded.isDone, bounded.continueCursor]).toEqual([
        [1, 2, 2.5, 3, 4],
        false,
        endCursor,
      ]);
    }
  });

  test("that end at the end are done", () => {
    const { continueCursor: endCursor } = page({ numItems: 9 });
    add([6]);
    const bounded = page({ endCursor });
    expect([column(bounded), bounded.isDone]).toEqual([[1, 2, 3, 4, 5, 6], true]);
  });

  test.each([
    ["fewer rows than the limit", { numItems: 9, maximumRowsRead: 7 }, [1, 2, 3, 4, 5], true, null],
    ["three quarters of the limit", { numItems: 3, maximumRowsRead: 4 }, [1, 2, 3], false, null],
    [
      "more than three quarters of it",
      { numItems: 4, maximumRowsRead: 5 },
      [1, 2, 3, 4],
      false,
      "SplitRecommended",
    ],
    ["all of it", { numItems: 3, maximumRowsRead: 3 }, [1, 2, 3], false, "SplitRecommended"],
    ["more than the limit allows", { numItems: 5, maximumRowsRead: 3 }, [1, 2, 3], false, "SplitRequired"],
    ["one byte", { numItems: 5, maximumBytesRead: 1 }, [1], false, "SplitRequired"],
  ])("that read %s", (_what, options, expected, isDone, pageStatus) => {
    const cut = page(options);
    expect([column(cut), cut.isDone, cut.pageStatus]).toEqual([expected, isDone, pageStatus]);
    const rest = page({ numItems: 9, cursor: cut.continueCursor });
    expect([...column(cut), ...column(rest)]).toEqual([1, 2, 3, 4, 5]);
  });

  test("count the rows that a filter drops", () => {
    expect(evenPage({})).toMatchObject({ page: [{ a: 2 }, { a: 4 }], pageStatus: null });
    const cut = evenPage({ maximumRowsRead: 3 });
    expect([column(cut), cut.isDone, cut.pageStatus]).toEqual([[2], false, "SplitRequired"]);
    expect(column(evenPage({ cursor: cut.continueCursor }))).toEqual([4]);
  });

  test("of three and more rows can be cut in two in the middle", () => {
    expect(page({ numItems: 2 }).splitCursor).toBeNull();
    const { splitCursor, continueCursor } = page({ numItems: 5 });
    const [left, right] = [
      page({ endCursor: splitCursor }),
      page({ cursor: splitCursor, endCursor: continueCursor }),
    ];
    expect([column(left), column(right)]).toEqual([
      [1, 2, 3],
      [4, 5],
    ]);
    expect([left.continueCursor, right.continueCursor]).toEqual([splitCursor, continueCursor]);
  });

  test("take a cursor of their own query only", () => {
    const { continueCursor } = page({});
    expect(column(page({ cursor: continueCursor }, { order: "asc" }))).toEqual([3, 4]);
    const other =
      "InvalidCursor: Tried to run a query starting from a cursor, but it looks like this cursor is from a different query.";
    const sources = [
      { order: "desc" },
      { index: "by_a_and_b" },
      { bounds: [{ type: "gt", field: "a", value: 0 }] },
    ];
    for (const source of sources) {
      for (const position of ["cursor", "endCursor"]) {
        expect(() => page({ [position]: continueCursor }, source)).toThrow(
          expect.objectContaining({
            message: expect.stringContaining(other),
            data: { isConvexSystemError: true, paginationError: "InvalidCursor" },
          }),
        );
      }
    }
    expect(() => page({ cursor: "nonsense" })).toThrow("Failed to parse cursor");
  });

  test.each([
    [{ numItems: 0 }, "Must request at least 1 document while paginating"],
    [{ numItems: 32_001 }, "Requested too many items: 32001"],
    [{ numItems: 1.5 }, "Invalid arguments for `queryPage`: "],
    [{ maximumRowsRead: 0 }, "maximumRowsRead and maximumBytesRead must be greater than 0"],
    [{ maximumBytesRead: 0 }, "maximumRowsRead and maximumBytesRead must be greater than 0"],
  ])("with %j are refused", (options, reason) => {
    expect(() => page(options)).toThrow(reason);
    expect(page({ numItems: 32_000 }).page).toHaveLength(5);
  });

  test("are one for each function", () => {
    expect(() => engine.call("bag:twoPages")).toThrow(
      "This query or mutation function ran multiple paginated queries. Convex only supports a single paginated query in each function.",
    );
  });
});

test("a page of a table that does not exist yet holds what is put in later", () => {
  const args = { table: "later", paginationOpts: { numItems: 2, cursor: null } };
  const { value } = engine.subscribe(1, "bag:pageOf", args);
  const { page: rows, isDone, continueCursor } = JSON.parse(value);
  expect([rows, isDone]).toEqual([[], true]);
  for (const a of [1, 2, 3]) engine.call("bag:insertInto", { table: "later", value: { a } });
  expect(engine.updates()).toMatchObject([{ value: { page: [{ a: 1 }, { a: 2 }, { a: 3 }], isDone: true } }]);
  const behind = { table: "later", paginationOpts: { numItems: 2, cursor: continueCursor } };
  expect(engine.call("bag:pageOf", behind)).toMatchObject({ page: [], isDone: true });
});

test("a page of 6144 documents is whole, and one more is better cut in two", () => {
  for (let i = 0; i < 6145; i += 1024) add(Array.from({ length: Math.min(1024, 6145 - i) }, (_, n) => i + n));
  expect(page({ numItems: 6144 }).pageStatus).toBeNull();
  expect(page({ numItems: 6145 }).pageStatus).toBe("SplitRecommended");
});
