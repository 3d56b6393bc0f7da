import { expect, test } from "vitest";
import { failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api, internal } from "./chat/convex/_generated/api";
import type { Doc, Id } from "./chat/convex/_generated/dataModel";

const clients = useApp("chat");
const user = (name: string) =>
  clients.admin("websocket", { subject: name, issuer: "https://chat.test", name });

type Shown = (Doc<"messages"> & { likes: number })[];
const texts = (shown: Shown) => shown.map(({ author, body }) => `${author}: ${body}`);

async function join(name: string) {
  const channel: Id<"channels"> = await clients.http().mutation(api.channels.open, { name });
  const follower = new Follower<Shown>(clients.socket(), api.messages.list, { channel });
  return { channel, follower };
}

test("everybody in a channel sees what is said there, with the names of who is signed in", async () => {
  const { channel, follower } = await join("general");
  const elsewhere = await join("elsewhere");
  await follower.until((shown) => Array.isArray(shown));
  await user("Ada").mutation(api.messages.send, { channel, body: "hello" });
  await user("Grace").mutation(api.messages.send, { channel, body: "hi Ada" });
  const shown = await follower.until((now) => (now as Shown).length === 2);
  expect(texts(shown as Shown)).toEqual(["Ada: hello", "Grace: hi Ada"]);
  expect(elsewhere.follower.last).toEqual([]);
});

test("only the newest messages are shown, oldest first", async () => {
  const { channel, follower } = await join("busy");
  const ada = user("Ada");
  for (let n = 1; n <= 7; n++) await ada.mutation(api.messages.send, { channel, body: String(n) });
  await follower.until((now) => (now as Shown).at(-1)?.body === "7");
  expect(texts(follower.last as Shown)).toEqual([3, 4, 5, 6, 7].map((n) => `Ada: ${n}`));
});

test("likes count once for each person and are seen at once", async () => {
  const { channel, follower } = await join("liked");
  await user("Ada").mutation(api.messages.send, { channel, body: "like me" });
  const [message] = (await follower.until((now) => (now as Shown).length === 1)) as Shown;
  const likes = ["Grace", "Grace", "Alan"].map((liker) =>
    clients.http().mutation(api.messages.like, { liker, message: message!._id }),
  );
  await Promise.all(likes);
  await follower.until((now) => (now as Shown)[0]!.likes === 2);
});

test("a command is answered by an action that reads and writes", async () => {
  const { channel, follower } = await join("gifs");
  const ada = user("Ada");
  await ada.mutation(api.messages.send, { channel, body: "/gif cat" });
  await follower.until((now) => (now as Shown).length === 1);
  await ada.mutation(api.messages.send, { channel, body: "/gif dog" });
  await follower.until((now) => (now as Shown).length === 2);
  expect(texts(follower.last as Shown)).toEqual(["Ada: gif 1 of cat", "Ada: gif 2 of dog"]);
  expect((follower.last as Shown).map(({ format }) => format)).toEqual(["giphy", "giphy"]);
});

test("a channel is opened once, whoever asks", async () => {
  const opened = await Promise.all(
    Array.from({ length: 8 }, () => clients.http().mutation(api.channels.open, { name: "one" })),
  );
  expect(new Set(opened).size).toBe(1);
  const names: string[] = (await clients.http().query(api.channels.list)).map(({ name }) => name);
  expect(names).toEqual([...names].sort());
});

test("strangers may read, not write, and internal functions are closed to them", async () => {
  const { channel } = await join("closed");
  const stranger = clients.http();
  expect((await failure(stranger.mutation(api.messages.send, { channel, body: "x" }))).message).toContain(
    "Sign in to send messages",
  );
  const hidden = internal.messages.count as never;
  expect((await failure(stranger.query(hidden, { channel } as never))).message).toContain(
    "Could not find public function for 'messages:count'",
  );
  expect(await stranger.query(api.messages.list, { channel })).toEqual([]);
});

test("an id of another table is no channel", async () => {
  const { channel, follower } = await join("ids");
  await user("Ada").mutation(api.messages.send, { channel, body: "hello" });
  const [message] = (await follower.until((now) => (now as Shown).length === 1)) as Shown;
  const wrong = failure(clients.http().query(api.messages.list, { channel: message!._id as never }));
  expect((await wrong).message).toContain("ArgumentValidationError");
});
