import { ConvexError } from "convex/values";
import { expect, test } from "vitest";
import { CLIENTS, failure, Follower } from "../conformance/clients";
import { useApp } from "./apps";
import { api } from "./errors/convex/_generated/api";

const clients = useApp("errors");
let next = 0;

async function room(seats: number) {
  const name = `room ${next++}`;
  await clients.http().mutation(api.rooms.build, { name, seats });
  return name;
}

test.each(CLIENTS)(
  "a full room says so with data, and the one that asked is not in it (%s)",
  async (client) => {
    const name = await room(1);
    const caller = clients.open(client);
    await caller.mutation(api.rooms.enter, { name, user: "Ada" });
    const error = await failure(caller.mutation(api.rooms.enter, { name, user: "Grace" }));
    expect(error).toBeInstanceOf(ConvexError);
    expect((error as ConvexError<never>).data).toEqual({ code: "room_full", room: name, taken: 1n });
    expect(await caller.query(api.rooms.users, { name })).toEqual(["Ada"]);
  },
);

test("data may be a plain text", async () => {
  const error = await failure(clients.http().query(api.rooms.users, { name: "nowhere" }));
  expect(error).toBeInstanceOf(ConvexError);
  expect((error as ConvexError<string>).data).toBe("No such room");
});

test("a caught error undoes the callee alone", async () => {
  const [full, free] = [await room(0), await room(2)];
  const http = clients.http();
  const entered = await http.mutation(api.rooms.enterFirstFree, {
    names: [full, "nowhere", free],
    user: "Ada",
  });
  expect(entered).toBe(free);
  expect(await http.query(api.rooms.users, { name: full })).toEqual([]);
  expect(await http.query(api.rooms.users, { name: free })).toEqual(["Ada"]);
});

test("an action may handle the error of its mutation or pass it on", async () => {
  const name = await room(0);
  const http = clients.http();
  expect(await http.action(api.rooms.enterPolitely, { name, user: "Ada" })).toBe("sorry, 0 are in there");
  const error = await failure(http.action(api.rooms.enterRudely, { name, user: "Ada" }));
  expect((error as ConvexError<never>).data).toEqual({ code: "room_full", room: name, taken: 0n });
});

test("a failing subscription tells the error and recovers when the query works again", async () => {
  const name = `later ${next++}`;
  const users = new Follower<string[]>(clients.socket(), api.rooms.users, { name });
  const error = await users.until((now) => now instanceof Error);
  expect((error as ConvexError<string>).data).toBe("No such room");
  await clients.http().mutation(api.rooms.build, { name, seats: 1 });
  expect(await users.until((now) => Array.isArray(now))).toEqual([]);
  await clients.http().mutation(api.rooms.close, { name });
  await users.until((now) => now instanceof Error);
});

test("an ordinary error has a text and frames, and no data", async () => {
  const name = await room(1);
  const error = await failure(clients.http().mutation(api.rooms.misbuild, { name }));
  expect(error).not.toBeInstanceOf(ConvexError);
  expect(error.message).toMatch(
    /^\[Request ID: [0-9a-f]{16}\] Server Error\nUncaught Error: Failed to insert or update a document in table "rooms"/,
  );
  expect(error.message).toMatch(/at async handler \(\.\.\/convex\/rooms\.ts:\d+:\d+\)/);
});
