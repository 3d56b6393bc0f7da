import { setTimeout as pause } from "node:timers/promises";
import { expect, test } from "vitest";
import type { SessionId } from "convex-helpers/server/sessions";
import { failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./presence/convex/_generated/api";

const clients = useApp("presence");
const session = (name: string) => name as SessionId;
type Data = Record<string, unknown>[];
const follow = (room: string) => new Follower<Data>(clients.socket(), api.presence.list, { room });
const names = (now: unknown) =>
  (now as Data)
    .map(({ name }) => name)
    .sort()
    .join();

test("who is in a room sees the others come, move and go", async () => {
  const room = "lobby";
  const seen = follow(room);
  const ada = clients.socket();
  await ada.mutation(api.presence.update, { sessionId: session("ada"), room, data: { name: "Ada", x: 1 } });
  await clients
    .http()
    .mutation(api.presence.update, { sessionId: session("bob"), room, data: { name: "Bob", typing: true } });
  await seen.until((now) => names(now) === "Ada,Bob");
  await ada.mutation(api.presence.update, { sessionId: session("ada"), room, data: { name: "Ada", x: 2 } });
  await seen.until((now) => (now as Data).some(({ x }) => x === 2));
  await seen.until((now) => names(now) === ""); // both fell silent
});

test("heartbeats keep somebody online and do not wake the room's readers", async () => {
  const room = "quiet";
  const http = clients.http();
  await http.mutation(api.presence.update, { sessionId: session("eve"), room, data: { name: "Eve" } });
  const seen = follow(room);
  await seen.until((now) => names(now) === "Eve");
  const updates = seen.seen.length;
  for (let beats = 0; beats < 8; beats++) {
    await pause(100); // 8 times, for twice as long as silence lasts
    await http.mutation(api.presence.heartbeat, { sessionId: session("eve"), room });
  }
  expect(names(seen.last)).toBe("Eve");
  expect(seen.seen).toHaveLength(updates);
});

test("a heartbeat brings back who was thought gone", async () => {
  const room = "return";
  const seen = follow(room);
  await clients
    .http()
    .mutation(api.presence.update, { sessionId: session("kim"), room, data: { name: "Kim" } });
  await seen.until((now) => names(now) === "Kim");
  await seen.until((now) => names(now) === "");
  await clients.http().mutation(api.presence.heartbeat, { sessionId: session("kim"), room });
  await seen.until((now) => names(now) === "Kim");
});

test("many clients moving at once end in one state for everybody", async () => {
  const room = "crowd";
  const watchers = Array.from({ length: 5 }, () => follow(room));
  const movers = Array.from({ length: 10 }, async (_, i) => {
    const client = clients.http();
    for (let x = 0; x <= 10; x++)
      await client.mutation(api.presence.update, { sessionId: session(`s${i}`), room, data: { name: i, x } });
  });
  const arrived = watchers.map((watcher) =>
    watcher.until((now) => (now as Data).length === 10 && (now as Data).every(({ x }) => x === 10)),
  );
  await Promise.all([...movers, ...arrived]);
});

test("what is shared is an object of named values", async () => {
  const wrong = clients
    .http()
    .mutation(api.presence.update, { sessionId: session("x"), room: "r", data: "text" as never });
  expect((await failure(wrong)).message).toContain("ArgumentValidationError");
});
