import { beforeAll, expect, test } from "vitest";
import { section } from "./checklist";
import { api, failure, Follower, useHost } from "./clients";

const clients = useHost();
const { searching } = api;

const ARTICLES = [
  { title: "one", body: "The quick brown fox jumps over the lazy dog", topic: "animals", draft: false },
  { title: "two", body: "Foxes and foxgloves in the garden", topic: "animals", draft: true },
  { title: "three", body: "A quick introduction to gardening", topic: "plants", draft: false },
  { title: "four", body: "ÜBER den Wolken, c'est la vie", topic: "songs", draft: false },
];

section("Optional", (line) => {
  beforeAll(() => clients.http().mutation(searching.addArticles, { articles: ARTICLES }));
  const search = async (text: string, more: object = {}) =>
    ((await clients.shared("http").query(searching.search, { text, ...more })) as string[]).sort();

  line("Text search: prefix match of the last term, no typo tolerance", () => {
    test.each([
      ["fox", ["one", "two"]],
      ["FOX", ["one", "two"]],
      ["foxg", ["two"]],
      ["gard", ["three", "two"]],
      ["quick fox", ["one", "three", "two"]],
      ["fo garden", ["three", "two"]],
      ["quikc", []],
      ["brwon", []],
      ["umps", []],
      ["über", ["four"]],
      ["vie", ["four"]],
      ["", []],
      ["  ", []],
      ["!?", []],
    ])("'%s'", async (text, titles) => {
      expect(await search(text)).toEqual(titles);
    });

    test("a text with more of the words comes first", async () => {
      const found = await clients.shared("http").query(searching.search, { text: "quick brown fox" });
      expect(found[0]).toBe("one");
    });

    test("a subscription sees new texts, changed ones and those that are gone", async () => {
      const followed = new Follower<string[]>(clients.socket(), searching.search, { text: "platypus" });
      await followed.until((newest) => (newest as string[]).length === 0);
      const articles = [{ title: "new", body: "the platypus", topic: "animals", draft: false }];
      await clients.http().mutation(searching.addArticles, { articles });
      expect(await followed.until((newest) => (newest as string[]).length === 1)).toEqual(["new"]);
    });
  });

  line("Text search: several equality filters, paging, sees writes of the same mutation", () => {
    test("filters", async () => {
      expect(await search("fox", { topic: "animals" })).toEqual(["one", "two"]);
      expect(await search("fox", { topic: "animals", draft: false })).toEqual(["one"]);
      expect(await search("fox", { draft: true })).toEqual(["two"]);
      expect(await search("fox", { topic: "plants" })).toEqual([]);
    });

    test("pages", async () => {
      const page = (cursor: string | null) =>
        clients
          .shared("http")
          .query(searching.searchPage, { text: "quick fox", paginationOpts: { numItems: 2, cursor } });
      const first = await page(null);
      expect(first).toMatchObject({ page: { length: 2 }, isDone: false });
      const second = await page(first.continueCursor);
      expect([...first.page, ...second.page].sort()).toEqual(["one", "three", "two"]);
    });

    test("own writes", async () => {
      const seen = await clients
        .shared("http")
        .mutation(searching.writeAndSearch, { title: "own", body: "zebra" });
      expect(seen).toEqual({ inserted: ["own"], patched: [], changed: 0 });
      expect(await search("zebra")).toEqual([]);
    });

    test("it has an order of its own", async () => {
      const { message } = await failure(
        clients.shared("http").query(searching.orderedSearch, { text: "fox" }),
      );
      expect(message).toMatch(/order/);
    });
  });

  line("Vector search with filter and limit", () => {
    beforeAll(() =>
      clients.http().mutation(searching.addPoints, {
        points: [
          { label: "east", color: "red", at: [1, 0] },
          { label: "north", color: "green", at: [0, 1] },
          { label: "north east", color: "blue", at: [1, 1] },
          { label: "west", color: "red", at: [-1, 0] },
        ],
      }),
    );
    const near = async (args: object) =>
      (await clients.shared("websocket").action(searching.near, args)) as { label: string; score: number }[];
    const labels = async (args: object) => (await near(args)).map(({ label }) => label);

    test("the nearest by their angle first", async () => {
      const found = await near({ at: [2, 0.1] });
      expect(found.map(({ label }) => label)).toEqual(["east", "north east", "north", "west"]);
      expect(found[0]!.score).toBeGreaterThan(0.99);
      expect(found.at(-1)!.score).toBeLessThan(-0.99);
    });

    test("limit", async () => {
      expect(await labels({ at: [1, 0], limit: 2 })).toEqual(["east", "north east"]);
      expect((await failure(near({ at: [1, 0], limit: 257 }))).message).toContain(
        "Vector queries can fetch at most 256 results",
      );
      expect(await labels({ at: [1, 0], limit: 256 })).toHaveLength(4);
    });

    test("filter", async () => {
      expect(await labels({ at: [1, 0], colors: ["red"] })).toEqual(["east", "west"]);
      expect(await labels({ at: [1, 0], colors: ["green", "blue"] })).toEqual(["north east", "north"]);
      expect(await labels({ at: [1, 0], colors: ["white"] })).toEqual([]);
    });

    test("another number of dimensions is refused", async () => {
      expect((await failure(near({ at: [1, 0, 0] }))).message).toMatch(/dimension/i);
      const points = [{ label: "odd", color: "red", at: [1] }];
      await failure(clients.http().mutation(searching.addPoints, { points })).catch(() => null);
      expect(await labels({ at: [1, 0] })).not.toContain("odd");
    });
  });

  line("Staged indexes: declared but refused in queries", () => {
    test("by its name", async () => {
      const { message } = await failure(clients.shared("http").query(searching.byStagedIndex, {}));
      expect(message).toMatch(/by_topic_staged/);
    });
  });
});
