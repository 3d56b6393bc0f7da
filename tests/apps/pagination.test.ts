import type { PaginationOptions, PaginationResult } from "convex/server";
import { beforeEach, expect, test } from "vitest";
import { failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./pagination/convex/_generated/api";
import type { Doc } from "./pagination/convex/_generated/dataModel";

const clients = useApp("pagination");
const COUNT = 23;
type Message = Doc<"messages">;
let author = "";
let next = 0;

beforeEach(async () => {
  author = `author ${next++}`;
  await clients.http().mutation(api.messages.seed, { author, count: COUNT });
});

async function everyPage<Row>(
  load: (paginationOpts: PaginationOptions) => Promise<PaginationResult<Row>>,
  numItems = 5,
) {
  const pages: Row[][] = [];
  let cursor: string | null = null;
  for (;;) {
    const result: PaginationResult<Row> = await load({ numItems, cursor });
    pages.push(result.page);
    if (result.isDone) return { pages, end: result.continueCursor };
    cursor = result.continueCursor;
  }
}

test("pages hold every document once, in order", async () => {
  const { pages } = await everyPage((paginationOpts) =>
    clients.http().query(api.messages.list, { paginationOpts }),
  );
  const bodies = pages
    .flat()
    .filter((message) => message.author === author)
    .map(({ body }) => Number(body));
  expect(bodies).toEqual(Array.from({ length: COUNT }, (_, i) => COUNT - 1 - i));
  expect(pages.slice(0, -1).every((page) => page.length === 5)).toBe(true);
});

test("a filter makes short pages and loses nothing", async () => {
  const load = (paginationOpts: PaginationOptions) =>
    clients.http().query(api.messages.listVisible, { author, paginationOpts });
  const { pages, end } = await everyPage(load);
  expect(pages.flat().map(({ body }) => Number(body))).toEqual(
    Array.from({ length: COUNT }, (_, i) => i).filter((n) => n % 3 !== 0),
  );
  expect(await load({ numItems: 5, cursor: end })).toMatchObject({ page: [], isDone: true });
});

test("a page may be changed on its way out", async () => {
  const { pages } = await everyPage(
    (paginationOpts) => clients.http().query(api.messages.listWithTitles, { paginationOpts }),
    50,
  );
  expect(pages.flat()).toContain(`Dr. ${author}: 3`);
});

test("a cursor is good for its own query alone", async () => {
  const http = clients.http();
  const first = await http.query(api.messages.list, { paginationOpts: { numItems: 2, cursor: null } });
  const paginationOpts = { numItems: 2, cursor: first.continueCursor };
  expect((await failure(http.query(api.messages.listVisible, { author, paginationOpts }))).message).toContain(
    "InvalidCursor",
  );
  const other = { author: "somebody else", paginationOpts: { numItems: 2, cursor: null } };
  expect(await http.query(api.messages.listVisible, other)).toMatchObject({ page: [], isDone: true });
});

test("a page that is watched keeps its end: it grows and shrinks, and the pages around it stay apart", async () => {
  const http = clients.http();
  type Page = PaginationResult<Message>;
  const load = (paginationOpts: PaginationOptions): Promise<Page> =>
    http.query(api.messages.listVisible, { author, paginationOpts });
  const first = await load({ numItems: 6, cursor: null });
  const watch = (paginationOpts: PaginationOptions) =>
    new Follower<Page>(clients.socket(), api.messages.listVisible, { author, paginationOpts });
  const head = watch({ numItems: 6, cursor: null });
  const tail = watch({ numItems: 100, cursor: first.continueCursor });
  await head.until((page) => (page as Page).page.length === first.page.length);
  const before = ((await tail.until((page) => (page as Page).isDone)) as Page).page.length;

  await http.mutation(api.messages.remove, { id: first.page[1]!._id });
  await head.until((page) => (page as Page).page.length === first.page.length - 1);
  await http.mutation(api.messages.send, { author, body: "newest" });
  await tail.until((page) => (page as Page).page.at(-1)?.body === "newest");
  expect((tail.last as Page).page).toHaveLength(before + 1);
  expect((head.last as Page).continueCursor).toBe(first.continueCursor);
});

test("endCursor bounds a page, whatever its size", async () => {
  const http = clients.http();
  const load = (paginationOpts: PaginationOptions) =>
    http.query(api.messages.listVisible, { author, paginationOpts });
  const first = await load({ numItems: 4, cursor: null });
  const second = await load({ numItems: 4, cursor: first.continueCursor });
  const both = await load({
    numItems: 1,
    cursor: null,
    endCursor: second.continueCursor,
  } as PaginationOptions);
  expect(both.page.map(({ _id }) => _id)).toEqual([...first.page, ...second.page].map(({ _id }) => _id));
});
