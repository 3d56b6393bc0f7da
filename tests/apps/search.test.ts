import { expect, test } from "vitest";
import { Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./search/convex/_generated/api";

const clients = useApp("search");
let next = 0;

/** A channel of its own with these messages. */
async function channelOf(...bodies: string[]) {
  const channel = `channel ${next++}`;
  for (const body of bodies) await clients.http().mutation(api.messages.send, { body, channel });
  return {
    channel,
    find: (words: string, people = false): Promise<string[]> =>
      clients.http().query(api.messages.find, { words, channel, people }),
  };
}

test("messages with any of the words are found, those with more of them first", async () => {
  const { find } = await channelOf("the red fox", "a fox and a hound", "red wine", "nothing of it");
  expect((await find("red fox"))[0]).toBe("the red fox");
  expect((await find("red fox")).sort()).toEqual(["a fox and a hound", "red wine", "the red fox"]);
  expect(await find("unicorn")).toEqual([]);
});

test("case and punctuation do not count, and the last word may be the beginning of one", async () => {
  const { find } = await channelOf("Hello, World!", "help yourself", "word");
  expect(await find("HELLO")).toEqual(["Hello, World!"]);
  expect((await find("hel")).sort()).toEqual(["Hello, World!", "help yourself"]);
  expect(await find("hel yourself")).toEqual(["help yourself"]);
});

test("filters narrow what is found, of fields inside of objects too", async () => {
  const { channel, find } = await channelOf("deploy is done");
  const other = await channelOf("deploy elsewhere");
  await clients.http().mutation(api.messages.send, { body: "deploy by a bot", channel, bot: true });
  expect((await find("deploy")).sort()).toEqual(["deploy by a bot", "deploy is done"]);
  expect(await find("deploy", true)).toEqual(["deploy is done"]);
  expect(await other.find("deploy")).toEqual(["deploy elsewhere"]);
});

test("a further filter looks at any field", async () => {
  const { channel } = await channelOf("old news");
  const after = Date.now();
  await clients.http().mutation(api.messages.send, { body: "new news", channel });
  const found = clients.http().query(api.messages.findRecent, { words: "news", channel, after: after - 0.5 });
  expect(await found).toEqual(["new news"]);
});

test("a search is live: messages come, change and no longer match", async () => {
  const { channel } = await channelOf("first cat");
  const found = new Follower<string[]>(clients.socket(), api.messages.find, { words: "cat", channel });
  await found.until((now) => (now as string[]).length === 1);
  const id = await clients.http().mutation(api.messages.send, { body: "second cat", channel });
  await found.until((now) => (now as string[]).length === 2);
  await clients.http().mutation(api.messages.edit, { id, body: "second dog" });
  await found.until((now) => (now as string[]).length === 1);
  expect(found.last).toEqual(["first cat"]);
});

test("results come in pages, each message once", async () => {
  const bodies = Array.from({ length: 12 }, (_, i) => `page me ${"me ".repeat(i)}`.trim());
  const { channel } = await channelOf(...bodies);
  const seen: string[] = [];
  let cursor: string | null = null;
  for (let isDone = false; !isDone;) {
    const paginationOpts = { numItems: 5, cursor };
    const result: { page: { body: string }[]; isDone: boolean; continueCursor: string } = await clients
      .http()
      .query(api.messages.page, { words: "page", channel, paginationOpts });
    seen.push(...result.page.map(({ body }) => body));
    ({ isDone, continueCursor: cursor } = result);
  }
  expect(seen.sort()).toEqual(bodies.sort());
});

test("a mutation finds what it has just written", async () => {
  const { channel } = await channelOf("one fish");
  const words = { body: "two fish", channel, words: "fish" };
  expect(await clients.http().mutation(api.messages.sendAndFind, words)).toBe(2);
});
