/** Packages that keep what others show: @convex-dev/action-cache, geospatial, persistent-text-streaming and presence. */

import { setTimeout as pause } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { api, failure, Follower, useHost } from "../conformance/clients";
import { functionsOf } from "./packages";

describe("action-cache", () => {
  const clients = useHost({ functions: functionsOf("action-cache") });

  test("gives back what was put in, by name and arguments of any kind, until its time is over", async () => {
    const http = clients.http();
    const key = { name: "embed", args: { words: ["a", "b"], size: 3n, raw: new Uint8Array([1, 2]).buffer } };
    expect(await http.query(api.lib.get, { ...key, ttl: null })).toEqual({ kind: "miss" });
    const put = { ...key, value: [0.5, -0.5], ttl: 60_000 };
    expect(await http.mutation(api.lib.put, put)).toEqual({ cacheHit: false, deletedExpiredEntry: false });
    expect(await http.mutation(api.lib.put, put)).toEqual({ cacheHit: true, deletedExpiredEntry: false });
    expect(await http.query(api.lib.get, { ...key, ttl: null })).toEqual({ kind: "hit", value: [0.5, -0.5] });
    expect(await http.query(api.lib.get, { name: "embed", args: { words: ["a"] }, ttl: null })).toEqual({
      kind: "miss",
    });
    await pause(5);
    expect(await http.query(api.lib.get, { ...key, ttl: 1 })).toMatchObject({
      kind: "miss",
      expiredEntry: expect.any(String),
    });
    await http.mutation(api.lib.remove, key);
    expect(await http.query(api.lib.get, { ...key, ttl: null })).toEqual({ kind: "miss" });
  });

  test("is emptied in batches that schedule one another", async () => {
    const http = clients.http();
    for (let n = 0; n < 25; n++)
      await http.mutation(api.lib.put, { name: "many", args: { n }, value: n, ttl: null });
    const last = new Follower<{ kind: string }>(clients.socket(), api.lib.get, {
      name: "many",
      args: { n: 0 },
      ttl: null,
    });
    await last.until((now) => (now as { kind: string }).kind === "hit");
    await http.mutation(api.lib.removeAll, { name: "many", batchSize: 10 });
    await last.until((now) => (now as { kind: string }).kind === "miss");
  });
});

describe("persistent-text-streaming", () => {
  const clients = useHost({ functions: functionsOf("persistent-text-streaming") });
  type Text = { text: string; status: string };

  test("a text that is written in pieces is followed as it grows", async () => {
    const http = clients.http();
    const streamId: string = await http.mutation(api.lib.createStream, {});
    const seen = new Follower<Text>(clients.socket(), api.lib.getStreamText, { streamId });
    await seen.until((now) => (now as Text).status === "pending");
    const words = ["The ", "quick ", "brown ", "fox"];
    for (const [i, text] of words.entries())
      await http.mutation(api.lib.addChunk, { streamId, text, final: i === words.length - 1 });
    const done = await seen.until((now) => (now as Text).status === "done");
    expect(done).toEqual({ text: "The quick brown fox", status: "done" });
    const texts = seen.seen.map((outcome) => ("value" in outcome ? outcome.value.text : ""));
    expect(texts.every((text, i) => i === 0 || text.startsWith(texts[i - 1]!))).toBe(true);
    const late = failure(http.mutation(api.lib.addChunk, { streamId, text: "!", final: false }));
    expect((await late).message).toContain("Stream is not streaming");
  });

  test("a deleted stream is gone at once, its hundreds of pieces soon", async () => {
    const http = clients.http();
    const streamId: string = await http.mutation(api.lib.createStream, {});
    for (let n = 0; n < 70; n++) await http.mutation(api.lib.addChunk, { streamId, text: "x", final: false });
    await http.mutation(api.lib.deleteStream, { streamId });
    expect(await http.query(api.lib.getStreamStatus, { streamId })).toBe("error");
    expect((await failure(http.mutation(api.lib.deleteStream, { streamId }))).message).toContain("not found");
  });
});

describe("presence", () => {
  const clients = useHost({ functions: functionsOf("presence") });
  const room = (roomId: string, userId: string, interval?: number) =>
    clients.http().mutation(api.public.heartbeat, {
      roomId,
      userId,
      sessionId: `${userId} session`,
      ...(interval === undefined ? {} : { interval }),
    });
  type Present = { userId: string; online: boolean }[];
  const online = (now: unknown) =>
    (now as Present)
      .filter((user) => user.online)
      .map(({ userId }) => userId)
      .sort()
      .join();

  test("a room shows who is there, who left, and who fell silent", async () => {
    const { roomToken } = await room("r", "ada");
    const { sessionToken } = await room("r", "bob");
    await room("r", "silent", 40);
    const seen = new Follower<Present>(clients.socket(), api.public.list, { roomToken });
    await seen.until((now) => online(now) === "ada,bob");
    expect((seen.last as Present).map(({ userId }) => userId)).toContain("silent");
    await clients.http().mutation(api.public.disconnect, { sessionToken });
    await seen.until((now) => online(now) === "ada");
    expect(await clients.http().query(api.public.listUser, { userId: "bob" })).toMatchObject([
      { roomId: "r", online: false },
    ]);
    await clients.http().mutation(api.public.removeRoom, { roomId: "r" });
    await seen.until((now) => (now as Present).length === 0);
  });

  test("tokens are unguessable and of one session", async () => {
    const tokens = await Promise.all(["a", "b", "c"].map((user) => room("tokens", user)));
    expect(new Set(tokens.map(({ roomToken }) => roomToken)).size).toBe(1);
    expect(new Set(tokens.map(({ sessionToken }) => sessionToken)).size).toBe(3);
    expect(tokens[0].sessionToken).toMatch(
      /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/,
    );
    const wrong = clients
      .http()
      .mutation(api.public.heartbeat, { roomId: "other", userId: "a", sessionId: "a session" });
    expect((await failure(wrong)).message).toContain("must be unique");
  });
});

describe("geospatial", () => {
  const clients = useHost({ functions: functionsOf("geospatial") });
  const levels = { minLevel: 4, maxLevel: 16, levelMod: 2 };
  const cities: [string, number, number][] = [
    ["Paris", 48.8566, 2.3522],
    ["London", 51.5074, -0.1278],
    ["Berlin", 52.52, 13.405],
    ["Tokyo", 35.6762, 139.6503],
  ];

  test("points are found in a rectangle and by their distance", async () => {
    const http = clients.http();
    for (const [key, latitude, longitude] of cities) {
      const document = {
        key,
        coordinates: { latitude, longitude },
        sortKey: 0,
        filterKeys: { asia: key === "Tokyo" },
      };
      await http.mutation(api.document.insert, { document, ...levels, maxCells: 8 });
    }
    const query = {
      rectangle: { west: -5, east: 15, south: 45, north: 55 },
      filtering: [],
      sorting: { interval: {} },
      maxResults: 10,
    };
    const found = await http.query(api.query.execute, { query, ...levels, maxCells: 8, logLevel: "ERROR" });
    expect(found.results.map(({ key }: { key: string }) => key).sort()).toEqual([
      "Berlin",
      "London",
      "Paris",
    ]);
    const nearest = await http.query(api.query.nearestPoints, {
      point: { latitude: 50, longitude: 1 },
      maxResults: 2,
      ...levels,
      filtering: [],
      sorting: { interval: {} },
      logLevel: "ERROR",
    });
    expect(nearest.map(({ key }: { key: string }) => key)).toEqual(["Paris", "London"]);
  });
});
