import { copyFileSync } from "node:fs";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Random } from "./random-values.mjs";
import { TestEngine, writeFunctions } from "./testing.mjs";
import { byteLength, lengthByte } from "./text-index.mjs";
import { tokenize } from "./tokenizer.mjs";

const schema = (/** @type {string} */ indexes) => `
  import { defineSchema, defineTable } from "convex/server";
  import { v } from "convex/values";
  export default defineSchema({ notes: defineTable(v.any())${indexes} });`;
const SEARCH = `.searchIndex("by_body", { searchField: "body", filterFields: ["room", "meta.kind"] }).index("by_room", ["room"])`;
const NOTES = `
  import { mutationGeneric as mutation, queryGeneric as query } from "convex/server";
  const search = (ctx, { text, where = {}, index = "by_body", field = "body" }) =>
    ctx.db.query("notes").withSearchIndex(index, (q) =>
      Object.entries(where).reduce((q, [name, value]) => q.eq(name, value), text === undefined ? q : q.search(field, text)));
  export const add = mutation(async (ctx, { notes }) => {
    const ids = [];
    for (const note of notes) ids.push(await ctx.db.insert("notes", note));
    return ids;
  });
  export const change = mutation((ctx, { id, fields }) => ctx.db.patch(id, fields));
  export const remove = mutation((ctx, { id }) => ctx.db.delete(id));
  export const find = query((ctx, { take, ...args }) => take === undefined ? search(ctx, args).collect() : search(ctx, args).take(take));
  export const missing = query((ctx, { field }) =>
    ctx.db.query("notes").withSearchIndex("by_body", (q) => q.search("body", "tea").eq(field, undefined)).collect());
  export const page = query((ctx, { paginationOpts, ...args }) => search(ctx, args).paginate(paginationOpts));
  export const filtered = query((ctx, args) => search(ctx, args).filter((q) => q.gt(q.field("stars"), 2)).collect());
  export const many = query((ctx, { field, count }) => ctx.db.query("notes").withSearchIndex("by_body", (q) => {
    let all = q.search("body", "tea");
    for (let i = 0; i < count; i++) all = all.eq(field, "a");
    return all;
  }).collect());
  export const twice = query((ctx) => ctx.db.query("notes").withSearchIndex("by_body", (q) => q.search("body", "a").search("body", "b")).collect());
  export const within = mutation(async (ctx, { body }) => {
    const found = async () => (await search(ctx, { text: body }).collect()).length;
    const counts = [await found()];
    const id = await ctx.db.insert("notes", { body });
    counts.push(await found());
    await ctx.db.patch(id, { body: "nothing of it" });
    counts.push(await found());
    await ctx.db.patch(id, { body });
    counts.push(await found());
    await ctx.db.delete(id);
    counts.push(await found());
    return counts;
  });
  export const addThenFail = mutation(async (ctx, { body }) => {
    await ctx.db.insert("notes", { body });
    throw new Error("no");
  });
  export const plain = query((ctx, { index }) => ctx.db.query("notes").withIndex(index).collect());
`;

/** @type {TestEngine} */
let engine;
const load = (/** @type {string} */ indexes) =>
  engine.load(writeFunctions(engine.root, { "schema.ts": schema(indexes), "notes.js": NOTES }));
beforeEach(async () => {
  engine = new TestEngine();
  await load(SEARCH);
});
afterEach(() => engine.dispose());

const add = (/** @type {any[]} */ ...notes) =>
  engine.call("notes:add", {
    notes: notes.map((note) => (typeof note === "string" ? { body: note } : note)),
  });
/** @param {string} text @param {object} [rest] @returns {string[]} */
const find = (text, rest = {}) =>
  engine.call("notes:find", { text, ...rest }).map((/** @type {any} */ note) => note.body);

describe("words", () => {
  test.each([
    ["Hello, WORLD!", ["hello", "world"]],
    ["it's 10:30-ish", ["it", "s", "10", "30", "ish"]],
    ["Ünïcode naïve ΣΑΣ", ["ünïcode", "naïve", "σασ"]],
    ["日本語 テスト", ["日本語", "テスト"]],
    ["snake_case a.b", ["snake", "case", "a", "b"]],
    ["", []],
    ["!?", []],
    [`${"a".repeat(31)} ${"b".repeat(32)}`, ["a".repeat(31)]],
    [`${"é".repeat(15)} ${"é".repeat(16)}`, ["é".repeat(15)]],
  ])("of %j", (text, words) => {
    expect(tokenize(text)).toEqual(words);
  });
});

test("a text's length is kept in one byte, exactly up to 40 words and to an eighth above", () => {
  for (let length = 0; length <= 40; length++) expect(byteLength(lengthByte(length))).toBe(length);
  expect([41, 42, 55, 56, 63, 1000, 2 ** 20].map((length) => byteLength(lengthByte(length)))).toEqual([
    40, 42, 54, 56, 60, 984, 983_064,
  ]);
  expect(lengthByte(2 ** 31 - 1)).toBeLessThan(256);
});

describe("a search", () => {
  test("finds each document with one of the words, in whatever case, and the last one may be a beginning", () => {
    add("Green tea", "black coffee", "Teapot", "steam");
    expect(find("TEA").toSorted()).toEqual(["Green tea", "Teapot"]);
    expect(find("tea coffee").toSorted()).toEqual(["Green tea", "black coffee"]);
    expect(find("coffee te").toSorted()).toEqual(["Green tea", "Teapot", "black coffee"]);
    expect(find("te coffee")).toEqual(["black coffee"]);
  });

  test("does not guess what a misspelt word means", () => {
    add("coffee");
    expect(find("cofee")).toEqual([]);
    expect(find("coffees")).toEqual([]);
  });

  test("of no words finds nothing", () => {
    add("tea");
    expect([find(""), find("?!")]).toEqual([[], []]);
  });

  test("puts documents first that have a rarer word, the word more often, or fewer others; and of equal ones the newest", () => {
    add("tea one two three", "tea", "tea tea two three", "coffee tea", "the second tea one two");
    expect(find("tea coffee")[0]).toBe("coffee tea");
    expect(find("tea x")).toEqual([
      "tea",
      "tea tea two three",
      "coffee tea",
      "tea one two three",
      "the second tea one two",
    ]);
    add({ body: "tea", n: 2 });
    expect(
      engine.call("notes:find", { text: "tea x", take: 2 }).map((/** @type {any} */ note) => note.n ?? 1),
    ).toEqual([2, 1]);
  });

  test("prefers the whole word to words that begin with it", () => {
    add("teapot", "tea");
    expect(find("tea")).toEqual(["tea", "teapot"]);
  });

  test("looks for at most 16 words", () => {
    const words = Array.from({ length: 17 }, (_, i) => `w${String(i).padStart(2, "0")}`);
    add("w15", "w16");
    expect(find(words.join(" "))).toEqual(["w15"]);
  });

  test("scores as BM25 does", () => {
    const bodies = ["tea", "tea tea coffee", "coffee milk sugar", "water"];
    add(...bodies);
    const lengths = bodies.map((body) => tokenize(body).length);
    const average = lengths.reduce((sum, length) => sum + length) / bodies.length;
    const score = (/** @type {number} */ i, /** @type {string} */ word) => {
      const frequency = bodies.filter((body) => tokenize(body).includes(word)).length;
      const idf = Math.log(1 + (bodies.length - frequency + 0.5) / (frequency + 0.5));
      const count = tokenize(bodies[i] ?? "").filter((one) => one === word).length;
      return (idf * 2.2 * count) / (count + 1.2 * (0.25 + (0.75 * (lengths[i] ?? 0)) / average));
    };
    const expected = bodies
      .map((body, i) => ({ body, score: score(i, "tea") + score(i, "sugar") }))
      .filter((one) => one.score > 0)
      .sort((a, b) => b.score - a.score)
      .map(({ body }) => body);
    expect(find("tea sugar")).toEqual(expected);
  });
});

describe("filters", () => {
  beforeEach(() =>
    add(
      { body: "tea one", room: "a", meta: { kind: 1 } },
      { body: "tea two", room: "b", meta: { kind: 1 } },
      { body: "tea three", room: "a", meta: { kind: 2 } },
      { body: "tea four", room: "x".repeat(100) },
    ),
  );

  test("must all be met", () => {
    expect(find("tea", { where: { room: "a" } }).toSorted()).toEqual(["tea one", "tea three"]);
    expect(find("tea", { where: { room: "a", "meta.kind": 2 } })).toEqual(["tea three"]);
    expect(find("tea", { where: { room: "a", "meta.kind": 3 } })).toEqual([]);
    expect(find("tea", { where: { room: "x".repeat(100) } })).toEqual(["tea four"]);
    expect(find("tea", { where: { room: "x".repeat(99) } })).toEqual([]);
  });

  test("can ask for a field that is missing", () => {
    expect(engine.call("notes:missing", { field: "meta.kind" })).toMatchObject([{ body: "tea four" }]);
  });

  test("are at most 8", () => {
    expect(engine.call("notes:many", { field: "room", count: 8 })).toHaveLength(2);
    expect(() => engine.call("notes:many", { field: "room", count: 9 })).toThrow(
      "Search query against notes.by_body has too many filter conditions. Max: 8 Actual: 9",
    );
  });

  test("of a query come after the search", () => {
    add({ body: "tea", stars: 3 }, { body: "tea", stars: 1 }, { body: "milk", stars: 5 });
    expect(engine.call("notes:filtered", { text: "tea" })).toMatchObject([{ stars: 3 }]);
  });
});

test.each([
  [{ text: "a", index: "by_nothing" }, "Index notes.by_nothing not found."],
  [{ text: "a", index: "by_room" }, "Index notes.by_room is not a search index"],
  [
    { text: "a", field: "title" },
    'Search query against notes.by_body contains a search filter against "title", which doesn\'t match the indexed `searchField` "body".',
  ],
  [
    { text: "a", where: { stars: 1 } },
    'Search query against notes.by_body contains an equality filter on "stars" but that field isn\'t indexed for filtering in `filterFields`.',
  ],
  [
    {},
    'Search query against notes.by_body does not contain any search filters. You must include a search filter like `q.search("field", searchText)`.',
  ],
])("a search with %j is refused in Convex's words", (args, reason) => {
  expect(() => engine.call("notes:find", args)).toThrow(reason);
});

test("a search for two texts is refused, and so is a search index as an ordinary one", () => {
  expect(() => engine.call("notes:twice")).toThrow(
    'Search query against notes.by_body contains multiple search filters against "body". Only one is allowed.',
  );
  expect(() => engine.call("notes:plain", { index: "by_body" })).toThrow(
    "Index notes.by_body is not a database index",
  );
});

test("a search looks at 1024 documents and no more", () => {
  const notes = Array.from({ length: 1025 }, () => "tea");
  add(...notes);
  expect(find("tea", { take: 1024 })).toHaveLength(1024);
  expect(() => find("tea", { take: 1025 })).toThrow(
    "Search query scanned too many documents (fetched 1024).",
  );
  const page = engine.call("notes:page", { text: "tea", paginationOpts: { numItems: 768, cursor: null } });
  expect(page).toMatchObject({ pageStatus: null, splitCursor: null });
  const larger = engine.call("notes:page", { text: "tea", paginationOpts: { numItems: 769, cursor: null } });
  expect(larger).toMatchObject({ pageStatus: "SplitRecommended", splitCursor: null });
});

test("pages follow each other in the order of relevance", () => {
  add("tea", "tea two", "tea two three", "tea two three four", "milk");
  const bodies = [];
  for (let cursor = null, isDone = false; !isDone;) {
    const page = engine.call("notes:page", { text: "tea", paginationOpts: { numItems: 3, cursor } });
    bodies.push(...page.page.map((/** @type {any} */ note) => note.body));
    ({ continueCursor: cursor, isDone } = page);
  }
  expect(bodies).toEqual(find("tea"));
  expect(bodies).toHaveLength(4);
  const { continueCursor: cursor } = engine.call("notes:page", {
    text: "tea",
    paginationOpts: { numItems: 1, cursor: null },
  });
  expect(() => engine.call("notes:page", { text: "milk", paginationOpts: { numItems: 1, cursor } })).toThrow(
    "InvalidCursor",
  );
});

test("a mutation finds what it has written itself, and nothing stays of one that failed", () => {
  add("other");
  expect(engine.call("notes:within", { body: "fresh words" })).toEqual([0, 1, 0, 1, 0]);
  expect(() => engine.call("notes:addThenFail", { body: "fresh words" })).toThrow("no");
  expect(find("fresh")).toEqual([]);
  expect(find("other")).toEqual(["other"]);
});

test("texts that are no strings are not found, and do not disturb", () => {
  const [id] = add({ body: 7, room: "a" }, { room: "a" }, "seven");
  expect(find("7")).toEqual([]);
  engine.call("notes:change", { id, fields: { body: "seven 7" } });
  expect(find("7")).toEqual(["seven 7"]);
});

describe("a subscribed search", () => {
  const watch = (/** @type {object} */ args) => engine.subscribe(1, "notes:find", args);
  const seen = () => engine.updates().map(({ value }) => value.map((/** @type {any} */ note) => note.body));

  test("follows documents that come, change, lose their words and go", () => {
    watch({ text: "tea" });
    const [id] = add("tea");
    expect(seen()).toEqual([["tea"]]);
    add("teapot");
    expect(seen()).toEqual([["tea", "teapot"]]);
    engine.call("notes:change", { id, fields: { stars: 1 } });
    expect(seen()).toHaveLength(1);
    engine.call("notes:change", { id, fields: { body: "milk" } });
    expect(seen()).toEqual([["teapot"]]);
    engine.call("notes:change", { id, fields: { body: "more tea" } });
    expect(seen()).toEqual([["more tea", "teapot"]]);
    engine.call("notes:remove", { id });
    expect(seen()).toEqual([["teapot"]]);
  });

  test("is not run again for documents without its words", () => {
    add("water");
    watch({ text: "tea" });
    const runs = () =>
      engine.send({ op: "tally" }).functions.find((/** @type {any} */ one) => one.path === "notes:find").runs;
    const before = runs();
    add("milk", { room: "tea" });
    expect(runs()).toBe(before);
    add("tea");
    expect(runs()).toBe(before + 1);
  });
});

describe("a search index", () => {
  test("is filled when it is declared, over a restart too, and gone when it is not", async () => {
    await load("");
    add("tea", "milk");
    expect(() => find("tea")).toThrow("Index notes.by_body not found.");
    await load(SEARCH);
    expect(find("tea")).toEqual(["tea"]);
    engine.reopen();
    await load(SEARCH);
    expect(find("tea")).toEqual(["tea"]);
    await load("");
    expect(() => find("tea")).toThrow("Index notes.by_body not found.");
  });

  test("with other fields is filled anew", async () => {
    add({ body: "tea", title: "milk" });
    await load(`.searchIndex("by_body", { searchField: "title" })`);
    expect(engine.call("notes:find", { text: "milk", field: "title" })).toHaveLength(1);
    expect(engine.call("notes:find", { text: "tea", field: "title" })).toHaveLength(0);
  });

  test("that is staged is kept up to date, and refused until it is enabled", async () => {
    await load(`.searchIndex("by_body", { searchField: "body", staged: true })`);
    add("tea");
    expect(() => find("tea")).toThrow(
      "Index notes.by_body is currently staged and not available to query until it is enabled.",
    );
    await load(`.searchIndex("by_body", { searchField: "body" })`);
    expect(find("tea")).toEqual(["tea"]);
  });
});

/** Every row of the search and vector indexes, without their numbers. */
function sideRows() {
  const copy = path.join(engine.root, "copy.sqlite");
  for (const part of ["", "-wal"]) copyFileSync(engine.file + part, copy + part);
  const database = new DatabaseSync(copy);
  const rows = [
    "SELECT documents, tokens FROM side_indexes",
    "SELECT hex(term) AS term, pk, n, length FROM postings ORDER BY term, pk",
    "SELECT pk, hex(v) AS v FROM vectors ORDER BY pk",
  ].map((sql) => database.prepare(sql).all());
  database.close();
  return rows;
}

test.each([1, 2, 3])(
  "an index that followed random writes is as one that is made anew (seed %i)",
  async (seed) => {
    const random = new Random(seed);
    const indexes = `${SEARCH}.vectorIndex("by_at", { vectorField: "at", dimensions: 2, filterFields: ["room"] })`;
    await load(indexes);
    const words = ["tea", "teapot", "milk", "Milk", "cup", "x".repeat(40)];
    const pick = (/** @type {any[]} */ from) => from[random.below(from.length)];
    const fields = () => ({
      body: pick([7, "", Array.from({ length: random.below(60) }, () => pick(words)).join(" ")]),
      room: pick(["a", "b", null]),
      at: pick([[1, 2], [random.below(5), 1], [1], "no"]),
    });
    /** @type {string[]} */
    const ids = [];
    for (let round = 0; round < 80; round++) {
      const id = pick(ids);
      if (id === undefined || random.below(3) === 0) ids.push(...add(fields()));
      else if (random.below(3) > 0) {
        const changed = Object.entries(fields()).filter(() => random.below(2) === 0);
        engine.call("notes:change", { id, fields: Object.fromEntries(changed) });
      } else engine.call("notes:remove", { id: ids.splice(ids.indexOf(id), 1)[0] });
      if (random.below(4) === 0)
        expect(() => engine.call("notes:addThenFail", { body: "tea" })).toThrow("no");
    }
    const followed = sideRows();
    expect(followed.map((rows) => rows.length > 0)).toEqual([true, true, true]);
    await load("");
    expect(sideRows()).toEqual([[], [], []]);
    await load(indexes);
    expect(sideRows()).toEqual(followed);
  },
);
