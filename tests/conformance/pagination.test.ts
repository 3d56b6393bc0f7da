import { ConvexError } from "convex/values";
import type { Value } from "convex/values";
import { beforeAll, expect, test } from "vitest";
import { section } from "./checklist";
import { api, CLIENTS, failure, Follower, useHost } from "./clients";
import { filled, newGroup } from "./groups";

const clients = useHost();
const { documents } = api;

section("Pagination", (line) => {
  line("Pagination: page, isDone, continueCursor; a done cursor gives an empty done page", () => {
    const all = [1, 2, 3, 4, 5, 6, 7];
    test.each([
      ["rising", false, 3, [[1, 2, 3], [4, 5, 6], [7]]],
      ["falling", true, 3, [[7, 6, 5], [4, 3, 2], [1]]],
      ["one at a time", false, 1, [...all.map((each) => [each]), []]],
      ["exactly all", false, 7, [all, []]],
      ["more than all", false, 100, [all]],
    ])("%s", async (_, desc, numItems, pages) => {
      const group = await filled(clients, [4, 1, 7, 2, 6, 3, 5]);
      for (const name of CLIENTS) {
        const client = clients.shared(name);
        let cursor: string | null = null;
        const seen: Value[][] = [];
        for (let isDone = false; !isDone;) {
          const page = await client.query(documents.page, {
            group,
            desc,
            paginationOpts: { numItems, cursor },
          });
          expect(page).toMatchObject({ page: expect.any(Array), continueCursor: expect.any(String) });
          seen.push(page.page);
          ({ isDone, continueCursor: cursor } = page);
        }
        expect(seen).toEqual(pages);
        const behind = await client.query(documents.page, {
          group,
          desc,
          paginationOpts: { numItems, cursor },
        });
        expect(behind).toMatchObject({ page: [], isDone: true });
      }
    });

    test("a filter goes before the number of items", async () => {
      const group = await filled(clients, [1, 2, 3, 4, 5, 6]);
      const paginationOpts = { numItems: 2, cursor: null };
      const page = await clients.shared("http").query(documents.page, { group, atLeast: 3, paginationOpts });
      expect(page).toMatchObject({ page: [3, 4], isDone: false });
    });

    test("an empty table is done at once", async () => {
      const page = await clients.shared("http").query(documents.page, {
        group: newGroup(),
        paginationOpts: { numItems: 2, cursor: null },
      });
      expect(page).toMatchObject({ page: [], isDone: true });
    });

    test("a page of nothing is refused", async () => {
      const paginationOpts = { numItems: 0, cursor: null };
      const call = clients.shared("http").query(documents.page, { group: newGroup(), paginationOpts });
      expect((await failure(call)).message).toContain("Must request at least 1 document while paginating");
    });

    test("mutations page too", async () => {
      const group = await filled(clients, [1, 2, 3]);
      const paginationOpts = { numItems: 2, cursor: null };
      expect(await clients.shared("http").mutation(documents.pageInMutation, { group, paginationOpts })).toBe(
        2,
      );
    });
  });

  line("One paginated query per function", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const paginationOpts = { numItems: 1, cursor: null };
      const call = clients.shared(name).query(documents.twoPages, { group: newGroup(), paginationOpts });
      expect((await failure(call)).message).toContain(
        "This query or mutation function ran multiple paginated queries. Convex only supports a single paginated query in each function.",
      );
    });
  });

  line("A cursor of another query: InvalidCursor", () => {
    test.each(CLIENTS)("%s", async (name) => {
      const client = clients.shared(name);
      const group = await filled(clients, [1, 2, 3]);
      const { continueCursor: cursor } = await client.query(documents.page, {
        group,
        paginationOpts: { numItems: 1, cursor: null },
      });
      for (const args of [{ group: newGroup() }, { group, desc: true }, { group, atLeast: 1 }]) {
        const error = await failure(
          client.query(documents.page, { ...args, paginationOpts: { numItems: 1, cursor } }),
        );
        expect(error.message).toContain("InvalidCursor");
        expect(error).toBeInstanceOf(ConvexError);
        expect((error as ConvexError<Value>).data).toEqual({
          isConvexSystemError: true,
          paginationError: "InvalidCursor",
        });
      }
      const other = await failure(
        client.query(api.messages.page, { channel: "c", paginationOpts: { numItems: 1, cursor } }),
      );
      expect(other.message).toContain("InvalidCursor");
    });

    test("text that is no cursor", async () => {
      for (const cursor of ["", "x", "not a cursor", "ü"]) {
        const paginationOpts = { numItems: 1, cursor };
        const error = await failure(
          clients.shared("http").query(documents.page, { group: newGroup(), paginationOpts }),
        );
        expect(error.message).toMatch(/cursor/i);
      }
    });
  });

  line("maximumRowsRead and maximumBytesRead cut pages", () => {
    test("rows", async () => {
      const group = await filled(clients, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      const read = (more: object) =>
        clients
          .shared("http")
          .query(documents.page, { group, paginationOpts: { numItems: 100, cursor: null, ...more } });
      const cut = await read({ maximumRowsRead: 4 });
      expect(cut).toMatchObject({ page: [1, 2, 3, 4], isDone: false });
      expect(await read({ maximumRowsRead: 4, cursor: cut.continueCursor })).toMatchObject({
        page: [5, 6, 7, 8],
      });
      expect(await read({ maximumRowsRead: 1 })).toMatchObject({ page: [1] });
      expect(await read({ maximumRowsRead: 4, numItems: 2 })).toMatchObject({ page: [1, 2], isDone: false });
    });

    test("rows that a filter leaves out count too", async () => {
      const group = await filled(clients, [1, 2, 3, 4, 5, 6]);
      const paginationOpts = { numItems: 100, cursor: null, maximumRowsRead: 4 };
      const page = await clients.shared("http").query(documents.page, { group, atLeast: 4, paginationOpts });
      expect(page).toMatchObject({ page: [4], isDone: false });
    });

    test("bytes", async () => {
      const group = await filled(clients, ["x".repeat(1000), "y".repeat(1000), "z".repeat(1000)]);
      const read = (maximumBytesRead: number) =>
        clients.shared("http").query(documents.page, {
          group,
          paginationOpts: { numItems: 100, cursor: null, maximumBytesRead },
        });
      expect((await read(1)).page, "one row always comes").toHaveLength(1);
      expect((await read(1500)).page).toHaveLength(2);
      expect(await read(100_000)).toMatchObject({ isDone: true });
    });

    test.each([{ maximumRowsRead: 0 }, { maximumBytesRead: 0 }])("%o is refused", async (limit) => {
      const paginationOpts = { numItems: 1, cursor: null, ...limit };
      const error = await failure(
        clients.shared("http").query(documents.page, { group: newGroup(), paginationOpts }),
      );
      expect(error.message).toContain("maximumRowsRead and maximumBytesRead must be greater than 0");
    });
  });

  line("pageStatus null, SplitRecommended, SplitRequired with a split cursor", () => {
    let group = "";
    const read = (opts: object) =>
      clients
        .shared("http")
        .query(documents.page, { group, paginationOpts: { numItems: 100, cursor: null, ...opts } });
    beforeAll(async () => {
      group = await filled(
        clients,
        Array.from({ length: 20 }, (_, index) => index),
      );
    });

    test("a page far below its limit has no status", async () => {
      expect((await read({ maximumRowsRead: 100 })).pageStatus ?? null).toBeNull();
      expect((await read({ numItems: 7, maximumRowsRead: 10 })).pageStatus ?? null).toBeNull();
    });

    test("above three quarters of a limit a split is recommended", async () => {
      const page = await read({ numItems: 8, maximumRowsRead: 10 });
      expect(page).toMatchObject({ pageStatus: "SplitRecommended", splitCursor: expect.any(String) });
      expect(page.page).toHaveLength(8);
    });

    test("at the limit a split is required, and its two halves are the page", async () => {
      const page = await read({ maximumRowsRead: 10 });
      expect(page).toMatchObject({
        pageStatus: "SplitRequired",
        splitCursor: expect.any(String),
        isDone: false,
      });
      const first = await read({ endCursor: page.splitCursor });
      const second = await read({ cursor: page.splitCursor, endCursor: page.continueCursor });
      expect(first.page.length).toBeGreaterThan(2);
      expect(second.page.length).toBeGreaterThan(2);
      expect([...first.page, ...second.page]).toEqual(page.page);
    });

    test("a page between two cursors is read whole, and a split is recommended", async () => {
      const { continueCursor: endCursor } = await read({ numItems: 15 });
      const page = await read({ endCursor, maximumRowsRead: 10 });
      expect(page).toMatchObject({ page: { length: 15 }, pageStatus: "SplitRecommended" });
    });
  });

  line("endCursor bounds a page", () => {
    test("whatever number of items is asked for, and as rows come and go", async () => {
      const group = await filled(clients, [10, 20, 30, 40]);
      const read = (opts: object) =>
        clients
          .shared("http")
          .query(documents.page, { group, paginationOpts: { numItems: 2, cursor: null, ...opts } });
      const { continueCursor: endCursor } = await read({});
      const [extra] = (await clients
        .http()
        .mutation(documents.putAll, { group, values: [15, 16, 25] })) as string[];
      expect(await read({ endCursor })).toMatchObject({
        page: [10, 15, 16, 20],
        isDone: false,
        continueCursor: endCursor,
      });
      expect(await read({ cursor: endCursor })).toMatchObject({ page: [25, 30] });
      await clients.http().mutation(documents.remove, { id: extra });
      expect(await read({ endCursor, numItems: 1 })).toMatchObject({ page: [10, 16, 20] });
    });
  });

  line(
    "A subscribed page keeps its end (journal): it shrinks and grows, and an empty first page covers everything later",
    () => {
      const pageOf = (newest: unknown) => (newest as { page: Value[] }).page;

      test("it shrinks and grows", async () => {
        const group = newGroup();
        const ids = (await clients
          .http()
          .mutation(documents.putAll, { group, values: [10, 20, 30, 40] })) as string[];
        const args = { group, paginationOpts: { numItems: 2, cursor: null } };
        const followed = new Follower(clients.socket(), documents.page, args);
        expect(pageOf(await followed.until(() => true))).toEqual([10, 20]);
        await clients.http().mutation(documents.putAll, { group, values: [5, 15, 25] });
        expect(pageOf(await followed.until((newest) => pageOf(newest).length > 2))).toEqual([5, 10, 15, 20]);
        await clients.http().mutation(documents.remove, { id: ids[0] });
        expect(pageOf(await followed.until((newest) => pageOf(newest).length < 4))).toEqual([5, 15, 20]);
        await clients.http().mutation(documents.remove, { id: ids[1] });
        expect(pageOf(await followed.until((newest) => pageOf(newest).length < 3))).toEqual([5, 15]);
        followed.stop();
      });

      test("an empty first page covers everything later", async () => {
        const group = newGroup();
        const args = { group, paginationOpts: { numItems: 1, cursor: null } };
        const followed = new Follower(clients.socket(), documents.page, args);
        expect(await followed.until(() => true)).toMatchObject({ page: [], isDone: true });
        await filled(clients, [1, 2, 3], group);
        expect(await followed.until((newest) => pageOf(newest).length > 0)).toMatchObject({
          page: [1, 2, 3],
          isDone: true,
        });
        followed.stop();
      });

      test("over a reconnect", async () => {
        const group = await filled(clients, [10, 20, 30]);
        const args = { group, paginationOpts: { numItems: 2, cursor: null } };
        const followed = new Follower(clients.socket(), documents.page, args);
        expect(pageOf(await followed.until(() => true))).toEqual([10, 20]);
        await clients.host.end("SIGKILL");
        await clients.host.start();
        await filled(clients, [15], group);
        expect(pageOf(await followed.until((newest) => pageOf(newest).length > 2))).toEqual([10, 15, 20]);
        followed.stop();
      });
    },
  );
});
